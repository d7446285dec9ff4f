//! What the pipeline asks of the host it runs on.

use monitor_core::model::claim::Salt;

use super::PipelineError;
use super::outputs::now;
use crate::capture::recording::RecordingInfo;
use crate::config::Config;
use crate::export::Shared;
use crate::export::json::About;
use crate::export::otlp::Origin;
use crate::identity::kubernetes::node_name;
use crate::metrics::Metric;

pub(super) fn random_salt() -> Result<Salt, PipelineError> {
    use std::io::Read as _;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .map_err(|source| PipelineError::System { what: "cannot read /dev/urandom", source })?;
    let all = u128::from_le_bytes(bytes);
    Ok(Salt(all as u64, (all >> 64) as u64))
}

pub(super) fn kernel_release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

pub(super) fn recording_info(secrets: bool) -> RecordingInfo {
    RecordingInfo { started: now(), agent: env!("CARGO_PKG_VERSION").to_owned(), kernel: kernel_release(), secrets }
}

pub(super) fn set_build_info(shared: &Shared) {
    let labels = [env!("CARGO_PKG_VERSION"), crate::about::REVISION, &kernel_release()];
    shared.metrics().set(Metric::BuildInfo, &labels, 1.0);
}

/// Whose findings these are. In a pod the host's name is the pod's: the node's counts.
pub(super) fn origin(config: &Config) -> Origin {
    let cluster = config.cluster.clone().unwrap_or_default();
    let config = &config.identity.kubernetes;
    let host = node_name(config).unwrap_or_default();
    let in_kubernetes = config.node.is_some() || std::env::var_os("NODE_NAME").is_some_and(|n| !n.is_empty());
    Origin { node: if in_kubernetes { host.clone() } else { String::new() }, host, cluster }
}

/// What every finding says of its agent.
pub(super) fn about(config: &Config, origin: &Origin) -> About {
    let node = if origin.node.is_empty() { &origin.host } else { &origin.node };
    About { node: node.clone(), cluster: config.cluster.clone().unwrap_or_default() }
}

/// Gives the calling thread this niceness. Without the right to, it goes on with the one it has: more may be lost then,
/// and that is counted as ever.
pub(super) fn take_precedence(nice: i32) {
    // Linux keeps niceness by thread; without a number it is the calling one's (setpriority(2)).
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::info!(
            "the thread that reads from the kernel stays at the niceness it has, not {nice}: {error} (CAP_SYS_NICE)"
        );
    }
}

#[cfg(test)]
mod niceness {
    use super::*;

    /// A thread of its own changes, and no other.
    #[test]
    fn belongs_to_the_thread_and_is_refused_gracefully() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let changed = std::thread::spawn(move || {
            take_precedence(19);
            // Without the right to, it stays.
            take_precedence(before.saturating_sub(3).max(-20));
            nice()
        });
        let changed = changed.join().unwrap();
        assert!(changed == 19 || changed < before || before == -20, "{changed}");
        assert_eq!(nice(), before);
    }
}
