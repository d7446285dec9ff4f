//! What processes have mapped, from `/proc`. Everything there may change or go while it is read: what is gone is left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most processes of a cgroup that are looked at.
const MAX_PROCESSES: usize = 4096;
/// Most bytes of a list of mappings that are read: some forty thousand mappings.
const MAX_MAPS: u64 = 4 << 20;

/// Where processes are: `/proc`, or what a test has put in its place.
#[derive(Clone, Debug)]
pub(super) struct Proc(PathBuf);

impl Default for Proc {
    fn default() -> Self {
        Self(PathBuf::from("/proc"))
    }
}

/// A file that a process has mapped to run it, or parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// Device and inode, as the list of mappings tells them.
    pub(super) id: (u64, u64),
    /// Its path, as the process sees it.
    pub(super) path: String,
    /// There is no such file at that path any more.
    pub(super) deleted: bool,
    /// Where it is mapped, as `map_files` writes it.
    range: String,
}

impl Proc {
    /// One that is made up.
    #[cfg(test)]
    pub(super) fn at(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The processes of a cgroup, by their own number. 0: one that is in another PID namespace.
    pub(super) fn of_cgroup(&self, dir: &Path) -> io::Result<Vec<u32>> {
        let text = fs::read_to_string(dir.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).take(MAX_PROCESSES).collect())
    }

    /// When a process began, in ticks since the machine did: with its number, who it is.
    pub(super) fn began(&self, pid: u32) -> Option<u64> {
        let stat = fs::read_to_string(self.dir(pid).join("stat")).ok()?;
        // The name in parentheses may hold anything; field 22 is the twentieth behind it (proc(5)).
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
    }

    /// Its name, of at most 15 bytes, which it may choose: nothing but letters, digits and a few marks of it.
    pub(super) fn name(&self, pid: u32) -> String {
        let name = fs::read_to_string(self.dir(pid).join("comm")).unwrap_or_default();
        name.trim().chars().map(|c| if c.is_ascii_alphanumeric() || "._-:/".contains(c) { c } else { '_' }).collect()
    }

    /// The files that it has mapped to run them.
    pub(super) fn mapped(&self, pid: u32) -> io::Result<Vec<Mapped>> {
        use std::io::Read as _;
        let mut text = Vec::new();
        fs::File::open(self.dir(pid).join("maps"))?.take(MAX_MAPS).read_to_end(&mut text)?;
        Ok(read_maps(&String::from_utf8_lossy(&text)))
    }

    /// A path by which the agent, and the kernel on its behalf, reach a mapped file.
    pub(super) fn reach(&self, pid: u32, file: &Mapped) -> Vec<PathBuf> {
        let dir = self.dir(pid);
        let by_path = dir.join("root").join(file.path.trim_start_matches('/'));
        // What a process runs is reached whatever its path leads to now; what else it has mapped only with more rights.
        let exe = fs::read_link(dir.join("exe")).ok();
        let is_exe = exe.is_some_and(|exe| {
            let exe = exe.to_string_lossy();
            exe.strip_suffix(" (deleted)").unwrap_or(&exe) == file.path
        });
        let by_map = dir.join("map_files").join(&file.range);
        match (is_exe, file.deleted) {
            (true, _) => vec![dir.join("exe")],
            (false, true) => vec![by_map],
            (false, false) => vec![by_path, by_map],
        }
    }

    fn dir(&self, pid: u32) -> PathBuf {
        self.0.join(pid.to_string())
    }
}

/// From the text of `/proc/PID/maps` (proc(5)): files with a part that may be run, each once.
fn read_maps(text: &str) -> Vec<Mapped> {
    let mut found: Vec<Mapped> = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(6, ' ');
        let (Some(range), Some(flags), Some(_), Some(device), Some(inode), Some(path)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = path.trim_start();
        if !flags.contains('x') || !path.starts_with('/') {
            continue;
        }
        let Some(device) = device.split_once(':').and_then(|(major, minor)| {
            let hex = |s| u64::from_str_radix(s, 16).ok();
            Some(hex(major)? << 32 | hex(minor)?)
        }) else {
            continue;
        };
        let Ok(inode) = inode.parse::<u64>() else { continue };
        let id = (device, inode);
        if inode == 0 || found.iter().any(|f| f.id == id) {
            continue;
        }
        let (path, deleted) = match path.strip_suffix(" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        found.push(Mapped { id, path: path.to_owned(), deleted, range: range.to_owned() });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_may_be_run_are_read_each_once() {
        let maps = "\
00400000-00452000 r--p 00000000 08:02 173521      /usr/bin/dbus daemon
00452000-00460000 r-xp 00052000 08:02 173521      /usr/bin/dbus daemon
00460000-00470000 r-xp 00060000 08:02 173521      /usr/bin/dbus daemon
35b1800000-35b1820000 r-xp 00000000 fd:0a 135522  /usr/lib64/libssl.so.3 (deleted)
35b1a21000-35b1a22000 rw-p 00000000 00:00 0
7fff2d9f0000-7fff2d9f2000 r-xp 00000000 00:00 0   [vdso]
7f0000000000-7f0000001000 rwxp 00000000 00:05 77  /memfd:jit (deleted)
broken
";
        let found = read_maps(maps);
        let shown: Vec<_> = found.iter().map(|f| (f.id, f.path.as_str(), f.deleted)).collect();
        assert_eq!(
            shown,
            [
                ((8 << 32 | 2, 173_521), "/usr/bin/dbus daemon", false),
                ((0xfd << 32 | 0xa, 135_522), "/usr/lib64/libssl.so.3", true),
                ((5, 77), "/memfd:jit", true),
            ]
        );
    }

    #[test]
    fn this_process_is_read() {
        let proc = Proc::default();
        let pid = std::process::id();
        assert!(proc.began(pid).is_some());
        let mapped = proc.mapped(pid).unwrap();
        let own = std::env::current_exe().unwrap();
        let own = mapped.iter().find(|m| Path::new(&m.path) == own).unwrap();
        assert_eq!(proc.reach(pid, own), [PathBuf::from(format!("/proc/{pid}/exe"))]);
    }
}
