//! Capture → core → export. The only file that spawns tasks or threads, or owns channels.
//!
//! One thread polls the source and runs the engine. A small runtime beside it answers HTTP and waits for signals. They
//! share [`Shared`], which the engine's thread touches once per finding and once a second.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use monitor_core::engine::ToolView;
use monitor_core::model::claim::Salt;
use monitor_core::model::{Nanos, Severity};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::about;
use crate::capture::ebpf::{CaptureConfig, LiveSource};
use crate::capture::recording::{Recorder, RecordingError};
use crate::capture::{CaptureError, HookStatus, Progress, Source, file, keylog};
use crate::config::{Config, Read};
use crate::export::http::{ListenError, Server};
use crate::export::otlp::{Exporter, OtlpError};
use crate::export::sink::Existing;
use crate::export::{LineSink, Readiness, Shared, SinkError, Target, services, tools};
use crate::identity::{self, Told};
use crate::metrics::{Metrics, Sources, Updater};
use crate::privileges::{self, PrivilegeError, Sandbox};

mod agent;
mod exceptions;
mod host;
mod outputs;
mod reload;
mod secrets;

use agent::Agent;
use host::{about, kernel_release, origin, random_salt, recording_info, set_build_info, take_precedence};
use outputs::{Outputs, now};
use reload::{Reload, Reloader};

pub use reload::Wanted;

/// How long the engine's thread sleeps at most while nothing happens.
const IDLE: Duration = Duration::from_millis(200);
/// The same while events wait for the label of a new container.
const EAGER: Duration = Duration::from_millis(5);
/// How long the agent waits for what sources of identity know before it begins: connections that are there already are
/// told at once, and should be told whose they are.
const IDENTITY_FIRST: Duration = Duration::from_secs(10);
/// Facts of identity under way to the engine's thread.
const FACTS: usize = 4096;
/// How often metrics and the service map are brought up to date.
const PUBLISH: Duration = Duration::from_secs(1);
/// How long a stopping agent goes on reading what the kernel has already delivered.
const DRAIN: Duration = Duration::from_secs(1);
/// How long requests may go on when the agent stops.
const GRACE: Duration = Duration::from_millis(500);
/// Salt of a replay: the same input must give the same output.
const REPLAY_SALT: Salt = Salt(0x6c65_6173_6577_6172, 0x7265_706c_6179_0001);

/// Why a run or a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The source.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A file or standard output.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The HTTP address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The OpenTelemetry collector.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The user to run as.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The key log.
    #[error("cannot read the key log {name}: {source}")]
    KeyLog {
        /// The file.
        name: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system refused something the agent cannot do without.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Not all results could be written.
    #[error("results are incomplete: {0}")]
    Incomplete(String),
    /// A thread ended in a way it never should.
    #[error("internal error: the engine's thread has panicked; please report this")]
    Panicked,
}

/// What `run` is to do.
#[derive(Debug)]
pub struct Run {
    /// The configuration.
    pub config: Config,
    /// Watch only what lives below this cgroup.
    pub cgroup: Option<PathBuf>,
    /// The file that the configuration came from: watched, and read again on SIGHUP.
    pub file: Option<PathBuf>,
    /// What was read for it.
    pub read: Read,
    /// Where findings go beside HTTP, whatever the configuration says of its own file.
    pub findings: Wanted,
    /// Record every event here.
    pub record: Option<PathBuf>,
    /// And with them the secrets of TLS handshakes.
    pub record_secrets: bool,
    /// End by itself after this long.
    pub duration: Option<Duration>,
    /// Log why packets are not captured.
    pub explain: bool,
}

/// What `replay` is to do.
#[derive(Debug)]
pub struct Replay {
    /// The capture or recording.
    pub input: PathBuf,
    /// The configuration.
    pub config: Config,
    /// Where findings go.
    pub findings: Option<Target>,
    /// Where operations go.
    pub operations: Option<Target>,
    /// Read to the end even when whoever reads standard output has gone: more than the output rests on it.
    pub to_the_end: bool,
    /// Findings that an exception keeps silent are written, too.
    pub suppressed: bool,
    /// Secrets of TLS handshakes: a key log.
    pub keylog: Option<PathBuf>,
}

/// What a replay came to.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// The most severe finding.
    pub worst: Option<Severity>,
    /// What was not read and why, and what was; `None`: all of the input was read.
    pub unread: Option<String>,
    /// Tools that servers were seen to list.
    pub tools: Vec<ToolView>,
}

/// Watches the live kernel until a signal comes, the duration is over or standard output's reader goes.
///
/// # Errors
/// [`PipelineError`]: it could not begin, or capture ended by itself.
pub fn run(run: Run) -> Result<(), PipelineError> {
    let sandbox = run.config.privileges.sandbox;
    // Before there is a second thread, or a file that would belong to another user.
    privileges::begin(&run.config.privileges)?;
    // What can clash is taken first, before anything is attached to the kernel.
    let server = Server::bind(&run.config.http)?;
    let origin = origin(&run.config);
    let otlp = run.config.otlp.as_ref().map(|config| Exporter::new(config, &origin)).transpose()?;
    let about = Arc::new(about(&run.config, &origin));
    let sinks = run
        .findings
        .targets(run.config.findings.as_deref())
        .iter()
        .map(|target| LineSink::open_live(target, run.config.rotate, about.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let info = recording_info(run.record_secrets);
    let recorder = run.record.as_deref().map(|path| Recorder::create(path, &info)).transpose()?;
    let limits = run.config.settings.limits;
    let metrics =
        Metrics::new().map_err(|e| PipelineError::System { what: "metrics", source: std::io::Error::other(e) })?;
    let metrics = Arc::new(metrics);
    let shared = Arc::new(Shared::new(metrics.clone()));
    let updater = Updater::new(metrics, limits.tenants, limits.services);
    set_build_info(&shared);
    shared.set_about(about);

    let runtime = runtime(sandbox)?;
    let stop = stop_on_signal(&runtime)?;
    let hang_up = reload::on_hang_up(&runtime, stop.clone())?;
    let running = run.config.clone();
    let mut settings = run.config.settings;
    let bases = settings.bases;
    settings.salt = random_salt()?;
    let outputs = Outputs { findings: sinks, otlp: otlp.clone(), shared: Some(shared.clone()), ..Outputs::default() };
    let identity = run.config.identity;
    let mut config = CaptureConfig {
        // Of a connection between two watched workloads both sockets are seen.
        flows: u32::try_from(limits.flows).unwrap_or(u32::MAX).saturating_mul(2),
        scope_cgroup: run.cgroup,
        // Whoever scrapes the agent is no finding of the agent's.
        own_listeners: server.address().into_iter().collect(),
        threads: bases.thread,
        explain: run.explain,
        ..CaptureConfig::default()
    };
    if let Some(kb) = run.config.ring_kb {
        config.ring_bytes = kb.saturating_mul(1024);
    }
    let nice = run.config.nice;
    let (tell, facts) = mpsc::channel(FACTS);
    let (sources, jobs, pokes) = identity::plan(&identity, &tell);
    let asking = jobs.into_iter().map(|job| runtime.spawn(job)).collect();
    let server = serve(&runtime, server, shared.clone());
    if let Some(config) = &run.config.otlp {
        tracing::info!("findings as OpenTelemetry logs to {}", config.endpoint);
    }
    let otlp = otlp.map(|exporter| (exporter.clone(), runtime.spawn(exporter.work())));
    // Its thread keeps what attaching takes, so it begins before this one gives that up.
    let tls = if run.config.tls.enabled { secrets::begin(sandbox, config.cgroups) } else { None };
    let whose = run.config.tls;
    let reloads = Reloader {
        file: run.file,
        running,
        wanted: run.findings,
        origin,
        asking,
        tell,
        runtime: runtime.handle().clone(),
        shared: shared.clone(),
    }
    .start(run.read, hang_up)?;
    let engine = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            take_precedence(nice);
            // The engine is made where it lives: it is one thread's own and cannot move.
            let mut agent = Agent::with_sources(settings, identity, sources, outputs);
            agent.decide_tls(whose);
            let known = Known { facts, pokes };
            let published = now();
            Live {
                agent,
                known,
                updater,
                shared,
                recorder,
                stop,
                duration: run.duration,
                sandbox,
                reloads,
                published,
                tls,
            }
            .watch(config)
        })
        .map_err(|source| PipelineError::System { what: "cannot start the engine's thread", source })?;
    privileges::thread_begins(sandbox);
    let result = engine.join().unwrap_or(Err(PipelineError::Panicked));
    // Dropping the sender asks the server to end.
    drop(server);
    if let Some((exporter, worker)) = otlp {
        runtime.block_on(exporter.finish(worker));
    }
    runtime.shutdown_timeout(GRACE);
    result
}

/// What sources of identity tell, and how to ask them.
struct Known {
    facts: mpsc::Receiver<Told>,
    pokes: Vec<Arc<Notify>>,
}

/// The engine's thread of a live agent.
struct Live {
    agent: Agent,
    known: Known,
    updater: Updater,
    shared: Arc<Shared>,
    recorder: Option<Recorder>,
    stop: Arc<AtomicBool>,
    duration: Option<Duration>,
    sandbox: Sandbox,
    /// Configurations that were read while the agent runs.
    reloads: mpsc::UnboundedReceiver<Reload>,
    /// When it was last looked at what had ended.
    published: Nanos,
    /// Where TLS is read.
    tls: Option<secrets::Reading>,
}

impl Live {
    fn watch(mut self, config: CaptureConfig) -> Result<(), PipelineError> {
        self.identity_first();
        let mut source = LiveSource::open(config, Box::new(crate::identity::watch))?;
        let tls = self.tls.as_mut().and_then(secrets::Reading::take);
        if let Some((maps, orders)) = tls {
            source.read_secrets(maps, orders)?;
        }
        privileges::confine(self.sandbox, self.tls.is_some());
        let began = Instant::now();
        let mut next_publish = began;
        let mut result = Ok(());
        while !self.stopping(began) {
            let timeout = if self.agent.waiting() { EAGER } else { IDLE };
            match self.poll(&mut source, timeout) {
                Ok(Progress::End) => break,
                Ok(Progress::Busy | Progress::Idle) => {}
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
            while let Ok(reload) = self.reloads.try_recv() {
                reload.apply(&mut self);
            }
            if Instant::now() >= next_publish {
                next_publish = Instant::now() + PUBLISH;
                self.publish(&mut source);
            }
        }
        let drained = Instant::now() + DRAIN;
        while result.is_ok() && Instant::now() < drained {
            match self.poll(&mut source, Duration::ZERO) {
                Ok(Progress::Busy) => {}
                Ok(Progress::Idle | Progress::End) | Err(_) => break,
            }
        }
        self.agent.finish();
        self.publish(&mut source);
        self.finish_recording();
        summary(&self.agent);
        result
    }

    /// Waits, bounded, until every source of identity has told what it knows or cannot be asked.
    fn identity_first(&mut self) {
        let began = Instant::now();
        let open = |s: &identity::SourceInfo| !s.synced && s.stale.is_none();
        while self.agent.identity.sources().iter().any(open)
            && began.elapsed() < IDENTITY_FIRST
            && !self.stop.load(Ordering::Relaxed)
        {
            self.hear();
            self.shared.beat();
            std::thread::sleep(EAGER);
        }
        for s in self.agent.identity.sources() {
            match &s.stale {
                None if s.synced => tracing::info!("identity: {} {}: synced", s.kind.name(), s.place),
                None => tracing::warn!("identity: {} {}: no answer yet", s.kind.name(), s.place),
                Some(why) => tracing::warn!("identity: {} {}: {why}", s.kind.name(), s.place),
            }
        }
    }

    /// The first lines that somebody reads who wonders why nothing is found.
    fn say_what_is_watched(&mut self, root: &Path, hooks: &[HookStatus]) {
        let Some(tenants) = self.agent.first_tenants.take() else { return };
        let hooks: Vec<&str> = hooks.iter().filter(|h| h.attached).map(|h| h.hook).collect();
        let tenants: Vec<String> = tenants.into_iter().collect();
        tracing::info!(
            version = about::VERSION,
            kernel = %kernel_release(),
            cgroup_root = %root.display(),
            hooks = %hooks.join(","),
            tenants = if tenants.is_empty() { "none known yet".to_owned() } else { tenants.join(",") },
            "watching"
        );
    }

    /// Takes in what sources of identity have told, asks them if somebody waits.
    fn hear(&mut self) {
        let facts = &mut self.known.facts;
        self.agent.told(std::iter::from_fn(|| facts.try_recv().ok()).take(FACTS));
        if std::mem::take(&mut self.agent.wanted) {
            for poke in &self.known.pokes {
                poke.notify_one();
            }
        }
    }

    fn stopping(&self, began: Instant) -> bool {
        self.stop.load(Ordering::Relaxed)
            || self.agent.out.reader_gone
            || self.duration.is_some_and(|d| began.elapsed() >= d)
    }

    fn poll(&mut self, source: &mut LiveSource, timeout: Duration) -> Result<Progress, CaptureError> {
        let (agent, recorder) = (&mut self.agent, &mut self.recorder);
        let progress = source.poll(timeout, &mut |event| {
            if let Some(recorder) = recorder
                && let Err(error) = recorder.record(&event)
            {
                tracing::error!("{error}; the agent goes on without recording");
            }
            agent.event(&event);
        })?;
        self.hear();
        self.agent.release(now());
        self.agent.apply_budgets(source);
        self.agent.apply_tls(source);
        Ok(progress)
    }

    fn publish(&mut self, source: &mut LiveSource) {
        self.shared.beat();
        self.agent.out.retry();
        let since = std::mem::replace(&mut self.published, now());
        exceptions::ended(self.agent.engine.suppressions(), since, self.published);
        for warning in source.warnings() {
            tracing::warn!("{warning}");
        }
        let stats = source.stats();
        self.say_what_is_watched(source.root(), &stats.hooks);
        let lost = stats
            .hooks
            .iter()
            .filter(|h| !h.attached)
            .map(|h| match &h.problem {
                Some(problem) => format!("{}: {problem}", h.hook),
                None => h.hook.to_owned(),
            })
            .collect();
        let services = self.agent.engine.services();
        let (tls, secrets) = (self.tls.as_ref().map(|t| t.status.get()), source.secrets());
        for (cgroup, reason) in tls.iter().flat_map(|status| &status.blind) {
            if let Some(why) = reason.unread() {
                self.agent.engine.tls_blind(*cgroup, why);
            }
        }
        let from = Sources {
            engine: &self.agent.engine,
            services: &services,
            source: &stats,
            identity: Some(&self.agent.identity),
            waiting: self.agent.waiting_bytes(),
            unwritten: self.agent.out.unwritten,
            otlp: self.agent.out.otlp.as_ref().map(Exporter::totals),
            tls: tls.as_ref().map(|status| (&**status, secrets.as_slice())),
            now: now(),
        };
        self.updater.update(from);
        self.shared.refresh(self.agent.engine.all_findings());
        self.shared.set_tools(tools::tools(&self.agent.engine.tools()));
        self.shared.set_services(services::services(&services));
        let sources = self.agent.identity.sources();
        let shown = |s: &identity::SourceInfo| {
            let why = match (&s.stale, s.synced) {
                (Some(why), _) => why.as_str(),
                (None, true) => return None,
                (None, false) => "no answer yet",
            };
            Some(format!("{} {}: {why}", s.kind.name(), s.place))
        };
        self.shared.set_readiness(Readiness {
            // An open source has the hooks it cannot do without, and its first poll told every existing cgroup.
            hooks: true,
            identity: sources.iter().all(|s| s.synced || !s.required),
            lost,
            stale: sources.iter().filter_map(shown).collect(),
            unwritten: self.agent.out.failing().map(str::to_owned).collect(),
        });
    }

    fn finish_recording(&mut self) {
        match self.recorder.as_mut().map(Recorder::finish) {
            Some(Ok(n)) => tracing::info!("recorded {n} events"),
            Some(Err(error)) => tracing::error!("{error}"),
            None => {}
        }
    }
}

/// Runs a capture or recording through the same engine: the same input gives the same output, byte for byte.
///
/// # Errors
/// [`PipelineError`]: the input cannot be read at all, or results cannot be written.
pub fn replay(replay: Replay) -> Result<Replayed, PipelineError> {
    let mut source = file::open(&replay.input)?;
    let open = |target: &Target| LineSink::open(target, Existing::Replace, false);
    let outputs = Outputs {
        findings: replay.findings.iter().map(open).collect::<Result<_, _>>()?,
        operations: replay.operations.as_ref().map(open).transpose()?,
        with_suppressed: replay.suppressed,
        ..Outputs::default()
    };
    let runtime = runtime(Sandbox::Off)?;
    let stop = stop_on_signal(&runtime)?;
    let mut settings = replay.config.settings;
    settings.salt = REPLAY_SALT;
    settings.operations = replay.operations.is_some();
    if replay.keylog.is_some() {
        settings.tls.get_or_insert_default();
    }
    let mut agent = Agent::new(settings, replay.config.identity, outputs);
    if let Some(path) = &replay.keylog {
        learn_secrets(path, &mut agent)?;
    }
    let mut whole = false;
    while !stop.load(Ordering::Relaxed)
        && (replay.to_the_end || !agent.out.reader_gone)
        && agent.out.failure.is_none()
        && !whole
    {
        whole = source.poll(Duration::ZERO, &mut |event| agent.event(&event))? == Progress::End;
        agent.out.wanted.clear();
        agent.out.forgotten.clear();
    }
    agent.finish();
    for warning in source.warnings() {
        tracing::warn!("{}: {warning}", replay.input.display());
    }
    summary(&agent);
    runtime.shutdown_background();
    let unread = match source.unread() {
        Some(why) => Some(why.to_owned()),
        None if !whole && stop.load(Ordering::Relaxed) => Some("a signal ended it".to_owned()),
        None => None,
    };
    let unread = unread.map(|why| {
        let [sent, received] = source.stats().segments;
        let (operations, findings) = (n_operations(&agent), agent.out.n_findings);
        format!("{why}. Read were {} segments: operations {operations}, findings {findings}", sent + received)
    });
    match agent.out.failure {
        Some(failure) => Err(PipelineError::Incomplete(failure)),
        None => Ok(Replayed { worst: agent.out.worst, unread, tools: agent.engine.tools() }),
    }
}

/// Reads a key log.
fn learn_secrets(path: &Path, agent: &mut Agent) -> Result<(), PipelineError> {
    let failed = |source| PipelineError::KeyLog { name: path.display().to_string(), source };
    let file = std::io::BufReader::new(std::fs::File::open(path).map_err(failed)?);
    let (mut n_kept, mut n_dropped) = (0u64, 0u64);
    let n_passed =
        keylog::read(file, |secret| if agent.engine.learn_secret(secret) { n_kept += 1 } else { n_dropped += 1 })
            .map_err(failed)?;
    let name = path.display();
    if n_kept == 0 {
        tracing::warn!("{name}: no secret that is of use was found in it");
    }
    tracing::info!(secrets = n_kept, without_room = n_dropped, other_lines = n_passed, "{name}: read");
    Ok(())
}

/// Judged operations, whoever asked for them.
fn n_operations(agent: &Agent) -> u64 {
    agent.engine.stats().operations.values().sum()
}

/// Says what was read and, as silence is not safety, what was not.
fn summary(agent: &Agent) {
    let s = agent.engine.stats();
    let mut bases: Vec<String> = s.bases.iter().map(|((b, r), n)| format!("{} {r}: {n}", b.name())).collect();
    bases.sort();
    tracing::debug!(bases = bases.join("; "), "attribution");
    let indeterminate: u64 = s
        .operations
        .iter()
        .filter(|((.., verdict), _)| *verdict == monitor_core::model::Verdict::Indeterminate)
        .map(|(_, n)| n)
        .sum();
    tracing::info!(
        findings = agent.out.n_findings,
        operations = n_operations(agent),
        indeterminate,
        bytes_decoded = s.bytes_decoded,
        bytes_opaque = s.bytes_opaque,
        bytes_truncated = s.bytes_truncated,
        bytes_lost = s.bytes_lost,
        bytes_unfollowed = s.bytes_unfollowed,
        connections_evicted = s.flows_evicted,
        segments_unfollowed = s.orphans,
        events_lost = s.lost.values().sum::<u64>(),
        decode_errors = s.decode_errors.values().sum::<u64>(),
        "done"
    );
}

/// The runtime beside the engine: nothing that its threads do needs what loading the probes needs.
fn runtime(sandbox: Sandbox) -> Result<Runtime, PipelineError> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("http")
        .on_thread_start(move || privileges::thread_begins(sandbox))
        .enable_all()
        .build()
        .map_err(|source| PipelineError::System { what: "cannot start the runtime", source })
}

/// A flag that SIGTERM or SIGINT sets. A second signal ends the process at once.
fn stop_on_signal(runtime: &Runtime) -> Result<Arc<AtomicBool>, PipelineError> {
    let error = |source| PipelineError::System { what: "cannot wait for signals", source };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let _inside = runtime.enter();
    let mut term = signal(SignalKind::terminate()).map_err(error)?;
    let mut int = signal(SignalKind::interrupt()).map_err(error)?;
    runtime.spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
        }
    });
    Ok(stop)
}

/// Serves HTTP until the sender is dropped.
fn serve(runtime: &Runtime, server: Server, shared: Arc<Shared>) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    if let Some(address) = server.address() {
        let scheme = server.scheme();
        tracing::info!("metrics on {scheme}://{address}/metrics, findings on {scheme}://{address}/findings");
    }
    runtime.spawn(async move {
        let result = server.serve(shared, async {
            // Nothing is ever sent: the sender's end is the message.
            let _ = stopped.await;
        });
        if let Err(error) = result.await {
            tracing::error!("the HTTP server has ended: {error}; the agent goes on without it");
        }
    });
    stop
}
