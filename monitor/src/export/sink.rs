//! Lines to a file or to standard output.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use monitor_core::detect::FindingEvent;
use monitor_core::model::Finding;

use super::human::{self, Style};
use super::json;
use crate::private::{self, How};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output: `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl Target {
    /// As the command line writes it: `-` or a path.
    pub fn parse(text: &str) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(PathBuf::from(text)) }
    }
}

/// Why lines no longer go anywhere.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Whoever read them has left: no failure, but the end.
    #[error("the reader of standard output has gone")]
    ReaderGone,
    /// They could not be written.
    #[error("cannot write to {what}: {source}")]
    Failed {
        /// The file, or standard output.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What to do with what a file already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Keep it and add to it: a live agent's findings.
    Append,
    /// Replace it: the same replay gives the same file.
    Replace,
}

/// Writes lines and remembers nothing.
pub struct LineSink {
    writer: Box<dyn Write + Send>,
    what: String,
    /// For people instead of machines.
    style: Option<Style>,
    /// Each line is wanted at once.
    live: bool,
}

impl std::fmt::Debug for LineSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineSink").field("what", &self.what).field("live", &self.live).finish_non_exhaustive()
    }
}

impl LineSink {
    /// Opens the target. `live`: every line is flushed, as somebody may be watching.
    ///
    /// # Errors
    /// The file cannot be created or opened.
    pub fn open(target: &Target, existing: Existing, live: bool) -> Result<Self, SinkError> {
        match target {
            Target::Stdout => {
                let terminal = io::stdout().is_terminal();
                Ok(Self {
                    writer: Box::new(BufWriter::with_capacity(1 << 16, io::stdout())),
                    what: "standard output".to_owned(),
                    style: terminal.then(Style::detect),
                    live: live || terminal,
                })
            }
            Target::File(path) => Self::file(path, existing, live),
        }
    }

    fn file(path: &Path, existing: Existing, live: bool) -> Result<Self, SinkError> {
        let what = path.display().to_string();
        let file = private::open(path, How { existing, follow: true })
            .map_err(|source| SinkError::Failed { what: what.clone(), source })?;
        Ok(Self { writer: Box::new(BufWriter::with_capacity(1 << 16, file)), what, style: None, live })
    }

    /// Writes one finding: a line of JSON, or a block for people.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn finding(&mut self, f: &Finding, event: FindingEvent) -> Result<(), SinkError> {
        match self.style {
            Some(style) => self.put(human::finding(f, event, style).as_bytes(), ""),
            None => self.put(json::finding(f).as_bytes(), "\n"),
        }
    }

    /// Writes one line.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn line(&mut self, line: &str) -> Result<(), SinkError> {
        self.put(line.as_bytes(), "\n")
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn flush(&mut self) -> Result<(), SinkError> {
        self.writer.flush().map_err(|e| self.error(e))
    }

    fn put(&mut self, bytes: &[u8], end: &str) -> Result<(), SinkError> {
        self.writer.write_all(bytes).and_then(|()| self.writer.write_all(end.as_bytes())).map_err(|e| self.error(e))?;
        if self.live { self.flush() } else { Ok(()) }
    }

    fn error(&self, source: io::Error) -> SinkError {
        if source.kind() == io::ErrorKind::BrokenPipe {
            SinkError::ReaderGone
        } else {
            SinkError::Failed { what: self.what.clone(), source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::sample;

    fn lines(existing: Existing, runs: usize) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        for _ in 0..runs {
            let mut sink = LineSink::open(&Target::File(path.clone()), existing, true).unwrap();
            sink.finding(&sample::finding(), FindingEvent::New).unwrap();
        }
        std::fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn a_live_agent_appends_and_a_replay_replaces() {
        assert_eq!(lines(Existing::Append, 2), 2);
        assert_eq!(lines(Existing::Replace, 2), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let target = Target::File("/nonexistent/leasewarden/f.jsonl".into());
        let error = LineSink::open(&target, Existing::Append, true).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/leasewarden/f.jsonl: No such file"), "{error}");
    }

    #[test]
    fn a_full_disk_is_an_error_and_not_a_panic() {
        let mut sink = LineSink::open(&Target::File("/dev/full".into()), Existing::Append, true).unwrap();
        let error = sink.finding(&sample::finding(), FindingEvent::New).unwrap_err().to_string();
        assert!(error.contains("/dev/full"), "{error}");
    }
}
