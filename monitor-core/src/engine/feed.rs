//! A connection's own work: who is at its ends, what its bytes are, and where they go: inference, decoder, counters.

use super::again::{Again, PREFIX};
use super::apply::Readable;
use super::conn::{App, Conn, ConnState, End};
use super::kept::Kept;
use super::lexicon::ConnLexicon;
use super::on_conn::OnConn;
use super::output::{Output, Wanted};
use super::parts::Parts;
use super::proxy::{Fronted, Preface};
use super::recognise::{Recognised, Told};
use super::sealing::Encryption;
use super::table::Opened;
use super::undecided::{MAX_FIRST, Undecided, side_of};
use crate::attribute::forwarded::Relay;
use crate::attribute::{self, by_endpoint};
use crate::decode::infer;
use crate::decode::{Appetite, Chunk, Emitter};
use crate::model::{ConnId, Directory, Nanos, Protocol, Role, Side, UnitNo, WorkloadId};
use crate::stream::{Deliver, Missing, Reassembler, StreamLimits};
use crate::tls::Sealed;
use smallvec::SmallVec;

/// The process at an end. A capture file knows addresses only.
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
            preface: Preface::Expected,
            fronted: None,
            front: None,
            encryption: Encryption::None,
            hides_at: SmallVec::new(),
            tls_use: None,
            state: ConnState::new(id, o.local, o.peer),
            starts: o.tx_start.zip(o.rx_start),
            last_active: o.at,
            kept: Kept::since(o.at),
        }
    }

    /// What a source tells of the socket at `end`.
    pub(super) fn learn(&mut self, end: usize, o: &Opened, parts: &mut Parts) {
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
        self.identify(parts);
    }

    /// Who is at either end, as far as is known now.
    pub(super) fn identify(&mut self, parts: &mut Parts) {
        // A capture file knows addresses only; on a live host, a loopback address says nothing of who is there.
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        let [first, second] = [self.ends[0].addr, self.ends[1].addr];
        for (e, peer) in self.ends.iter_mut().zip([second, first]) {
            if let Some(cgroup) = e.cgroup {
                e.workload = parts.ctx.directory.of_cgroup(cgroup).or(e.workload);
            } else if e.workload.is_none() {
                let bare = addresses_only || !(e.addr.ip().is_loopback() || e.addr.ip().is_unspecified());
                e.workload = parts.map.at_address(&mut parts.ctx, e.addr, peer, bare);
            }
        }
        if let Some(client) = self.client {
            self.orient(client, addresses_only, parts);
        }
    }

    /// Settles which end is the client, and what follows from it.
    fn orient(&mut self, client: usize, addresses_only: bool, parts: &mut Parts) {
        self.client = Some(client);
        let (Some(sender), Some(s)) = (self.ends.get(client), self.ends.get(1 - client)) else { return };
        // For whom a proxy says that it speaks.
        let fronted = |f| -> End {
            let Fronted { addr, workload } = f;
            End { addr, workload, watched: false, ..*sender }
        };
        let c = &self.fronted.map_or(*sender, fronted);
        let state = &mut self.state;
        (state.facts.client, state.facts.server) = (sender.addr, s.addr);
        (state.facts.client_workload, state.facts.server_workload) = (c.workload, s.workload);
        state.facts.endpoint =
            by_endpoint(attribute::End { workload: c.workload, watched: c.watched }, &parts.ctx.directory);
        if let (Some(workload), true) = (s.workload, s.watched && s.cgroup.is_some()) {
            parts.map.learn_listener(&mut parts.ctx, s.addr, workload);
        }
        state.facts.enters = process(s, addresses_only);
        state.facts.leaves = process(c, addresses_only);
        let c = sender;
        let shown = if c.cookie.is_some() { (c, s) } else { (s, c) };
        if let Some(cookie) = shown.0.cookie {
            state.facts.flow = Some((cookie, shown.0.addr, shown.1.addr));
        }
    }

    /// Runs `f` on the stream, and what it delivers through inference or the decoder.
    pub(super) fn feed(
        &mut self,
        parts: &mut Parts,
        out: &mut dyn Output,
        f: impl FnOnce(&mut Reassembler, &mut dyn Deliver),
    ) {
        // The stream is lent out, so that what it delivers can work on the rest of the connection.
        let mut stream = std::mem::replace(&mut self.stream, Reassembler::new(StreamLimits::default()));
        f(&mut stream, &mut Feed { conn: self, parts, out });
        self.stream = stream;
    }

    /// Tries to tell the protocol from what was kept.
    fn infer(&mut self, parts: &mut Parts, out: &mut dyn Output) {
        let App::Undecided(kept) = &self.app else { return };
        let mut decided = None;
        let mut unreadable = None;
        let mut tls = [false; 2];
        for (index, tls) in tls.iter_mut().enumerate() {
            match self.recognise(kept, index, false, parts) {
                Told::Is(recognised) => {
                    decided = Some(recognised);
                    break;
                }
                // A server's first bytes may be anything; a client's decide.
                Told::Opaque(why) => {
                    *tls = why == "tls";
                    if self.client.is_none_or(|c| c == index) {
                        unreadable = Some(why);
                    }
                }
                Told::Nothing => {}
            }
        }
        if decided.is_none() && matches!(unreadable, None | Some("unknown")) && self.state.facts.tunnel.is_none() {
            // What the operator says decides at once, where the bytes do not say otherwise.
            let declared = self.declared(parts);
            decided = declared.map(|(protocol, client)| Recognised { protocol, client, beginning: None });
        }
        if decided.is_none() && unreadable.is_none() && !kept.is_full() {
            return;
        }
        let by_client = self.client.filter(|c| decided.is_none() && tls.get(*c) == Some(&true));
        if by_client.is_some() && self.may_unseal(parts) {
            let App::Undecided(kept) = std::mem::replace(&mut self.app, App::Undecided(Undecided::default())) else {
                return;
            };
            return self.unseal_kept(kept, parts, out);
        }
        let App::Undecided(kept) = std::mem::replace(&mut self.app, App::Opaque(None)) else { return };
        parts.stats.flows_undecided = parts.stats.flows_undecided.saturating_sub(1);
        if let Some(recognised) = decided {
            self.decide(recognised, kept, parts, out);
            return;
        }
        let mut again = Again::after(&kept);
        let mut for_good = false;
        for (index, _) in tls.iter().enumerate().filter(|(_, tls)| **tls) {
            for_good = again.record_tls(side_of(index));
        }
        if tls.contains(&true) {
            self.count_sealed(kept.held as u64, parts);
        }
        self.give_up((!for_good).then_some(again), parts, out);
    }

    /// Nobody could read this connection: `from` has said something else now.
    fn look_again(&mut self, from: Side, parts: &mut Parts, out: &mut dyn Output) {
        let App::Opaque(Some(again)) = &self.app else { return };
        let wanted_all = again.wants_all();
        let told = self.recognise(&again.kept, usize::from(from == Side::Server), true, parts);
        let App::Opaque(Some(again)) = &mut self.app else { return };
        match told {
            Told::Is(recognised) => {
                let kept = std::mem::take(&mut again.kept);
                parts.stats.flows_opaque = parts.stats.flows_opaque.saturating_sub(1);
                self.decide(recognised, kept, parts, out);
            }
            Told::Opaque("tls") if again.record_tls(from) => {
                self.app = App::Opaque(None);
                self.count_sealed(0, parts);
                self.ask(parts, out);
            }
            Told::Opaque(_) | Told::Nothing => {
                again.told_nothing(from);
                if again.wants_all() != wanted_all {
                    self.ask(parts, out);
                }
            }
        }
    }

    /// The protocol is known: what was kept goes through its decoder.
    fn decide(&mut self, recognised: Recognised, kept: Undecided, parts: &mut Parts, out: &mut dyn Output) {
        let Recognised { protocol, client, beginning } = recognised;
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        let seen_from_start = match &self.app {
            App::Opaque(Some(_)) => false,
            _ => self.ends.iter().all(|e| e.start.is_some()),
        };
        self.orient(client, addresses_only, parts);
        self.state.facts.protocol = protocol;
        self.state.facts.mid_stream = !seen_from_start && beginning.is_none();
        let server_workload = self.ends.get(1 - client).and_then(|e| e.workload);
        let by_name = by_name(server_workload, &parts.ctx.directory);
        let (server, ctx) = (self.state.facts.server, &mut parts.ctx);
        self.state.facts.service = Some(match self.state.facts.tunnel {
            Some(to) => parts.map.service_behind(ctx, server, to, protocol),
            None => parts.map.service_at(ctx, server, by_name, protocol),
        });
        if self.state.facts.endpoint.is_none()
            && let Some(relay) = self.state.facts.leaves
        {
            parts.attributor.opens(relay, protocol.passed_on_as());
        }
        let decoder = infer::decoder(protocol, parts.ctx.settings.salt, self.state.facts.mid_stream, &parts.decoders);
        let Some(decoder) = decoder else { return };
        self.app = App::Decoding(decoder);
        parts.stats.flows_decoded += 1;
        if protocol.passed_on_as() == Protocol::Http {
            self.state.ledger.judge_per_request();
        }
        if self.state.facts.mid_stream {
            parts.stats.flows_mid_stream += 1;
            if let Some(service) = self.state.facts.service {
                parts.judge.missed.before(service, parts.ctx.now);
            }
            self.state.ledger.disturb(true);
        }
        for chunk in kept.chunks.into_iter().skip(beginning.unwrap_or(0)) {
            let n = chunk.bytes.len() as u64;
            parts.stats.bytes_opaque = parts.stats.bytes_opaque.saturating_sub(n);
            parts.stats.bytes_decoded += n;
            if matches!(self.encryption, Encryption::Tls(Some(_))) {
                // It asked for TLS before, in its own words.
                parts.stats.bytes_seen = parts.stats.bytes_seen.saturating_sub(n);
                parts.stats.bytes_decoded = parts.stats.bytes_decoded.saturating_sub(n);
                self.unseal(parts, out, |tls, scratch, plain| {
                    tls.bytes(chunk.side, chunk.sealed(), scratch, plain);
                });
                continue;
            }
            let bytes = Chunk { at: chunk.at, bytes: &chunk.bytes, ends_segment: chunk.ends };
            self.decode(chunk.side, bytes, parts, out);
        }
        self.ask(parts, out);
    }

    fn decode(&mut self, side: Side, chunk: Chunk<'_>, parts: &mut Parts, out: &mut dyn Output) {
        let from = self.side(side);
        let App::Decoding(decoder) = &mut self.app else { return };
        let readable = decode_and_apply(&mut self.state, parts, out, |sink| decoder.bytes(from, chunk, sink));
        if readable == Readable::No {
            if self.state.unreadable == Some("tls") && self.begins_tls_here(side, chunk, parts, out) {
                return;
            }
            if self.goes_through(chunk.bytes, parts, out) {
                return;
            }
            self.count_unreadable(chunk.at, parts, out);
            parts.stats.flows_decoded = parts.stats.flows_decoded.saturating_sub(1);
            // Where not even one request was read, it was taken for something else than it is.
            let never_read = self.state.units.current.no == UnitNo(0);
            let again = never_read.then(|| Again::after(&Undecided::default()));
            self.give_up(again, parts, out);
        }
    }

    /// What goes in here cannot be read: who else is in flight where it goes is not known.
    pub(super) fn hides_requests(&self, at: Nanos, parts: &mut Parts) {
        for relay in self.goes_into() {
            if let Some(process) = parts.attributor.processes.get_mut(&relay) {
                process.miss(at);
            }
        }
    }

    /// Whom this connection's requests are to, as far as that is known.
    pub(super) fn goes_into(&self) -> SmallVec<[Relay; 2]> {
        // A process that talks to itself (to wake an event loop) hides no request, because requests come in elsewhere.
        if let [one, other] = self.ends.as_slice()
            && one.workload.is_some()
            && one.workload == other.workload
        {
            return SmallVec::new();
        }
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        let anywhere = self.ends.iter().map(|end| process(end, addresses_only));
        let known = self.client.is_some().then_some(self.state.facts.enters);
        known.into_iter().chain(anywhere.filter(|_| known.is_none())).flatten().collect()
    }

    /// More has come. Where the place in it is lost, it may hide anything.
    fn reads_on(&self, at: Nanos, parts: &mut Parts) {
        let state = &self.state;
        if state.astray {
            parts.judge.missed.on(
                state.facts.service,
                state.facts.endpoint.map(|a| a.tenant),
                state.facts.client_workload,
                at,
            );
        }
    }

    /// Nobody can read this connection, for now or (`again` is `None`) for good.
    pub(super) fn give_up(&mut self, again: Option<Again>, parts: &mut Parts, out: &mut dyn Output) {
        // What was read of it before an upgrade stays what it was.
        if again.is_some() || self.state.facts.service.is_none() {
            self.state.facts.protocol = Protocol::Opaque;
        }
        if self.state.facts.tunnel.is_some() && !self.state.astray {
            // What was let through may have been anything.
            self.state.astray = true;
            let at = parts.ctx.now;
            OnConn { parts: &mut *parts, state: &mut self.state, out: &mut *out }.record_missed(at);
        }
        self.app = App::Opaque(again.map(Box::new));
        parts.stats.flows_opaque += 1;
        self.ask(parts, out);
    }

    /// Asks the source for just what is needed, once per change.
    pub(super) fn ask(&mut self, parts: &Parts, out: &mut dyn Output) {
        let wanted = |from: Side| match &self.app {
            // A record is read whole or not at all.
            _ if matches!(self.encryption, Encryption::Tls(_)) => Appetite::Everything,
            App::Undecided(_) => Appetite::Everything,
            App::Decoding(decoder) => decoder.appetite(from),
            // Lengths still tell how much goes unread.
            App::Opaque(None) => Appetite::Head(0),
            App::Opaque(Some(again)) if again.wants_all() => Appetite::Everything,
            App::Opaque(Some(_)) => Appetite::Head(PREFIX),
        };
        let client = self.client.unwrap_or(0);
        let (requests, replies) = (wanted(Side::Client), wanted(Side::Server));
        let undecided = matches!(self.app, App::Undecided(_));
        // With a socket at both ends, each delivers what it sends: then it is known which thread sent it.
        let both = self.ends.iter().all(|e| e.cookie.is_some());
        // In which order a process that works for many reads is told where it is followed.
        let follows = |relay: Option<Relay>| {
            parts.ctx.settings.bases.succession && relay.is_some_and(|r| parts.attributor.processes.contains_key(&r))
        };
        let read_by_server = follows(self.state.facts.enters) && matches!(self.app, App::Decoding(_));
        let read_by_client = follows(self.state.facts.leaves) && matches!(self.app, App::Decoding(_));
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

    pub(super) fn close(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        self.feed(parts, out, |stream, deliver| stream.close(at, deliver));
        self.end_tls(at, parts, out);
        if let (App::Undecided(kept), Some(_)) = (&self.app, self.state.facts.tunnel)
            && kept.held > 0
        {
            OnConn { parts: &mut *parts, state: &mut self.state, out: &mut *out }.record_missed(at);
        }
        self.leaves_tls(parts);
        let n = match &self.app {
            App::Undecided(_) => &mut parts.stats.flows_undecided,
            App::Decoding(_) => &mut parts.stats.flows_decoded,
            App::Opaque(_) => &mut parts.stats.flows_opaque,
        };
        *n = n.saturating_sub(1);
        if self.state.facts.mid_stream {
            parts.stats.flows_mid_stream = parts.stats.flows_mid_stream.saturating_sub(1);
        }
        if let Some(relay) = self.state.facts.enters {
            for open in self.state.units.open.iter().filter(|o| o.entered) {
                if let Some(print) = open.print {
                    parts.attributor.forwarding.close(relay, print, (self.state.facts.id, open.request, open.begun));
                }
            }
        }
        // Else it is given up here, and goes on.
        let closed = self.ends.iter().all(|e| e.cookie.is_none());
        if !closed && !self.state.units.open.is_empty() {
            OnConn { parts: &mut *parts, state: &mut self.state, out: &mut *out }.abandon_requests(at);
        }
        self.state.closing = true;
        if let App::Decoding(decoder) = &mut self.app {
            decode_and_apply(&mut self.state, parts, out, |sink| decoder.closed(at, sink));
        }
        let mut on = OnConn { parts: &mut *parts, state: &mut self.state, out: &mut *out };
        on.desert_requests(at);
        on.lose_jobs(at);
        on.look_through(at, true);
        on.tell_exchanges(None);
        on.tell_posts(None);
        on.flush_all(None);
        on.release_held(true);
    }

    pub(super) fn memory(&self) -> usize {
        let app = match &self.app {
            App::Undecided(u) => u.held,
            App::Decoding(d) => size_of_val(&**d) + d.memory(),
            App::Opaque(again) => again.as_ref().map_or(0, |a| size_of::<Again>() + a.kept.held),
        };
        app + self.preface_memory() + self.encryption.memory() + self.stream.memory() + self.state.memory()
    }
}

/// Lets a decoder tell what happened on a connection, and applies it.
pub(super) fn decode_and_apply(
    state: &mut ConnState,
    parts: &mut Parts,
    out: &mut dyn Output,
    decode: impl FnOnce(&mut Emitter<'_>),
) -> Readable {
    let mut events = std::mem::take(&mut parts.events);
    let protocol = state.facts.protocol;
    let mut lexicon = ConnLexicon { parts: &mut *parts, facts: &state.facts, protocol };
    decode(&mut Emitter { lexicon: &mut lexicon, events: &mut events, before: state.facts.before });
    let readable = OnConn { parts: &mut *parts, state, out }.apply_all(&mut events);
    parts.events = events;
    readable
}

/// A workload that a service may be named after: not one made up from an address.
fn by_name(workload: Option<WorkloadId>, directory: &Directory) -> Option<WorkloadId> {
    workload.filter(|w| directory.get(*w).is_some_and(|w| !w.bare))
}

/// What the stream delivers goes to inference, to the decoder, or nowhere but the counters.
pub(super) struct Feed<'a> {
    pub(super) conn: &'a mut Conn,
    pub(super) parts: &'a mut Parts,
    pub(super) out: &'a mut dyn Output,
}

impl Deliver for Feed<'_> {
    fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        if matches!(self.conn.preface, Preface::Past) {
            self.pass(from, at, bytes, ends_segment);
        } else {
            self.first_bytes(from, at, bytes, ends_segment);
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, kind: Missing) {
        if !matches!(self.conn.preface, Preface::Past) && self.preface_misses(from, n) {
            self.parts.stats.bytes_seen += n;
            return;
        }
        self.passed_over(from, at, n, kind);
    }
}

impl Feed<'_> {
    /// Bytes of whatever the connection carries.
    pub(super) fn pass(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        match self.conn.encryption {
            Encryption::None => self.clear_bytes(from, at, bytes, ends_segment),
            Encryption::Tls(_) => self.conn.unseal(self.parts, self.out, |tls, scratch, plain| {
                tls.bytes(from, Sealed { at, bytes, ends_segment }, scratch, plain);
            }),
            Encryption::Unread(_) => {
                self.conn.stays_sealed(bytes.len() as u64, self.parts);
                self.clear_bytes(from, at, bytes, ends_segment);
            }
        }
    }

    /// Bytes of it are missing.
    fn passed_over(&mut self, from: Side, at: Nanos, n: u64, kind: Missing) {
        self.parts.stats.bytes_seen += n;
        match kind {
            Missing::Gap => self.parts.stats.bytes_lost += n,
            // The probes cut an opaque connection's bytes because no decoder asks for them.
            Missing::Truncated if matches!(self.conn.app, App::Opaque(_)) => {
                self.parts.stats.bytes_opaque += n;
                self.conn.stays_sealed(n, self.parts);
            }
            Missing::Truncated => self.parts.stats.bytes_truncated += n,
        }
        match self.conn.encryption {
            Encryption::Tls(_) => self.conn.unseal(self.parts, self.out, |tls, scratch, plain| {
                tls.missing(from, at, n, scratch, plain);
            }),
            Encryption::None | Encryption::Unread(_) => self.clear_missing(from, at, n, kind),
        }
    }
}

impl Feed<'_> {
    /// Bytes that are not sealed, or not any more.
    pub(super) fn clear_bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        let n = bytes.len() as u64;
        self.parts.stats.bytes_seen += n;
        match &mut self.conn.app {
            App::Decoding(_) => {
                self.parts.stats.bytes_decoded += n;
                self.conn.reads_on(at, self.parts);
                self.conn.decode(from, Chunk { at, bytes, ends_segment }, self.parts, self.out);
            }
            App::Opaque(_) => {
                self.parts.stats.bytes_opaque += n;
                self.conn.reads_on(at, self.parts);
                let App::Opaque(again) = &mut self.conn.app else { return };
                let kept = again.as_mut().and_then(|again| again.bytes(from, at, bytes, ends_segment));
                if let Some(kept) = kept {
                    self.conn.look_again(from, self.parts, self.out);
                    self.go_on(from, at, bytes.get(kept..).unwrap_or_default(), ends_segment);
                } else {
                    self.conn.hides_requests(at, self.parts);
                }
            }
            App::Undecided(kept) => {
                // The bytes count as opaque until the protocol is known. `decide` counts them as decoded then.
                self.parts.stats.bytes_opaque += n;
                let kept = kept.keep(from, at, bytes, ends_segment, MAX_FIRST);
                self.conn.infer(self.parts, self.out);
                self.go_on(from, at, bytes.get(kept..).unwrap_or_default(), ends_segment);
            }
        }
    }

    pub(super) fn clear_missing(&mut self, from: Side, at: Nanos, n: u64, kind: Missing) {
        let stream_side = from;
        let from = self.conn.side(from);
        match &mut self.conn.app {
            App::Decoding(decoder) => {
                let state = &mut self.conn.state;
                // Only bytes that the decoder asked for count as missing, because the rest was cut on purpose.
                if kind == Missing::Gap || decoder.appetite(from) == Appetite::Everything {
                    OnConn { parts: &mut *self.parts, state: &mut *state, out: &mut *self.out }.record_missed(at);
                }
                decode_and_apply(state, self.parts, self.out, |sink| decoder.missing(from, at, n, sink));
            }
            App::Undecided(_) => {
                // What is left cannot be read from its start any more.
                self.conn.app = App::Undecided(Undecided::default());
                for end in &mut self.conn.ends {
                    end.start = None;
                }
            }
            App::Opaque(again) => {
                if let Some(again) = again {
                    let wanted_all = again.wants_all();
                    again.missing(stream_side, at, kind == Missing::Truncated);
                    if again.wants_all() != wanted_all {
                        self.conn.ask(self.parts, self.out);
                    }
                }
            }
        }
    }
}

impl Feed<'_> {
    /// Bytes were looked at: what did not fit goes on at once if the decoder is there now.
    fn go_on(&mut self, from: Side, at: Nanos, rest: &[u8], ends_segment: bool) {
        if matches!(self.conn.encryption, Encryption::Tls(Some(_))) {
            self.conn.recount(rest.len(), self.parts);
            self.conn.unseal(self.parts, self.out, |tls, scratch, plain| {
                tls.bytes(from, Sealed { at, bytes: rest, ends_segment }, scratch, plain);
            });
        } else if !matches!(self.conn.app, App::Decoding(_)) {
            self.conn.hides_requests(at, self.parts);
        } else if !rest.is_empty() {
            let n = rest.len() as u64;
            self.parts.stats.bytes_opaque = self.parts.stats.bytes_opaque.saturating_sub(n);
            self.parts.stats.bytes_decoded += n;
            self.conn.decode(from, Chunk { at, bytes: rest, ends_segment }, self.parts, self.out);
        }
    }
}
