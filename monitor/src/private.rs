//! What only the agent's own user may read: the files it writes, and its memory.
//!
//! Findings, operations and locks tell who talks to whom; a recording holds payload; and the process holds what it has
//! just read from every tenant's connections.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::export::sink::Existing;

/// Mode of files: read and written by their owner only.
const OWNER_ONLY: u32 = 0o600;

/// How a private file is opened.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// What to do with what the file already holds.
    pub existing: Existing,
    /// Whether a symbolic link as the last part of the path is followed; if not, it is refused.
    pub follow: bool,
}

/// Opens a file to write to, readable by its owner only, whatever the umask. A regular file that was there with wider
/// permissions gets these; nothing is written to it before. What is no regular file (a pipe, a terminal, `/dev/null`)
/// keeps its own.
///
/// # Errors
/// It cannot be opened; or it is somebody else's, who lets others read it.
pub fn open(path: &Path, how: How) -> io::Result<File> {
    let link = if how.follow { 0 } else { libc::O_NOFOLLOW };
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(how.existing == Existing::Append)
        // Not before its permissions are known to be right.
        .truncate(false)
        .mode(OWNER_ONLY)
        .custom_flags(link | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)?;
    let there = file.metadata()?;
    if there.is_file() {
        if there.permissions().mode() & 0o7777 & !OWNER_ONLY != 0 {
            file.set_permissions(Permissions::from_mode(OWNER_ONLY)).map_err(|e| {
                io::Error::new(e.kind(), format!("others may read it, and that cannot be changed: {e}"))
            })?;
        }
        if how.existing == Existing::Replace {
            file.set_len(0)?;
        }
    }
    Ok(file)
}

/// Keeps the process's memory to itself: no core dump, and no other process of the same user can attach to it or read
/// it through `/proc`. What root or the kernel can do anyway stays possible.
///
/// # Errors
/// The system refuses, which it never does for one's own process.
pub fn close_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A crash handler behind a pipe (`core_pattern`) does not ask for the limit; it does ask for this.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const APPEND: How = How { existing: Existing::Append, follow: true };
    const REPLACE: How = How { existing: Existing::Replace, follow: false };

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_its_owners_alone_new_or_old() {
        let dir = tempfile::tempdir().expect("a directory");
        for (how, kept) in [(APPEND, "old new"), (REPLACE, "new")] {
            let fresh = dir.path().join(format!("fresh{}", kept.len()));
            open(&fresh, how).expect("opened");
            assert_eq!(mode(&fresh), 0o600);
            for before in [0o644, 0o666, 0o777, 0o600, 0o640, 0o604] {
                let old = dir.path().join(format!("old{before:o}{}", kept.len()));
                std::fs::write(&old, "old ").expect("written");
                std::fs::set_permissions(&old, Permissions::from_mode(before)).expect("set");
                open(&old, how).expect("opened").write_all(b"new").expect("written");
                assert_eq!((mode(&old), std::fs::read_to_string(&old).expect("read").as_str()), (0o600, kept));
            }
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("target"), &link).expect("linked");
        assert!(open(&link, REPLACE).is_err(), "a link may lead where its maker may not write");
        open(&link, APPEND).expect("what an operator names himself is followed");
        assert_eq!(mode(&dir.path().join("target")), 0o600);
    }

    #[test]
    fn what_is_no_file_keeps_its_permissions() {
        let before = mode(Path::new("/dev/null"));
        open(Path::new("/dev/null"), APPEND).expect("opened");
        open(Path::new("/dev/null"), REPLACE).expect("opened");
        assert_eq!(mode(Path::new("/dev/null")), before);
    }

    #[test]
    fn memory_is_nobody_elses() {
        close_memory().expect("allowed");
        assert_eq!(rustix::process::dumpable_behavior().expect("told"), DumpableBehavior::NotDumpable);
        let core = rustix::process::getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    }
}
