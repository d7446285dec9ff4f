//! The cgroup v2 hierarchy: where it is mounted, which directories there are, which of them are watched.
//!
//! A cgroup is named by its path below the mount point, beginning with `/`; its id is the directory's inode number.
//! The root is never a workload.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use monitor_core::model::CgroupId;
use rustc_hash::FxHashMap;

use super::CaptureError;

/// What is wrong with a hierarchy that is not whole, and what that costs.
pub const PART: &str = "only a part of the machine's cgroup tree: containers outside of it are not seen";
/// What to do about that.
pub const PART_REMEDY: &str = "start the agent in the host's cgroup namespace (`--cgroupns=host`) with the host's \
                               /sys/fs/cgroup mounted, or on the host itself";

/// Decides by a cgroup's path below the root whether it is watched.
pub type WatchPolicy = Box<dyn Fn(&str) -> bool + Send>;

/// A mounted cgroup v2 hierarchy, or the part of it below one directory.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    /// Path below the mount point of what is looked at: `/` or `/a/b`.
    scope: String,
}

impl Hierarchy {
    /// The hierarchy of this machine, from `/proc/mounts`.
    ///
    /// # Errors
    ///
    /// No cgroup v2 is mounted.
    pub fn find() -> Result<Self, CaptureError> {
        let mounts = fs::read_to_string("/proc/mounts")
            .map_err(|source| CaptureError::System { what: "cannot read /proc/mounts", source })?;
        match mount_point(&mounts) {
            Some(mount) => Ok(Self { mount, scope: "/".to_owned() }),
            None => Err(CaptureError::Unsupported {
                missing: "no cgroup v2 hierarchy is mounted".to_owned(),
                remedy: "mount one (`mount -t cgroup2 none /sys/fs/cgroup`), or boot with \
                         `systemd.unified_cgroup_hierarchy=1`; in a container, mount the host's"
                    .to_owned(),
            }),
        }
    }

    /// A hierarchy at a directory of the caller's choice, for tests.
    pub fn at(mount: PathBuf) -> Self {
        Self { mount, scope: "/".to_owned() }
    }

    /// Only what lives in or below `arg`: a directory below the mount point, or a path below the root of the
    /// hierarchy.
    ///
    /// # Errors
    ///
    /// There is no such cgroup.
    pub fn narrowed(mut self, arg: &Path) -> Result<Self, CaptureError> {
        let inside = if arg.starts_with(&self.mount) { arg } else { &self.mount.join(strip_root(arg)) };
        // Resolves `..` and symbolic links, so that what follows compares real paths.
        let dir = inside
            .canonicalize()
            .map_err(|e| CaptureError::Cgroup { path: arg.to_owned(), problem: no_cgroup(&e, &self.mount) })?;
        let mount = self.mount.canonicalize().unwrap_or_else(|_| self.mount.clone());
        if !dir.is_dir() || !dir.starts_with(&mount) {
            return Err(CaptureError::Cgroup {
                path: arg.to_owned(),
                problem: format!("not a directory below {}", self.mount.display()),
            });
        }
        self.mount = mount;
        self.scope = self.path_of(&dir).unwrap_or_else(|| "/".to_owned());
        Ok(self)
    }

    /// Whether this is the whole hierarchy of the machine. What a container with a cgroup namespace of its own, or with a
    /// part of the tree mounted, takes for the root is some directory to the kernel, and has what only those have.
    pub fn is_whole(&self) -> bool {
        !self.mount.join("cgroup.events").exists()
    }

    /// Where the hierarchy is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The directory that is looked at, with everything below it.
    pub fn dir(&self) -> PathBuf {
        self.dir_of(&self.scope)
    }

    /// The path of `dir` below the root: `/` or `/a/b`. `None`: not in this hierarchy.
    pub fn path_of(&self, dir: &Path) -> Option<String> {
        let below = dir.strip_prefix(&self.mount).ok()?;
        Some(format!("/{}", below.to_string_lossy()))
    }

    /// The directory of the cgroup at `path`.
    pub(super) fn dir_of(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// Whether a cgroup can be a workload here: in scope, and not the root.
    pub fn contains(&self, path: &str) -> bool {
        if path == "/" || !path.starts_with('/') {
            return false;
        }
        match path.strip_prefix(self.scope.trim_end_matches('/')) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// The id of the cgroup at `path` now; `None`: there is none.
    pub fn id(&self, path: &str) -> Option<CgroupId> {
        if Path::new(path).components().any(|c| c == Component::ParentDir) {
            return None;
        }
        let meta = fs::symlink_metadata(self.dir_of(path)).ok()?;
        meta.is_dir().then(|| CgroupId(meta.ino()))
    }

    /// Every cgroup in scope but the root, parents before children, at most `limit`.
    pub fn walk(&self, limit: usize) -> Vec<(CgroupId, String)> {
        let mut found = Vec::new();
        let mut queue = VecDeque::from([self.scope.clone()]);
        while let Some(path) = queue.pop_front() {
            if found.len() >= limit {
                break;
            }
            if self.contains(&path)
                && let Some(id) = self.id(&path)
            {
                found.push((id, path.clone()));
            }
            // A directory may be gone by now: nothing to report.
            let Ok(entries) = fs::read_dir(self.dir_of(&path)) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    let name = entry.file_name();
                    queue.push_back(format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy()));
                }
            }
        }
        found
    }
}

/// The cgroup v2 path of a process, from the text of `/proc/PID/cgroup`.
pub fn path_of_process(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// First `cgroup2` mount in the text of `/proc/mounts`.
pub fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, dir, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescape(dir)))
    })
}

/// `/proc/mounts` writes blanks as `\040` (three octal digits).
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind.first_chunk::<3>().filter(|_| first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0u16, |n, d| (b'0'..=b'7').contains(d).then(|| n * 8 + u16::from(d - b'0')))
        });
        match code.and_then(|n| u8::try_from(n).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn strip_root(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn no_cgroup(error: &io::Error, mount: &Path) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("no such cgroup below {}", mount.display()),
        _ => error.to_string(),
    }
}

/// The cgroups known now, and the decision about each.
pub struct Known {
    hierarchy: Hierarchy,
    policy: WatchPolicy,
    own: Option<CgroupId>,
    by_id: FxHashMap<CgroupId, Entry>,
    by_path: FxHashMap<String, CgroupId>,
    limit: usize,
}

struct Entry {
    path: String,
    watched: bool,
}

impl Known {
    /// Nothing known yet. `own`: the agent's own cgroup, never watched. `limit`: most cgroups to remember.
    pub fn new(hierarchy: Hierarchy, policy: WatchPolicy, own: Option<CgroupId>, limit: usize) -> Self {
        Self { hierarchy, policy, own, by_id: FxHashMap::default(), by_path: FxHashMap::default(), limit }
    }

    /// The hierarchy.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Path and decision for a cgroup.
    pub fn get(&self, id: CgroupId) -> Option<(&str, bool)> {
        self.by_id.get(&id).map(|e| (e.path.as_str(), e.watched))
    }

    /// Learns of a cgroup. `None`: known already, out of scope, or the table is full; else whether it is watched.
    pub fn learn(&mut self, id: CgroupId, path: &str) -> Option<bool> {
        if !self.hierarchy.contains(path) || self.by_id.contains_key(&id) || self.by_id.len() >= self.limit {
            return None;
        }
        let watched = self.own != Some(id) && (self.policy)(path);
        self.by_path.insert(path.to_owned(), id);
        self.by_id.insert(id, Entry { path: path.to_owned(), watched });
        Some(watched)
    }

    /// All that are known.
    pub fn ids(&self) -> Vec<CgroupId> {
        self.by_id.keys().copied().collect()
    }

    /// Forgets the cgroup last known at `path` unless it is still there.
    pub fn forget(&mut self, path: &str) -> Option<CgroupId> {
        let id = *self.by_path.get(path)?;
        if self.hierarchy.id(path) == Some(id) {
            return None;
        }
        self.by_path.remove(path);
        self.by_id.remove(&id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_on_hybrid_and_unified_machines() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(mount_point(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(mount_point(unified), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(mount_point("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\nx\n"), None);
    }

    #[test]
    fn unescapes_blanks_in_mount_points() {
        let line = "none /mnt/a\\040b\\134c cgroup2 rw 0 0";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt/a b\\c")));
        assert_eq!(unescape("\\0"), "\\0");
        assert_eq!(unescape("\\999"), "\\999");
        assert_eq!(unescape("\\777"), "\\777");
    }

    #[test]
    fn reads_the_own_path() {
        assert_eq!(path_of_process("12:cpu:/x\n0::/user.slice/a\n"), Some("/user.slice/a"));
        assert_eq!(path_of_process("12:cpu:/x\n"), None);
    }

    fn tree() -> (tempfile::TempDir, Hierarchy) {
        let dir = tempfile::tempdir().unwrap();
        for d in ["tenants/acme/pod", "tenants/globex", "system"] {
            fs::create_dir_all(dir.path().join(d)).unwrap();
        }
        fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        let h = Hierarchy::at(dir.path().canonicalize().unwrap());
        (dir, h)
    }

    fn paths(h: &Hierarchy) -> Vec<String> {
        let mut p: Vec<String> = h.walk(100).into_iter().map(|(_, p)| p).collect();
        p.sort();
        p
    }

    #[test]
    fn walks_everything_but_the_root() {
        let (_dir, h) = tree();
        assert_eq!(paths(&h), ["/system", "/tenants", "/tenants/acme", "/tenants/acme/pod", "/tenants/globex"]);
        assert_eq!(h.walk(2).len(), 2);
    }

    #[test]
    fn a_scope_is_a_directory_or_a_path_below_the_mount() {
        let (dir, h) = tree();
        for arg in [dir.path().join("tenants/acme"), PathBuf::from("/tenants/acme"), PathBuf::from("tenants/acme/")] {
            let scoped = h.clone().narrowed(&arg).unwrap();
            assert_eq!(paths(&scoped), ["/tenants/acme", "/tenants/acme/pod"]);
            assert!(!scoped.contains("/tenants/acme2") && !scoped.contains("/tenants"));
        }
        assert!(h.clone().narrowed(Path::new("/nowhere")).unwrap_err().to_string().contains("no such cgroup"));
        assert!(h.clone().narrowed(Path::new("/../..")).is_err());
        assert!(h.clone().narrowed(Path::new("/cgroup.procs")).is_err());
        assert_eq!(paths(&h.clone().narrowed(Path::new("/")).unwrap()).len(), 5);
    }

    #[test]
    fn knows_decides_and_forgets() {
        let (dir, h) = tree();
        let own = h.id("/system");
        let mut known = Known::new(h, Box::new(|p| p != "/tenants/globex"), own, 4);
        let id = |p: &str, k: &Known| k.hierarchy().id(p).unwrap();
        let (acme, globex) = (id("/tenants/acme", &known), id("/tenants/globex", &known));
        assert_eq!(known.learn(acme, "/tenants/acme"), Some(true));
        assert_eq!(known.learn(acme, "/tenants/acme"), None);
        assert_eq!(known.learn(globex, "/tenants/globex"), Some(false));
        assert_eq!(known.learn(own.unwrap(), "/system"), Some(false));
        assert_eq!(known.learn(CgroupId(1), "/"), None);
        assert_eq!(known.get(acme), Some(("/tenants/acme", true)));
        assert_eq!(known.forget("/tenants/acme"), None, "still there: another hierarchy's directory went");
        fs::remove_dir(dir.path().join("tenants/globex")).unwrap();
        assert_eq!(known.forget("/tenants/globex"), Some(globex));
        assert_eq!(known.get(globex), None);
        assert_eq!(known.hierarchy().id("/tenants/../system"), None);
    }
}
