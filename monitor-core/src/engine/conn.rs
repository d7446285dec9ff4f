//! One connection: its ends, its bytes, and what is known of its units of work.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::again::Again;
use super::by_unit::ByUnit;
use super::facts::ConnFacts;
use super::follows::Follows;
use super::index::{Parties, Party};
use super::kept::Kept;
use super::open_jobs::OpenJobs;
use super::output::Wanted;
use super::proxy::{Fronted, Preface};
use super::sealing::Encryption;
use super::tls_use::Counted;
use super::undecided::Undecided;
use super::units::{LocalBind, Units, spilled};
use crate::attribute::forwarded::Relay;
use crate::decode::Decoder;
use crate::ledger::Ledger;
use crate::model::cookies::Cookies;
use crate::model::http;
use crate::model::keys::KeyUses;
use crate::model::mcp::Exchange;
use crate::model::queue::Message;
use crate::model::{
    Answer, Attribution, CgroupId, ConnId, EvidenceClass, Nanos, OtherUse, RequestKey, RequestNo, Side, SocketCookie,
    Sym, TenantId, ThreadId, UnitNo, WorkloadId,
};
use crate::stream::Reassembler;

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) addr: SocketAddr,
    /// The watched socket at this end, while it lives.
    pub(super) cookie: Option<SocketCookie>,
    /// Its cgroup, if the source knows one.
    pub(super) cgroup: Option<CgroupId>,
    pub(super) workload: Option<WorkloadId>,
    /// A socket at this end is or was watched.
    pub(super) watched: bool,
    /// Sequence number of the first byte this end sends, if seen.
    pub(super) start: Option<u32>,
    /// What was last asked for at this socket.
    pub(super) wanted: Wanted,
}

impl End {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            cookie: None,
            cgroup: None,
            workload: None,
            watched: false,
            start: None,
            wanted: Wanted::default(),
        }
    }
}

/// How far the application protocol is known.
pub(super) enum App {
    Undecided(Undecided),
    Decoding(Box<dyn Decoder>),
    /// Nobody can read it; `None`: for good.
    Opaque(Option<Box<Again>>),
}

/// What attribution, ledger and rules know of one connection.
pub(super) struct ConnState {
    pub(super) facts: ConnFacts,
    pub(super) units: Units,
    pub(super) ledger: Ledger,
    pub(super) jobs: ConnJobs,
    pub(super) history: History,
    /// MCP exchanges that wait for their tenant, with their unit of work.
    pub(super) exchanges: ByUnit<(UnitNo, Exchange)>,
    pub(super) next: Announced,
    /// Something of it was missed since it began.
    pub(super) disturbed: bool,
    /// Something was missed, and nothing has been read since: what comes may be anything.
    pub(super) astray: bool,
    /// Why its decoder gave up, if it did.
    pub(super) unreadable: Option<&'static str>,
    /// The connection has ended: what is told now is what becomes of the rest.
    pub(super) closing: bool,
}

/// Messages and deliveries on one connection.
#[derive(Debug)]
pub(super) struct ConnJobs {
    /// Deliveries that are not settled.
    pub(super) open: OpenJobs,
    /// Deliveries so far.
    pub(super) n: u64,
    /// How the latest delivery was made, as the protocol names it.
    pub(super) delivered_by: Sym,
    /// Messages that were published here and wait for their tenant: unit of work, number, message.
    pub(super) posts: ByUnit<(UnitNo, u64, Message)>,
}

/// What was told of the operation that is told next.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// What it does with keys.
    pub(super) keys: KeyUses,
    /// The cookies of the request that it begins.
    pub(super) cookies: Option<(u64, Box<Cookies>)>,
    /// What caches are judged by.
    pub(super) cached: Option<Box<http::Exchange>>,
}

/// For whom one connection was used and bound before.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Who used it, with their latest use.
    pub(super) users: SmallVec<[OtherUse; 1]>,
    /// The unit of its first data operation.
    pub(super) first_data: Option<UnitNo>,
    /// When it was first bound for somebody.
    pub(super) first_bind: Option<Nanos>,
    /// Whoever used it last.
    pub(super) last_user: Option<TenantId>,
    /// A local binding that covered nothing, until it is known whether something went uncovered.
    pub(super) ineffective: Option<(LocalBind, Answer)>,
    /// Bindings so far, and reads that wait for one.
    pub(super) follows: Follows,
}

impl ConnState {
    /// How the process behind it knows the request with this number.
    pub(super) fn key_of(&self, request: u64) -> RequestKey {
        (self.facts.id, RequestNo::Sent(request))
    }

    pub(super) fn new(id: ConnId, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            facts: ConnFacts::new(id, client, server),
            units: Units::default(),
            ledger: Ledger::new(),
            jobs: ConnJobs { open: OpenJobs::default(), n: 0, delivered_by: Sym::EMPTY, posts: ByUnit::default() },
            history: History::default(),
            exchanges: ByUnit::default(),
            next: Announced::default(),
            disturbed: false,
            astray: false,
            unreadable: None,
            closing: false,
        }
    }

    /// Bytes held beyond the struct itself, about.
    pub(super) fn memory(&self) -> usize {
        self.ledger.memory()
            + self.units.memory()
            + self.history.follows.memory()
            + spilled(&self.history.users)
            + self.exchanges.memory()
            + self.jobs.posts.memory()
            + self.jobs.open.memory()
    }

    /// For whom unit `no` was, if that is known: all its requests that were settled say the same, and the others can
    /// have come in on the same connection.
    pub(super) fn attribution_of(&self, no: UnitNo) -> Option<Attribution> {
        self.facts.endpoint.or_else(|| {
            let unit = self.units.known.iter().rev().find(|u| u.no == no)?;
            unit.said.filter(|a| !unit.contradicted && unit.came_in.allows(a.tenant, a.client))
        })
    }

    /// For whom unit `no` was, by wire or endpoint evidence other than its bindings.
    pub(super) fn known_for(&self, no: UnitNo) -> Option<Attribution> {
        self.attribution_of(no).or_else(|| {
            let through = self.units.through_of(no).filter(|t| !t.torn)?;
            through.settled.filter(|a| a.class > EvidenceClass::Inferred)
        })
    }

    /// For whom unit `no` was, by anything but its bindings; inferred bases that disagree say nothing.
    pub(super) fn known_without_bindings(&self, no: UnitNo) -> Option<(TenantId, EvidenceClass)> {
        if let Some(a) = self.known_for(no) {
            return Some((a.tenant, a.class));
        }
        let through = self.units.through_of(no).filter(|t| !t.torn)?;
        let first = through.settled.map(|a| a.tenant).or_else(|| through.votes.first().map(|(_, t)| *t))?;
        through.votes.iter().all(|(_, t)| *t == first).then_some((first, EvidenceClass::Inferred))
    }
}

/// One connection.
pub(super) struct Conn {
    /// The first-seen socket's own end, then the other.
    pub(super) ends: [End; 2],
    /// Which end is the client, if known.
    pub(super) client: Option<usize>,
    /// [`Side::Client`] stands for `ends[0]`.
    pub(super) stream: Reassembler,
    pub(super) app: App,
    /// What stands between the two.
    /// Whether it may begin with a proxy's header.
    pub(super) preface: Preface,
    /// Whom a trusted header names.
    pub(super) fronted: Option<Fronted>,
    /// Who is at the other end of the connection that the header names, where that is on this host.
    pub(super) front: Option<WorkloadId>,
    pub(super) encryption: Encryption,
    /// Where it hides what may be requests, until they can be read.
    pub(super) hides_at: SmallVec<[Relay; 2]>,
    /// Where its TLS is counted.
    pub(super) tls_use: Option<Counted>,
    pub(super) state: ConnState,
    /// Initial sequence numbers as told when it was opened: this end's, the other's.
    pub(super) starts: Option<(u32, u32)>,
    pub(super) last_active: Nanos,
    /// For the table's upkeep.
    pub(super) kept: Kept,
}

impl Conn {
    /// A thread has sent bytes of one stream side.
    pub(super) fn sent_by(&mut self, stream_side: Side, thread: Option<ThreadId>) {
        let at = usize::from(self.side(stream_side) == Side::Server);
        if let Some(known) = self.state.facts.threads.get_mut(at) {
            *known = thread;
        }
    }

    /// The protocol side that a stream side stands for.
    pub(super) fn side(&self, stream_side: Side) -> Side {
        if self.client == Some(1) { stream_side.other() } else { stream_side }
    }

    /// Who takes part in it, as far as is known now.
    pub(super) fn parties(&self) -> Parties {
        let ends = self.ends.iter().flat_map(|e| [e.cgroup.map(Party::Cgroup), e.workload.map(Party::Workload)]);
        let mut all = Parties::new();
        for party in ends.chain([self.state.facts.enters.map(Party::Enters)]).flatten() {
            if !all.contains(&party) {
                all.push(party);
            }
        }
        all
    }
}
