//! The Unix socket: who may open it may read everything.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

/// Nothing for others: the agent's user and group only.
const MASK: Mode = Mode::from_raw_mode(0o117);

/// Takes the file away again, unless somebody else has put another in its place.
#[derive(Debug)]
pub(super) struct Unlink {
    path: PathBuf,
    made: (u64, i64, i64),
}

impl Drop for Unlink {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| made(&m) == self.made) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at a path. A socket that nobody listens on any more, as an agent that was killed leaves it, is replaced.
///
/// # Errors
/// Somebody listens there, something else is there (`AlreadyExists`), or the directory does not allow it.
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, Unlink)> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // The mode a file is born with: one that is changed afterwards was open for a moment.
    let before = umask(MASK);
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    let made = made(&std::fs::symlink_metadata(path)?);
    Ok((listener, Unlink { path: path.to_owned(), made }))
}

/// What tells one file from another at the same place. The number alone is given to the next one at once.
fn made(file: &std::fs::Metadata) -> (u64, i64, i64) {
    (file.ino(), file.ctime(), file.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_private_and_replaces_only_what_nobody_uses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (listener, unlink) = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        // As after a kill: the file is there, nobody behind it.
        let (_listener, second) = listen(&path).unwrap();
        drop(unlink);
        assert!(path.exists(), "it is another's by now");
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "findings").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
