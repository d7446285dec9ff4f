//! Plays frameworks' recipes: the service that a recipe makes, both tenants' clients, and the agent that watches them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::load::Load;
use super::recipe_cases::Case;
use super::scene::{Outcome, Scene};
use super::service::{Behind, Program, Spec};

/// Requests of each tenant with one in flight at a time: enough to see that the service is quiet when idle.
const ALONE: u32 = 20;
/// Rounds of each connection when many are in flight.
const TOGETHER: u32 = 10;
/// Until the last packet has become an event.
const REST: Duration = Duration::from_millis(400);

/// A case that is being played.
#[derive(Debug)]
pub struct Stage {
    /// What runs.
    pub scene: Scene,
    case: &'static Case,
    in_flight: u32,
}

impl Stage {
    /// Starts what is behind the service. `name` is used for logs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn new(case: &'static Case, in_flight: u32, name: &str) -> Result<Self> {
        let scene = Scene::with(name, case.recipe.behind)?;
        if case.recipe.behind == Behind::Postgres {
            let schema = super::clients_dir().join("recipes/schema.sql");
            scene
                .prepare(&fs::read_to_string(&schema).with_context(|| format!("cannot read {}", schema.display()))?)?;
        }
        Ok(Self { scene, case, in_flight })
    }

    /// Plays it to the end, watched by `binary`; gives what was found, and where it was recorded if it was to be.
    ///
    /// # Errors
    /// When something does not do its work, or the mistake does not really happen; findings are not judged here.
    pub fn play(&mut self, binary: &Path, record: bool) -> Result<(Outcome, Option<PathBuf>)> {
        let case = self.case;
        let recording = record.then(|| self.scene.logs().join("recording.lwr"));
        self.scene.start_agent_as(binary, "", recording.as_deref())?;
        self.scene.start_service(&Spec {
            program: Program::Recipe(case.recipe),
            mode: case.way,
            // With one request in flight one connection is enough, and both tenants have it in turn.
            pool: if self.in_flight == 1 { 1 } else { 4 },
            passes_trace: false,
            job: None,
            cache: None,
        })?;
        let workers = (self.in_flight / 2).max(1);
        let mut acme = self.scene.load_as("acme", workers, false, case.cookie)?;
        let mut globex = self.scene.load_as("globex", workers, false, case.cookie)?;
        self.ask(&mut acme, &mut globex)?;
        let (acme, globex) = (acme.finish()?, globex.finish()?);
        self.scene.end_service()?;
        std::thread::sleep(REST);
        let outcome = self.scene.outcome_now()?;
        let foreign = acme.foreign("acme") + globex.foreign("globex");
        if case.leaks {
            ensure!(foreign > 0, "the leak did not happen, so nothing is tested: {acme:?} {globex:?}");
        } else {
            ensure!(foreign == 0, "a twin that does not leak leaks: {acme:?} {globex:?}");
        }
        Ok((outcome, recording))
    }

    /// Both tenants, in turn or together.
    fn ask(&self, acme: &mut Load, globex: &mut Load) -> Result<()> {
        let (one, other) = (self.case.acme, self.case.globex);
        if self.in_flight == 1 {
            for round in 0..ALONE {
                acme.ask(1, one, None)?;
                // Each tenant also follows on itself at times.
                for _ in 0..1 + round % 2 {
                    globex.ask(1, other, None)?;
                }
            }
            return Ok(());
        }
        acme.order(TOGETHER, one, None)?;
        globex.order(TOGETHER, other, None)?;
        acme.done()?;
        globex.done()?;
        Ok(())
    }
}
