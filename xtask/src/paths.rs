//! Where things are: the repository, the build directory, the laboratory in it, the cache outside of it.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's build directory; `CARGO_TARGET_DIR` is honoured as cargo does.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => std::path::absolute(&dir).unwrap_or_else(|_| PathBuf::from(dir)),
        _ => root().join("target"),
    }
}

/// What tests and the demo leave behind: logs, data directories, the Python environment. Safe to delete.
pub(crate) fn lab() -> PathBuf {
    target().join("lab")
}

/// What is dear to fetch again (kernels): outside the repository, so that `cargo clean` leaves it.
pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.unwrap_or_else(lab).join("leasewarden")
}

/// A program on `PATH`, or where Debian puts servers and cargo puts tools.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_bin = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .map(|home| home.join("bin"));
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .chain(cargo_bin)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
