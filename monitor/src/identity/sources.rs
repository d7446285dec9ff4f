//! Which sources of identity there are on this host, and the work of asking them: futures that the pipeline runs.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::facts::{Fact, SourceId, SourceKind, SourceState};
use super::registry::SourceInfo;
use super::settings::DOCKER_SOCKETS;
use super::{IdentityConfig, docker};
#[cfg(feature = "kubernetes")]
use super::{
    cri,
    kubernetes::{self, Place},
    settings::CRI_SOCKETS,
};

/// A fact, and who told it.
pub type Told = (SourceId, Fact);

/// The work of asking one source, for as long as the agent runs.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long to wait after the first failure, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// One source's way to tell.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) id: SourceId,
    pub(super) out: mpsc::Sender<Told>,
    /// Somebody waits for what this source may know.
    pub(super) poke: Arc<Notify>,
}

impl Teller {
    /// Tells one thing; waits while the engine's thread has much to read. `false`: the agent stops.
    pub(super) async fn tell(&self, fact: Fact) -> bool {
        self.out.send((self.id, fact)).await.is_ok()
    }

    pub(super) async fn synced(&self) -> bool {
        self.tell(Fact::State(SourceState::Synced)).await
    }

    pub(super) async fn stale(&self, why: String) -> bool {
        self.tell(Fact::State(SourceState::Stale(super::facts::printable(&why)))).await
    }
}

/// Grows from failure to failure.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(BACKOFF.0)
    }

    #[cfg(feature = "kubernetes")]
    pub(super) fn most() -> Duration {
        BACKOFF.1
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.0;
        self.0 = (now * 2).min(BACKOFF.1);
        Some(now)
    }
}

#[cfg(feature = "kubernetes")]
impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.0 = BACKOFF.0;
    }
}

/// What `config` asks for on this host: sources, and the work of asking each. `out` gets what they tell; `pokes` are
/// woken when somebody waits for a container that nobody has told of.
pub fn plan(config: &IdentityConfig, out: &mpsc::Sender<Told>) -> (Vec<SourceInfo>, Vec<Job>, Vec<Arc<Notify>>) {
    let mut sources: Vec<SourceInfo> = Vec::new();
    let mut jobs: Vec<Job> = Vec::new();
    let mut pokes = Vec::new();
    let mut add = |kind, place: String, required| {
        let id = SourceId(sources.len());
        sources.push(SourceInfo { kind, place, required, synced: false, stale: None });
        let poke = Arc::new(Notify::new());
        pokes.push(poke.clone());
        Teller { id, out: out.clone(), poke }
    };
    let shown = |path: &PathBuf| path.display().to_string();
    let (paths, named) = config.containers.docker.paths(&DOCKER_SOCKETS);
    for path in paths {
        let teller = add(SourceKind::Docker, shown(&path), named);
        jobs.push(Box::pin(docker::watch(path, config.containers.labels.clone(), teller)));
    }
    #[cfg(feature = "kubernetes")]
    {
        let (paths, named) = config.containers.cri.paths(&CRI_SOCKETS);
        for path in paths {
            let teller = add(SourceKind::Cri, shown(&path), named);
            jobs.push(Box::pin(cri::watch(path, config.containers.labels.clone(), teller)));
        }
    }
    #[cfg(feature = "kubernetes")]
    if kubernetes::wanted(&config.kubernetes) {
        let tellers = Place::all(&config.kubernetes)
            .map(|place| (place, add(SourceKind::Kubernetes, place.name().to_owned(), true)))
            .collect();
        let rules = kubernetes::Rules {
            config: config.kubernetes.clone(),
            labels: config.containers.labels.clone(),
            node: kubernetes::node_name(&config.kubernetes).unwrap_or_default(),
        };
        jobs.push(Box::pin(kubernetes::watch(rules, tellers)));
    }
    (sources, jobs, pokes)
}
