//! What time asks of the flow table: holes that are given up, memory that is counted, connections that make room.
//!
//! None of it walks over all connections: those with a hole, those that were fed, and the idlest are kept in order.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::conn::Conn;
use super::output::Output;
use super::parts::Parts;
use super::table::Table;
use crate::model::steps::{step, walk};
use crate::model::{ConnId, Nanos, SocketCookie};

/// How often holes are looked at, and what is shared is counted …
const TURN: Nanos = Nanos::secs(1);
/// … and after how many events: a flood does not take a second.
const OFTEN: u32 = 4_096;
/// A connection's memory is counted anew when it has been fed so much of what it held: some decoders walk over what
/// they hold to tell.
const PART: usize = 64;

/// About what an entry of a hash table takes: between a half and seven eighths of its places are used.
const fn entry<T>() -> usize {
    (size_of::<T>() + 1) * 8 / 5
}

/// Bytes that a connection takes whatever it holds: itself, and its entries in the table's maps.
const PER_CONNECTION: usize = size_of::<Conn>()
    + entry::<(ConnId, Box<Conn>)>()
    + 2 * entry::<(SocketCookie, (ConnId, u8))>()
    + entry::<((SocketAddr, SocketAddr), SmallVec<[ConnId; 1]>)>()
    + entry::<((u32, u32), ConnId)>()
    // In order of their idleness, and by who takes part in it.
    + 2 * size_of::<(Nanos, ConnId)>()
    + 5 * 2 * size_of::<ConnId>();

impl Table {
    /// Bytes held by connections and by what they share.
    pub(super) fn memory(&self) -> usize {
        self.held + self.held_by_all
    }

    /// Counts what a connection holds.
    pub(super) fn count(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let held = PER_CONNECTION + conn.memory();
        self.held = self.held.saturating_sub(conn.kept.held).saturating_add(held);
        (conn.kept.held, conn.kept.fed) = (held, 0);
    }

    /// Counts what connections share.
    fn count_shared(&mut self, parts: &mut Parts) {
        (self.held_by_all, self.uncounted) = (parts.memory(), 0);
    }

    /// Over the bound: the idlest go first. What is shared has bounds of its own and never takes more than half.
    pub(super) fn keep_within(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        self.uncounted += 1;
        if self.uncounted >= OFTEN {
            self.count_shared(parts);
        }
        let most = self.limits.memory.saturating_sub(self.held_by_all).max(self.limits.memory / 2);
        while self.held > most && self.evict(at, parts, out) {}
    }

    /// A connection was fed `n` bytes: its holes may be others, and what it holds.
    pub(super) fn fed(&mut self, id: ConnId, n: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let hole = conn.stream.expires();
        if hole != conn.kept.hole {
            conn.kept.hole.map(|at| self.holes.remove(&(at, id)));
            self.holes.extend(hole.map(|at| (at, id)));
            conn.kept.hole = hole;
        }
        conn.kept.fed = conn.kept.fed.saturating_add(n).saturating_add(PART);
        if conn.kept.fed >= conn.kept.held / PART {
            self.count(id);
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: &Conn) {
        let (id, kept) = (conn.state.facts.id, conn.kept);
        kept.hole.map(|at| self.holes.remove(&(at, id)));
        self.idle.remove(&(kept.active, id));
        self.held = self.held.saturating_sub(kept.held);
    }

    /// Makes room: the longest idle goes. `false`: there is none.
    pub(super) fn evict(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) -> bool {
        while let Some((active, id)) = self.idle.pop_first() {
            step();
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            if conn.last_active > active {
                conn.kept.active = conn.last_active;
                self.idle.insert((conn.last_active, id));
                continue;
            }
            parts.stats.flows_evicted += 1;
            // Its next segment begins it anew.
            conn.ends.iter().filter_map(|e| e.cookie).for_each(|cookie| out.forgotten(cookie));
            self.remove(id, at, parts, out);
            return true;
        }
        false
    }

    /// Holes in streams are given up, and what is held is counted.
    pub(super) fn expire(&mut self, now: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        if now.since(self.last_expired) < TURN {
            return;
        }
        self.last_expired = now;
        let due: Vec<ConnId> = self.holes.range(..=(now, ConnId(u32::MAX))).map(|(_, id)| *id).collect();
        for id in walk(due) {
            self.feed(id, 0, parts, out, |stream, deliver| stream.expire(now, deliver));
        }
        self.count_shared(parts);
        self.keep_within(now, parts, out);
    }
}
