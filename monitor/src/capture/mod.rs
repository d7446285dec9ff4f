//! Where events come from: the live kernel, a packet capture, a recording. All three are a [`Source`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use monitor_core::model::{Event, LossStage, SocketCookie};

pub mod cgroups;
pub mod ebpf;
pub mod file;
pub mod keylog;
pub mod pcap;
pub mod recording;

/// Something that delivers events in order.
pub trait Source {
    /// Waits up to `timeout` for events and hands every one that is ready to `sink`, in order.
    ///
    /// # Errors
    ///
    /// Only what ends the source: losses and damage are events and [`SourceStats`].
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<Progress, CaptureError>;

    /// Asks for another capture budget for one connection, and whether each read of it is told. Sources that cannot
    /// ignore it.
    fn set_budget(&mut self, cookie: SocketCookie, tx: Budget, rx: Budget, reads: bool) {
        let _ = (cookie, tx, rx, reads);
    }

    /// A connection is not followed any more, to make room. A source that can tells it anew when it goes on.
    fn forget(&mut self, cookie: SocketCookie) {
        let _ = cookie;
    }

    /// What the source has seen and lost so far. May ask the kernel: call it about once a second, not per event.
    fn stats(&mut self) -> SourceStats {
        SourceStats::default()
    }

    /// Messages for the operator that came up since the last call: a cut file, a hook that could not be attached.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// The first thing of a file that could not be read, in words: it is cut, damaged, or of a form that is not known.
    /// `None` as long as everything was read. What is read and cannot be understood (encrypted payload, a tunnel that is
    /// not followed) is none: it is counted.
    fn unread(&self) -> Option<&str> {
        None
    }
}

/// What [`Source::poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Events were delivered; more may be ready at once.
    Busy,
    /// Nothing came within the timeout.
    Idle,
    /// The input is at its end: nothing more will come.
    End,
}

/// How much of each segment's payload is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// No event at all.
    Silent,
    /// At most so many bytes of each segment's payload; 0: only that there was a segment, and how long.
    Head(u32),
    /// Everything the source can copy.
    Full,
}

/// Counters of a source since it was opened.
#[derive(Clone, Debug, Default)]
pub struct SourceStats {
    /// Captured segments: sent, received.
    pub segments: [u64; 2],
    /// Captured payload bytes: sent, received.
    pub bytes: [u64; 2],
    /// Lost events by reason and shard; only what is not zero.
    pub lost: Vec<LossCount>,
    /// Each hook and whether it works.
    pub hooks: Vec<HookStatus>,
    /// Kernel programs and their run time; empty when the kernel's BPF statistics are off.
    pub programs: Vec<ProgramStats>,
    /// Bounded tables and how full they are.
    pub tables: Vec<TableFill>,
}

/// Events lost for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossCount {
    /// Where they were lost.
    pub stage: LossStage,
    /// Constant name, as the metric shows it.
    pub reason: &'static str,
    /// The ring they were meant for, when there is one.
    pub shard: Option<u32>,
    /// How many.
    pub count: u64,
}

/// One kernel hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStatus {
    /// Constant name, as the metric shows it.
    pub hook: &'static str,
    /// Whether our program runs there.
    pub attached: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// Run time of one kernel program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    /// Constant name, as the metric shows it.
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// How long in total.
    pub time: Duration,
}

/// How full a bounded table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFill {
    /// Constant name, as the metric shows it.
    pub table: &'static str,
    /// Entries now.
    pub entries: u64,
    /// Entries at most.
    pub limit: u64,
}

/// Why a source cannot be opened or has ended.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A capture file or recording cannot be read.
    #[error(transparent)]
    File(#[from] file::FileError),
    /// The binary was built without the kernel probes.
    #[error(
        "this binary was built without the kernel probes, so it can only `replay`; \
         build one that can `run` with `cargo xtask build`"
    )]
    StubObject,
    /// The machine or the privileges do not allow capturing.
    #[error("{missing}; {remedy}")]
    Unsupported {
        /// What is missing.
        missing: String,
        /// What to do about it.
        remedy: String,
    },
    /// A cgroup directory cannot be used.
    #[error("cgroup {}: {problem}", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The kernel refused the probes.
    #[error("the kernel refused to load the probe `{program}`: {problem}")]
    Load {
        /// Which one.
        program: &'static str,
        /// What the kernel or its verifier said.
        problem: String,
    },
    /// The kernel refused to attach a probe that capture cannot do without.
    #[error("cannot attach `{hook}` at {}: {problem}", cgroup.display())]
    Attach {
        /// The hook.
        hook: &'static str,
        /// Where.
        cgroup: PathBuf,
        /// What the kernel said.
        problem: String,
    },
    /// A map of the probes cannot be used.
    #[error("kernel map `{map}`: {problem}")]
    Map {
        /// Which one.
        map: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
