//! Connections that speak TLS: the layer of [`crate::tls`] between a connection's stream and its decoder.
//!
//! Where the reading of TLS is on, a connection whose first bytes are a `ClientHello`, or whose decoder says that TLS
//! begins, is read through the layer; what comes out goes the way that clear bytes go. What cannot be read is opaque, as
//! ever, and counted by why.

use super::conn::{App, Conn};
use super::feed::Feed;
use super::feed::decode_and_apply;
use super::index::Party;
use super::on_conn::OnConn;
use super::output::Output;
use super::parts::Parts;
use super::sealing::{Encryption, party};
use super::table::Table;
use super::undecided::Undecided;
use crate::decode::{Chunk, infer};
use crate::model::tls::Unread;
use crate::model::{ConnId, HandshakeSecret, Nanos, SecretLabel, Side};
use crate::stream::Missing;
use crate::tls::join::{self, Handshake, PATIENCE, Speakers};
use crate::tls::{Plain, Sealed, Spent, Tls};

/// So many bytes are missing where nobody can say how many: more than any message has.
const MANY: u64 = 1 << 40;
/// More room than this is not kept between two records.
const SCRATCH: usize = 32 << 10;

impl Conn {
    fn count_unread(&mut self, why: Unread, n: u64, parts: &mut Parts) {
        *parts.stats.bytes_tls_unread.entry(why).or_default() += n;
        self.counts_tls(Some(why), n, parts);
    }

    /// Whether TLS that begins now is to be read.
    pub(super) fn may_unseal(&self, parts: &Parts) -> bool {
        let Some(scope) = &parts.ctx.settings.tls else { return false };
        let whole = self.ends.iter().all(|e| e.start.is_some());
        let server = self.client.and_then(|c| self.ends.get(1 - c));
        let (Some(server), true, Encryption::None) = (server, whole, &self.encryption) else { return false };
        let name = parts.ctx.service_name_at(server.addr, server.workload);
        scope.services.is_empty() || name.is_some_and(|name| scope.services.iter().any(|s| s == name))
    }

    /// Why TLS whose beginning was just seen, or never will be, is not read.
    pub(super) fn sealed_for(&self, parts: &Parts) -> Unread {
        let whole = self.ends.iter().all(|e| e.start.is_some());
        if parts.ctx.settings.tls.is_some() && !whole { Unread::OlderThanAgent } else { Unread::Off }
    }

    /// Nobody reads this TLS; `n` bytes of it were counted as opaque.
    pub(super) fn count_sealed(&mut self, n: u64, parts: &mut Parts) {
        let why = self.sealed_for(parts);
        if matches!(self.encryption, Encryption::None) {
            self.encryption = Encryption::Unread(why);
            *parts.stats.tls_unread.entry(why).or_default() += 1;
            self.record_tls_unread(why, parts);
        }
        self.count_unread(why, n, parts);
    }

    /// More of what nobody reads.
    pub(super) fn stays_sealed(&mut self, n: u64, parts: &mut Parts) {
        if let Encryption::Unread(why) = self.encryption {
            self.count_unread(why, n, parts);
        }
    }

    /// The decoder has given up: what comes may be anything.
    pub(super) fn count_unreadable(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        if self.state.unreadable == Some("tls") {
            self.count_sealed(0, parts);
            self.state.astray = true;
            OnConn { parts, state: &mut self.state, out }.record_missed(at);
        }
    }

    /// The client, who is known, begins a handshake with its next byte.
    pub(super) fn begin_tls(&mut self) {
        let client = if self.client == Some(1) { Side::Server } else { Side::Client };
        self.encryption = Encryption::Tls(Some(Box::new(Tls::new(client))));
    }

    /// The first bytes turned out to be TLS: what was kept goes through the layer.
    pub(super) fn unseal_kept(&mut self, kept: Undecided, parts: &mut Parts, out: &mut dyn Output) {
        self.begin_tls();
        self.ask(parts, out);
        for chunk in kept.chunks {
            self.recount(chunk.bytes.len(), parts);
            self.unseal(parts, out, |tls, scratch, plain| {
                tls.bytes(chunk.side, chunk.sealed(), scratch, plain);
            });
        }
    }

    /// Bytes that were counted as if they were clear: the layer counts them anew.
    pub(super) fn recount(&self, n: usize, parts: &mut Parts) {
        let n = n as u64;
        parts.stats.bytes_seen = parts.stats.bytes_seen.saturating_sub(n);
        parts.stats.bytes_opaque = parts.stats.bytes_opaque.saturating_sub(n);
    }

    /// A decoder has heard that TLS begins, with the client's next byte or (`first`) with these. `false`: it is not read.
    pub(super) fn begins_tls_here(
        &mut self,
        side: Side,
        first: Chunk<'_>,
        parts: &mut Parts,
        out: &mut dyn Output,
    ) -> bool {
        let Chunk { at, bytes, ends_segment } = first;
        if self.state.facts.mid_stream || !self.may_unseal(parts) {
            return false;
        }
        let decoder = infer::decoder(self.state.facts.protocol, parts.ctx.settings.salt, false, &parts.decoders);
        let Some(decoder) = decoder else { return false };
        let unread = if let App::Decoding(before) = &self.app { before.unread() } else { 0 };
        self.app = App::Decoding(decoder);
        self.begin_tls();
        self.ask(parts, out);
        // A handshake record, at the beginning or behind what asked for TLS in the protocol's own words and was read.
        let behind = bytes.len().checked_sub(unread).filter(|_| unread > 0).and_then(|at| bytes.get(at..));
        let bytes = behind.unwrap_or(bytes);
        if bytes.first() == Some(&22) {
            let n = bytes.len() as u64;
            parts.stats.bytes_seen = parts.stats.bytes_seen.saturating_sub(n);
            parts.stats.bytes_decoded = parts.stats.bytes_decoded.saturating_sub(n);
            let sealed = Sealed { at, bytes, ends_segment };
            self.unseal(parts, out, |tls, scratch, plain| tls.bytes(side, sealed, scratch, plain));
        }
        true
    }

    /// Runs `f` on the layer; what comes out of it goes to inference or the decoder. Then secrets are asked for.
    pub(super) fn unseal(
        &mut self,
        parts: &mut Parts,
        out: &mut dyn Output,
        f: impl FnOnce(&mut Tls, &mut Vec<u8>, &mut dyn Plain),
    ) {
        let Encryption::Tls(slot) = &mut self.encryption else { return };
        // The layer is lent out, so that what it opens can work on the rest of the connection.
        let Some(mut tls) = slot.take() else { return };
        let mut scratch = std::mem::take(&mut parts.sealing.scratch);
        let (was_keyed, waited) = (tls.is_keyed(), tls.waits_since().is_some());
        f(&mut tls, &mut scratch, &mut Feed { conn: self, parts: &mut *parts, out: &mut *out });
        let id = self.state.facts.id;
        if !was_keyed {
            self.join(&tls, parts);
        }
        while let Some(label) = SecretLabel::ALL.into_iter().find(|label| tls.wants(*label)) {
            let found = parts.sealing.join.handshake(id).map(|h| parts.sealing.join.find(label, h)).unwrap_or_default();
            let opens = |n: &u64| parts.sealing.join.secret(*n).is_some_and(|secret| tls.offer(label, secret, false));
            match found.into_iter().find(opens) {
                Some(n) => {
                    parts.sealing.join.claim(n);
                    let now = parts.ctx.now;
                    let mut delivery = Feed { conn: self, parts: &mut *parts, out: &mut *out };
                    tls.advance(now, &mut scratch, &mut delivery);
                }
                None => tls.none_fits(label),
            }
        }
        scratch.clear();
        parts.sealing.scratch = if scratch.capacity() > SCRATCH { Vec::new() } else { scratch };
        if !was_keyed && tls.is_keyed() {
            parts.sealing.join.ends(id);
            parts.stats.tls_read += 1;
            self.record_tls_read(&tls, parts);
        }
        if tls.hides_requests() {
            self.hides_for_now(parts);
        } else {
            self.hides_no_more(parts);
        }
        if !waited && tls.waits_since().is_some() {
            parts.sealing.join.waits(id, parts.ctx.now);
        }
        self.after(tls, parts, out);
    }

    /// What may be requests waits for its secret. Who works on one must have been told the secret first, so that all of it
    /// is read by then; until it is, nobody is taken for the only one.
    fn hides_for_now(&mut self, parts: &mut Parts) {
        if !self.hides_at.is_empty() {
            return;
        }
        for relay in self.goes_into() {
            if let Some(process) = parts.attributor.processes.get_mut(&relay) {
                process.hides(self.state.facts.id);
                self.hides_at.push(relay);
            }
        }
    }

    /// Nothing waits any more. Gives whether something did.
    fn hides_no_more(&mut self, parts: &mut Parts) -> bool {
        let hid = !self.hides_at.is_empty();
        for relay in std::mem::take(&mut self.hides_at) {
            if let Some(process) = parts.attributor.processes.get_mut(&relay) {
                process.reveals(self.state.facts.id);
            }
        }
        hid
    }

    /// What becomes of the layer after it has worked.
    fn after(&mut self, tls: Box<Tls>, parts: &mut Parts, out: &mut dyn Output) {
        if let Some(why) = tls.unread() {
            self.hides_requests(parts.ctx.now, parts);
            self.seal(why, tls.unresolved(), parts, out);
        } else if matches!(self.app, App::Opaque(_)) {
            // The TLS is read, but no decoder knows the protocol inside.
            self.encryption = Encryption::None;
            self.app = App::Opaque(None);
            parts.sealing.join.ends(self.state.facts.id);
            parts.stats.bytes_seen += tls.unresolved();
            parts.stats.bytes_opaque += tls.unresolved();
            self.ask(parts, out);
        } else {
            self.encryption = Encryption::Tls(Some(tls));
        }
    }

    /// Secrets are to find this connection from the `ClientHello` on. Who is at its ends may be known later: a server that
    /// waits for data before it accepts (`TCP_DEFER_ACCEPT`) has no socket until then, and a cgroup's label may come.
    fn join(&self, tls: &Tls, parts: &mut Parts) {
        let id = self.state.facts.id;
        let Some(random) = tls.random() else { return };
        let mut speakers = Speakers::new();
        for cgroup in self.ends.iter().filter_map(|e| e.cgroup) {
            for speaker in [party(cgroup, &parts.ctx.directory), join::Speaker::Cgroup(cgroup)] {
                if !speakers.contains(&speaker) {
                    speakers.push(speaker);
                }
            }
        }
        if parts.sealing.join.handshake(id).is_some_and(|known| known.speakers == speakers) {
            return;
        }
        parts.sealing.join.ends(id);
        parts.sealing.join.begins(id, Handshake { random: *random, hides_random: tls.hides_random(), speakers });
    }

    /// The rest cannot be read: `unresolved` bytes of it have come.
    fn seal(&mut self, why: Unread, unresolved: u64, parts: &mut Parts, out: &mut dyn Output) {
        let blind = || self.ends.iter().filter_map(|e| e.cgroup).find_map(|c| parts.sealing.blind.get(&c).copied());
        let why = if why == Unread::NoSecret { blind().unwrap_or(why) } else { why };
        parts.stats.bytes_seen += unresolved;
        parts.stats.bytes_opaque += unresolved;
        self.count_unread(why, unresolved, parts);
        *parts.stats.tls_unread.entry(why).or_default() += 1;
        self.record_tls_unread(why, parts);
        parts.sealing.join.ends(self.state.facts.id);
        self.encryption = Encryption::Unread(why);
        let at = parts.ctx.now;
        match &self.app {
            App::Undecided(_) => {
                parts.stats.flows_undecided = parts.stats.flows_undecided.saturating_sub(1);
            }
            App::Decoding(_) => {
                parts.stats.flows_decoded = parts.stats.flows_decoded.saturating_sub(1);
                self.misses_the_rest(at, parts, out);
                if let App::Decoding(decoder) = &mut self.app {
                    decode_and_apply(&mut self.state, parts, out, |sink| decoder.closed(at, sink));
                }
                self.state.astray = true;
            }
            App::Opaque(_) => return,
        }
        self.give_up(None, parts, out);
    }

    /// A secret was told that may be this connection's.
    fn offered(&mut self, told: &HandshakeSecret, parts: &mut Parts, out: &mut dyn Output) {
        let (mut fits, now) = (false, parts.ctx.now);
        self.unseal(parts, out, |tls, scratch, plain| {
            fits = tls.offer(told.label, &told.secret, true);
            if fits {
                tls.advance(now, scratch, plain);
            }
        });
        if fits {
            parts.sealing.join.opened(told.label, &told.secret);
        }
    }

    /// What waits has done so for too long.
    fn waited_too_long(&mut self, now: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        self.unseal(parts, out, |tls, _, _| {
            if tls.waits_since().is_some_and(|since| now.since(since) >= PATIENCE) {
                tls.give_up(Unread::NoSecret);
            }
        });
    }

    /// The connection has ended.
    pub(super) fn end_tls(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        let Encryption::Tls(Some(tls)) = std::mem::take(&mut self.encryption) else { return };
        parts.sealing.join.ends(self.state.facts.id);
        if self.hides_no_more(parts) {
            self.hides_requests(at, parts);
        }
        let (n, waits) = (tls.unresolved(), tls.waits_since().is_some());
        if waits {
            *parts.stats.tls_unread.entry(Unread::NoSecret).or_default() += 1;
            self.record_tls_unread(Unread::NoSecret, parts);
        }
        if n > 0 {
            parts.stats.bytes_seen += n;
            parts.stats.bytes_opaque += n;
            self.count_unread(if waits { Unread::NoSecret } else { Unread::Lost }, n, parts);
            self.misses_the_rest(at, parts, out);
        }
    }

    /// Nothing that is outstanding may end as if its end had been seen.
    fn misses_the_rest(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        let App::Decoding(decoder) = &mut self.app else { return };
        OnConn { parts: &mut *parts, state: &mut self.state, out: &mut *out }.record_missed(at);
        for from in [Side::Client, Side::Server] {
            decode_and_apply(&mut self.state, parts, out, |sink| decoder.missing(from, at, MANY, sink));
        }
    }
}

impl Table {
    /// Changes a connection in a way that may settle who its client is.
    fn reread(
        &mut self,
        id: ConnId,
        parts: &mut Parts,
        out: &mut dyn Output,
        f: impl FnOnce(&mut Conn, &mut Parts, &mut dyn Output),
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let before: Option<Party> = conn.state.facts.enters.map(Party::Enters);
        f(conn, parts, out);
        let after = conn.state.facts.enters.map(Party::Enters);
        if before != after {
            self.index.update(id, &before.into_iter().collect(), &after.into_iter().collect());
        }
        self.fed(id, 0);
        self.count(id);
    }

    /// A process has told a secret of a handshake.
    pub(super) fn told(&mut self, secret: &HandshakeSecret, parts: &mut Parts, out: &mut dyn Output) {
        parts.stats.tls_secrets += 1;
        if parts.ctx.settings.tls.is_none() {
            return;
        }
        let party = secret.cgroup.map(|cgroup| party(cgroup, &parts.ctx.directory));
        for id in parts.sealing.join.tell(secret, party) {
            self.reread(id, parts, out, |conn, parts, out| conn.offered(secret, parts, out));
        }
        self.enter_late(parts, out);
    }

    /// Secrets that nobody needed, and connections that were told none.
    pub(super) fn expire_tls(&mut self, now: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        parts.sealing.join.age(now);
        while let Some(id) = parts.sealing.join.overdue(now) {
            self.reread(id, parts, out, |conn, parts, out| conn.waited_too_long(now, parts, out));
        }
    }
}

impl Plain for Feed<'_> {
    fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        self.conn.counts_tls(None, bytes.len() as u64, self.parts);
        self.clear_bytes(from, at, bytes, ends_segment);
    }

    fn missing(&mut self, from: Side, at: Nanos, n: Option<u64>) {
        // The bytes of the wire are counted where they were missed.
        self.clear_missing(from, at, n.unwrap_or(MANY), Missing::Gap);
    }

    fn spent(&mut self, what: Spent, n: u64) {
        let stats = &mut self.parts.stats;
        stats.bytes_seen += n;
        match what {
            Spent::Around => {
                stats.bytes_decoded += n;
                self.conn.counts_tls(None, n, self.parts);
            }
            Spent::Lost => {
                stats.bytes_lost += n;
                self.conn.counts_tls(Some(Unread::Lost), n, self.parts);
            }
            Spent::Unread(why) => {
                stats.bytes_opaque += n;
                self.conn.count_unread(why, n, self.parts);
            }
        }
    }
}
