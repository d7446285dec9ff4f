//! What time asks of the flow table: holes that are given up, memory that is counted, connections that make room.
//!
//! None of it walks over all connections: those with a hole, those that were fed, and the idlest are kept in order.

use super::conn::Conn;
use super::output::Output;
use super::session::Session;
use super::shared::Shared;
use super::table::Table;
use crate::model::steps::{step, walk};
use crate::model::{ConnId, Nanos};

/// How often holes and memory are looked at.
const TURN: Nanos = Nanos::secs(1);
/// A connection's memory is counted anew when it has been fed so much of what it held: decoders walk over what they
/// hold to tell.
const PART: usize = 64;

/// What upkeep remembers of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// When its oldest hole is given up, as [`Table`] has it in order.
    hole: Option<Nanos>,
    /// When it was last active, as [`Table`] has it in order: that may be long ago.
    pub(super) active: Nanos,
    /// Bytes that it held when they were last counted.
    pub(super) held: usize,
    /// Bytes it was fed since.
    fed: usize,
    /// It is among those that were fed since memory was last looked at.
    touched: bool,
}

impl Kept {
    /// Of a connection that was opened at `at`.
    pub(super) fn since(at: Nanos) -> Self {
        Self { active: at, ..Self::default() }
    }
}

impl Table {
    /// Bytes held in streams and decoders, as of the last turn.
    pub(super) fn memory(&self) -> usize {
        self.held + self.conns.len() * size_of::<Conn>()
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
        if !std::mem::replace(&mut conn.kept.touched, true) {
            self.touched.push(id);
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: &Conn) {
        let (id, kept) = (conn.core.id, conn.kept);
        kept.hole.map(|at| self.holes.remove(&(at, id)));
        self.idle.remove(&(kept.active, id));
        self.held = self.held.saturating_sub(kept.held);
    }

    /// Makes room: the longest idle goes.
    pub(super) fn evict(&mut self, at: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        while let Some((active, id)) = self.idle.pop_first() {
            step();
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            if conn.last_active > active {
                conn.kept.active = conn.last_active;
                self.idle.insert((conn.last_active, id));
                continue;
            }
            shared.stats.flows_evicted += 1;
            self.remove(id, at, shared, out);
            return;
        }
    }

    /// Timeouts: holes in streams, and operations whose tenant never became known.
    pub(super) fn expire(&mut self, now: Nanos, patience: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        while let Some((_, id)) = shared.waiting.pop_front_if(|(since, _)| now.since(*since) >= patience) {
            step();
            if let Some(conn) = self.conns.get_mut(&id) {
                let current = conn.core.unit;
                Session { shared: &mut *shared, core: &mut conn.core, out: &mut *out, gave_up: false }
                    .flush_all(current.open.then_some(current.no));
            }
        }
        while let Some((_, id)) = shared.held.pop_front_if(|(until, _)| *until <= now) {
            step();
            if let Some(conn) = self.conns.get_mut(&id) {
                Session { shared: &mut *shared, core: &mut conn.core, out: &mut *out, gave_up: false }
                    .release_held(false);
            }
        }
        if now.since(self.last_expired) < TURN {
            return;
        }
        self.last_expired = now;
        let due: Vec<ConnId> = self.holes.range(..=(now, ConnId(u32::MAX))).map(|(_, id)| *id).collect();
        for id in walk(due) {
            self.feed(id, 0, shared, out, |stream, deliver| stream.expire(now, deliver));
        }
        for id in walk(std::mem::take(&mut self.touched)) {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            conn.kept.touched = false;
            if conn.kept.fed >= conn.kept.held / PART {
                let held = conn.memory();
                self.held = self.held.saturating_sub(conn.kept.held).saturating_add(held);
                (conn.kept.held, conn.kept.fed) = (held, 0);
            }
        }
        // Over the bound: the idlest go first.
        while self.memory() > self.limits.memory && !self.conns.is_empty() {
            self.evict(now, shared, out);
        }
    }
}
