//! Files that are read again when they have changed: certificates and tokens are renewed while the agent runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked whether a file has changed.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one content of a file from another, without reading it. Follows links: a mounted Secret is changed by
/// pointing a link elsewhere.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Something made from files.
#[derive(Debug)]
pub(super) struct Watched<T> {
    files: Vec<PathBuf>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    stamps: Vec<Stamp>,
    looked: Instant,
}

impl<T: Clone> Watched<T> {
    /// What `value` was made from these files.
    pub(super) fn new(files: Vec<PathBuf>, value: T) -> Self {
        // Looked at once more at the first use: they may have changed while they were read.
        let stamps = Vec::new();
        let looked = Instant::now().checked_sub(LOOK * 2).unwrap_or_else(Instant::now);
        Self { files, state: Mutex::new(State { value, stamps, looked }) }
    }

    /// The value; made anew if a file has changed. `make` gives `None` to keep what was.
    pub(super) fn get(&self, make: impl FnOnce() -> Option<T>) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let stamps: Vec<Stamp> = self.files.iter().map(stamp).collect();
            if stamps != state.stamps {
                state.stamps = stamps;
                if let Some(value) = make() {
                    state.value = value;
                }
            }
        }
        state.value.clone()
    }
}

fn stamp(file: &PathBuf) -> Stamp {
    let m = std::fs::metadata(file).ok()?;
    Some((m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}
