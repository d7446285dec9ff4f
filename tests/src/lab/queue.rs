//! Plays cases of shared queues: a broker, a database and a policy server in cgroups of their own, producers in the
//! tenants', workers where the case says. What is dear to start stays from case to case; agent, producers, workers and
//! queue are each case's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::agent::Agent;
use super::brokers::{Broker, Kind};
use super::cases::Twin;
use super::certificate::Certificate;
use super::cgroup::Tree;
use super::node::{self, Modules};
use super::postgres::{DATABASE, Postgres};
use super::process::{Launch, Process};
use super::python::Packages;
use super::queue_cases::{Consumer, Event, QueueCase};
use super::queue_truth::{Done, Truth};
use super::scene::Outcome;
use super::talk::Talk;
use super::{Scratch, net, python, service, target_dir};

/// Jobs of each tenant, one at a time.
const ALONE: u32 = 12;
/// Jobs of each tenant when many are in flight.
const TOGETHER: u32 = 40;
/// In so many portions: some queues would hand out all of one tenant's before the other's first.
const TURNS: u32 = 5;
/// Connections of the worker's pool then.
const POOL: u32 = 4;
/// Longest that a worker may take until everything published is done.
const PATIENCE: Duration = Duration::from_secs(40);
/// Until the last packet has become an event, and the last confirmation has been sent.
const REST: Duration = Duration::from_millis(500);
/// A window of `retry-budget-exceeded`, and a little more.
const QUIET: Duration = Duration::from_secs(62);

/// The key of the signed claims; the agent's configuration has it, too.
const SECRET: &str = "only-the-lab-signs-with-this-key-0123456789";
/// [`SECRET`] as a set of JSON Web Keys: the base64url of its bytes.
const JWKS: &str = r#"{"keys":[{"kty":"oct","kid":"lab","alg":"HS256","k":"b25seS10aGUtbGFiLXNpZ25zLXdpdGgtdGhpcy1rZXktMDEyMzQ1Njc4OQ"}]}"#;

/// Which tenants there are.
const TENANTS: [&str; 2] = ["acme", "globex"];

/// What came of a case.
#[derive(Debug)]
pub struct Played {
    /// What the agent found and counted.
    pub outcome: Outcome,
    /// What producers and workers know.
    pub truth: Truth,
    /// What the agent took from the kernel, when it was to be recorded.
    pub recording: Option<PathBuf>,
}

/// What stays from case to case. Fields are dropped in this order: first who uses, then who is used.
#[derive(Debug)]
pub struct Ground {
    _policy: Process,
    policy: u16,
    broker: Broker,
    /// What is said with the broker is encrypted.
    certificate: Option<Certificate>,
    postgres: Postgres,
    tree: Tree,
    _scratch: Scratch,
    root: PathBuf,
    n_cases: u32,
}

impl Ground {
    /// Starts it. Logs go to `target/lab/scenes/NAME`.
    ///
    /// # Errors
    /// When not root, or when something does not come up.
    pub fn new(kind: Kind, name: &str) -> Result<Self> {
        Self::with(kind, name, false)
    }

    /// Starts it; everybody speaks TLS with the broker if it is `encrypted`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(kind: Kind, name: &str, encrypted: bool) -> Result<Self> {
        static GROUNDS: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{}-{}", std::process::id(), GROUNDS.fetch_add(1, Ordering::Relaxed));
        let root = target_dir().join("lab/scenes").join(name);
        let _ = fs::remove_dir_all(&root);
        let tree = Tree::new(&format!("leasewarden-queue-{unique}"))?;
        let scratch = Scratch::new(&format!("queue-{unique}"))?;
        let postgres = Postgres::start(&scratch, &tree.dir("shared/postgres")?, &root)?;
        let done = "CREATE TABLE done (key text PRIMARY KEY, ref text); GRANT INSERT, SELECT ON done TO app";
        postgres.psql(DATABASE, done)?;
        let certificate = if encrypted { Some(Certificate::make(&scratch)?) } else { None };
        let broker = Broker::start(kind, certificate.as_ref(), &scratch, &tree.dir("shared/broker")?, &root)?;
        let launch = python::program("policy", Packages::Queue, "queue_policy.py")?.args(["--secret", SECRET]);
        let (policy_process, policy) = service::listening(launch.cgroup(&tree.dir("shared/policy")?), "policy", &root)?;
        Ok(Self {
            _policy: policy_process,
            policy,
            broker,
            certificate,
            postgres,
            tree,
            _scratch: scratch,
            root,
            n_cases: 0,
        })
    }

    /// Plays one case, watched by `binary`.
    ///
    /// # Errors
    /// When something does not do its work, or the mistake does not really happen; findings are not judged here.
    pub fn play(&mut self, case: &QueueCase, in_flight: u32, binary: &Path, record: bool) -> Result<Played> {
        self.n_cases += 1;
        let logs = self.root.join(format!("{}-{in_flight}", case.name));
        fs::create_dir_all(&logs)?;
        let keys = logs.join("jwks.json");
        fs::write(&keys, JWKS)?;
        for cgroup in ["tenants/acme/agent", "tenants/globex/agent", "shared/worker"] {
            // They must be there to be watched, as a container's are before its first packet.
            self.tree.dir(cgroup)?;
        }
        let mut config = format!("tokens:\n  keys: [\"{}\"]\n  tenant_claims: [\"tenant_id\"]\n", keys.display());
        if self.certificate.is_some() {
            config.push_str("tls: { enabled: true }\n");
        }
        let recording = record.then(|| logs.join("recording.lwr"));
        let agent = Agent::start_as(binary, self.tree.root(), &config, recording.as_deref(), &logs)?;
        if self.certificate.is_some() {
            // The broker's library, where it has one; and Python's, which everybody else has.
            agent.wait_for_metric("leasewarden_tls_probes", Duration::from_secs(60))?;
        }
        let mut stage = Stage { ground: self, case, in_flight, logs: logs.clone(), workers: Vec::new() };
        let played = stage.play();
        let workers = std::mem::take(&mut stage.workers);
        drop(stage);
        // A worker that is stopped at once leaves its last jobs unconfirmed.
        std::thread::sleep(REST);
        drop(workers);
        let metrics = agent.metrics()?;
        fs::write(logs.join("metrics.txt"), metrics.told())?;
        let outcome = Outcome { findings: agent.stop()?, metrics };
        let truth = played.with_context(|| format!("logs in {}", logs.display()))?;
        if let Some(tenant) = case.leaks_to {
            ensure!(truth.foreign(Some(tenant)) > 0, "the leak did not happen, so nothing is tested: {truth:?}");
        } else if case.twin == Twin::Clean && case.mode != "policy" {
            ensure!(truth.foreign(None) == 0, "a clean twin leaks: {truth:?}");
        }
        ensure!(case.event != Event::Crash || truth.twice() > 0, "no job was done twice: {truth:?}");
        Ok(Played { outcome, truth, recording })
    }
}

/// A case that is being played.
struct Stage<'a> {
    ground: &'a Ground,
    case: &'a QueueCase,
    in_flight: u32,
    logs: PathBuf,
    workers: Vec<Process>,
}

impl Stage<'_> {
    fn launch(&self, name: &str, role: &str, queue: &str) -> Result<Launch> {
        let (script, variant) = self.case.program.script();
        let launch = if script.ends_with(".js") {
            node::program(name, Modules::Current, script)?
        } else {
            python::program(name, self.case.program.packages(), script)?
        };
        let broker = self.ground.broker.port().to_string();
        // With the database they speak in clear: that is not what is tried here.
        let told =
            self.ground.certificate.iter().flat_map(Certificate::environment).filter(|(key, _)| *key != "PGSSLMODE");
        Ok(launch.args(["--role", role, "--variant", variant, "--broker", &broker, "--queue", queue]).envs(told))
    }

    /// The queue that `tenant`'s jobs go to. Not a name that says anything, unless each has its own.
    fn queue(&self, tenant: &str) -> String {
        let n = self.ground.n_cases;
        if self.case.consumer == Consumer::Each { format!("jobs.q{n}.{tenant}") } else { format!("jobs.q{n}") }
    }

    fn truth_file(&self) -> PathBuf {
        self.logs.join("truth.jsonl")
    }

    fn start_worker(&mut self, cgroup: &str, queue: &str) -> Result<()> {
        let alone = self.in_flight == 1;
        let name = format!("worker-{}", self.workers.len());
        let (database, policy) = (self.ground.postgres.port().to_string(), self.ground.policy.to_string());
        let mut launch = self
            .launch(&name, "worker", queue)?
            .args(["--database", &database, "--mode", self.case.mode])
            .args(["--prefetch", &self.in_flight.to_string()])
            .args(["--pool", &if alone { 1 } else { POOL }.to_string(), "--truth"])
            .arg(self.truth_file());
        if self.case.tag == "token" || self.case.mode == "policy" {
            launch = launch.args(["--policy", &policy]);
        }
        match self.case.event {
            Event::Crash => {
                let before = (2 * ALONE).to_string();
                launch = launch.args(["--crash-after", &before, "--crash"]).arg(self.logs.join("crashed"));
            }
            Event::Storm(n) => launch = launch.args(["--storm", &format!("acme:{n}")]),
            Event::None => {}
        }
        let cgroup = self.ground.tree.dir(cgroup)?;
        let mut process = launch.cgroup(&cgroup).start(&self.logs)?;
        let log = self.logs.join(format!("{name}.log"));
        net::wait_until(&mut process, "the worker", Duration::from_secs(40), || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("READY"))
        })?;
        self.workers.push(process);
        Ok(())
    }

    fn start_workers(&mut self) -> Result<()> {
        match self.case.consumer {
            Consumer::Shared => self.start_worker("shared/worker", &self.queue("acme")),
            Consumer::Globex => self.start_worker("tenants/globex/agent", &self.queue("globex")),
            Consumer::Each => TENANTS.iter().try_for_each(|tenant| {
                let queue = self.queue(tenant);
                self.start_worker(&format!("tenants/{tenant}/agent"), &queue)
            }),
        }
    }

    fn producer(&self, tenant: &str) -> Result<Talk> {
        let launch = self
            .launch(tenant, "producer", &self.queue(tenant))?
            .args(["--tenant", tenant, "--tag", self.case.tag])
            .args(self.case.key.then_some("--key"));
        let launch = if self.case.tag == "token" { launch.args(["--secret", SECRET]) } else { launch };
        Talk::start(launch.cgroup(&self.ground.tree.dir(&format!("tenants/{tenant}/agent"))?), tenant, &self.logs)
    }

    fn play(&mut self) -> Result<Truth> {
        let mut truth = Truth::default();
        self.start_workers()?;
        let mut acme = self.producer("acme")?;
        let mut globex = self.producer("globex")?;
        let [acme_kind, globex_kind] = self.case.kinds;
        let order = |n: u32, kind: &str| json!({ "rounds": n, "kind": kind });
        if self.in_flight == 1 && !matches!(self.case.event, Event::Storm(_)) {
            for _ in 0..ALONE {
                for (tenant, talk, kind) in [("acme", &mut acme, acme_kind), ("globex", &mut globex, globex_kind)] {
                    talk.order(&order(1, kind))?;
                    published(&mut truth, tenant, talk)?;
                    self.wait(&mut truth)?;
                }
            }
        }
        match (self.case.event, self.in_flight) {
            (Event::Storm(_), _) => {
                // A quiet minute, to compare with.
                for _ in 0..8 {
                    globex.order(&order(1, globex_kind))?;
                    published(&mut truth, "globex", &mut globex)?;
                    self.wait(&mut truth)?;
                }
                std::thread::sleep(QUIET);
                acme.order(&order(1, acme_kind))?;
                published(&mut truth, "acme", &mut acme)?;
                globex.order(&order(8, globex_kind))?;
                published(&mut truth, "globex", &mut globex)?;
                self.wait(&mut truth)?;
            }
            (Event::Crash, _) => {
                acme.order(&order(2, acme_kind))?;
                published(&mut truth, "acme", &mut acme)?;
                self.wait(&mut truth)?;
                globex.order(&order(2, globex_kind))?;
                published(&mut truth, "globex", &mut globex)?;
                self.wait(&mut truth)?;
            }
            (Event::None, 1) => {}
            (Event::None, _) => {
                for _ in 0..TURNS {
                    acme.order(&order(TOGETHER / TURNS, acme_kind))?;
                    globex.order(&order(TOGETHER / TURNS, globex_kind))?;
                    published(&mut truth, "acme", &mut acme)?;
                    published(&mut truth, "globex", &mut globex)?;
                }
                self.wait(&mut truth)?;
            }
        }
        acme.finish()?;
        globex.finish()?;
        Ok(truth)
    }

    /// Waits until everything that is published is done; starts another worker when the first one crashes as planned.
    fn wait(&mut self, truth: &mut Truth) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            truth.done = Done::parse(&fs::read_to_string(self.truth_file()).unwrap_or_default())?;
            let crashing =
                self.case.event == Event::Crash && truth.done.len() > 2 * ALONE as usize && truth.twice() == 0;
            if truth.open() == 0 && !crashing {
                return Ok(());
            }
            let ended = self.workers.last_mut().map(Process::ended).transpose()?.flatten();
            if let Some(status) = ended {
                let tail = self.workers.last().map(Process::log_tail).unwrap_or_default();
                ensure!(crashing && self.workers.len() == 1, "the worker ended ({status}):\n{tail}");
                self.start_worker("shared/worker", &self.queue("acme"))?;
            }
            if Instant::now() > until {
                let tail = self.workers.last().map(Process::log_tail).unwrap_or_default();
                bail!("{} jobs are not done within {PATIENCE:?}; the worker said:\n{tail}", truth.open());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until a producer has published what it was told to, and notes whose it is.
fn published(truth: &mut Truth, tenant: &str, talk: &mut Talk) -> Result<()> {
    let answer = talk.answer()?;
    let refs = answer.get("refs").and_then(Value::as_array).context("no refs")?;
    for reference in refs.iter().filter_map(Value::as_str) {
        truth.published.insert(reference.to_owned(), tenant.to_owned());
    }
    Ok(())
}
