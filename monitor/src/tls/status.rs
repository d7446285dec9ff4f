//! What came of looking: for metrics, `/services` and `doctor`.

use std::sync::{Arc, Mutex, PoisonError};

use monitor_core::model::CgroupId;
use monitor_core::model::tls::Unread;

use super::find::{Layout, Way};

/// Why nothing is read of a process' TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It runs on a JVM, whose TLS is written in Java.
    Java,
    /// A file has several candidates for the function, and none is better.
    Ambiguous,
    /// A file has the labels, but no function was found that is called with them.
    None,
    /// The function was found, and the kernel or the rights of the agent do not allow to probe it.
    Refused,
    /// The file, or the process, cannot be looked at.
    Unreadable,
    /// The function is called, and never with a secret: it is none that is told them. Its probe was taken away.
    Silent,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Java, Self::Ambiguous, Self::None, Self::Refused, Self::Unreadable, Self::Silent];

    /// Why connections of such a process are not read. `None`: nothing that is told of connections.
    pub fn unread(self) -> Option<Unread> {
        match self {
            Self::Java => Some(Unread::Java),
            Self::Ambiguous | Self::None | Self::Silent => Some(Unread::AmbiguousBinary),
            Self::Refused | Self::Unreadable => None,
        }
    }

    /// A word for it, as metrics and `doctor` show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Ambiguous => "ambiguous",
            Self::None => "none",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Silent => "silent",
        }
    }
}

/// A file with TLS in it, or one that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Its path, as its processes see it.
    pub path: String,
    /// Functions that are probed (or, where nothing is, would be), and how they were found.
    pub found: Vec<(Layout, Way)>,
    /// Why not.
    pub reason: Option<Reason>,
    /// The same, in words.
    pub problem: Option<String>,
    /// Names of watched processes that have it mapped, each once, and how many there are in all.
    pub processes: (Vec<String>, usize),
}

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Files with TLS in them, by path.
    pub files: Vec<FileStatus>,
    /// Functions that are probed now.
    pub probes: usize,
    /// Processes that are known.
    pub processes: usize,
    /// Cgroups with a process of whose TLS nothing can be read, and why.
    pub blind: Vec<(CgroupId, Reason)>,
    /// What keeps all processes from being seen.
    pub problem: Option<String>,
}

/// Where the thread that attaches leaves it, about once a second.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Arc<Status>>>);

impl Shared {
    /// The latest.
    pub fn get(&self) -> Arc<Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }
}
