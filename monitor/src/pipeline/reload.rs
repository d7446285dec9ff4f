//! The configuration is read again, on SIGHUP and when a file of it changes, while the agent runs.
//!
//! A thread of its own looks at the files once a second and reads them when they have changed and are quiet again. It looks
//! rather than being told (inotify): what it looks at is what a name leads to now, so that a ConfigMap's link that is
//! turned, a file that is moved into place and one that is written to are all the same to it; it works on every file
//! system; and a `stat` of a few files a second costs nothing. What was read and is right goes to the engine's thread,
//! whole; what is wrong is told, and nothing changes. See `docs/decisions/0025-reload.md`.

use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use monitor_core::model::settings::TlsScope;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::host::about;
use super::outputs::now;
use super::{Live, PipelineError};
use crate::config::{Config, Read};
use crate::export::otlp::Origin;
use crate::export::{LineSink, Shared, Target};
use crate::identity::{self, IdentityConfig, Told};
use crate::metrics::Metric;
use crate::privileges;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where findings go beside HTTP, as the command line and the terminal have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What the command line asks for.
    pub argument: Option<Target>,
    /// Somebody reads along.
    pub terminal: bool,
}

impl Wanted {
    /// The configured file always, beside it what the command line or the terminal asks for.
    pub fn targets(&self, configured: Option<&Path>) -> Vec<Target> {
        let configured = configured.map(|path| Target::File(path.to_owned()));
        let direct = match &self.argument {
            Some(target) => Some(target.clone()),
            None if self.terminal || configured.is_none() => Some(Target::Stdout),
            None => None,
        };
        let configured = configured.filter(|c| direct.as_ref() != Some(c));
        configured.into_iter().chain(direct).collect()
    }
}

/// Settings that are what they are for as long as the agent runs, and whether two configurations differ in them.
type Fixed = (&'static str, fn(&Config, &Config) -> bool);

/// All of them.
const FIXED: [Fixed; 14] = [
    ("limits.flows", |a, b| a.settings.limits.flows != b.settings.limits.flows),
    ("limits.ring_kb", |a, b| a.ring_kb != b.ring_kb),
    ("export.listen, socket, tls, token_file", |a, b| a.http != b.http),
    ("user, group, privileges", |a, b| {
        let of = |c: &Config| (c.privileges.user.clone(), c.privileges.group.clone(), c.privileges.sandbox);
        of(a) != of(b)
    }),
    ("tls.enabled", |a, b| a.tls.enabled != b.tls.enabled),
    ("limits.nice", |a, b| a.nice != b.nice),
    ("export.otlp", |a, b| a.otlp != b.otlp),
    ("export.show", |a, b| a.settings.show != b.settings.show),
    ("identity.containers.docker", |a, b| a.identity.containers.docker != b.identity.containers.docker),
    ("identity.containers.cri", |a, b| a.identity.containers.cri != b.identity.containers.cri),
    ("identity.kubernetes.enabled", |a, b| a.identity.kubernetes.enabled != b.identity.kubernetes.enabled),
    ("identity.kubernetes.node", |a, b| a.identity.kubernetes.node != b.identity.kubernetes.node),
    ("identity.kubernetes.kubeconfig", |a, b| a.identity.kubernetes.kubeconfig != b.identity.kubernetes.kubeconfig),
    ("identity.kubernetes.remote_pods, services", |a, b| {
        let of = |c: &Config| (c.identity.kubernetes.remote_pods, c.identity.kubernetes.services);
        of(a) != of(b)
    }),
];

/// The names of settings that `new` would change and that cannot change while the agent runs.
fn fixed(running: &Config, new: &Config) -> Vec<&'static str> {
    let mut names: Vec<_> = FIXED.iter().filter(|(_, differ)| differ(running, new)).map(|(name, _)| *name).collect();
    // Threads are told by a probe that is there from the start or not at all.
    if new.settings.bases.thread && !running.settings.bases.thread {
        names.push("attribution.bases.same-thread");
    }
    names
}

/// `new`, with the old values of what cannot change while the agent runs.
fn settled(running: &Config, mut new: Config) -> Config {
    new.settings.limits.flows = running.settings.limits.flows;
    new.settings.bases.thread &= running.settings.bases.thread;
    new.settings.show.clone_from(&running.settings.show);
    new.ring_kb = running.ring_kb;
    new.http.clone_from(&running.http);
    new.privileges.clone_from(&running.privileges);
    new.tls.enabled = running.tls.enabled;
    new.settings.tls = running.tls.enabled.then(|| TlsScope { services: new.tls.services.clone() });
    new.nice = running.nice;
    new.otlp.clone_from(&running.otlp);
    let (old, id) = (&running.identity, &mut new.identity);
    id.containers.docker = old.containers.docker.clone();
    id.containers.cri = old.containers.cri.clone();
    let tenant = std::mem::take(&mut id.kubernetes.tenant);
    id.kubernetes = old.kubernetes.clone();
    id.kubernetes.tenant = tenant;
    new
}

/// Whether sources of identity must be asked anew: they read labels by rules that have changed.
fn asks_anew(running: &IdentityConfig, new: &IdentityConfig) -> bool {
    running.containers.labels != new.containers.labels || running.kubernetes.tenant != new.kubernetes.tenant
}

/// What every file of a configuration leads to now: device, inode, size, times of change.
type Look = Vec<Option<(u64, u64, u64, i64, i64, i64, i64)>>;

fn look(files: &[PathBuf]) -> Look {
    let one = |path: &PathBuf| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
    };
    files.iter().map(one).collect()
}

/// A receiver of SIGHUP. Where the terminal of an agent that somebody watches has gone, the agent stops instead.
pub(super) fn on_hang_up(runtime: &Runtime, stop: Arc<AtomicBool>) -> Result<Receiver<()>, PipelineError> {
    let error = |source| PipelineError::System { what: "cannot wait for signals", source };
    let _inside = runtime.enter();
    let mut hang_up = signal(SignalKind::hangup()).map_err(error)?;
    // One that waits is as good as many.
    let (tell, told): (SyncSender<()>, _) = sync_channel(1);
    let terminal = std::io::stdout().is_terminal();
    runtime.spawn(async move {
        while hang_up.recv().await.is_some() {
            if terminal && !std::io::stdout().is_terminal() {
                stop.store(true, Ordering::Relaxed);
            }
            let _ = tell.try_send(());
        }
    });
    Ok(told)
}

/// Reads the configuration again while the agent runs.
pub(super) struct Reloader {
    /// The configuration's file; none: only files of findings are opened anew.
    pub(super) file: Option<PathBuf>,
    /// What the agent runs by.
    pub(super) running: Config,
    /// Where findings go, whatever the configuration says.
    pub(super) wanted: Wanted,
    pub(super) origin: Origin,
    /// The tasks that ask sources of identity.
    pub(super) asking: Vec<JoinHandle<()>>,
    /// Where those tell.
    pub(super) tell: mpsc::Sender<Told>,
    pub(super) runtime: Handle,
    pub(super) shared: Arc<Shared>,
}

/// What the engine's thread is to take over: checked and opened, so that nothing of it can fail.
pub(super) struct Reload {
    /// The new decisions.
    config: Option<Box<Config>>,
    /// Files of findings that were not open yet, and all that are wanted.
    opened: Vec<LineSink>,
    targets: Vec<Target>,
    /// How to ask sources of identity, where they are asked anew.
    pokes: Option<Vec<Arc<Notify>>>,
    /// Files of findings are opened anew.
    reopen: bool,
    origin: Origin,
}

impl Reloader {
    /// Starts the thread. `read`: what was read at the start.
    pub(super) fn start(
        mut self,
        read: Read,
        hang_up: Receiver<()>,
    ) -> Result<mpsc::UnboundedReceiver<Reload>, PipelineError> {
        let (out, reloads) = mpsc::unbounded_channel();
        let files = read.files.clone();
        let sandbox = self.running.privileges.sandbox;
        // Not on the other thread: what changes before that one runs has changed all the same.
        let known = look(&files);
        self.done(true, Some(&read));
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || {
                privileges::thread_begins(sandbox);
                self.work(files, known, &hang_up, &out);
            })
            .map_err(|source| PipelineError::System { what: "cannot start the thread that reloads", source })?;
        Ok(reloads)
    }

    fn work(
        &mut self,
        mut files: Vec<PathBuf>,
        mut known: Look,
        hang_up: &Receiver<()>,
        out: &mpsc::UnboundedSender<Reload>,
    ) {
        let mut changing: Option<Look> = None;
        loop {
            let asked = match hang_up.recv_timeout(LOOK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let found = look(&files);
            // Whoever writes a file may not have finished: it is read once it has been quiet from one look to the next.
            let quiet = found != known && changing.as_ref() == Some(&found);
            if !asked && !quiet {
                changing = (found != known).then_some(found);
                continue;
            }
            changing = None;
            known = found;
            let (reload, read) = self.read(asked);
            if let Some(read) = read
                && read.files != files
            {
                files = read.files;
                known = look(&files);
            }
            if let Some(reload) = reload
                && out.send(reload).is_err()
            {
                return;
            }
        }
    }

    /// Reads everything; says what the engine's thread is to do.
    fn read(&mut self, asked: bool) -> (Option<Reload>, Option<Read>) {
        let nothing = |this: &Self| Reload {
            config: None,
            opened: Vec::new(),
            targets: this.wanted.targets(this.running.findings.as_deref()),
            pokes: None,
            reopen: true,
            origin: this.origin.clone(),
        };
        let Some(file) = self.file.clone() else { return (asked.then(|| nothing(self)), None) };
        let mut read = Read::default();
        let config = match Config::load_and_note(&file, now(), &mut read) {
            Ok(config) => config,
            Err(why) => {
                self.refused(&why.to_string());
                return (asked.then(|| nothing(self)), Some(read));
            }
        };
        let kept = fixed(&self.running, &config);
        let new = settled(&self.running, config);
        let targets = self.wanted.targets(new.findings.as_deref());
        let before = self.wanted.targets(self.running.findings.as_deref());
        let about = Arc::new(about(&new, &self.origin));
        let opened = targets
            .iter()
            .filter(|t| !before.contains(t))
            .map(|t| LineSink::open_live(t, new.rotate, about.clone()))
            .collect::<Result<Vec<_>, _>>();
        let opened = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.refused(&why.to_string());
                return (asked.then(|| nothing(self)), Some(read));
            }
        };
        for warning in &new.warnings {
            tracing::warn!("{}", warning.render(&file.display().to_string()));
        }
        if !kept.is_empty() {
            tracing::warn!(
                "{}: {} cannot change while the agent runs: the old value is kept until it is started anew; everything \
                 else has been taken over",
                file.display(),
                kept.join(", ")
            );
        }
        let pokes = asks_anew(&self.running.identity, &new.identity).then(|| self.ask_anew(&new.identity));
        self.running = new.clone();
        self.done(true, Some(&read));
        let config = Some(Box::new(new));
        let reload = Reload { config, opened, targets, pokes, reopen: asked, origin: self.origin.clone() };
        (Some(reload), Some(read))
    }

    /// Asks sources of identity by other rules. What they have told stays until they tell it again.
    fn ask_anew(&mut self, identity: &IdentityConfig) -> Vec<Arc<Notify>> {
        for task in self.asking.drain(..) {
            task.abort();
        }
        // The sources are the same: only how their labels are read has changed.
        let (_, jobs, pokes) = identity::plan(identity, &self.tell);
        self.asking = jobs.into_iter().map(|job| self.runtime.spawn(job)).collect();
        pokes
    }

    fn refused(&mut self, why: &str) {
        tracing::error!("the configuration was not taken over, the agent runs on by the old one: {why}");
        self.done(false, None);
    }

    fn done(&mut self, right: bool, read: Option<&Read>) {
        let metrics = self.shared.metrics();
        metrics.set(Metric::ConfigLastReloadSuccessful, &[], f64::from(u8::from(right)));
        metrics.add(Metric::ConfigReloadsTotal, &[if right { "success" } else { "failure" }], 1.0);
        if let Some(read) = read {
            metrics.set(Metric::ConfigLastReloadSuccessTimestamp, &[], now().0 as f64 / 1e9);
            metrics.set(Metric::ConfigHash, &[], hash(read));
        }
    }
}

/// 48 bits of the configuration's digest: what a floating-point number holds exactly.
fn hash(read: &Read) -> f64 {
    read.text.iter().take(6).fold(0.0, |n, byte| n * 256.0 + f64::from(*byte))
}

impl Reload {
    /// Takes it over, on the engine's thread.
    pub(super) fn apply(self, live: &mut Live) {
        if self.reopen {
            for problem in live.agent.out.reopen() {
                tracing::error!("{problem}; the old file is written on");
            }
        }
        let Some(config) = self.config else { return };
        let about = Arc::new(about(&config, &self.origin));
        let sinks = &mut live.agent.out.findings;
        sinks.retain(|sink| self.targets.contains(sink.target()));
        sinks.extend(self.opened);
        for sink in sinks {
            sink.decide(config.rotate, about.clone());
        }
        live.shared.set_about(about);
        if let Some(pokes) = self.pokes {
            live.known.pokes = pokes;
        }
        let limits = config.settings.limits;
        live.updater.decide(limits.tenants, limits.services);
        live.agent.decide_tls(config.tls);
        let moved = live.agent.decide(config.settings, config.identity);
        if moved > 0 {
            tracing::warn!(
                "{moved} workloads would be another tenant's than before: they count as nobody's until they are replaced"
            );
        }
        tracing::info!("the configuration was read again and taken over");
    }
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
