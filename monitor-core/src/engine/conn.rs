//! One connection: its ends, its bytes, and what is known of its units of work.

use std::collections::VecDeque;
use std::net::SocketAddr;

use smallvec::SmallVec;

use super::again::Again;
use super::by_unit::ByUnit;
use super::encrypted::Encryption;
use super::follows::Follows;
use super::open_jobs::OpenJobs;
use super::output::Wanted;
use super::undecided::Undecided;
use super::upkeep::Kept;
use crate::attribute::forwarded::{Origins, Relay};
use crate::attribute::through::{Borrow, Through};
use crate::decode::{Decoder, SessionStart};
use crate::ledger::{Ledger, View};
use crate::model::cookies::Cookies;
use crate::model::http;
use crate::model::keys::KeyUses;
use crate::model::mcp::Exchange;
use crate::model::queue::Message;
use crate::model::{
    Answer, Attribution, CgroupId, ConnId, EvidenceClass, Fingerprint, Nanos, Operation, OtherUse, Protocol, ServiceId,
    Side, Slot, SocketCookie, Sym, TenantId, ThreadId, UnitNo, WorkloadId,
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

/// A request without its answer yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) request: u64,
    pub(super) begun: Nanos,
    pub(super) print: Option<Fingerprint>,
    /// Entered into the relay's table.
    pub(super) entered: bool,
    /// The connection has ended before the answer was complete.
    pub(super) cut: bool,
}

/// An operation whose tenant is not known yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) unit: UnitNo,
    /// What the connection spoke then.
    pub(super) protocol: Protocol,
    pub(super) op: Operation,
    /// Bindings at the operation, for data.
    pub(super) view: Option<View>,
    /// What it does with keys.
    pub(super) keys: KeyUses,
    /// Cookies of its request and answer, if it is the request's first operation.
    pub(super) cookies: Option<Box<Cookies>>,
    /// What caches are judged by, where it may have been answered out of one.
    pub(super) cached: Option<Box<http::Exchange>>,
}

/// Where a unit of work's requests may have come in through a relay.
#[derive(Clone, Debug)]
pub(super) enum CameIn {
    /// Anywhere.
    Anywhere,
    /// All of them may have come in on one of these.
    OneOf(Origins),
    /// They do not agree: something is missing, and nothing can be told from what is left.
    Broken,
}

impl CameIn {
    /// One more request, which may have come in on `origins`.
    fn and(&mut self, origins: Origins) {
        match self {
            Self::Anywhere if !origins.is_empty() => *self = Self::OneOf(origins),
            Self::OneOf(before) => {
                before.retain(|o| origins.contains(o));
                if before.is_empty() {
                    *self = Self::Broken;
                }
            }
            Self::Anywhere | Self::Broken => *self = Self::Broken,
        }
    }

    fn allows(&self, tenant: TenantId, origin: Option<ConnId>) -> bool {
        match self {
            Self::OneOf(origins) => {
                origins.iter().any(|(c, t)| *t == Some(tenant) && origin.is_none_or(|origin| origin == *c))
            }
            _ => false,
        }
    }
}

/// A unit of work that has been settled, or may yet be.
#[derive(Clone, Debug)]
pub(super) struct KnownUnit {
    pub(super) no: UnitNo,
    pub(super) came_in: CameIn,
    /// What its requests were settled to, if they agree.
    pub(super) said: Option<Attribution>,
    pub(super) contradicted: bool,
}

/// A binding for the transaction only, made in the current unit and not yet used.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalBind {
    pub(super) slot: Slot,
    pub(super) at: Nanos,
    pub(super) warned: bool,
}

/// A unit of work, or a stretch of one, that is over and not yet looked at.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) no: UnitNo,
    pub(super) ended: Nanos,
    /// It goes on as another's, from this request on; what it asked before may not be answered yet.
    pub(super) until: Option<u64>,
    pub(super) borrow: Borrow,
}

/// The current unit of work: from the first request after idle to the next idle, or from where somebody else goes on
/// in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unit {
    pub(super) no: UnitNo,
    pub(super) open: bool,
    /// Its first request; a request of a lower number belongs to a stretch before it.
    pub(super) first: u64,
    /// Its latest request, and when that began.
    pub(super) latest: u64,
    pub(super) latest_at: Nanos,
    /// The server has told that a transaction is open.
    pub(super) held: bool,
    /// Some request of it may have come in through a relay.
    pub(super) forwarded: bool,
    /// Some request of it cannot.
    pub(super) unmatched: bool,
    /// An explicit transaction was begun in it.
    pub(super) explicit: bool,
    /// And has not ended.
    pub(super) begun: bool,
    pub(super) local: Option<LocalBind>,
}

/// Most units remembered for whom they were.
pub(super) const MAX_PAST: usize = 32;
/// Most operations that wait for their tenant on one connection.
pub(super) const MAX_PENDING: usize = 4096;
/// Most requests without an answer on one connection that attribution follows.
pub(super) const MAX_OPEN: usize = 256;
/// Most tenants remembered as users of one connection.
pub(super) const MAX_USERS: usize = 32;

/// What attribution, ledger and rules know of one connection.
pub(super) struct ConnState {
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
    pub(super) mid_stream: bool,
    /// Something of it was missed since.
    pub(super) disturbed: bool,
    /// Why its decoder gave up, if it did.
    pub(super) unreadable: &'static str,
    /// Something was missed, and nothing has been read since: what comes may be anything.
    pub(super) astray: bool,
    /// Number of the latest request that was read.
    pub(super) latest: u64,
    pub(super) session: Option<SessionStart>,
    pub(super) ledger: Ledger,
    pub(super) unit: Unit,
    pub(super) open: SmallVec<[Open; 1]>,
    /// The connection has ended: what is told now is what becomes of the rest.
    pub(super) closing: bool,
    pub(super) pending: ByUnit<Pending>,
    /// Units that came in through a relay, oldest first.
    pub(super) units: Vec<KnownUnit>,
    /// Who used it, with their latest use.
    pub(super) users: SmallVec<[OtherUse; 1]>,
    /// The unit of its first data operation.
    pub(super) first_data: Option<UnitNo>,
    /// When it was first bound for somebody.
    pub(super) first_bind: Option<Nanos>,
    /// Whoever used it last.
    pub(super) last_user: Option<TenantId>,
    /// The current unit of work, where this connection works for a place that is followed.
    pub(super) borrow: Option<Borrow>,
    /// The latest request of the current unit, while it is not known whether it goes on with what was before it.
    pub(super) step: Option<(u64, Borrow)>,
    /// Stretches of the current unit before this one: first request, number.
    pub(super) earlier: SmallVec<[(u64, UnitNo); 1]>,
    /// Units of work that are over and not yet looked at.
    pub(super) borrows: VecDeque<Lent>,
    /// What was made of the latest ones.
    pub(super) through: Vec<(UnitNo, Through)>,
    /// MCP exchanges that wait for their tenant, with their unit of work.
    pub(super) exchanges: ByUnit<(UnitNo, Exchange)>,
    /// Messages that were published here and wait for their tenant: unit of work, number, message.
    pub(super) posts: ByUnit<(UnitNo, u64, Message)>,
    /// Deliveries that are not settled.
    pub(super) jobs: OpenJobs,
    /// Deliveries so far.
    pub(super) n_jobs: u64,
    /// How the latest delivery was made, as the protocol names it.
    pub(super) delivered_by: Sym,
    /// What the operation does with keys that is told next.
    pub(super) keys: KeyUses,
    /// The cookies of the request whose operation is told next.
    pub(super) cookies: Option<(u64, Box<Cookies>)>,
    /// What caches are judged by, of the operation that is told next.
    pub(super) cached: Option<Box<http::Exchange>>,
    /// Who sent the latest bytes: the client's thread, the server's.
    pub(super) threads: [Option<ThreadId>; 2],
    /// Who reads what the client sends, as last told.
    pub(super) reader: Option<ThreadId>,
    /// The latest unit of work whose reply was read, as far as that is told.
    pub(super) reply_read: UnitNo,
    /// A local binding that covered nothing, until it is known whether something went uncovered.
    pub(super) ineffective: Option<(LocalBind, Answer)>,
    /// Bindings so far, and reads that wait for one.
    pub(super) follows: Follows,
}

impl ConnState {
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
            mid_stream: false,
            disturbed: false,
            unreadable: "",
            astray: false,
            latest: 0,
            session: None,
            ledger: Ledger::new(),
            unit: Unit::default(),
            open: SmallVec::new(),
            closing: false,
            pending: ByUnit::default(),
            units: Vec::new(),
            users: SmallVec::new(),
            first_data: None,
            first_bind: None,
            last_user: None,
            borrow: None,
            step: None,
            earlier: SmallVec::new(),
            borrows: VecDeque::new(),
            through: Vec::new(),
            exchanges: ByUnit::default(),
            posts: ByUnit::default(),
            jobs: OpenJobs::default(),
            n_jobs: 0,
            delivered_by: Sym::EMPTY,
            keys: KeyUses::new(),
            cookies: None,
            cached: None,
            threads: [None; 2],
            reader: None,
            reply_read: UnitNo(0),
            ineffective: None,
            follows: Follows::default(),
        }
    }

    /// Bytes held beyond the struct itself, about.
    pub(super) fn memory(&self) -> usize {
        fn spilled<T, const N: usize>(v: &SmallVec<[T; N]>) -> usize
        where
            [T; N]: smallvec::Array<Item = T>,
        {
            if v.spilled() { v.capacity() * size_of::<T>() } else { 0 }
        }
        self.ledger.memory()
            + self.follows.memory()
            + spilled(&self.open)
            + spilled(&self.users)
            + spilled(&self.earlier)
            + self.pending.memory()
            + self.exchanges.memory()
            + self.posts.memory()
            + self.jobs.memory()
            + self.units.capacity() * size_of::<KnownUnit>()
            + self.borrows.capacity() * size_of::<Lent>()
            + self.through.capacity() * size_of::<(UnitNo, Through)>()
    }

    /// For whom unit `no` was, if that is known: all its requests that were settled say the same, and the others can
    /// have come in on the same connection.
    pub(super) fn attribution_of(&self, no: UnitNo) -> Option<Attribution> {
        self.endpoint.or_else(|| {
            let unit = self.units.iter().rev().find(|u| u.no == no)?;
            unit.said.filter(|a| !unit.contradicted && unit.came_in.allows(a.tenant, a.client))
        })
    }

    /// What the latest request carries is said of.
    pub(super) fn reads_for(&mut self) -> Option<&mut Borrow> {
        self.step.as_mut().map(|(_, step)| step).or(self.borrow.as_mut())
    }

    /// Whether replies are followed to see if they come to those who asked: where a command asks for little and is
    /// answered with it. A query's answer is mostly more than is remembered of it, and less of it is passed on.
    pub(super) fn replies_matter(&self) -> bool {
        self.protocol == Protocol::Redis
    }

    /// What was made of unit `no`, where a process works for many.
    pub(super) fn through_of(&self, no: UnitNo) -> Option<&Through> {
        self.through.iter().rev().find(|(n, _)| *n == no).map(|(_, t)| t)
    }

    /// For whom unit `no` was, by wire or endpoint evidence other than its bindings.
    pub(super) fn known_for(&self, no: UnitNo) -> Option<Attribution> {
        self.attribution_of(no).or_else(|| {
            let through = self.through_of(no).filter(|t| !t.torn)?;
            through.settled.filter(|a| a.class > EvidenceClass::Inferred)
        })
    }

    /// For whom unit `no` was, by anything but its bindings; inferred bases that disagree say nothing.
    pub(super) fn known_without_bindings(&self, no: UnitNo) -> Option<(TenantId, EvidenceClass)> {
        if let Some(a) = self.known_for(no) {
            return Some((a.tenant, a.class));
        }
        let through = self.through_of(no).filter(|t| !t.torn)?;
        let first = through.settled.map(|a| a.tenant).or_else(|| through.votes.first().map(|(_, t)| *t))?;
        through.votes.iter().all(|(_, t)| *t == first).then_some((first, EvidenceClass::Inferred))
    }

    /// What is kept of unit `no`.
    pub(super) fn known_unit(&mut self, no: UnitNo) -> Option<&mut KnownUnit> {
        self.units.iter_mut().rev().find(|u| u.no == no)
    }

    /// One more request of the current unit, which may have come in on `origins`; `None`: on any connection.
    pub(super) fn came_in_on(&mut self, origins: Option<Origins>) {
        let (no, unmatched) = (self.unit.no, self.unit.unmatched);
        let somewhere = origins.as_ref().is_none_or(|o| !o.is_empty());
        self.unit.forwarded |= somewhere;
        if let Some(unit) = self.known_unit(no) {
            if let Some(origins) = origins {
                unit.came_in.and(origins);
            }
            return;
        }
        // Units that never came in through a relay are not worth an entry.
        if !somewhere {
            self.unit.unmatched = true;
            return;
        }
        let came_in = match origins {
            _ if unmatched => CameIn::Broken,
            Some(origins) => CameIn::OneOf(origins),
            None => CameIn::Anywhere,
        };
        if self.units.len() >= MAX_PAST {
            self.units.remove(0);
        }
        self.units.push(KnownUnit { no, came_in, said: None, contradicted: false });
    }

    /// A request of unit `no` was settled.
    pub(super) fn record_origin(&mut self, no: UnitNo, attribution: Attribution) {
        let Some(unit) = self.known_unit(no) else { return };
        match &mut unit.said {
            None => unit.said = Some(attribution),
            Some(said) if said.tenant != attribution.tenant => unit.contradicted = true,
            Some(said) => match (said.client, attribution.client) {
                (Some(a), Some(b)) if a != b => unit.contradicted = true,
                (None, Some(_)) => said.client = attribution.client,
                _ => {}
            },
        }
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
    pub(super) encryption: Encryption,
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
        if let Some(known) = self.state.threads.get_mut(at) {
            *known = thread;
        }
    }

    /// The protocol side that a stream side stands for.
    pub(super) fn side(&self, stream_side: Side) -> Side {
        if self.client == Some(1) { stream_side.other() } else { stream_side }
    }
}
