//! A scripted server in a runtime of its own: stopped, it takes its connections with it, as a process does.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// A running server.
pub(super) struct Running(Option<Runtime>);

impl Running {
    /// Runs `server`, and whatever it spawns.
    pub(super) fn new(server: impl Future<Output = ()> + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(server);
        Self(Some(runtime))
    }

    /// Ends it and every connection.
    pub(super) async fn stop(mut self) {
        let Some(runtime) = self.0.take() else { return };
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
