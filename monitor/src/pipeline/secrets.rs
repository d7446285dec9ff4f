//! The thread that attaches probes to what workloads run, where TLS is read.

use std::sync::mpsc::{SyncSender, sync_channel};

use crate::capture::ebpf::{SecretMaps, SecretProbes};
use crate::privileges::{self, Sandbox};
use crate::tls::{Attacher, Order, Shared};

/// Orders under way to it.
const ORDERS: usize = 4096;

/// What the engine's thread has of it.
pub(super) struct Reading {
    /// What it has found.
    pub(super) status: Shared,
    /// For the source, once.
    source: Option<(SecretMaps, SyncSender<Order>)>,
}

impl Reading {
    /// What the source reads secrets with.
    pub(super) fn take(&mut self) -> Option<(SecretMaps, SyncSender<Order>)> {
        self.source.take()
    }
}

/// Loads the probes and starts the thread. `None`: it cannot be, which is told, and TLS stays opaque.
pub(super) fn begin(sandbox: Sandbox, cgroups: u32) -> Option<Reading> {
    let (probes, maps) = match SecretProbes::load(cgroups) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("TLS is not read: {error}");
            return None;
        }
    };
    let (orders, obeyed) = sync_channel(ORDERS);
    let status = Shared::default();
    let attacher = Attacher::new(probes, status.clone());
    let thread = std::thread::Builder::new().name("tls".to_owned()).spawn(move || {
        privileges::attaching_thread_begins(sandbox);
        attacher.work(&obeyed);
    });
    if let Err(error) = thread {
        tracing::error!("TLS is not read: cannot start a thread: {error}");
        return None;
    }
    tracing::warn!("TLS is read: what the watched workloads encrypt is seen by this agent");
    Some(Reading { status, source: Some((maps, orders)) })
}
