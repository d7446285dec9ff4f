//! Commands paired with their answers. What a statement did is said when its answer has come.
//!
//! Rules of the protocol that matter here: each command numbers its packets from 0, and its answer goes on from there;
//! answers come in the order of commands; a command may be answered with several results, of which each but the last says
//! that another follows; some commands are not answered. Source: MySQL internals, "Command Phase"; MariaDB, "Result Set".

mod client;
mod ending;
mod server;
mod session;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::capabilities::Capabilities;
use super::rows::Rows;
use super::statements::Statements;
use crate::decode::lifecycle::Fault;
use crate::decode::sql::plan::Param;
use crate::decode::sql::{Memory, Plan, Prepared, Shapes};
use crate::decode::{DecodeError, SessionStart, Sink};
use crate::model::claim::Salt;
use crate::model::{Claim, Nanos, Outcome, TxStatus};

/// Most commands awaiting an answer.
const MAX_PENDING: usize = 4096;

/// What cannot be: the pairing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// An answer that nothing asked for, or that its command cannot have.
    UnexpectedReply,
    /// A packet that its sender does not say, or not now.
    Kind,
    /// A payload that does not follow its format.
    Body,
    /// More commands in flight than are remembered.
    Overflow,
    /// Bytes of a packet that decides how others are read are missing.
    Gap,
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::UnexpectedReply => DecodeError::UnexpectedReply.into(),
            Lost::Kind => DecodeError::MessageType.into(),
            Lost::Body => DecodeError::MessageBody.into(),
            Lost::Overflow => DecodeError::RequestsInFlight.into(),
            Lost::Gap => Self::Gap,
        }
    }
}

/// What client and server say.
#[derive(Debug)]
pub(super) enum Phase {
    /// The server has not greeted yet. A client that speaks first has asked for encryption before.
    Greeting,
    /// The client has not answered the greeting.
    Response,
    /// The client authenticates.
    Login(Login),
    /// Commands and answers.
    Commands,
}

/// Whose session it will be.
#[derive(Clone, Debug)]
pub(super) struct Login {
    start: SessionStart,
    user: Claim,
    /// `None`: no database was chosen.
    database: Option<Claim>,
}

/// What else a command does that no statement does.
#[derive(Debug)]
enum Does {
    /// Nothing.
    Nothing,
    /// Another database is in use.
    Uses(Claim),
    /// Another user authenticates.
    Becomes(Box<Login>),
    /// Variables and statements are gone.
    Resets,
    /// The answer is a text.
    SaysText,
    /// Rows come without the definitions of their columns.
    Lists,
}

/// A command that awaits its answer.
#[derive(Debug)]
enum Entry {
    Query { request: u64, begun: Nanos, plans: SmallVec<[Plan; 1]>, next: usize, more: bool, marker: Claim },
    Prepare { statement: Rc<Prepared> },
    Execute { request: u64, begun: Nanos, statement: Option<Rc<Prepared>>, params: SmallVec<[Param; 1]>, fetches: bool },
    Command { request: u64, begun: Nanos, verb: &'static str, does: Does },
}

/// Where the answer to the oldest command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its first packet comes, or that of its next result.
    Start,
    /// So many definitions of columns come, then rows.
    Columns(u64),
    /// Between columns and rows.
    AfterColumns,
    /// Rows, until their end; how many there were.
    Rows(u64),
    /// So many definitions, and then (in two groups) so many ends of them; then nothing.
    Definitions { left: u32, ends: u8 },
    /// The client sends a file.
    File,
}

/// Where results go and when.
pub(super) struct Out<'a> {
    pub(super) at: Nanos,
    pub(super) sink: &'a mut dyn Sink,
}

/// What the reader of bytes is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    Packets,
    /// What follows is packed.
    Unpack,
    /// Nothing that follows can be read, and why; `None`: nothing follows.
    Leave(Option<&'static str>),
}

/// The pairing of one connection.
#[derive(Debug)]
pub(super) struct Machine {
    salt: Salt,
    shapes: Rc<RefCell<Shapes>>,
    memory: Memory,
    pub(super) phase: Phase,
    capabilities: Capabilities,
    pending: VecDeque<Entry>,
    stage: Stage,
    statements: Statements,
    rows: Rows,
    /// Packets are packed.
    pub(super) packed: bool,
    /// No packet of the oldest command's answer has come.
    fresh: bool,
    /// Hash of the answer so far; `None`: some of it is missing.
    reply: Option<SipHasher13>,
    n_requests: u64,
    n_answered: u64,
    /// Something that was asked before may still be answered: what becomes of a request is not known.
    pub(super) unsure: bool,
    /// A backslash escapes in strings. The server reports it; `None`: the report may have been missed.
    backslash: Option<bool>,
    /// Something was bound, and no transaction has ended since.
    bound: bool,
    /// As the server said last.
    status: TxStatus,
}

impl Machine {
    pub(super) fn new(salt: Salt, shapes: Rc<RefCell<Shapes>>, mid_stream: bool) -> Self {
        Self {
            salt,
            shapes,
            memory: Memory::new(salt),
            phase: if mid_stream { Phase::Commands } else { Phase::Greeting },
            capabilities: Capabilities::default(),
            pending: VecDeque::new(),
            stage: Stage::Start,
            statements: Statements::default(),
            rows: Rows::new(salt),
            packed: false,
            fresh: true,
            reply: Some(salt.hasher()),
            n_requests: 0,
            n_answered: 0,
            unsure: mid_stream,
            backslash: (!mid_stream).then_some(true),
            bound: false,
            status: TxStatus::Idle,
        }
    }

    /// What an answer says of its command.
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
                Entry::Query { plans, .. } => {
                    plans.iter().map(Plan::memory).sum::<usize>()
                        + if plans.spilled() { plans.capacity() * size_of::<Plan>() } else { 0 }
                }
                Entry::Prepare { statement } => size_of::<Prepared>() + statement.memory(),
                Entry::Execute { params, .. } => params.len() * size_of::<Param>(),
                Entry::Command { .. } => size_of::<Login>(),
            })
            .sum();
        self.memory.memory()
            + self.statements.memory()
            + self.rows.memory()
            + waiting
            + self.pending.capacity() * size_of::<Entry>()
    }

    /// The pairing is lost, or the connection has ended: nothing outstanding will be answered.
    pub(super) fn abandon(&mut self, out: &mut Out<'_>) {
        while let Some(entry) = self.pending.pop_front() {
            self.give_up(&entry, Outcome::Unknown, out);
        }
        self.phase = Phase::Commands;
        self.stage = Stage::Start;
        self.fresh = true;
        self.reply = Some(self.salt.hasher());
        self.rows.restart();
        self.statements.clear();
        self.memory.forget();
        self.backslash = None;
        self.bound = false;
        self.unsure = true;
    }
}
