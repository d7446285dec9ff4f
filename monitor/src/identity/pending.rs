//! Events that wait for a label: in their order, bounded in bytes and in time.
//!
//! All events wait behind the first one of a cgroup whose label is not known yet, not only its own: what other sockets
//! did meanwhile may say for whom, and only in its order. It is seldom: containers are mostly known before their first
//! connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use monitor_core::model::{CgroupId, Event, HandshakeSecret, Nanos, Segment};

/// An event that owns what it borrows.
#[derive(Debug)]
enum Held {
    Cgroup { at: Nanos, id: CgroupId, path: String },
    Named { at: Nanos, address: SocketAddr, name: String },
    Segment { segment: Segment<'static>, bytes: Vec<u8> },
    Secret(Box<HandshakeSecret>),
    Other(Event<'static>),
}

impl Held {
    fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::CgroupSeen { at, id, path } => Self::Cgroup { at, id, path: path.to_owned() },
            Event::Named { at, address, name } => Self::Named { at, address, name: name.to_owned() },
            Event::Segment(s) => Self::Segment { bytes: s.bytes.to_vec(), segment: Segment { bytes: &[], ..s } },
            Event::TlsSecret(secret) => Self::Secret(Box::new(secret.clone())),
            Event::CgroupGone { at, id } => Self::Other(Event::CgroupGone { at, id }),
            Event::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start } => {
                Self::Other(Event::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start })
            }
            Event::Reader { at, cookie, thread } => Self::Other(Event::Reader { at, cookie, thread }),
            Event::Closed { at, cookie, reason } => Self::Other(Event::Closed { at, cookie, reason }),
            Event::Lost { at, stage, reason, count, of } => Self::Other(Event::Lost { at, stage, reason, count, of }),
            Event::Tick { at } => Self::Other(Event::Tick { at }),
        }
    }

    fn event(&self) -> Event<'_> {
        match self {
            Self::Cgroup { at, id, path } => Event::CgroupSeen { at: *at, id: *id, path },
            Self::Named { at, address, name } => Event::Named { at: *at, address: *address, name },
            Self::Segment { segment, bytes } => Event::Segment(Segment { bytes, ..*segment }),
            Self::Secret(secret) => Event::TlsSecret(secret),
            Self::Other(event) => *event,
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Cgroup { path, .. } => path.len(),
                Self::Named { name, .. } => name.len(),
                Self::Segment { bytes, .. } => bytes.len(),
                Self::Secret(_) => size_of::<HandshakeSecret>(),
                Self::Other(_) => 0,
            }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Pending {
    queue: VecDeque<Held>,
    bytes: usize,
}

impl Pending {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more, behind the others.
    pub fn push(&mut self, event: &Event<'_>) {
        let held = Held::of(event);
        self.bytes += held.size();
        self.queue.push_back(held);
    }

    /// The one that waits longest.
    pub fn first(&self) -> Option<Event<'_>> {
        self.queue.front().map(Held::event)
    }

    /// Takes the one that waits longest, for `f`.
    pub fn pop(&mut self, f: impl FnOnce(&Event<'_>)) {
        if let Some(held) = self.queue.pop_front() {
            self.bytes = self.bytes.saturating_sub(held.size());
            f(&held.event());
        }
        if self.queue.is_empty() {
            // A rare burst leaves no memory behind.
            self.queue = VecDeque::new();
        }
    }
}
