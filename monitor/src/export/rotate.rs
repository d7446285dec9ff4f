//! A file that is appended to, makes way for a new one when it is large, and is opened anew when somebody has moved it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::sink::Existing;
use crate::private::{self, How};

/// When a file makes way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Largest size, in bytes; 0: none.
    pub max_bytes: u64,
    /// Files kept beside the one that is written.
    pub keep: u32,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { max_bytes: 100 << 20, keep: 5 }
    }
}

/// The file. Whole lines are written at once, so that none is parted.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Bytes in it.
    size: u64,
    /// It can be renamed: a pipe or a device cannot.
    regular: bool,
    rotate: Rotate,
}

impl RotatingFile {
    /// Opens `path` to append to it.
    pub(super) fn open(path: &Path, rotate: Rotate) -> io::Result<Self> {
        let file = private::open(path, How { existing: Existing::Append, follow: true })?;
        let there = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, size: there.len(), regular: there.is_file(), rotate })
    }

    /// Decides otherwise when it makes way.
    pub(super) fn set(&mut self, rotate: Rotate) {
        self.rotate = rotate;
    }

    /// Opens what is at the path now. On failure the old file stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.path, self.rotate)?;
        Ok(())
    }

    /// The file's name with a number.
    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    }

    /// Makes way: each older file gets the next number, the oldest goes.
    fn make_way(&mut self) -> io::Result<()> {
        for n in (1..self.rotate.keep.max(1)).rev() {
            match std::fs::rename(self.numbered(n), self.numbered(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))?;
        self.reopen()
    }
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.size.saturating_add(bytes.len() as u64);
        if self.regular && self.rotate.max_bytes > 0 && self.size > 0 && after > self.rotate.max_bytes {
            // A file that cannot be moved (a directory that may not be written to) goes on growing: better than silence.
            if let Err(error) = self.make_way() {
                tracing::error!("{}: cannot make way for a new file: {error}", self.path.display());
                self.rotate.max_bytes = 0;
            }
        }
        let n = self.file.write(bytes)?;
        self.size = self.size.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_large_file_makes_way_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        let mut file = RotatingFile::open(&path, Rotate { max_bytes: 8, keep: 2 }).unwrap();
        // At the bound it stays, one byte beyond it makes way.
        for line in ["aaa\n", "bbb\n", "ccc\n", "ddd\n", "a line longer than a file\n", "eee\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&path), "eee\n");
        assert_eq!(text(&dir.path().join("f.jsonl.1")), "a line longer than a file\n");
        assert_eq!(text(&dir.path().join("f.jsonl.2")), "ccc\nddd\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_was_there_counts_and_zero_means_no_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.jsonl");
        std::fs::write(&path, "12345678\n").unwrap();
        let mut file = RotatingFile::open(&path, Rotate { max_bytes: 10, keep: 1 }).unwrap();
        file.write_all(b"abc\n").unwrap();
        assert_eq!((text(&path).as_str(), text(&dir.path().join("f.jsonl.1")).as_str()), ("abc\n", "12345678\n"));
        file.set(Rotate { max_bytes: 0, keep: 1 });
        for _ in 0..100 {
            file.write_all(b"abc\n").unwrap();
        }
        assert_eq!(text(&path).len(), 404);
    }

    #[test]
    fn a_file_that_was_moved_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("f.jsonl"), dir.path().join("f.old"));
        let mut file = RotatingFile::open(&path, Rotate::default()).unwrap();
        file.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        file.write_all(b"two\n").unwrap();
        file.reopen().unwrap();
        file.write_all(b"three\n").unwrap();
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("one\ntwo\n", "three\n"));
        // A directory that is gone: the old file is written on.
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(file.reopen().is_err());
        file.write_all(b"four\n").unwrap();
    }

    #[test]
    fn a_device_is_never_moved() {
        let mut file = RotatingFile::open(Path::new("/dev/null"), Rotate { max_bytes: 1, keep: 1 }).unwrap();
        for _ in 0..3 {
            file.write_all(b"abc\n").unwrap();
        }
        assert!(!Path::new("/dev/null.1").exists());
    }
}
