//! What the broker says.

use rustc_hash::FxHashMap;

use super::api::{self, API_VERSIONS, METADATA};
use super::bytes::{Cursor, Read, Stop};
use super::carrier::Carrier;
use super::inbox::Inbox;
use super::metadata;
use super::pending::{Pending, What, idle};
use super::request::why;
use super::topics::log;
use super::{Frames, Kafka, MAX_COLLECT};
use crate::decode::fifo::Fifo;
use crate::decode::{DecodeError, Disturbance, SessionStart, Sink};
use crate::model::queue::{Passed, Position, QueueEvent};
use crate::model::{Effect, Fingerprint, Nanos, OpKind, Outcome, Scope, Slot, Strength};

/// Where the broker is.
#[derive(Debug, Default)]
pub(super) enum Saying {
    /// A frame begins.
    #[default]
    Between,
    /// A header begins.
    Head,
    /// So much of a frame is collected, to be read.
    Collect(Pending, usize),
    /// Messages come.
    Carry(Pending, Box<Carrier>),
    /// The rest of a frame says nothing more: what it answers is told at its end, with this outcome.
    Pass(Option<(Pending, Told)>),
}

/// What is known of a response before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its operations were told, or are not to be.
    All,
    /// Nothing yet; the request ended so.
    Outcome(Outcome),
}

/// Bytes of a response that tell whether it is an error.
const PEEK: usize = 16;

impl Kafka {
    /// Reads one thing. Nothing is taken before it is there as a whole.
    pub(super) fn say(&mut self, saying: &mut Saying, inbox: &mut Inbox, at: Nanos, sink: &mut dyn Sink) -> Read<()> {
        match saying {
            Saying::Between => {
                inbox.begin()?;
                *saying = Saying::Head;
            }
            Saying::Head => *saying = self.response(inbox, at, sink)?,
            Saying::Collect(p, n) => {
                let (frame, whole) = inbox.frame();
                if !whole && frame.len() < *n {
                    return Err(Stop::Short);
                }
                // The same is read however much more has come.
                let told = self.read_response(p, frame.get(..*n).unwrap_or(frame), at, sink);
                *saying = Saying::Pass(Some((std::mem::take(p), told)));
            }
            Saying::Carry(p, carrier) => {
                let (frame, whole) = inbox.frame();
                match carrier.step(frame, Some(p), &mut self.core, at, sink) {
                    Ok(Some(n)) => inbox.consume(n),
                    Err(Stop::Short) if !whole => return Err(Stop::Short),
                    end => {
                        if let Err(stop) = end {
                            sink.decode_error(why(stop));
                            carrier.abandon(Some(p), &mut self.core, at, sink);
                        }
                        let told = carrier.outcome(end.is_ok()).map_or(Told::All, Told::Outcome);
                        *saying = Saying::Pass(Some((std::mem::take(p), told)));
                    }
                }
            }
            Saying::Pass(p) => {
                inbox.pass()?;
                let p = p.take();
                *saying = Saying::Between;
                if let Some((p, told)) = p {
                    self.life.sound();
                    self.answered(p, told, at, sink);
                }
            }
        }
        Ok(())
    }

    fn response(&mut self, inbox: &mut Inbox, at: Nanos, sink: &mut dyn Sink) -> Read<Saying> {
        if self.pending.front().is_some_and(Pending::raw) {
            // The broker ends the connection instead of refusing.
            let (_, p) = self.pending.pop_front().unwrap_or_default();
            return Ok(Saying::Pass(Some((p, Told::Outcome(Outcome::Ok)))));
        }
        let (frame, whole) = inbox.frame();
        let more = |stop| if whole && stop == Stop::Short { Stop::Bad(DecodeError::Response) } else { stop };
        let mut c = Cursor::new(frame);
        let correlation = c.i32().map_err(more)?;
        let Some((key, version)) = self.pending.get(Some(correlation)).map(|p| (p.key, p.version)) else {
            if self.life.is_whole() && !self.silent.contains(&correlation) {
                sink.decode_error(DecodeError::UnknownCorrelation);
                sink.unmatched_reply(at, "a response whose correlation id no request has");
            }
            return Ok(Saying::Pass(None));
        };
        // A broker that does not know the version it is asked in answers with the first one.
        let compact = api::flexible(key, version) && key != API_VERSIONS;
        c.tags(compact).map_err(more)?;
        inbox.consume(c.read());
        // Brokers answer in order: those before it will not be answered.
        let p = loop {
            match self.pending.pop_front() {
                Some((Some(id), p)) if id == correlation => break p,
                Some((_, p)) => self.unanswered(p, at, sink),
                None => return Ok(Saying::Pass(None)),
            }
        };
        let readable = api::readable(key, version);
        Ok(match p.what {
            What::Fetch { committed } if readable => {
                let carrier = Carrier::fetch(version, committed, p.request);
                Saying::Carry(p, Box::new(carrier))
            }
            _ if key == METADATA && version < 10 => Saying::Pass(Some((p, Told::Outcome(Outcome::Ok)))),
            What::Plain if key != METADATA => {
                let n = inbox.left().min(PEEK);
                Saying::Collect(p, n)
            }
            _ => {
                let n = inbox.left().min(MAX_COLLECT);
                Saying::Collect(p, n)
            }
        })
    }

    /// Reads a response, or its beginning.
    fn read_response(&mut self, p: &mut Pending, body: &[u8], at: Nanos, sink: &mut dyn Sink) -> Told {
        let mut c = Cursor::new(body);
        let compact = api::flexible(p.key, p.version);
        let result = match std::mem::take(&mut p.what) {
            what @ What::Produce { .. } => {
                p.what = what;
                return self.confirmed(p, &mut c, compact, at, sink);
            }
            what @ What::Commit(_) => {
                p.what = what;
                return self.committed(p, &mut c, compact, at, sink);
            }
            What::Handshake { raw } => c.i16().inspect(|error| self.raw_login = raw && *error == 0),
            What::Login { last, raw } => {
                // Told with its outcome.
                p.what = What::Login { last, raw };
                c.i16()
            }
            _ if p.key == METADATA => {
                // Names that were read before the end are good.
                let _ = metadata::learn(&mut c, p.version, &self.core.shared.ids);
                Ok(0)
            }
            _ if p.unread => Err(Stop::Short),
            _ => error(p.key, p.version, &mut c),
        };
        Told::Outcome(match result {
            Ok(0) => Outcome::Ok,
            Ok(_) => Outcome::Error,
            Err(_) => Outcome::Unknown,
        })
    }

    /// A response has ended.
    fn answered(&mut self, p: Pending, told: Told, at: Nanos, sink: &mut dyn Sink) {
        if let Told::Outcome(outcome) = told {
            let mut op = p.operation(at, outcome, sink);
            match p.what {
                What::Login { last: true, .. } if outcome == Outcome::Ok => {
                    let (claim, user) = self.login.accepted();
                    let again = std::mem::replace(&mut self.login.again, true);
                    if !again {
                        sink.started(SessionStart { at, user, database: self.core.salt.fingerprint(b"") });
                    }
                    let scope = if again { Scope::Session } else { Scope::Startup };
                    op.kind = OpKind::Bind;
                    op.effect = Effect::Bind { slot: Slot::User, claim, scope, strength: Strength::V3 };
                }
                What::Login { last: true, .. } => op.kind = OpKind::Bind,
                What::Fetch { .. } if outcome == Outcome::Ok => op = idle(op),
                _ => {}
            }
            sink.done(&op);
        }
        sink.answered(p.request, at, None);
        self.rest(at, sink);
    }

    /// The broker has answered a Produce request: what it has taken is published.
    fn confirmed(
        &mut self,
        p: &mut Pending,
        c: &mut Cursor<'_>,
        compact: bool,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Told {
        self.core.held = self.core.held.saturating_sub(p.held());
        let What::Produce { parts: asked, .. } = std::mem::take(&mut p.what) else { return Told::All };
        let mut parts = Fifo::default();
        for part in asked {
            parts.push((part.topic.key, part.partition), part);
        }
        let mut op = p.operation(at, Outcome::Unknown, sink);
        let v = p.version;
        let mut read = || -> Read<()> {
            for _ in 0..c.count(compact)? {
                let named = c.topic(v >= 13, compact)?;
                let topic = self.core.topics.find(named, &self.core.shared.ids, self.core.salt, sink);
                for _ in 0..c.count(compact)? {
                    let (partition, error, base) = (c.i32()?, c.i16()?, c.i64()?);
                    if v >= 2 {
                        c.i64()?;
                    }
                    if v >= 5 {
                        c.i64()?;
                    }
                    if v >= 8 {
                        for _ in 0..c.count(compact)? {
                            c.i32()?;
                            c.string(compact)?;
                            c.tags(compact)?;
                        }
                        c.string(compact)?;
                    }
                    c.tags(compact)?;
                    let Some(part) = parts.take((topic.key, partition)) else { continue };
                    op.outcome = if error == 0 { Outcome::Ok } else { Outcome::Error };
                    (op.target, op.marker) = (part.topic.shown, part.topic.marker);
                    sink.done(&op);
                    if error != 0 {
                        continue;
                    }
                    for (place, mut message) in part.messages {
                        // A broker that found the batch to be a repetition may not tell where it is.
                        if base >= 0 {
                            let offset = base.saturating_add(place);
                            message.ids.push(part.topic.record(self.core.salt, partition, offset));
                        }
                        sink.queue(QueueEvent::Published(message));
                    }
                }
                c.tags(compact)?;
            }
            Ok(())
        };
        let result = read();
        if let Err(stop) = result {
            sink.decode_error(why(stop));
        }
        // What the broker does not speak of.
        for (_, part) in parts.take_all() {
            op.outcome = Outcome::Unknown;
            (op.target, op.marker) = (part.topic.shown, part.topic.marker);
            sink.done(&op);
        }
        Told::All
    }

    /// The broker has answered a commit.
    fn committed(
        &mut self,
        p: &mut Pending,
        c: &mut Cursor<'_>,
        compact: bool,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Told {
        let What::Commit(commits) = std::mem::take(&mut p.what) else { return Told::All };
        let v = p.version;
        let (transaction, mut failed) = (p.key != api::OFFSET_COMMIT, false);
        // The first counts where a partition is named twice.
        let offsets: FxHashMap<(Fingerprint, i32), i64> = commits.iter().rev().map(|c| ((c.0, c.1), c.2)).collect();
        let mut taken = Vec::new();
        let mut read = || -> Read<()> {
            if transaction || v >= 3 {
                c.i32()?;
            }
            for _ in 0..c.count(compact)? {
                let named = c.topic(!transaction && v >= 10, compact)?;
                let topic = self.core.topics.find(named, &self.core.shared.ids, self.core.salt, sink);
                for _ in 0..c.count(compact)? {
                    let (partition, error) = (c.i32()?, c.i16()?);
                    c.tags(compact)?;
                    failed |= error != 0;
                    if error == 0 {
                        taken.extend(offsets.get(&(topic.key, partition)).map(|to| (topic.key, partition, *to)));
                    }
                }
                c.tags(compact)?;
            }
            Ok(())
        };
        let outcome = match read() {
            _ if failed => Outcome::Error,
            Ok(()) => Outcome::Ok,
            Err(stop) => {
                sink.decode_error(why(stop));
                Outcome::Unknown
            }
        };
        let op = p.operation(at, outcome, sink);
        sink.done(&op);
        for (topic, partition, offset) in taken {
            let log = log(self.core.salt, topic, partition);
            sink.queue(QueueEvent::Passed(Passed { to: Position { log, offset }, at }));
        }
        Told::All
    }

    /// What is left of the response in hand will not come, or cannot be read.
    pub(super) fn abandon_response(&mut self, saying: Saying, at: Nanos, sink: &mut dyn Sink) {
        match saying {
            Saying::Between | Saying::Head | Saying::Pass(None) => {}
            Saying::Pass(Some((p, told))) => self.answered(p, told, at, sink),
            Saying::Collect(p, _) => self.unanswered(p, at, sink),
            Saying::Carry(p, mut carrier) => {
                carrier.abandon(Some(&p), &mut self.core, at, sink);
                let told = carrier.outcome(false).map_or(Told::All, Told::Outcome);
                self.answered(p, told, at, sink);
            }
        }
    }

    /// `n` bytes of what the broker says are missing. Whether the frames are still known.
    pub(super) fn response_hole(&mut self, frames: &mut Frames, n: u64, at: Nanos, sink: &mut dyn Sink) -> bool {
        if !frames.says.miss(n, !matches!(frames.saying, Saying::Between)) {
            return false;
        }
        frames.saying = match std::mem::take(&mut frames.saying) {
            Saying::Between | Saying::Head | Saying::Pass(None) => {
                sink.disturbed(at, Disturbance::Gap);
                Saying::Pass(None)
            }
            Saying::Pass(Some(p)) => Saying::Pass(Some(p)),
            Saying::Collect(p, _) => {
                if matches!(p.what, What::Login { .. } | What::Handshake { .. }) {
                    sink.disturbed(at, Disturbance::Gap);
                }
                Saying::Pass(Some((p, Told::Outcome(Outcome::Unknown))))
            }
            Saying::Carry(p, mut carrier) => {
                carrier.abandon(Some(&p), &mut self.core, at, sink);
                let told = carrier.outcome(false).map_or(Told::All, Told::Outcome);
                Saying::Pass(Some((p, told)))
            }
        };
        true
    }
}

/// The error code of a response, where it stands at its beginning; else 0.
fn error(key: i16, version: i16, c: &mut Cursor<'_>) -> Read<i16> {
    // From so many versions on there is a time to wait before it.
    let throttled = match key {
        API_VERSIONS => return c.i16(),
        // FindCoordinator names each group's own error from version 4 on.
        10 if version >= 4 => return Ok(0),
        10 | 12 | 13 | 14 => 1,
        11 => 2,
        // Identity and state of transactions.
        22 | 25 | 26 => 0,
        // A group's heartbeat, of the newer kind.
        68 => 0,
        _ => return Ok(0),
    };
    if version >= throttled {
        c.i32()?;
    }
    c.i16()
}
