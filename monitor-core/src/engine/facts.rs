//! Who is at the ends of a connection, and what it speaks: what other parts of the engine need to know of it.

use std::net::SocketAddr;

use crate::attribute::forwarded::Relay;
use crate::decode::SessionStart;
use crate::model::{Attribution, ConnId, Protocol, ServiceId, SocketCookie, Sym, ThreadId, WorkloadId};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct ConnFacts {
    pub(super) id: ConnId,
    pub(super) protocol: Protocol,
    pub(super) service: Option<ServiceId>,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) client_workload: Option<WorkloadId>,
    pub(super) server_workload: Option<WorkloadId>,
    /// The watched socket findings point to: cookie, own address, peer address.
    pub(super) flow: Option<(SocketCookie, SocketAddr, SocketAddr)>,
    /// Tenant of the client's container or address.
    pub(super) endpoint: Option<Attribution>,
    /// Where its requests go in, if that may be a relay.
    pub(super) enters: Option<Relay>,
    /// Where its requests come out of, if that may be a relay.
    pub(super) leaves: Option<Relay>,
    /// Where a proxy lets it through to.
    pub(super) tunnel: Option<Sym>,
    /// What the numbers of its requests begin with: those before were others', who asked for the tunnel.
    pub(super) before: u64,
    /// It is older than the agent.
    pub(super) mid_stream: bool,
    /// As whom it was opened, and for which database.
    pub(super) session: Option<SessionStart>,
    /// Who sent the latest bytes: the client's thread, the server's.
    pub(super) threads: [Option<ThreadId>; 2],
    /// Who reads what the client sends, as last told.
    pub(super) reader: Option<ThreadId>,
}

impl ConnFacts {
    pub(super) fn new(id: ConnId, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            id,
            protocol: Protocol::Unknown,
            service: None,
            client,
            server,
            client_workload: None,
            server_workload: None,
            flow: None,
            endpoint: None,
            enters: None,
            leaves: None,
            tunnel: None,
            before: 0,
            mid_stream: false,
            session: None,
            threads: [None; 2],
            reader: None,
        }
    }

    /// Whether replies are followed to see if they come to those who asked: where a command asks for little and is
    /// answered with it. A query's answer is mostly more than is remembered of it, and less of it is passed on.
    pub(super) fn replies_matter(&self) -> bool {
        self.protocol.is_by_key()
    }
}

/// Whether a connection speaks HTTP, or something on top of it.
pub(super) fn is_http(protocol: Protocol) -> bool {
    matches!(protocol.passed_on_as(), Protocol::Http | Protocol::Mcp)
}
