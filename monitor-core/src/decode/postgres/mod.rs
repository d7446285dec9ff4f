//! PostgreSQL wire protocol, version 3: both directions, from the first byte or from the middle.
//!
//! `frame` cuts messages out of bytes, `startup` reads the packets before them, `machine` pairs requests with
//! replies, `sql` says what statements do, `noted` and `rows` what else requests and replies carry, `resync` finds the
//! place again after something was missed.
//! Evidence and its limits: `docs/domain.md#postgresql`.

mod bodies;
mod commands;
mod frame;
mod fuzz;
mod machine;
mod noted;
pub(super) mod resync;
mod rows;
mod session;
mod sql;
pub(super) mod startup;

pub use fuzz::{fuzz_postgres, fuzz_sql};

use std::cell::RefCell;
use std::rc::Rc;

use frame::{Framer, Passing};
use machine::{Lost, Machine, Out};
use resync::Search;
use sql::Shapes;
use startup::{Look, MAX_STARTUP, Opening, Session};

use super::{Appetite, Chunk, DecodeError, Decoder, Disturbance, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Protocol, Side, TxStatus};

/// Malformed input in a row, without a request answered in between, after which the connection is given up.
const MAX_MALFORMED: u32 = 8;

/// What the PostgreSQL decoders of one engine share: statement shapes, parsed once. Serves one [`Sink`]'s symbols, and
/// one thread.
#[derive(Clone, Debug)]
pub struct Shared(Rc<RefCell<Shapes>>);

impl Shared {
    /// Empty; `salt` keys the hash of shapes.
    pub fn new(salt: Salt) -> Self {
        Self(Rc::new(RefCell::new(Shapes::new(salt))))
    }

    /// Statement shapes that were parsed so far: each a miss of the cache.
    pub fn n_parsed(&self) -> u64 {
        self.0.borrow().n_parsed()
    }

    /// Statement shapes held (at most 4096).
    pub fn n_shapes(&self) -> usize {
        self.0.borrow().len()
    }
}

/// Where a connection is.
#[derive(Debug)]
enum Phase {
    /// The client has not said yet what it wants.
    Opening,
    /// The client asked for encryption; the server has not answered.
    Asked,
    /// Typed messages both ways.
    Messages,
    /// The place is lost.
    Lost(Search),
    /// Nothing more can or will be read.
    Over,
}

/// The decoder of one connection.
#[derive(Debug)]
pub struct Postgres {
    phase: Phase,
    opening: Vec<u8>,
    frames: [Framer; 2],
    passing: [Passing; 2],
    machine: Machine,
    /// The last bytes of each side ended a segment.
    ended: [bool; 2],
    /// The connection is older than the agent, and nothing was said about it yet.
    unannounced: bool,
    n_malformed: u32,
    n_answered: u64,
}

impl Postgres {
    /// A decoder for a connection seen from its first byte, or from the middle.
    pub fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Self {
        Self {
            phase: if mid_stream { Phase::Lost(Search::joined()) } else { Phase::Opening },
            opening: Vec::new(),
            frames: [Framer::new(Side::Client), Framer::new(Side::Server)],
            passing: [Passing::new(salt), Passing::new(salt)],
            machine: Machine::new(salt, shared.0.clone()),
            ended: [true; 2],
            unannounced: mid_stream,
            n_malformed: 0,
            n_answered: 0,
        }
    }

    fn announce(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if std::mem::take(&mut self.unannounced) {
            // What was declared or prepared before is not known.
            self.machine.abandon(&mut Out { at, sink });
            sink.disturbed(at, Disturbance::MidStream);
        }
    }

    /// Reads what the client opens with, as far as it is there.
    fn open(&mut self, at: Nanos, sink: &mut dyn Sink) {
        match startup::look(&self.opening) {
            Look::NeedMore => {
                if self.opening.len() > MAX_STARTUP {
                    self.malformed(DecodeError::Startup, at, sink);
                }
            }
            Look::Not => self.malformed(DecodeError::Startup, at, sink),
            Look::Is(Opening::Tls, _) => self.over(at, Some("tls"), sink),
            Look::Is(Opening::Cancel, _) => self.over(at, None, sink),
            Look::Is(Opening::Encrypt, len) => {
                self.opening.drain(..len.min(self.opening.len()));
                self.phase = Phase::Asked;
            }
            Look::Is(Opening::Start(parameters), len) => {
                self.machine.startup(Session::new(parameters));
                self.phase = Phase::Messages;
                let rest = std::mem::take(&mut self.opening);
                let rest = rest.get(len..).unwrap_or_default();
                if !rest.is_empty() {
                    self.messages(Side::Client, at, rest, sink);
                }
            }
        }
    }

    /// The server's one-byte answer to a request for encryption.
    fn encryption(&mut self, at: Nanos, answer: u8, sink: &mut dyn Sink) {
        match answer {
            b'S' => self.over(at, Some("tls"), sink),
            b'G' => self.over(at, Some("gss"), sink),
            b'N' => {
                self.phase = Phase::Opening;
                self.open(at, sink);
            }
            // An error instead: the connection ends.
            b'E' => self.over(at, None, sink),
            _ => self.malformed(DecodeError::EncryptionAnswer, at, sink),
        }
    }

    fn over(&mut self, at: Nanos, opaque: Option<&'static str>, sink: &mut dyn Sink) {
        self.phase = Phase::Over;
        self.opening = Vec::new();
        self.machine.abandon(&mut Out { at, sink });
        if let Some(why) = opaque {
            sink.opaque(at, why);
        }
    }

    /// Cuts messages out of `bytes` and hands them to the machine. Gives whether the place is still known.
    fn messages(&mut self, from: Side, at: Nanos, bytes: &[u8], sink: &mut dyn Sink) -> bool {
        let Self { frames: [client, server], passing: [client_passing, server_passing], machine, .. } = self;
        let mut input = bytes;
        if from == Side::Server {
            server_passing.rows.want(sink.wants_values(Side::Server));
        }
        let failure = loop {
            let mut out = Out { at, sink };
            let step = match from {
                Side::Client => {
                    client.next(&mut input, client_passing).map(|m| m.map(|m| machine.client(&m, &mut out)))
                }
                Side::Server => server
                    .next(&mut input, server_passing)
                    .map(|m| m.map(|m| machine.server(&m, server_passing, &mut out))),
            };
            match step {
                Ok(None) => break None,
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(lost))) => break Some(Failure::Pairing(lost)),
                Err(e) => break Some(Failure::Frame(e)),
            }
        };
        let answered = self.machine.n_answered();
        if answered != self.n_answered {
            self.n_answered = answered;
            if failure.is_none() {
                self.n_malformed = 0;
            }
        }
        match failure {
            None => true,
            Some(failure) => {
                let error = match failure {
                    Failure::Pairing(lost) => lost.error(),
                    Failure::Frame(error) => Some(error),
                };
                match error {
                    Some(error) => self.malformed(error, at, sink),
                    None => self.lose(Disturbance::Gap, at, sink),
                }
                false
            }
        }
    }

    fn malformed(&mut self, kind: DecodeError, at: Nanos, sink: &mut dyn Sink) {
        if self.machine.unsure {
            // It was not the place after all.
            self.lose(Disturbance::Gap, at, sink);
            return;
        }
        sink.decode_error(kind.name());
        self.n_malformed += 1;
        if self.n_malformed >= MAX_MALFORMED {
            self.over(at, Some("malformed"), sink);
        } else {
            self.lose(Disturbance::Malformed, at, sink);
        }
    }

    /// The place is lost: everything outstanding ends as unknown, and the search begins.
    fn lose(&mut self, why: Disturbance, at: Nanos, sink: &mut dyn Sink) {
        let owed = self.machine.n_owed();
        // First, so that nobody takes the end of what is abandoned for an answer that was passed on.
        sink.disturbed(at, why);
        self.machine.abandon(&mut Out { at, sink });
        self.n_answered = self.machine.n_answered();
        self.opening = Vec::new();
        for side in [Side::Client, Side::Server] {
            frame_of(&mut self.frames, side).restart();
        }
        for passing in &mut self.passing {
            passing.take();
        }
        let [client_ended, _] = self.ended;
        self.phase = Phase::Lost(Search::new(owed, !client_ended));
    }

    fn found(&mut self, at: Nanos, ready: Option<(Nanos, TxStatus)>, requests: &[u8], sink: &mut dyn Sink) {
        self.phase = Phase::Messages;
        match ready {
            Some((at, status)) => sink.status(at, status),
            // Something may be outstanding: until the connection comes to rest, replies may be another request's.
            None => self.machine.unsure = true,
        }
        self.messages(Side::Client, at, requests, sink);
    }
}

enum Failure {
    Frame(DecodeError),
    Pairing(Lost),
}

fn frame_of(frames: &mut [Framer; 2], side: Side) -> &mut Framer {
    let [client, server] = frames;
    match side {
        Side::Client => client,
        Side::Server => server,
    }
}

impl Decoder for Postgres {
    fn protocol(&self) -> Protocol {
        Protocol::Postgres
    }

    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        let Chunk { at, bytes, ends_segment } = chunk;
        self.announce(at, sink);
        if bytes.is_empty() {
            return;
        }
        let [client_ended, server_ended] = &mut self.ended;
        match from {
            Side::Client => *client_ended = ends_segment,
            Side::Server => *server_ended = ends_segment,
        }
        match (&mut self.phase, from) {
            (Phase::Over, _) => {}
            (Phase::Opening, Side::Client) => {
                self.opening.extend_from_slice(bytes);
                self.open(at, sink);
            }
            // Answered below; until then it waits with what the client may have sent too early.
            (Phase::Asked, Side::Client) => {
                if self.opening.len() + bytes.len() > MAX_STARTUP {
                    self.malformed(DecodeError::Startup, at, sink);
                } else {
                    self.opening.extend_from_slice(bytes);
                }
            }
            (Phase::Opening, Side::Server) => self.malformed(DecodeError::Startup, at, sink),
            (Phase::Asked, Side::Server) => {
                if let Some((&answer, rest)) = bytes.split_first() {
                    self.encryption(at, answer, sink);
                    if !rest.is_empty() && !matches!(self.phase, Phase::Over) {
                        self.bytes(from, Chunk { at, bytes: rest, ends_segment }, sink);
                    }
                }
            }
            (Phase::Messages, _) => {
                let kept = self.messages(from, at, bytes, sink);
                // The segment that lost the place may also show the next one.
                if let (false, Side::Server, Phase::Lost(search)) = (kept, from, &mut self.phase) {
                    search.server(at, bytes, ends_segment);
                }
            }
            (Phase::Lost(search), Side::Server) => search.server(at, bytes, ends_segment),
            (Phase::Lost(search), Side::Client) => {
                if let Some((ready, requests)) = search.client(bytes, ends_segment) {
                    self.found(at, ready, &requests, sink);
                }
            }
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink) {
        self.announce(at, sink);
        if n == 0 {
            return;
        }
        match &mut self.phase {
            Phase::Over => {}
            Phase::Lost(search) => search.missing(from),
            Phase::Opening | Phase::Asked => self.lost_bytes(from, at, sink),
            Phase::Messages => {
                let [client, server] = &mut self.frames;
                let [client_passing, server_passing] = &mut self.passing;
                let known = match from {
                    Side::Client => client.missing(n, client_passing),
                    Side::Server => server.missing(n, server_passing),
                };
                if known {
                    self.messages(from, at, &[], sink);
                } else {
                    self.lost_bytes(from, at, sink);
                }
            }
        }
    }

    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.announce(at, sink);
        self.over(at, None, sink);
    }

    fn appetite(&self, _from: Side) -> Appetite {
        if matches!(self.phase, Phase::Over) { Appetite::Nothing } else { Appetite::Everything }
    }

    fn memory(&self) -> usize {
        let search = if let Phase::Lost(search) = &self.phase { search.memory() } else { 0 };
        let frames: usize = self.frames.iter().map(Framer::memory).sum();
        let rows: usize = self.passing.iter().map(|p| p.rows.memory()).sum();
        size_of::<Self>() + self.opening.capacity() + frames + rows + self.machine.memory() + search
    }
}

impl Postgres {
    fn lost_bytes(&mut self, from: Side, at: Nanos, sink: &mut dyn Sink) {
        // What follows a hole begins a segment.
        if from == Side::Client {
            let [client_ended, _] = &mut self.ended;
            *client_ended = true;
        }
        self.lose(Disturbance::Gap, at, sink);
    }
}
