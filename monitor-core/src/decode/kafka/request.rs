//! What the client says.

use smallvec::SmallVec;

use super::api::{self, FETCH, OFFSET_COMMIT, PRODUCE, SASL_AUTHENTICATE, SASL_HANDSHAKE, TXN_OFFSET_COMMIT};
use super::bytes::{Cursor, Read, Stop};
use super::carrier::Carrier;
use super::inbox::Inbox;
use super::pending::{Commit, Pending, What};
use super::{Frames, Kafka, MAX_COLLECT, MAX_PENDING, MAX_SILENT, look, sasl};
use crate::decode::{DecodeError, Disturbance, Sink};
use crate::model::queue::QueueEvent;
use crate::model::{Claim, Nanos, Outcome, Sym};

/// Where the client is.
#[derive(Debug, Default)]
pub(super) enum Asking {
    /// A frame begins.
    #[default]
    Between,
    /// A header begins.
    Head,
    /// A frame is collected, to be read whole.
    Collect(Pending),
    /// Messages come.
    Carry(Pending, Box<Carrier>),
    /// The rest of a frame says nothing more; whose it is, where that is known.
    Pass(Option<Pending>),
}

impl Kafka {
    /// Reads one thing. Nothing is taken before it is there as a whole.
    pub(super) fn ask(&mut self, asking: &mut Asking, inbox: &mut Inbox, at: Nanos, sink: &mut dyn Sink) -> Read<()> {
        match asking {
            Asking::Between => {
                inbox.begin()?;
                *asking = Asking::Head;
            }
            Asking::Head => *asking = self.head(inbox, sink)?,
            Asking::Collect(p) => {
                let (frame, true) = inbox.frame() else { return Err(Stop::Short) };
                if let Err(stop) = self.body(p, frame, sink) {
                    sink.decode_error(why(stop));
                    p.unread = true;
                }
                *asking = Asking::Pass(Some(std::mem::take(p)));
            }
            Asking::Carry(p, carrier) => {
                let (frame, whole) = inbox.frame();
                match carrier.step(frame, None, &mut self.core, at, sink) {
                    Ok(Some(n)) => inbox.consume(n),
                    Err(Stop::Short) if !whole => return Err(Stop::Short),
                    end => {
                        if let Err(stop) = end {
                            sink.decode_error(why(stop));
                            p.unread = true;
                            carrier.abandon(None, &mut self.core, at, sink);
                        }
                        produced(p, carrier);
                        *asking = Asking::Pass(Some(std::mem::take(p)));
                    }
                }
            }
            Asking::Pass(p) => {
                inbox.pass()?;
                let p = p.take();
                *asking = Asking::Between;
                if let Some(p) = p {
                    self.asked(p, at, sink);
                }
            }
        }
        Ok(())
    }

    fn head(&mut self, inbox: &mut Inbox, sink: &mut dyn Sink) -> Read<Asking> {
        let (frame, whole) = inbox.frame();
        if self.raw_login {
            // Bare steps of an authentication, until something is said that is a request.
            if inbox.left() > sasl::MAX_STEP {
                return Err(Stop::Bad(DecodeError::LoginLength));
            }
            if !whole {
                return Err(Stop::Short);
            }
            if look::header(frame.len(), &mut Cursor::new(frame)).is_err() {
                let last = self.login.step(frame, self.core.salt, sink);
                let what = What::Login { last, raw: true };
                return Ok(Asking::Pass(Some(Pending { key: SASL_AUTHENTICATE, what, ..Pending::default() })));
            }
            self.raw_login = false;
        }
        let mut c = Cursor::new(frame);
        let read = head(&mut c)
            .map_err(|stop| if whole && stop == Stop::Short { Stop::Bad(DecodeError::Request) } else { stop });
        let mut p = read?;
        let n = c.read();
        inbox.consume(n);
        // Shown to `produced` and to messages; told when the request is complete.
        p.request = self.latest + 1;
        let readable = api::readable(p.key, p.version);
        let carries = matches!(p.key, PRODUCE | FETCH | OFFSET_COMMIT | TXN_OFFSET_COMMIT | api::SHARE_FETCH);
        if carries && !readable || p.key == api::SHARE_FETCH {
            sink.decode_error(DecodeError::UnreadVersion);
            p.unread = true;
        }
        let collects = matches!(p.key, FETCH | OFFSET_COMMIT | TXN_OFFSET_COMMIT | SASL_HANDSHAKE | SASL_AUTHENTICATE);
        Ok(match p.key {
            PRODUCE if readable => {
                let carrier = Carrier::produce(p.version, p.request);
                Asking::Carry(p, Box::new(carrier))
            }
            _ if collects && readable && inbox.left() <= MAX_COLLECT => Asking::Collect(p),
            _ => {
                p.unread |= collects;
                Asking::Pass(Some(p))
            }
        })
    }

    /// The body of a request that is read whole.
    fn body(&mut self, p: &mut Pending, body: &[u8], sink: &mut dyn Sink) -> Read<()> {
        let mut c = Cursor::new(body);
        let compact = api::flexible(p.key, p.version);
        match p.key {
            FETCH => self.fetch(p, &mut c, compact, sink)?,
            OFFSET_COMMIT | TXN_OFFSET_COMMIT => {
                let commits = self.commits(p, &mut c, compact, sink)?;
                p.what = What::Commit(commits);
            }
            SASL_HANDSHAKE => {
                self.login.begin(c.string(false)?.unwrap_or_default());
                p.what = What::Handshake { raw: p.version == 0 };
            }
            SASL_AUTHENTICATE => {
                let last = self.login.step(c.bytes(compact)?, self.core.salt, sink);
                p.what = What::Login { last, raw: false };
            }
            _ => {}
        }
        Ok(())
    }

    fn fetch(&mut self, p: &mut Pending, c: &mut Cursor<'_>, compact: bool, sink: &mut dyn Sink) -> Read<()> {
        let v = p.version;
        if v <= 14 {
            c.i32()?;
        }
        c.take(8)?;
        if v >= 3 {
            c.i32()?;
        }
        let committed = v >= 4 && c.i8()? == 1;
        p.what = What::Fetch { committed };
        if v >= 7 {
            c.take(8)?;
        }
        let mut about: SmallVec<[(Sym, Claim); 4]> = SmallVec::new();
        for _ in 0..c.count(compact)? {
            let named = c.topic(v >= 13, compact)?;
            let topic = self.core.topics.find(named, &self.core.shared.ids, self.core.salt, sink);
            note(&mut about, (topic.shown, topic.marker));
            for _ in 0..c.count(compact)? {
                let partition = c.i32()?;
                if v >= 9 {
                    c.i32()?;
                }
                let from = c.i64()?;
                if v >= 12 {
                    c.i32()?;
                }
                if v >= 5 {
                    c.i64()?;
                }
                c.i32()?;
                c.tags(compact)?;
                self.core.partitions.ask(&topic, partition, from);
            }
            c.tags(compact)?;
        }
        p.about(&about);
        Ok(())
    }

    fn commits(
        &mut self,
        p: &mut Pending,
        c: &mut Cursor<'_>,
        compact: bool,
        sink: &mut dyn Sink,
    ) -> Read<Vec<Commit>> {
        let v = p.version;
        let transaction = p.key == TXN_OFFSET_COMMIT;
        c.string(compact)?;
        if transaction {
            c.string(compact)?;
            c.take(10)?;
        }
        if (transaction && v >= 3) || (!transaction && v >= 1) {
            c.i32()?;
            c.string(compact)?;
        }
        if (transaction && v >= 3) || (!transaction && v >= 7) {
            c.string(compact)?;
        }
        if !transaction && (2..=4).contains(&v) {
            c.i64()?;
        }
        let mut all = Vec::new();
        let mut about: SmallVec<[(Sym, Claim); 4]> = SmallVec::new();
        for _ in 0..c.count(compact)? {
            let named = c.topic(!transaction && v >= 10, compact)?;
            let topic = self.core.topics.find(named, &self.core.shared.ids, self.core.salt, sink);
            note(&mut about, (topic.shown, topic.marker));
            for _ in 0..c.count(compact)? {
                let (partition, offset) = (c.i32()?, c.i64()?);
                if v >= if transaction { 2 } else { 6 } {
                    c.i32()?;
                }
                if !transaction && v == 1 {
                    c.i64()?;
                }
                c.string(compact)?;
                c.tags(compact)?;
                all.push((topic.key, partition, offset));
            }
            c.tags(compact)?;
        }
        p.about(&about);
        Ok(all)
    }

    /// A request is complete.
    fn asked(&mut self, mut p: Pending, at: Nanos, sink: &mut dyn Sink) {
        self.latest += 1;
        p.request = self.latest;
        p.begun = at;
        let first = match &p.what {
            What::Produce { parts, .. } => parts.first().and_then(|p| p.messages.first()).and_then(|(_, m)| m.print),
            _ => None,
        };
        sink.begun(p.request, at, first);
        if p.is_silent() {
            if self.silent.len() >= MAX_SILENT {
                self.silent.pop_front();
            }
            self.silent.push_back(p.correlation);
            self.unconfirmed(p, at, sink);
            return;
        }
        if self.pending.len() >= MAX_PENDING {
            self.unanswered(p, at, sink);
            sink.decode_error(DecodeError::TooManyRequests);
            self.life.missed();
            return;
        }
        self.pending.push((!p.raw()).then_some(p.correlation), p);
    }

    /// Messages whose producer wants to hear nothing of them.
    fn unconfirmed(&mut self, p: Pending, at: Nanos, sink: &mut dyn Sink) {
        self.core.held = self.core.held.saturating_sub(p.held());
        let (mut op, request) = (p.operation(at, Outcome::Unknown, sink), p.request);
        let What::Produce { parts, .. } = p.what else { return };
        for part in parts {
            (op.target, op.marker) = (part.topic.shown, part.topic.marker);
            sink.done(&op);
            for (_, message) in part.messages {
                sink.queue(QueueEvent::Published(message));
            }
        }
        sink.answered(request, at, None);
        self.rest(at, sink);
    }

    /// What is left of the request in hand will not come, or cannot be read.
    pub(super) fn abandon_request(&mut self, asking: Asking, at: Nanos, sink: &mut dyn Sink) {
        match asking {
            Asking::Between | Asking::Head | Asking::Pass(None) => {}
            // Its end was not seen, but it was sent.
            Asking::Collect(mut p) | Asking::Pass(Some(mut p)) => {
                p.unread = true;
                self.asked(p, at, sink);
            }
            Asking::Carry(mut p, mut carrier) => {
                p.unread = true;
                carrier.abandon(None, &mut self.core, at, sink);
                produced(&mut p, &mut carrier);
                self.asked(p, at, sink);
            }
        }
    }

    /// `n` bytes of what the client says are missing. Whether the frames are still known.
    pub(super) fn request_hole(&mut self, frames: &mut Frames, n: u64, at: Nanos, sink: &mut dyn Sink) -> bool {
        if !frames.asks.miss(n, !matches!(frames.asking, Asking::Between)) {
            return false;
        }
        frames.asking = match std::mem::take(&mut frames.asking) {
            Asking::Between | Asking::Head | Asking::Pass(None) => {
                // Which request this is will not be known.
                sink.disturbed(at, Disturbance::Gap);
                Asking::Pass(None)
            }
            Asking::Pass(Some(p)) => Asking::Pass(Some(p)),
            Asking::Collect(mut p) => {
                p.unread = true;
                match p.key {
                    SASL_HANDSHAKE | SASL_AUTHENTICATE => sink.disturbed(at, Disturbance::Gap),
                    _ => self.core.partitions.forget_asked(),
                }
                Asking::Pass(Some(p))
            }
            Asking::Carry(mut p, mut carrier) => {
                p.unread = true;
                carrier.abandon(None, &mut self.core, at, sink);
                produced(&mut p, &mut carrier);
                Asking::Pass(Some(p))
            }
        };
        true
    }
}

/// A request's header.
fn head(c: &mut Cursor<'_>) -> Read<Pending> {
    let (key, version, correlation) = (c.i16()?, c.i16()?, c.i32()?);
    c.string(false)?;
    c.tags(api::flexible(key, version))?;
    Ok(Pending { key, version, correlation, ..Pending::default() })
}

/// Hands what was read of a Produce request to who waits for its answer.
fn produced(p: &mut Pending, carrier: &mut Carrier) {
    p.what = carrier.take_produced();
    if let What::Produce { parts, .. } = &p.what {
        let about = parts.iter().take(4).map(|p| (p.topic.shown, p.topic.marker)).collect();
        p.about(&about);
    }
}

fn note(about: &mut SmallVec<[(Sym, Claim); 4]>, topic: (Sym, Claim)) {
    if about.len() < 4 && !about.contains(&topic) {
        about.push(topic);
    }
}

/// What is wrong within a frame.
pub(super) fn why(stop: Stop) -> DecodeError {
    match stop {
        Stop::Short => DecodeError::ShortFrame,
        Stop::Bad(why) => why,
    }
}
