//! Whether a connection is sealed by TLS, and what is known of secrets that open it.

use super::tls_use::TlsUses;
use crate::model::tls::Unread;
use crate::model::{CgroupId, Directory, Salt};
use crate::tls::Tls;
use crate::tls::join::{self, Join};
use rustc_hash::FxHashMap;

/// Most cgroups of which it is known why their connections cannot be read.
const MAX_BLIND: usize = 4_096;

/// How a connection's bytes are read.
#[derive(Debug, Default)]
pub(super) enum Encryption {
    /// As they are.
    #[default]
    None,
    /// Through the layer. `None`: it is at work.
    Tls(Option<Box<Tls>>),
    /// They are sealed, and nobody reads them.
    Unread(Unread),
}

impl Encryption {
    pub(super) fn memory(&self) -> usize {
        if let Self::Tls(Some(tls)) = self { tls.memory() } else { 0 }
    }
}

pub(super) fn party(cgroup: CgroupId, directory: &Directory) -> join::Speaker {
    directory.of_cgroup(cgroup).map_or(join::Speaker::Cgroup(cgroup), join::Speaker::Workload)
}

/// Secrets of handshakes, and who waits for them.
#[derive(Debug)]
pub(super) struct Sealing {
    pub(super) join: Join,
    /// Why the processes of a cgroup tell none.
    pub(super) blind: FxHashMap<CgroupId, Unread>,
    /// How much of each service's TLS is read.
    pub(super) uses: TlsUses,
    /// Where records are opened.
    pub(super) scratch: Vec<u8>,
}

impl Sealing {
    pub(super) fn new(salt: Salt) -> Self {
        Self { join: Join::new(salt), blind: FxHashMap::default(), uses: TlsUses::default(), scratch: Vec::new() }
    }

    /// Why the connections of a cgroup's processes tell no secrets. The last that is said counts.
    pub(super) fn blind(&mut self, cgroup: CgroupId, why: Unread) {
        if self.blind.len() < MAX_BLIND || self.blind.contains_key(&cgroup) {
            self.blind.insert(cgroup, why);
        }
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        self.join.memory() + self.blind.len() * 24 + self.uses.memory() + self.scratch.capacity()
    }
}
