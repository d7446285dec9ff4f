//! A program that takes orders on its standard input, one JSON object a line, and answers each with a line `SEEN …`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::net;
use super::process::{Launch, Process};

/// Longest that one order may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A program that is ready for orders.
#[derive(Debug)]
pub struct Talk {
    process: Process,
    stdin: ChildStdin,
    log: PathBuf,
    /// Answers read so far.
    n_answers: usize,
}

impl Talk {
    /// Starts it under `name` and waits until it says `READY`.
    ///
    /// # Errors
    /// When it ends before.
    pub fn start(launch: Launch, name: &str, logs: &Path) -> Result<Self> {
        let mut process = launch.with_stdin().start(logs)?;
        let stdin = process.take_stdin().context("the client has no input")?;
        let log = logs.join(format!("{name}.log"));
        net::wait_until(&mut process, "the client", Duration::from_secs(30), || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("READY"))
        })?;
        Ok(Self { process, stdin, log, n_answers: 0 })
    }

    /// Gives an order; does not wait.
    ///
    /// # Errors
    /// When it has gone.
    pub fn order(&mut self, order: &Value) -> Result<()> {
        writeln!(self.stdin, "{order}").with_context(|| format!("the client has gone:\n{}", self.process.log_tail()))
    }

    /// Waits for the answer to the next order that is not answered yet.
    ///
    /// # Errors
    /// When the program ends instead, or takes too long.
    pub fn answer(&mut self) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
            // Up to the last end of line: the rest is being written.
            let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().filter_map(|l| l.strip_prefix("SEEN ")).nth(self.n_answers) {
                self.n_answers += 1;
                return serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
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

    /// Waits until everything is done and ends it; gives everything that it said.
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
}
