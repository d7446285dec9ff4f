//! Which files are probed: those that processes of watched cgroups have mapped to run, and that hold a function that is
//! told secrets. A process is looked at when it is new, when its cgroup opens a connection, and now and then; a file once,
//! for as long as it is the same file.
//!
//! What a file came to is never taken over for another one, whatever the two say of themselves: a tenant could make one
//! with the build id of a library that others use, and so have a probe put where it breaks them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use monitor_common::secrets::{Call, Calls};
use monitor_core::model::CgroupId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Order;
use super::find::{self, Findings, Found};
use super::processes::{Mapped, Proc};
use super::status::{FileStatus, Reason, Shared, Status};

/// How often cgroups are asked for new processes.
const ROUND: Duration = Duration::from_secs(1);
/// How long a process is left alone after it was looked at: first, and at most. In between twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(32);
/// How soon it may be looked at again because a connection was opened.
const SOON: Duration = Duration::from_millis(100);
/// How long a probe stays where the last process that ran its file is gone: the next one may come soon.
const LINGER: Duration = Duration::from_secs(10);
/// How often it is asked which functions are called, and with how many calls that bring no label one is not what it was
/// taken for.
const ASK: Duration = Duration::from_secs(8);
const SILENT_AFTER: u64 = 64;
/// A page: where in it a function begins is the same in the file and in memory.
const PAGE: u64 = 4096;
/// Most files that are kept in mind.
const MAX_FILES: usize = 16_384;
/// Most processes that are kept in mind.
const MAX_KNOWN: usize = 65_536;
/// Most names of processes that are shown for a file.
const MAX_NAMES: usize = 8;

/// Puts probes at functions; what it gives takes them away when it is dropped.
pub trait Prober {
    /// Probes at one function.
    type Attached;

    /// Probes a function of the file at `path`.
    ///
    /// # Errors
    /// Why it cannot be.
    fn attach(&mut self, path: &Path, found: &Found) -> Result<Self::Attached, String>;

    /// How often which process has called what it was probed at.
    fn calls(&self) -> Vec<(Call, Calls)> {
        Vec::new()
    }
}

impl Prober for crate::capture::ebpf::SecretProbes {
    type Attached = crate::capture::ebpf::Attached;

    fn attach(&mut self, path: &Path, found: &Found) -> Result<Self::Attached, String> {
        Self::attach(self, path, found)
    }

    fn calls(&self) -> Vec<(Call, Calls)> {
        Self::calls(self)
    }
}

/// Probes nothing: only looks.
#[derive(Debug)]
pub struct Looking;

impl Prober for Looking {
    type Attached = ();

    fn attach(&mut self, _path: &Path, _found: &Found) -> Result<(), String> {
        Ok(())
    }
}

/// Device and inode, as the list of mappings has them.
type FileId = (u64, u64);

struct Process {
    /// With the number, who it is.
    began: u64,
    cgroup: CgroupId,
    name: String,
    files: Vec<FileId>,
    java: bool,
    /// Why it could not be looked at.
    unreadable: bool,
    looked: Instant,
    wait: Duration,
}

struct Known<A> {
    path: String,
    /// As it was when it was looked at. Kept open where it is probed, so that its inode is nobody else's.
    file: Option<File>,
    stamp: Option<Stamp>,
    found: Vec<Found>,
    attached: Vec<A>,
    reason: Option<Reason>,
    problem: Option<String>,
    /// When somebody was last seen to run it.
    used: Instant,
}

impl<A> Known<A> {
    /// Its function is none that is told secrets.
    fn silence(&mut self) {
        self.attached.clear();
        self.reason = Some(Reason::Silent);
        self.problem = Some(
            "the function that was found is called, and never with a secret: it is another one, and not probed any more"
                .to_owned(),
        );
    }
}

/// What changes when a file's contents do: its size, and the times of change.
type Stamp = (u64, i64, i64, i64, i64);

fn stamp(file: &File) -> Option<Stamp> {
    let m = file.metadata().ok()?;
    Some((m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
}

/// Keeps probes where watched processes run.
pub struct Attacher<P: Prober> {
    prober: P,
    proc: Proc,
    cgroups: FxHashMap<CgroupId, PathBuf>,
    processes: FxHashMap<u32, Process>,
    files: FxHashMap<FileId, Known<P::Attached>>,
    /// What files came to, by their device and inode, whether or not somebody runs them now.
    findings: FxHashMap<(u64, u64), (Stamp, Findings)>,
    /// Those whose functions were called and never told a secret.
    silent: FxHashMap<(u64, u64), Stamp>,
    asked: Option<Instant>,
    /// Paths whose problem was told.
    told: FxHashSet<(String, Reason)>,
    problem: Option<String>,
    shared: Shared,
}

impl<P: Prober> Attacher<P> {
    /// Knows nobody yet.
    pub fn new(prober: P, shared: Shared) -> Self {
        Self {
            prober,
            proc: Proc::default(),
            cgroups: FxHashMap::default(),
            processes: FxHashMap::default(),
            files: FxHashMap::default(),
            findings: FxHashMap::default(),
            silent: FxHashMap::default(),
            asked: None,
            told: FxHashSet::default(),
            problem: None,
            shared,
        }
    }

    /// Follows orders until nobody gives any more.
    pub fn work(mut self, orders: &Receiver<Order>) {
        let mut next = Instant::now();
        loop {
            let mut look = Vec::new();
            match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(order) => look.extend(self.obey(order)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(order) = orders.try_recv() {
                look.extend(self.obey(order));
            }
            let now = Instant::now();
            look.sort_unstable();
            look.dedup();
            for id in look {
                self.look(id, now, SOON);
            }
            if now >= next {
                self.round(now);
                next = Instant::now() + ROUND;
            }
        }
    }

    /// Takes an order. `Some`: this cgroup is to be looked at.
    pub fn obey(&mut self, order: Order) -> Option<CgroupId> {
        match order {
            Order::Watch(id, dir) => {
                self.cgroups.insert(id, dir);
                Some(id)
            }
            Order::Look(id) => Some(id),
            Order::Forget(id) => {
                self.cgroups.remove(&id);
                self.processes.retain(|_, p| p.cgroup != id);
                None
            }
        }
    }

    /// Looks at everybody whose turn it is, takes probes away where nobody is left, and tells what is known.
    pub fn round(&mut self, now: Instant) {
        let ids: Vec<CgroupId> = self.cgroups.keys().copied().collect();
        self.problem = None;
        let mut alive = FxHashSet::default();
        for id in ids {
            alive.extend(self.look(id, now, AGAIN));
        }
        self.processes.retain(|pid, _| alive.contains(pid));
        self.forget_files(now);
        if self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK) {
            self.asked = Some(now);
            self.silence();
        }
        self.shared.set(self.status());
    }

    /// Looks at the processes of a cgroup that were left alone for `least`, if their turn has come. Gives all of them.
    pub fn look(&mut self, id: CgroupId, now: Instant, least: Duration) -> Vec<u32> {
        let Some(dir) = self.cgroups.get(&id) else { return Vec::new() };
        // Gone between the order and now, or one that has threads alone.
        let Ok(pids) = self.proc.of_cgroup(dir) else { return Vec::new() };
        for pid in &pids {
            if *pid == 0 {
                self.problem = Some(
                    "processes of containers are in another PID namespace: the agent needs the host's (`hostPID: true`, \
                     `--pid=host`)"
                        .to_owned(),
                );
                continue;
            }
            self.look_at(*pid, id, now, least);
        }
        pids
    }

    fn look_at(&mut self, pid: u32, cgroup: CgroupId, now: Instant, least: Duration) {
        let Some(began) = self.proc.began(pid) else { return };
        let before = self.processes.get(&pid).filter(|p| p.began == began);
        let wait = match before {
            // A connection that it opens ends its time of rest, but for a little.
            Some(p) if now.saturating_duration_since(p.looked) < if least < AGAIN { least } else { p.wait } => return,
            Some(p) => (p.wait * 2).min(AGAIN_AT_MOST),
            None if self.processes.len() >= MAX_KNOWN => return,
            None => AGAIN,
        };
        let name = self.proc.name(pid);
        let mapped = self.proc.mapped(pid);
        let unreadable = mapped.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        if unreadable {
            self.problem = Some(
                "processes of other users cannot be looked at: the agent needs CAP_SYS_PTRACE while TLS is read"
                    .to_owned(),
            );
        }
        let mapped = mapped.unwrap_or_default();
        let java = mapped.iter().any(|m| m.path.ends_with("/libjvm.so"));
        let files = mapped.iter().map(|m| m.id).collect();
        for file in &mapped {
            self.know(pid, file, now);
        }
        let process = Process { began, cgroup, name, files, java, unreadable, looked: now, wait };
        self.processes.insert(pid, process);
    }

    /// Makes sure that a mapped file is known, and probed where it can be.
    fn know(&mut self, pid: u32, mapped: &Mapped, now: Instant) {
        if let Some(known) = self.files.get(&mapped.id) {
            let same = known.file.as_ref().is_none_or(|f| stamp(f) == known.stamp);
            // What could not be opened is tried again: it may have been a process that was only just beginning.
            if same && known.stamp.is_some() {
                return;
            }
            // Written to while it is run: what was found is not where it was.
            self.files.remove(&mapped.id);
        }
        if self.files.len() >= MAX_FILES {
            return;
        }
        let known = self.examine(pid, mapped, now);
        if let (Some(reason), Some(problem)) = (known.reason, &known.problem)
            && self.told.len() < MAX_FILES
            && self.told.insert((known.path.clone(), reason))
        {
            tracing::warn!("TLS of {}: {problem}", known.path);
        }
        self.files.insert(mapped.id, known);
    }

    fn examine(&mut self, pid: u32, mapped: &Mapped, now: Instant) -> Known<P::Attached> {
        let mut known = Known {
            path: mapped.path.clone(),
            file: None,
            stamp: None,
            found: Vec::new(),
            attached: Vec::new(),
            reason: None,
            problem: None,
            used: now,
        };
        let mut why = None;
        for path in self.proc.reach(pid, mapped) {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) => {
                    why.get_or_insert(e);
                    continue;
                }
            };
            let before = stamp(&file);
            let findings = match self.findings_of(&file, before) {
                Ok(findings) => findings,
                Err(e) => {
                    why.get_or_insert(e);
                    continue;
                }
            };
            known.stamp = before;
            if stamp(&file) != before {
                why.get_or_insert(std::io::Error::other("it is written to"));
                continue;
            }
            if let Some(layout) = findings.ambiguous.first() {
                known.reason = Some(Reason::Ambiguous);
                known.problem = Some(format!(
                    "several functions may be the one that is told secrets ({}); none is taken",
                    layout.name()
                ));
            } else if findings.labels && findings.found.is_empty() {
                // No warning: many a file speaks of TLS and does none.
                known.reason = Some(Reason::None);
            }
            if let Ok(meta) = file.metadata()
                && before.is_some_and(|before| self.silent.get(&(meta.dev(), meta.ino())) == Some(&before))
            {
                known.found = findings.found;
                known.silence();
                known.file = Some(file);
                return known;
            }
            for found in findings.found {
                match self.prober.attach(&path, &found) {
                    Ok(attached) => known.attached.push(attached),
                    // It ended while its file was looked through. The next one finds that done.
                    Err(_) if !path.exists() => {
                        known.stamp = None;
                        return known;
                    }
                    Err(e) => {
                        known.reason = Some(Reason::Refused);
                        known.problem = Some(format!(
                            "its function cannot be probed: {e}; CAP_SYS_ADMIN, which the kernel wants for uprobes, and \
                             CONFIG_UPROBE_EVENTS are needed"
                        ));
                    }
                }
                known.found.push(found);
            }
            known.file = (!known.found.is_empty()).then_some(file);
            return known;
        }
        // What is gone already needs no word; what the agent may not see does.
        if let Some(e) = why.filter(|e| e.kind() != std::io::ErrorKind::NotFound) {
            known.reason = Some(Reason::Unreadable);
            known.problem = Some(format!("it cannot be read: {e}"));
        }
        known
    }

    /// What a file comes to: it is looked through once, as long as it stays as it is.
    fn findings_of(&mut self, file: &File, stamp: Option<Stamp>) -> std::io::Result<Findings> {
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        if let Some((at, findings)) = self.findings.get(&id)
            && Some(*at) == stamp
        {
            return Ok(findings.clone());
        }
        let findings = find::find(file)?;
        if self.findings.len() >= MAX_FILES {
            self.findings.clear();
        }
        if let Some(stamp) = stamp {
            self.findings.insert(id, (stamp, findings.clone()));
        }
        Ok(findings)
    }

    /// Takes probes away whose function was called often, and never with a label: it costs, and tells nothing.
    fn silence(&mut self) {
        let mut heard: FxHashMap<FileId, Calls> = FxHashMap::default();
        for (call, calls) in self.prober.calls() {
            let files = self.processes.get(&call.process).map(|p| p.files.as_slice()).unwrap_or_default();
            for id in files {
                let begins = |f: &Found| f.offset % PAGE == call.at % PAGE;
                let probed = self.files.get(id).filter(|known| !known.attached.is_empty());
                if probed.is_some_and(|known| known.found.iter().any(begins)) {
                    let all = heard.entry(*id).or_default();
                    all.with_label = all.with_label.saturating_add(calls.with_label);
                    all.other = all.other.saturating_add(calls.other);
                }
            }
        }
        for (id, calls) in heard {
            let Some(known) = self.files.get_mut(&id) else { continue };
            if calls.with_label > 0 || calls.other < SILENT_AFTER {
                continue;
            }
            known.silence();
            tracing::warn!("TLS of {}: {}", known.path, known.problem.as_deref().unwrap_or_default());
            let meta = known.file.as_ref().and_then(|file| file.metadata().ok());
            if let (Some(meta), Some(stamp), true) = (meta, known.stamp, self.silent.len() < MAX_FILES) {
                self.silent.insert((meta.dev(), meta.ino()), stamp);
            }
        }
    }

    /// Probes go a little after the last watched process that has the file mapped.
    fn forget_files(&mut self, now: Instant) {
        let used: FxHashSet<FileId> = self.processes.values().flat_map(|p| p.files.iter().copied()).collect();
        self.files.retain(|id, known| {
            if used.contains(id) {
                known.used = now;
            }
            now.saturating_duration_since(known.used) < LINGER
        });
    }

    /// What is known now.
    pub fn status(&self) -> Status {
        let mut files: Vec<FileStatus> = Vec::new();
        let mut blind: BTreeSet<(CgroupId, Reason)> = BTreeSet::new();
        let mut users: FxHashMap<FileId, Vec<&Process>> = FxHashMap::default();
        for process in self.processes.values() {
            for id in &process.files {
                users.entry(*id).or_default().push(process);
            }
            if process.java {
                blind.insert((process.cgroup, Reason::Java));
            }
            if process.unreadable {
                blind.insert((process.cgroup, Reason::Unreadable));
            }
        }
        for (id, known) in &self.files {
            let by = users.get(id).map(Vec::as_slice).unwrap_or_default();
            if let Some(reason) = known.reason {
                // Many a file has the labels and does no TLS: that is no reason where another one of the process is read.
                let read =
                    |p: &&&Process| p.files.iter().any(|f| self.files.get(f).is_some_and(|k| !k.attached.is_empty()));
                let of = by.iter().filter(|p| reason != Reason::None || !read(p));
                blind.extend(of.map(|p| (p.cgroup, reason)));
            }
            if by.is_empty() || (known.found.is_empty() && known.reason.is_none()) {
                continue;
            }
            let mut names: Vec<String> = by.iter().map(|p| p.name.clone()).collect();
            names.sort_unstable();
            names.dedup();
            names.truncate(MAX_NAMES);
            files.push(FileStatus {
                path: known.path.clone(),
                found: known.found.iter().map(|f| (f.layout, f.way)).collect(),
                reason: known.reason,
                problem: known.problem.clone(),
                processes: (names, by.len()),
            });
        }
        let java: Vec<&Process> = self.processes.values().filter(|p| p.java).collect();
        if !java.is_empty() {
            let mut names: Vec<String> = java.iter().map(|p| p.name.clone()).collect();
            names.sort_unstable();
            names.dedup();
            names.truncate(MAX_NAMES);
            files.push(FileStatus {
                path: "libjvm.so".to_owned(),
                found: Vec::new(),
                reason: Some(Reason::Java),
                problem: Some("TLS of Java itself cannot be read; netty-tcnative, where it is used, can".to_owned()),
                processes: (names, java.len()),
            });
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(a.reason.cmp(&b.reason)));
        Status {
            files,
            probes: self.files.values().map(|f| f.attached.len()).sum(),
            processes: self.processes.len(),
            blind: blind.into_iter().collect(),
            problem: self.problem.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
