//! Lines to a file or to standard output.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use monitor_core::detect::FindingEvent;
use monitor_core::model::Finding;

use super::human::{self, Style};
use super::json::{self, About};
use super::rotate::{Rotate, RotatingFile};
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
    writer: Writer,
    target: Target,
    what: String,
    /// Whose findings these are.
    about: Arc<About>,
    /// For people instead of machines.
    style: Option<Style>,
    /// Each line is wanted at once.
    live: bool,
}

/// Where bytes go. A live agent's file moves; everything else stays where it is.
enum Writer {
    Moving(BufWriter<RotatingFile>),
    Fixed(BufWriter<Box<dyn Write + Send>>),
}

impl Writer {
    fn get(&mut self) -> &mut dyn Write {
        match self {
            Self::Moving(file) => file,
            Self::Fixed(other) => other,
        }
    }
}

/// Bytes held before they are written.
const BUFFER: usize = 1 << 16;

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
        let (writer, what, style): (Box<dyn Write + Send>, _, _) = match target {
            Target::Stdout => {
                let style = io::stdout().is_terminal().then(Style::detect);
                (Box::new(io::stdout()), "standard output".to_owned(), style)
            }
            Target::File(path) => {
                let what = path.display().to_string();
                let file = private::open(path, How { existing, follow: true })
                    .map_err(|source| SinkError::Failed { what: what.clone(), source })?;
                (Box::new(file), what, None)
            }
        };
        let writer = Writer::Fixed(BufWriter::with_capacity(BUFFER, writer));
        let (target, about) = (target.clone(), Arc::default());
        Ok(Self { writer, target, what, about, live: live || style.is_some(), style })
    }

    /// Opens the target for an agent that runs on: lines are added to what a file holds, and flushed one by one; a file
    /// makes way as `rotate` says.
    ///
    /// # Errors
    /// The file cannot be created or opened.
    pub fn open_live(target: &Target, rotate: Rotate, about: Arc<About>) -> Result<Self, SinkError> {
        let Target::File(path) = target else {
            return Ok(Self { about, ..Self::open(target, Existing::Append, true)? });
        };
        let what = path.display().to_string();
        let file =
            RotatingFile::open(path, rotate).map_err(|source| SinkError::Failed { what: what.clone(), source })?;
        let writer = Writer::Moving(BufWriter::with_capacity(BUFFER, file));
        Ok(Self { writer, target: target.clone(), what, about, style: None, live: true })
    }

    /// Where it writes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Takes other decisions for those it was opened with.
    pub fn decide(&mut self, rotate: Rotate, about: Arc<About>) {
        self.about = about;
        if let Writer::Moving(file) = &mut self.writer {
            file.get_mut().set(rotate);
        }
    }

    /// Opens anew what is at the path of its file now: the old one may have been moved.
    ///
    /// # Errors
    /// It cannot be opened: the old file is written on.
    pub fn reopen(&mut self) -> Result<(), SinkError> {
        self.flush()?;
        let Writer::Moving(file) = &mut self.writer else { return Ok(()) };
        file.get_mut().reopen().map_err(|source| SinkError::Failed { what: self.what.clone(), source })
    }

    /// Writes one finding: a line of JSON, or a block for people.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn finding(&mut self, f: &Finding, event: FindingEvent) -> Result<(), SinkError> {
        match self.style {
            Some(style) => self.put(human::finding(f, event, style), ""),
            None => self.put(json::finding(f, &self.about), "\n"),
        }
    }

    /// Writes one line.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn line(&mut self, line: &str) -> Result<(), SinkError> {
        self.put(line.to_owned(), "\n")
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn flush(&mut self) -> Result<(), SinkError> {
        self.writer.get().flush().map_err(|e| self.error(e))
    }

    fn put(&mut self, mut text: String, end: &str) -> Result<(), SinkError> {
        // In one piece: a file makes way between lines only.
        text.push_str(end);
        self.writer.get().write_all(text.as_bytes()).map_err(|e| self.error(e))?;
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
    fn a_live_file_makes_way_between_lines_and_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        let rotate = Rotate { max_bytes: 4000, keep: 100 };
        let mut sink = LineSink::open_live(&Target::File(path.clone()), rotate, Arc::default()).unwrap();
        for _ in 0..50 {
            sink.finding(&sample::finding(), FindingEvent::New).unwrap();
        }
        std::fs::rename(&path, dir.path().join("f.jsonl.moved")).unwrap();
        sink.reopen().unwrap();
        sink.finding(&sample::finding(), FindingEvent::New).unwrap();
        let mut lines = 0;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(text.len() <= 4000 && text.ends_with("}\n"), "{text}");
            lines += text.lines().filter(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()).count();
        }
        assert_eq!(lines, 51);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
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
