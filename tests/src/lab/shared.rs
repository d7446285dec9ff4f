//! Plays one case of the matrix: starts everything, lets both tenants work, and gives what the agent found, what the
//! service knows, and what the clients got.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::cases::{Case, Flow};
use super::load::{Got, Load};
use super::scene::{Outcome, Scene};
use super::service::{Behind, Spec};
use super::truth::Worked;

/// Requests of each tenant with one in flight at a time: enough to see that the service is quiet when idle.
const ALONE: u32 = 24;
/// Rounds of each connection when many are in flight.
const TOGETHER: u32 = 12;
/// Rounds before an agent that comes late, and the first that it sees.
const BEFORE: u32 = 3;
/// For so long after those an agent that comes late does not know who else may be in flight, and a little more.
const BLIND: Duration = Duration::from_secs(11);
/// How often the cache stalls.
const STALLS: u32 = 4;
/// Rounds after each.
const BETWEEN_STALLS: u32 = 3;
/// How long each time, and how long acme's clients wait.
const STALL: Duration = Duration::from_millis(400);
const PATIENCE_MS: u32 = 80;
/// Until the last packet has become an event.
const REST: Duration = Duration::from_millis(400);

/// What came of it.
#[derive(Debug)]
pub struct Played {
    /// What the agent found and counted.
    pub outcome: Outcome,
    /// What the service knows of its own work.
    pub truth: Vec<Worked>,
    /// What acme got.
    pub acme: Got,
    /// What globex got.
    pub globex: Got,
    /// What the agent took from the kernel, when it was to be recorded.
    pub recording: Option<PathBuf>,
    /// The port of what is behind the service.
    pub upstream: u16,
}

/// A case that is being played.
#[derive(Debug)]
pub struct Stage {
    /// What runs.
    pub scene: Scene,
    /// The counters are looked at in the end: they are waited for.
    pub counts: bool,
    case: &'static Case,
    concurrency: u32,
    encrypted: bool,
    late: bool,
}

impl Stage {
    /// Starts what is behind the service. `name` is used for logs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn new(case: &'static Case, concurrency: u32, name: &str) -> Result<Self> {
        let scene = Scene::with(name, case.program.behind())?;
        Ok(Self { scene, counts: false, case, concurrency, encrypted: false, late: false })
    }

    /// Everything that the service says is encrypted, and it is by its own libraries that it is read.
    ///
    /// # Errors
    /// When what is behind it takes no certificate.
    pub fn encrypted(mut self) -> Result<Self> {
        self.scene.encrypt_service()?;
        self.encrypted = true;
        Ok(self)
    }

    /// The agent comes when every connection is there and was used for both tenants.
    #[must_use]
    pub fn late(self) -> Self {
        Self { late: true, ..self }
    }

    /// Plays it to the end, watched by `binary`.
    ///
    /// # Errors
    /// When something does not do its work; findings are not judged here.
    pub fn play(&mut self, binary: &Path, record: bool) -> Result<Played> {
        let case = self.case;
        if case.program.behind() == Behind::Redis {
            self.users()?;
        }
        let recording = record.then(|| self.scene.logs().join("recording.lwr"));
        let spec = Spec {
            program: case.program,
            mode: case.mode,
            // With one request in flight one connection is enough, and both tenants have it in turn.
            pool: if self.concurrency == 1 { 1 } else { 4 },
            passes_trace: case.traced,
            job: case.job,
            cache: None,
        };
        if !self.late {
            self.scene.start_agent_as(binary, "", recording.as_deref())?;
        }
        if self.encrypted {
            self.scene.rehearse(&spec)?;
        }
        self.scene.start_service(&spec)?;
        let workers = (self.concurrency / 2).max(1);
        let mut acme = self.scene.load("acme", workers, case.traced)?;
        let mut globex = self.scene.load("globex", workers, case.traced)?;
        if self.late {
            self.ask(BEFORE, &mut acme, &mut globex)?;
            self.scene.start_agent_as(binary, "", recording.as_deref())?;
            self.ask(BEFORE, &mut acme, &mut globex)?;
            std::thread::sleep(BLIND);
        }
        match case.flow {
            Flow::Ask => self.ask(self.rounds(), &mut acme, &mut globex)?,
            Flow::GiveUp => self.give_up(&mut acme, &mut globex)?,
        }
        let (acme, globex) = (acme.finish()?, globex.finish()?);
        let truth = Worked::parse(&self.scene.end_service()?)?;
        // What is still on its way to the agent.
        std::thread::sleep(REST);
        let outcome = if self.counts { self.scene.outcome()? } else { self.scene.outcome_now()? };
        ensure!(!truth.is_empty(), "the service did nothing on its pool");
        if let Some(tenant) = case.leaks_to {
            let got = if tenant == "acme" { &acme } else { &globex };
            ensure!(got.foreign(tenant) > 0, "the leak did not happen, so nothing is tested: {tenant} got {got:?}");
        } else if case.must.is_empty() {
            ensure!(
                acme.foreign("acme") == 0 && globex.foreign("globex") == 0,
                "a clean twin leaks: {acme:?} {globex:?}"
            );
        }
        Ok(Played { outcome, truth, acme, globex, recording, upstream: self.scene.upstream_port()? })
    }

    /// The tenants' users of the cache. Where AUTH is to fail, globex' password has been changed.
    fn users(&self) -> Result<()> {
        let redis = self.scene.redis()?;
        let globex = if self.case.mode == "auth-sent" { ">changed-since" } else { ">secret-of-globex" };
        for (user, password) in [("tenant_acme", ">secret-of-acme"), ("tenant_globex", globex)] {
            redis.command(&["ACL", "SETUSER", user, "on", password, "allkeys", "allcommands"])?;
        }
        Ok(())
    }

    fn rounds(&self) -> u32 {
        if self.concurrency == 1 { ALONE } else { TOGETHER }
    }

    /// Both tenants, in turn or together.
    fn ask(&self, rounds: u32, acme: &mut Load, globex: &mut Load) -> Result<()> {
        let (one, other) = (self.case.acme, self.case.globex);
        if self.concurrency == 1 {
            for _ in 0..rounds {
                for (load, steps) in [(&mut *acme, one), (&mut *globex, other)] {
                    load.ask(1, steps, None)?;
                }
            }
            return Ok(());
        }
        acme.order(rounds, one, None)?;
        globex.order(rounds, other, None)?;
        acme.done()?;
        globex.done()?;
        Ok(())
    }

    fn give_up(&self, acme: &mut Load, globex: &mut Load) -> Result<()> {
        self.ask(self.rounds(), acme, globex)?;
        let redis = self.scene.redis()?;
        for _ in 0..STALLS {
            let until = Instant::now() + STALL;
            redis.command(&["CLIENT", "PAUSE", &STALL.as_millis().to_string(), "ALL"])?;
            let got = acme.ask(1, &["GET /orders/{last}"], Some(PATIENCE_MS))?;
            ensure!(got.n_gave_up > 0, "the cache did not stall: {got:?}");
            ensure!(Instant::now() < until, "the machine is too slow: the stall is over before globex came");
            globex.ask(1, &["GET /orders/{last}"], None)?;
            self.ask(BETWEEN_STALLS, acme, globex)?;
        }
        Ok(())
    }
}
