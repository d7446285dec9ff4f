//! What a source delivers. One closed type: every cause of work in the core is listed here.

use std::net::SocketAddr;

use super::{CgroupId, HandshakeSecret, Nanos, SocketCookie, ThreadId};

/// Which way a segment crossed the socket it was seen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by the watched socket.
    Tx,
    /// Received by the watched socket.
    Rx,
}

/// Who opened the connection, seen from the watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// This socket connected.
    Client,
    /// This socket was accepted.
    Server,
    /// The handshake was not seen; the decoder may find out from the bytes.
    Unknown,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The socket reached the CLOSED state, or the capture shows FIN from both sides or a reset.
    Closed,
    /// The input ended.
    EndOfInput,
}

/// Where an event was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossStage {
    /// The kernel side could not deliver it (ring full, map full, unreadable packet).
    Kernel,
    /// The agent could not keep it (a user-space bound was reached).
    Agent,
    /// The capture file was cut or says that packets were dropped.
    Capture,
}

/// TCP payload as captured: `bytes` may be shorter than `len` (truncated at capture), even empty.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// When the kernel handled the segment.
    pub at: Nanos,
    /// The socket it was seen at.
    pub cookie: SocketCookie,
    /// Sent or received by that socket.
    pub dir: Direction,
    /// TCP sequence number of the first captured byte.
    pub seq: u32,
    /// TCP acknowledgement number carried by the segment: the sender has received everything before it in the other
    /// direction. `None` when the ACK flag is not set.
    pub ack: Option<u32>,
    /// Payload bytes from `seq` on that this record stands for; what is beyond `bytes` was cut at capture.
    pub len: u32,
    /// The captured bytes.
    pub bytes: &'a [u8],
    /// The thread that sent it; `None`: not known. Never known of received segments, nor of what the kernel sent later
    /// on its own (retransmissions, what waited for an acknowledgement) where that can be told.
    pub thread: Option<ThreadId>,
}

/// Everything that can happen.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A cgroup is known by its path below the cgroup v2 root (`/tenants/acme`). Comes before the first flow in it
    /// whenever the source can tell.
    CgroupSeen {
        /// When.
        at: Nanos,
        /// The cgroup.
        id: CgroupId,
        /// Its path below the cgroup v2 root, beginning with `/`.
        path: &'a str,
    },
    /// A cgroup was removed: its id may be used again for another.
    CgroupGone {
        /// When.
        at: Nanos,
        /// The cgroup.
        id: CgroupId,
    },
    /// What answers at an address has a name: a Unix socket is bound to a path. Comes before the first flow there.
    Named {
        /// When.
        at: Nanos,
        /// The address, one of [`super::local`].
        address: SocketAddr,
        /// Its name, such as `unix:/run/redis.sock`.
        name: &'a str,
    },
    /// A socket of a watched workload is known. Comes before the flow's first segment. A second one for the same
    /// cookie adds what the first could not tell (role, start of the streams).
    Opened {
        /// When.
        at: Nanos,
        /// The socket.
        cookie: SocketCookie,
        /// The socket's cgroup, when the source knows one.
        cgroup: Option<CgroupId>,
        /// The socket's own address.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
        /// Who opened the connection.
        role: Role,
        /// Sequence number of the first byte this socket sends; `None`: older than the agent, start not seen.
        tx_start: Option<u32>,
        /// Sequence number of the first byte this socket receives; `None`: start not seen.
        rx_start: Option<u32>,
    },
    /// Payload.
    Segment(Segment<'a>),
    /// A thread has read what this socket received: another thread than the last one told (the first reader is told,
    /// too), or each time where that was asked for ([`crate::engine::Wanted::reads`]). Comes after the segments that it
    /// has read from. What was read before the probe was there, or while it was not, is not told.
    Reader {
        /// When it had read.
        at: Nanos,
        /// The socket.
        cookie: SocketCookie,
        /// Who read.
        thread: ThreadId,
    },
    /// A process has logged a secret of a TLS handshake, or would have, had somebody asked it for a key log.
    TlsSecret(&'a HandshakeSecret),
    /// The socket is gone.
    Closed {
        /// When.
        at: Nanos,
        /// The socket.
        cookie: SocketCookie,
        /// Why.
        reason: CloseReason,
    },
    /// Events were lost. Losses inside a connection also show as gaps in its stream.
    Lost {
        /// When this was noticed.
        at: Nanos,
        /// Where.
        stage: LossStage,
        /// Short constant name of the reason, as the metric shows it.
        reason: &'static str,
        /// Events lost since the last such event.
        count: u64,
        /// Whose they were: something that the sockets of this cgroup received. `None`: nobody can say.
        of: Option<CgroupId>,
    },
    /// Nothing happened, but time has passed: lets timeouts end. A live source sends these about once a second.
    Tick {
        /// Now.
        at: Nanos,
    },
}

impl Event<'_> {
    /// When it happened.
    pub fn at(&self) -> Nanos {
        match *self {
            Event::CgroupSeen { at, .. }
            | Event::CgroupGone { at, .. }
            | Event::Named { at, .. }
            | Event::Opened { at, .. }
            | Event::Reader { at, .. }
            | Event::Closed { at, .. }
            | Event::Lost { at, .. }
            | Event::Tick { at } => at,
            Event::Segment(ref s) => s.at,
            Event::TlsSecret(secret) => secret.at,
        }
    }
}
