//! From a cgroup id to its path, without walking the hierarchy: kernfs lets a directory be opened by its id.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `FILEID_KERNFS` (include/linux/exportfs.h): the handle is the 64-bit node id, which is the cgroup id. Since 5.5.
const FILEID_KERNFS: i32 = 0xfe;

/// `struct file_handle` with room for one id.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// Opens cgroup directories by id.
pub(super) struct ByHandle {
    mount: File,
}

impl ByHandle {
    pub(super) fn new(mount: &Path) -> io::Result<Self> {
        Ok(Self { mount: File::open(mount)? })
    }

    /// Whether there is no cgroup with this id any more, for certain.
    pub(super) fn is_gone(&self, id: u64) -> bool {
        self.path(id).is_err_and(|e| e.raw_os_error() == Some(libc::ESTALE))
    }

    /// The directory of the cgroup with this id. Needs `CAP_DAC_READ_SEARCH`.
    pub(super) fn path(&self, id: u64) -> io::Result<PathBuf> {
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id };
        // SAFETY: `handle` has the layout of `struct file_handle` with `handle_bytes` bytes of room, and lives
        // through the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                self.mount.as_raw_fd(),
                &raw mut handle,
                libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
    }
}
