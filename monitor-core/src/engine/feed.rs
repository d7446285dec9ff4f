//! A connection's own work: who is at its ends, what its bytes are, and where they go: inference, decoder, counters.

use super::conn::{App, Conn, Core, End, Undecided};
use super::output::{Output, Wanted};
use super::session::Session;
use super::shared::Shared;
use super::table::Opened;
use super::upkeep::Kept;
use crate::attribute::forwarded::Relay;
use crate::attribute::{self, by_endpoint};
use crate::decode::infer::{self, Guess};
use crate::decode::{Appetite, Chunk};
use crate::model::{ConnId, Nanos, Protocol, Role, Side, WorkloadId};
use crate::stream::{Deliver, Missing, Reassembler, StreamLimits};

/// Most bytes kept of a connection whose protocol is not known yet.
const MAX_UNDECIDED: usize = 4096;
/// Most chunks of it.
const MAX_UNDECIDED_CHUNKS: usize = 16;

/// The process at an end, as places are told apart. A capture file knows addresses only.
fn process(end: &End, addresses_only: bool) -> Option<Relay> {
    if addresses_only { Some(Relay::Address(end.addr.ip())) } else { end.workload.map(Relay::Workload) }
}

impl Conn {
    pub(super) fn open(id: ConnId, o: &Opened, limits: StreamLimits) -> Self {
        Self {
            ends: [End::new(o.local), End::new(o.peer)],
            client: None,
            stream: Reassembler::new(limits),
            app: App::Undecided(Undecided::default()),
            core: Core::new(id, o.local, o.peer),
            starts: o.tx_start.zip(o.rx_start),
            last_active: o.at,
            kept: Kept::since(o.at),
        }
    }

    /// What a source tells of the socket at `end`.
    pub(super) fn learn(&mut self, end: usize, o: &Opened, shared: &mut Shared) {
        for (index, start) in [(end, o.tx_start), (1 - end, o.rx_start)] {
            let Some(e) = self.ends.get_mut(index) else { continue };
            if let (None, Some(seq)) = (e.start, start) {
                e.start = Some(seq);
                self.stream.start(if index == 0 { Side::Client } else { Side::Server }, seq);
            }
        }
        if let Some(e) = self.ends.get_mut(end) {
            e.cgroup = e.cgroup.or(o.cgroup);
        }
        match o.role {
            Role::Client => self.client = Some(end),
            Role::Server => self.client = Some(1 - end),
            Role::Unknown => {}
        }
        self.identify(shared);
    }

    /// Who is at either end, as far as is known now.
    pub(super) fn identify(&mut self, shared: &mut Shared) {
        // A capture file knows addresses only; on a live host, a loopback address says nothing of who is there.
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        let [first, second] = [self.ends[0].addr, self.ends[1].addr];
        for (e, peer) in self.ends.iter_mut().zip([second, first]) {
            if let Some(cgroup) = e.cgroup {
                e.workload = shared.directory.of_cgroup(cgroup).or(e.workload);
            } else if e.workload.is_none() {
                let bare = addresses_only || !(e.addr.ip().is_loopback() || e.addr.ip().is_unspecified());
                e.workload = shared.at_address(e.addr, peer, bare);
            }
        }
        if let Some(client) = self.client {
            self.orient(client, addresses_only, shared);
        }
    }

    /// Settles which end is the client, and what follows from it.
    fn orient(&mut self, client: usize, addresses_only: bool, shared: &mut Shared) {
        self.client = Some(client);
        let (Some(c), Some(s)) = (self.ends.get(client), self.ends.get(1 - client)) else { return };
        let core = &mut self.core;
        (core.client, core.server) = (c.addr, s.addr);
        core.client_workload = c.workload;
        core.endpoint = by_endpoint(attribute::End { workload: c.workload, watched: c.watched }, &shared.directory);
        if let (Some(workload), true) = (s.workload, s.watched && s.cgroup.is_some()) {
            shared.learn_listener(s.addr, workload);
        }
        core.enters = process(s, addresses_only);
        core.leaves = process(c, addresses_only);
        let shown = if c.cookie.is_some() { (c, s) } else { (s, c) };
        if let Some(cookie) = shown.0.cookie {
            core.flow = Some((cookie, shown.0.addr, shown.1.addr));
        }
    }

    /// Runs `f` on the stream, and what it delivers through inference or the decoder.
    pub(super) fn feed(
        &mut self,
        shared: &mut Shared,
        out: &mut dyn Output,
        f: impl FnOnce(&mut Reassembler, &mut dyn Deliver),
    ) {
        // The stream is lent out, so that what it delivers can work on the rest of the connection.
        let mut stream = std::mem::replace(&mut self.stream, Reassembler::new(StreamLimits::default()));
        f(&mut stream, &mut Delivery { conn: self, shared, out });
        self.stream = stream;
    }

    /// Tries to tell the protocol from what was kept.
    fn infer(&mut self, shared: &mut Shared, out: &mut dyn Output) {
        let App::Undecided(kept) = &self.app else { return };
        let mut decided = None;
        let mut unreadable = false;
        for (index, side) in [(0, Side::Client), (1, Side::Server)] {
            let mid_stream = self.ends.get(index).is_none_or(|e| e.start.is_none());
            match kept.guess(side, mid_stream) {
                Guess::Is { protocol, from } => {
                    let client = if from == Side::Client { index } else { 1 - index };
                    // The handshake knows better who connected; bytes that contradict it are some other protocol's.
                    if self.client.is_none_or(|c| c == client) {
                        decided = Some((protocol, client));
                        break;
                    }
                }
                // A server's first bytes may be anything; a client's decide.
                Guess::Opaque(_) => unreadable |= self.client.is_none_or(|c| c == index),
                Guess::NeedMore => {}
            }
        }
        let full = kept.held >= MAX_UNDECIDED || kept.chunks.len() >= MAX_UNDECIDED_CHUNKS;
        if let Some((protocol, client)) = decided {
            let App::Undecided(kept) = std::mem::replace(&mut self.app, App::Opaque) else { return };
            self.decide(protocol, client, kept, shared, out);
        } else if unreadable || full {
            self.give_up(shared, out);
        }
    }

    /// The protocol is known: what was kept goes through its decoder.
    fn decide(
        &mut self,
        protocol: Protocol,
        client: usize,
        kept: Undecided,
        shared: &mut Shared,
        out: &mut dyn Output,
    ) {
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        self.orient(client, addresses_only, shared);
        self.core.protocol = protocol;
        self.core.mid_stream = self.ends.iter().any(|e| e.start.is_none());
        let server_workload = self.ends.get(1 - client).and_then(|e| e.workload);
        self.core.service = Some(shared.service(self.core.server, by_name(server_workload, shared), protocol));
        if self.core.endpoint.is_none()
            && let Some(relay) = self.core.leaves
        {
            shared.opens(relay, protocol);
        }
        let decoder = infer::decoder(protocol, shared.settings.salt, self.core.mid_stream, &shared.decoders);
        let Some(decoder) = decoder else { return };
        self.app = App::Decoding(decoder);
        shared.stats.flows_undecided = shared.stats.flows_undecided.saturating_sub(1);
        shared.stats.flows_decoded += 1;
        let held = kept.held as u64;
        shared.stats.bytes_opaque = shared.stats.bytes_opaque.saturating_sub(held);
        shared.stats.bytes_decoded += held;
        if protocol == Protocol::Http {
            self.core.ledger.judge_per_request();
        }
        if self.core.mid_stream {
            shared.stats.flows_mid_stream += 1;
            self.core.ledger.disturb(true);
        }
        for (side, at, bytes, ends_segment) in kept.chunks {
            self.decode(side, at, &bytes, ends_segment, shared, out);
        }
        self.ask(shared, out);
    }

    fn decode(
        &mut self,
        side: Side,
        at: Nanos,
        bytes: &[u8],
        ends_segment: bool,
        shared: &mut Shared,
        out: &mut dyn Output,
    ) {
        let from = self.side(side);
        let App::Decoding(decoder) = &mut self.app else { return };
        let mut session = Session { shared: &mut *shared, core: &mut self.core, out: &mut *out, gave_up: false };
        decoder.bytes(from, Chunk { at, bytes, ends_segment }, &mut session);
        if session.gave_up {
            shared.stats.flows_decoded = shared.stats.flows_decoded.saturating_sub(1);
            shared.stats.flows_undecided += 1;
            self.give_up(shared, out);
        }
    }

    /// What goes in here cannot be read: who else is in flight where it goes is not known.
    fn hides_requests(&self, at: Nanos, shared: &mut Shared) {
        // A process that talks to itself, to wake an event loop for instance: whoever it works for came in elsewhere.
        if let [one, other] = self.ends.as_slice()
            && one.workload.is_some()
            && one.workload == other.workload
        {
            return;
        }
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        let anywhere = self.ends.iter().map(|end| process(end, addresses_only));
        let known = self.client.is_some().then_some(self.core.enters);
        for relay in known.into_iter().chain(anywhere.filter(|_| known.is_none())).flatten() {
            if let Some(place) = shared.places.get_mut(&relay) {
                place.miss(at);
            }
        }
    }

    /// More has come. Where the place in it is lost, it may hide anything.
    fn reads_on(&self, at: Nanos, shared: &mut Shared) {
        let core = &self.core;
        if core.astray {
            shared.missed.on(core.service, core.endpoint.map(|a| a.tenant), core.client_workload, at);
        }
    }

    /// Nobody can read this connection.
    fn give_up(&mut self, shared: &mut Shared, out: &mut dyn Output) {
        self.app = App::Opaque;
        self.core.protocol = Protocol::Opaque;
        shared.stats.flows_undecided = shared.stats.flows_undecided.saturating_sub(1);
        shared.stats.flows_opaque += 1;
        self.ask(shared, out);
    }

    /// Asks the source for just what is needed, once per change.
    pub(super) fn ask(&mut self, shared: &Shared, out: &mut dyn Output) {
        let wanted = |from: Side| match &self.app {
            App::Undecided(_) => Appetite::Everything,
            App::Decoding(decoder) => decoder.appetite(from),
            // Lengths still tell how much goes unread.
            App::Opaque => Appetite::Head(0),
        };
        let client = self.client.unwrap_or(0);
        let (requests, replies) = (wanted(Side::Client), wanted(Side::Server));
        let undecided = matches!(self.app, App::Undecided(_));
        // With a socket at both ends, each delivers what it sends: then it is known which thread sent it.
        let both = self.ends.iter().all(|e| e.cookie.is_some());
        // In which order a process that works for many reads is told where it is followed.
        let follows = |relay: Option<Relay>| {
            shared.settings.bases.succession && relay.is_some_and(|r| shared.places.contains_key(&r))
        };
        let read_by_server = follows(self.core.enters) && matches!(self.app, App::Decoding(_));
        let read_by_client = follows(self.core.leaves) && matches!(self.app, App::Decoding(_));
        for (index, end) in self.ends.iter_mut().enumerate() {
            let sent = if index == client { requests } else { replies };
            let received = if index == client { replies } else { requests };
            let received = if both && !undecided { Appetite::Nothing } else { received };
            let reads = if index == client { read_by_client } else { read_by_server };
            let wanted = Wanted { sent, received, reads };
            if let Some(cookie) = end.cookie
                && end.wanted != wanted
            {
                end.wanted = wanted;
                out.capture(cookie, wanted);
            }
        }
    }

    pub(super) fn close(&mut self, at: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        self.feed(shared, out, |stream, deliver| stream.close(at, deliver));
        let n = match &self.app {
            App::Undecided(_) => &mut shared.stats.flows_undecided,
            App::Decoding(_) => &mut shared.stats.flows_decoded,
            App::Opaque => &mut shared.stats.flows_opaque,
        };
        *n = n.saturating_sub(1);
        if self.core.mid_stream {
            shared.stats.flows_mid_stream = shared.stats.flows_mid_stream.saturating_sub(1);
        }
        if let Some(relay) = self.core.enters {
            for open in self.core.open.iter().filter(|o| o.entered) {
                if let Some(print) = open.print {
                    shared.forwarding.close(relay, print, (self.core.id, open.request, open.begun));
                }
            }
        }
        // Else it is given up here, and goes on.
        let closed = self.ends.iter().all(|e| e.cookie.is_none());
        let mut session = Session { shared: &mut *shared, core: &mut self.core, out: &mut *out, gave_up: false };
        if !closed && !session.core.open.is_empty() {
            session.abandons_all(at);
        }
        session.core.closing = true;
        if let App::Decoding(decoder) = &mut self.app {
            decoder.closed(at, &mut session);
        }
        session.deserts_all(at);
        session.loses_jobs(at);
        session.look_through(at, true);
        session.tell_exchanges(None);
        session.tell_posts(None);
        session.flush_all(None);
        session.release_held(true);
    }

    pub(super) fn memory(&self) -> usize {
        let app = match &self.app {
            App::Undecided(u) => u.held,
            App::Decoding(d) => d.memory(),
            App::Opaque => 0,
        };
        app + self.stream.memory() + self.core.ledger.memory() + self.core.follows.memory()
    }
}

/// A workload that a service may be named after: not one made up from an address.
fn by_name(workload: Option<WorkloadId>, shared: &Shared) -> Option<WorkloadId> {
    workload.filter(|w| shared.directory.get(*w).is_some_and(|w| !w.bare))
}

/// What the stream delivers goes to inference, to the decoder, or nowhere but the counters.
struct Delivery<'a> {
    conn: &'a mut Conn,
    shared: &'a mut Shared,
    out: &'a mut dyn Output,
}

impl Deliver for Delivery<'_> {
    fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        let n = bytes.len() as u64;
        match &mut self.conn.app {
            App::Decoding(_) => {
                self.shared.stats.bytes_decoded += n;
                self.conn.reads_on(at, self.shared);
                self.conn.decode(from, at, bytes, ends_segment, self.shared, self.out);
            }
            App::Opaque => {
                self.shared.stats.bytes_opaque += n;
                self.conn.reads_on(at, self.shared);
                self.conn.hides_requests(at, self.shared);
            }
            App::Undecided(kept) => {
                // Nobody has read it yet; `decide` moves what was kept.
                self.shared.stats.bytes_opaque += n;
                let room = MAX_UNDECIDED.saturating_sub(kept.held);
                let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                kept.held += taken.len();
                kept.chunks.push((from, at, taken.to_vec(), ends_segment && taken.len() == bytes.len()));
                let cut = bytes.len() - taken.len();
                self.conn.infer(self.shared, self.out);
                if !matches!(self.conn.app, App::Decoding(_)) {
                    self.conn.hides_requests(at, self.shared);
                }
                // What did not fit goes on at once if the decoder is there now.
                if cut > 0
                    && let App::Decoding(_) = self.conn.app
                {
                    let rest = bytes.get(bytes.len() - cut..).unwrap_or_default();
                    self.conn.decode(from, at, rest, ends_segment, self.shared, self.out);
                }
            }
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, kind: Missing) {
        match kind {
            Missing::Gap => self.shared.stats.bytes_lost += n,
            // An opaque connection's bytes are cut because nobody wants them.
            Missing::Truncated if matches!(self.conn.app, App::Opaque) => self.shared.stats.bytes_opaque += n,
            Missing::Truncated => self.shared.stats.bytes_truncated += n,
        }
        let from = self.conn.side(from);
        match &mut self.conn.app {
            App::Decoding(decoder) => {
                let mut session = Session {
                    shared: &mut *self.shared,
                    core: &mut self.conn.core,
                    out: &mut *self.out,
                    gave_up: false,
                };
                // What the decoder asked for and did not get; the rest nobody wanted.
                if kind == Missing::Gap || decoder.appetite(from) == Appetite::Everything {
                    session.misses(at);
                }
                decoder.missing(from, at, n, &mut session);
            }
            App::Undecided(_) => {
                // What is left cannot be read from its start any more.
                self.conn.app = App::Undecided(Undecided::default());
                for end in &mut self.conn.ends {
                    end.start = None;
                }
            }
            App::Opaque => {}
        }
    }
}
