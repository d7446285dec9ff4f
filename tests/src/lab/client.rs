//! A tenant's client: a Python program with psycopg in the tenant's own cgroup. Its connections stay open between the
//! orders it gets, so a test says exactly who does what on which connection, and when.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::net;
use super::postgres::{APP_USER, DATABASE};
use super::process::{Launch, Process};
use super::python::python;

/// Longest that one order may take.
const PATIENCE: Duration = Duration::from_secs(90);

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

    fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        let rows = value.pointer("/rows").and_then(Value::as_object).context("no rows")?;
        let count = |v: &Value| v.as_u64().with_context(|| format!("no count: {line}"));
        Ok(Self {
            n_statements: count(value.pointer("/statements").context("no statements")?)?,
            rows: rows.iter().map(|(k, v)| Ok((k.clone(), count(v)?))).collect::<Result<_>>()?,
        })
    }
}

/// A client that has connected, run its setup, and waits for orders.
#[derive(Debug)]
pub struct Client {
    process: Process,
    stdin: ChildStdin,
    log: PathBuf,
    /// Answers read so far.
    n_answers: usize,
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
        let mut launch = Launch::new(name, python()?)
            .arg(script)
            .arg(format!("{place} dbname={DATABASE} user={APP_USER}"))
            .args(["--workers", &work.workers.to_string()])
            .args(&work.options)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        for statement in &work.setup {
            launch = launch.arg("--setup").arg(statement);
        }
        let mut process = launch.cgroup(cgroup).with_stdin().start(logs)?;
        let stdin = process.take_stdin().context("the client has no input")?;
        let log = logs.join(format!("{name}.log"));
        net::wait_until(&mut process, "the client", Duration::from_secs(30), || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("READY"))
        })?;
        Ok(Self { process, stdin, log, n_answers: 0, iterations: work.iterations, steps: work.steps.clone() })
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
        let order = json!({ "rounds": rounds, "steps": steps });
        writeln!(self.stdin, "{order}").with_context(|| format!("the client has gone:\n{}", self.process.log_tail()))
    }

    /// Waits until the last order is carried out.
    ///
    /// # Errors
    /// When a statement failed that should not have, or succeeded that should not have.
    pub fn done(&mut self) -> Result<Seen> {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
            // Up to the last end of line: the rest is being written.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().filter_map(|l| l.strip_prefix("SEEN ")).nth(self.n_answers) {
                self.n_answers += 1;
                return Seen::parse(line);
            }
            if self.process.ended()?.is_some() {
                bail!("the client ended instead of answering:\n{}", self.process.log_tail());
            }
            if Instant::now() > until {
                bail!("the client did not answer within {PATIENCE:?}:\n{}", self.process.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
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
        // The end of its input is the end of its work.
        drop(self.stdin);
        let said = self.process.finish(PATIENCE)?;
        if !said.contains("DONE") {
            bail!("the client ended without having done its work:\n{said}");
        }
        Ok(said)
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
