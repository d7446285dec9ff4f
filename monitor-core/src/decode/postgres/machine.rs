//! Requests paired with replies. What a statement did is said when its reply has come, with the state of the session
//! as the server saw it then: statements and portals change when the server says so, in the server's order.
//!
//! Rules of the protocol that matter here: a reply answers the oldest request; after an error everything up to the
//! next Sync is skipped unanswered; a simple query ends with ReadyForQuery, so does every Sync; COPY FROM STDIN reads
//! past the Sync that a client sent before it knew (PostgreSQL manual, "Message Flow"; `CopyGetData`).

mod client;
mod failed;
mod server;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::startup::Session;
use crate::decode::lifecycle::Fault;
use crate::decode::sql::noted::Noted;
use crate::decode::sql::plan::Param;
use crate::decode::sql::{Memory, Plan, Prepared, Shapes};
use crate::decode::{DecodeError, Sink};
use crate::model::claim::Salt;
use crate::model::{Claim, Nanos, Outcome};

/// Most messages awaiting a reply.
const MAX_PENDING: usize = 16_384;
/// Most portals remembered; beyond that all are forgotten, and what runs them is unknown.
const MAX_PORTALS: usize = 1024;
/// Longest parameter that is looked through for values, in bytes.
const MAX_NOTED: usize = 4096;

/// What cannot be: the pairing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// A reply that nothing asked for, or that its request cannot have.
    UnexpectedReply,
    /// A body that does not follow its type's format.
    Body,
    /// More requests in flight than are remembered.
    Overflow,
    /// Bytes of a message that decides how others are read are missing.
    Gap,
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::UnexpectedReply => DecodeError::UnexpectedReply.into(),
            Lost::Body => DecodeError::MessageBody.into(),
            Lost::Overflow => DecodeError::RequestsInFlight.into(),
            Lost::Gap => Self::Gap,
        }
    }
}

/// A portal: a statement with parameters.
#[derive(Debug)]
struct Portal {
    statement: u64,
    prepared: Option<Rc<Prepared>>,
    params: SmallVec<[Param; 1]>,
    print: Option<u64>,
    /// What its parameters carry besides.
    noted: Noted,
}

impl Portal {
    /// Bytes held. What its parameters say is short, and only there where a statement binds it.
    fn memory(&self) -> usize {
        size_of::<Self>() + self.params.capacity() * size_of::<Param>() + self.noted.memory()
    }
}

/// A message that awaits its reply.
#[derive(Debug)]
enum Entry {
    Startup(Box<Session>),
    Parse {
        name: u64,
        statement: Rc<Prepared>,
    },
    Bind {
        name: u64,
        portal: Rc<Portal>,
    },
    Describe,
    Close {
        portal: bool,
        name: u64,
    },
    Execute {
        request: u64,
        begun: Nanos,
        name: u64,
        portal: Option<Rc<Portal>>,
    },
    Sync,
    Query {
        request: u64,
        begun: Nanos,
        plans: SmallVec<[Plan; 1]>,
        next: usize,
        more: bool,
        failed: bool,
        marker: Claim,
    },
    Function {
        request: u64,
        begun: Nanos,
        done: bool,
    },
}

/// Where results go and when.
pub(super) struct Out<'a> {
    pub(super) at: Nanos,
    pub(super) sink: &'a mut dyn Sink,
}

/// The pairing of one connection.
#[derive(Debug)]
pub(super) struct Machine {
    salt: Salt,
    shapes: Rc<RefCell<Shapes>>,
    memory: Memory,
    pending: VecDeque<Entry>,
    portals: FxHashMap<u64, Rc<Portal>>,
    /// Statements and portals as they will be once everything pending succeeds; `None`: closed.
    ahead: FxHashMap<u64, Option<Rc<Prepared>>>,
    ahead_portals: FxHashMap<u64, Rc<Portal>>,
    n_requests: u64,
    n_answered: u64,
    /// An error came; the client's messages are skipped until its next Sync.
    skipping: bool,
    /// The server reads COPY data.
    copying: bool,
    warned: bool,
    /// Something that was asked before may still be answered: what becomes of a request is not known.
    pub(super) unsure: bool,
    /// `standard_conforming_strings` is off: plain strings have backslash escapes. The server reports it; `None`: the
    /// report may have been missed.
    backslash: Option<bool>,
}

impl Machine {
    pub(super) fn new(salt: Salt, shapes: Rc<RefCell<Shapes>>) -> Self {
        Self {
            salt,
            shapes,
            memory: Memory::new(salt),
            pending: VecDeque::new(),
            portals: FxHashMap::default(),
            ahead: FxHashMap::default(),
            ahead_portals: FxHashMap::default(),
            n_requests: 0,
            n_answered: 0,
            skipping: false,
            copying: false,
            warned: false,
            unsure: false,
            backslash: Some(false),
        }
    }

    /// What a reply says of its request.
    fn outcome(&self, said: Outcome) -> Outcome {
        if self.unsure { Outcome::Unknown } else { said }
    }

    /// Requests answered so far.
    pub(super) fn n_answered(&self) -> u64 {
        self.n_answered
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        let waiting: usize = self
            .pending
            .iter()
            .map(|e| match e {
                Entry::Query { plans, .. } if plans.spilled() => plans.capacity() * size_of::<Plan>(),
                Entry::Bind { portal, .. } => portal.memory(),
                _ => 0,
            })
            .sum();
        let portals: usize = self.portals.values().chain(self.ahead_portals.values()).map(|p| p.memory()).sum();
        self.memory.memory()
            + waiting
            + portals
            + self.pending.capacity() * size_of::<Entry>()
            + (self.portals.capacity() + self.ahead_portals.capacity()) * 32
            + self.ahead.capacity() * 32
    }

    /// The client asked for a session.
    pub(super) fn startup(&mut self, session: Session) {
        self.memory.startup_role = session.settings.iter().any(|(name, _)| name == "role");
        self.pending.push_back(Entry::Startup(Box::new(session)));
    }

    /// Replies with ReadyForQuery that are still to come.
    pub(super) fn n_owed(&self) -> usize {
        let ends =
            |e: &&Entry| matches!(e, Entry::Startup(_) | Entry::Sync | Entry::Query { .. } | Entry::Function { .. });
        self.pending.iter().filter(ends).count()
    }

    /// The pairing is lost, or the connection has ended: nothing outstanding will be answered.
    pub(super) fn abandon(&mut self, out: &mut Out<'_>) {
        while let Some(entry) = self.pending.pop_front() {
            self.give_up(&entry, Outcome::Unknown, out);
        }
        self.skipping = false;
        self.copying = false;
        self.warned = false;
        self.unsure = false;
        self.forget();
    }

    /// What was declared and prepared so far is not known any more.
    pub(super) fn forget(&mut self) {
        self.portals = FxHashMap::default();
        self.ahead = FxHashMap::default();
        self.ahead_portals = FxHashMap::default();
        self.memory.forget();
        self.backslash = None;
    }
}
