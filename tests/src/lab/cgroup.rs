//! A tree of cgroups of our own below the cgroup v2 mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Where cgroup v2 is mounted: `/sys/fs/cgroup` on an ordinary node, `/sys/fs/cgroup/unified` on a hybrid one.
///
/// # Errors
/// When it is not mounted.
pub fn mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    mounts
        .lines()
        .find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let path = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
        })
        .context("no cgroup v2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")
}

/// A parent cgroup of our own. When it is dropped, what still runs in it is killed and the directories are removed.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Creates `NAME` below the mount, or takes over an empty one that an earlier run left.
    ///
    /// # Errors
    /// When not root, or when cgroup v2 is not mounted or not writable.
    pub fn new(name: &str) -> Result<Self> {
        let root = mount()?.join(name);
        remove(&root);
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot create cgroup {} (this needs root)", root.display()))?;
        Ok(Self { root })
    }

    /// The parent's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A cgroup below the parent, created when it is not there.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn dir(&self, below: &str) -> Result<PathBuf> {
        let dir = self.root.join(below);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create cgroup {}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // A process that has just been reaped may hold its cgroup for a moment more.
        let mut patience = 10_i32;
        let until = Instant::now() + Duration::from_secs(3);
        while !remove(&self.root) && Instant::now() < until {
            // Only what we started is in a cgroup that we made: a service's own children, after it was killed.
            if patience == 0 {
                kill_all(&self.root);
            }
            patience -= 1;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a container runtime leaves of `NAME` in the hierarchies of cgroup v1, where a machine has these beside v2: removed
/// when dropped.
#[derive(Debug)]
pub struct Shadows(String);

impl Shadows {
    /// Of the directory `name` below the cgroup v2 mount.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl Drop for Shadows {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let v1 = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let path = fields.next()?;
            (fields.next()? == "cgroup").then(|| Path::new(path).join(&self.0))
        });
        let until = Instant::now() + Duration::from_secs(3);
        for dir in v1.filter(|dir| dir.exists()) {
            // What was killed may be there for a moment more.
            while !remove(&dir) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn kill_all(dir: &Path) {
    for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_all(&entry.path());
        }
    }
}

/// Removes a cgroup and those below it, deepest first. True when nothing is left.
fn remove(dir: &Path) -> bool {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}
