//! A tenant's client: a Python program with psycopg in the tenant's own cgroup. Its connections stay open between the
//! orders it gets, so a test says exactly who does what on which connection, and when.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::postgres::{APP_USER, DATABASE};
use super::process::Launch;
use super::python::{Packages, python};
use super::talk::Talk;

/// What a client does: each worker is one connection, runs `setup` once and then, each time it is told to, `steps` so
/// many times.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Connections at once.
    pub workers: u32,
    /// How often each runs the steps.
    pub iterations: u32,
    /// Statements at the start of each connection.
    pub setup: Vec<String>,
    /// Statements of one iteration, each sent by itself, in the client program's notation.
    pub steps: Vec<String>,
    /// Further options of the client program.
    pub options: Vec<&'static str>,
}

/// What a client has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Statements that were answered.
    pub n_statements: u64,
    /// Rows of `orders` that came back, by the tenant that they belong to.
    pub rows: BTreeMap<String, u64>,
}

impl Seen {
    /// Rows that belong to somebody else.
    #[must_use]
    pub fn foreign(&self, own: &str) -> u64 {
        self.rows.iter().filter(|(tenant, _)| *tenant != own).map(|(_, n)| n).sum()
    }

    fn parse(value: &Value) -> Result<Self> {
        let rows = value.pointer("/rows").and_then(Value::as_object).context("no rows")?;
        let count = |v: &Value| v.as_u64().with_context(|| format!("no count: {value}"));
        Ok(Self {
            n_statements: count(value.pointer("/statements").context("no statements")?)?,
            rows: rows.iter().map(|(k, v)| Ok((k.clone(), count(v)?))).collect::<Result<_>>()?,
        })
    }
}

/// A client that has connected, run its setup, and waits for orders.
#[derive(Debug)]
pub struct Client {
    talk: Talk,
    iterations: u32,
    steps: Vec<String>,
}

impl Client {
    /// Starts the client inside `cgroup` against a port on 127.0.0.1 and waits until its setup is done.
    ///
    /// # Errors
    /// When it cannot connect or its setup fails.
    pub fn start(name: &str, cgroup: &Path, port: u16, work: &Work, logs: &Path) -> Result<Self> {
        Self::start_at(name, cgroup, &format!("host=127.0.0.1 port={port}"), work, logs)
    }

    /// Like [`Self::start`], with the place to connect to in libpq's notation.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(name: &str, cgroup: &Path, place: &str, work: &Work, logs: &Path) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/tenant.py");
        let mut launch = Launch::new(name, python(Packages::Current)?)
            .arg(script)
            .arg(format!("{place} dbname={DATABASE} user={APP_USER}"))
            .args(["--workers", &work.workers.to_string()])
            .args(&work.options)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        for statement in &work.setup {
            launch = launch.arg("--setup").arg(statement);
        }
        let talk = Talk::start(launch.cgroup(cgroup), name, logs)?;
        Ok(Self { talk, iterations: work.iterations, steps: work.steps.clone() })
    }

    /// Lets each worker run the steps it was started with; does not wait.
    ///
    /// # Errors
    /// When it has gone.
    pub fn go(&mut self) -> Result<()> {
        let steps = self.steps.clone();
        self.order(self.iterations, &steps)
    }

    /// Lets each worker run these steps so often; does not wait.
    ///
    /// # Errors
    /// When it has gone.
    pub fn order<S: AsRef<str>>(&mut self, rounds: u32, steps: &[S]) -> Result<()> {
        let steps: Vec<&str> = steps.iter().map(AsRef::as_ref).collect();
        self.talk.order(&json!({ "rounds": rounds, "steps": steps }))
    }

    /// Waits until the last order is carried out.
    ///
    /// # Errors
    /// When a statement failed that should not have, or succeeded that should not have.
    pub fn done(&mut self) -> Result<Seen> {
        Seen::parse(&self.talk.answer()?)
    }

    /// Lets each worker run these steps so often and waits for the end.
    ///
    /// # Errors
    /// As [`Self::order`] and [`Self::done`].
    pub fn ask<S: AsRef<str>>(&mut self, rounds: u32, steps: &[S]) -> Result<Seen> {
        self.order(rounds, steps)?;
        self.done()
    }

    /// Waits until every worker has done what it was told, and ends it; gives everything that it said.
    ///
    /// # Errors
    /// When it failed.
    pub fn finish(self) -> Result<String> {
        self.talk.finish()
    }

    /// Runs the steps it was started with and waits for the end.
    ///
    /// # Errors
    /// As [`Self::go`] and [`Self::finish`].
    pub fn run(mut self) -> Result<String> {
        self.go()?;
        self.finish()
    }
}
