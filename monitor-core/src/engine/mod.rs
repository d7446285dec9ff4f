//! The engine: composes the rooms. Events in, findings and operations out; one thread, no clock.

mod again;
mod apply;
mod attributor;
mod bound_uses;
mod by_unit;
mod caches;
mod concurrent;
mod conn;
mod context;
mod cookies;
mod downstream;
mod elsewhere;
mod encrypted;
mod exchanges;
mod facts;
mod feed;
mod follows;
mod gone;
mod habits;
mod held;
mod holding;
mod index;
mod jars;
mod jobs;
mod judge;
mod judging;
mod kept;
mod learned;
mod lexicon;
mod lookups;
mod map;
mod messages;
mod on_conn;
mod open_jobs;
mod output;
mod owners;
mod parts;
mod proxy;
mod recognise;
mod reconfigure;
mod sealing;
mod selectors;
mod stats;
mod stretches;
mod table;
mod through;
mod timers;
mod tls_use;
mod tools;
mod tunnel;
mod undecided;
mod units;
mod upkeep;
mod views;
mod weight;

pub use downstream::{DownstreamView, Habit};
pub use output::{
    AddressFact, OperationView, Output, OwnerFact, RestartView, ServiceView, TenantView, TlsView, ToolView, Wanted,
    WorkloadFact,
};
pub use stats::{HitLabels, Stats, TableLevel};

use std::net::{IpAddr, SocketAddr};

use crate::detect::RuleEvent;
use crate::model::identity::AddressRule;
use crate::model::tls::Unread;
use crate::model::{CgroupId, Event, HandshakeSecret, Nanos, Settings};
use crate::tls;

use index::Party;
use parts::Parts;
use table::Table;
use timers::Due;

/// How often timeouts are looked at.
const TURN: Nanos = Nanos::millis(250);

/// The pure pipeline from events to findings.
pub struct Engine {
    parts: Parts,
    table: Table,
    last_turn: Nanos,
    last_tick: Nanos,
}

impl Engine {
    /// An engine with the operator's decisions.
    pub fn new(settings: Settings) -> Self {
        let table = Table::new(settings.limits);
        Self { parts: Parts::new(settings), table, last_turn: Nanos(0), last_tick: Nanos(0) }
    }

    /// Handles one event.
    pub fn handle(&mut self, event: &Event<'_>, out: &mut dyn Output) {
        self.parts.ctx.now = event.at();
        match *event {
            Event::Segment(ref segment) => self.table.segment(segment, &mut self.parts, out),
            Event::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start } => {
                let opened = table::Opened { at, cookie, cgroup, local, peer, role, tx_start, rx_start };
                self.table.opened(&opened, &mut self.parts, out);
            }
            Event::Closed { at, cookie, .. } => self.table.closed(at, cookie, &mut self.parts, out),
            Event::Lost { at, stage, reason, count, of } => {
                *self.parts.stats.lost.entry((stage, reason)).or_default() += count;
                self.parts.lose(at, of);
            }
            Event::Reader { cookie, thread, .. } => self.table.read_by(cookie, thread, &mut self.parts, out),
            Event::TlsSecret(secret) => self.table.told(secret, &mut self.parts, out),
            Event::Named { address, name, .. } => self.learn_service(address, name),
            // Identity comes through `learn_cgroup`, once somebody has looked the path up.
            Event::CgroupSeen { .. } | Event::CgroupGone { .. } | Event::Tick { .. } => {}
        }
        self.table.tell_origins(&mut self.parts, out);
        let now = event.at();
        while let Some((at, due)) = self.parts.timers.pop(now) {
            self.fire(at, due, out);
        }
        if now.since(self.last_turn) >= TURN {
            self.last_turn = now;
            self.turn(now, out);
        }
    }

    /// What was due at `at` happens now.
    fn fire(&mut self, at: Nanos, due: Due, out: &mut dyn Output) {
        let now = self.parts.ctx.now;
        let (table, parts) = (&mut self.table, &mut self.parts);
        match due {
            Due::LookThrough(conn) => table.with(conn, parts, out, |on| on.look_through(now, false)),
            Due::CheckAnswer(conn, request) => table.with(conn, parts, out, |on| on.check_answer(request, at)),
            Due::GiveUpWaiting(conn) => table.with(conn, parts, out, |on| on.flush_all(on.current_unit())),
            Due::ReleaseReads(conn) => table.with(conn, parts, out, |on| on.release_held(false)),
            Due::Deserted(relay, key) | Due::JobOver(relay, key) => parts.counts_no_more(relay, key, at),
            Due::Unpublished(message) => parts.unpublished(message, out),
        }
    }

    /// Timeouts, and the rules' sense of time.
    fn turn(&mut self, now: Nanos, out: &mut dyn Output) {
        self.parts.attributor.forwarding.age(now);
        self.table.expire(now, &mut self.parts, out);
        self.table.expire_tls(now, &mut self.parts, out);
        let (judge, mut seen) = self.parts.judging();
        judge.release(now, false, &mut seen, out);
        judge.contradicted(&mut seen, out);
        if now.since(self.last_tick) >= Nanos::secs(1) {
            self.parts.judge.exceptions_end(&self.parts.ctx.settings, self.last_tick, now);
            self.last_tick = now;
            self.forget_gone(now);
            self.parts.detect(&RuleEvent::Tick(now), out);
            self.parts.ctx.names.refresh();
            let (judge, seen) = self.parts.judging();
            judge.hand_out(now, false, &seen, out);
        }
    }

    /// Identity found out who lives in a cgroup, or found out more.
    pub fn learn_cgroup(&mut self, at: Nanos, id: CgroupId, fact: &WorkloadFact) {
        let before = self.parts.ctx.directory.of_cgroup(id);
        let tenant = |s: &Parts, w| s.ctx.directory.get(w).and_then(|w| w.tenant);
        let labelled = before.and_then(|w| tenant(&self.parts, w));
        let Some(workload) = self.parts.workload(fact) else { return self.forget_cgroup(at, id) };
        let left = self.parts.ctx.directory.learn_cgroup(id, workload);
        self.leaves(at, left);
        self.table.identified(id, &mut self.parts);
        if let Some(before) = before
            && (before != workload || labelled != tenant(&self.parts, workload))
        {
            self.table.identify_again(&mut self.parts, &[Party::Cgroup(id), Party::Workload(workload)]);
        }
    }

    /// A cgroup is gone.
    pub fn forget_cgroup(&mut self, at: Nanos, id: CgroupId) {
        if let Some(workload) = self.parts.ctx.directory.forget_cgroup(id) {
            self.parts.map.forget_listeners(workload);
            self.leaves(at, Some(workload));
        }
    }

    /// Identity found out who has an address.
    pub fn learn_address(&mut self, at: Nanos, ip: IpAddr, fact: &WorkloadFact) {
        let before = self.parts.ctx.directory.at_ip(ip);
        let tenant = |s: &Parts, w| s.ctx.directory.get(w).and_then(|w| w.tenant);
        let labelled = before.and_then(|w| tenant(&self.parts, w));
        let Some(workload) = self.parts.workload(fact) else { return self.forget_address(at, ip) };
        let left = self.parts.ctx.directory.learn_address(ip, workload);
        self.leaves(at, left);
        if let Some(bare) = self.parts.map.forget_bare(ip) {
            // Connections that were there first knew only the address.
            self.table.named_late(ip, bare, &mut self.parts);
        }
        if before == Some(workload) && labelled != tenant(&self.parts, workload) {
            self.table.identify_again(&mut self.parts, &[Party::Workload(workload)]);
        }
    }

    /// Whoever had an address has it no more.
    pub fn forget_address(&mut self, at: Nanos, ip: IpAddr) {
        let left = self.parts.ctx.directory.forget_address(ip);
        self.leaves(at, left);
    }

    /// Identity found out the name of the service at an address.
    pub fn learn_service(&mut self, addr: SocketAddr, name: &str) {
        let name = self.parts.ctx.names.intern(name);
        self.parts.ctx.directory.learn_service(addr, name);
    }

    /// No service has this address any more.
    pub fn forget_service(&mut self, addr: SocketAddr) {
        self.parts.ctx.directory.forget_service(addr);
    }

    /// The configuration says who is behind an address.
    pub fn add_address(&mut self, fact: &AddressFact) {
        let workload = self.parts.workload(&fact.fact);
        let rule = AddressRule { net: fact.net, prefix: fact.prefix, port: fact.port, workload };
        self.parts.ctx.directory.add_address(rule);
    }

    /// Why the processes of a cgroup tell no secrets of their handshakes. The last that is said counts.
    pub fn tls_blind(&mut self, cgroup: CgroupId, why: Unread) {
        self.parts.sealing.blind(cgroup, why);
    }

    /// A secret of a key log: kept for good. `false`: it names no connection, or there is no room.
    pub fn learn_secret(&mut self, secret: &HandshakeSecret) -> bool {
        self.parts.sealing.join.learn(secret)
    }

    /// How secrets of handshakes and connections found each other.
    pub fn tls_counts(&self) -> tls::join::Counts {
        self.parts.sealing.join.counts()
    }

    /// The input has ended at `at`: everything that waits is decided with what there is.
    pub fn finish(&mut self, at: Nanos, out: &mut dyn Output) {
        self.table.finish(at, &mut self.parts, out);
        let (judge, mut seen) = self.parts.judging();
        judge.contradicted(&mut seen, out);
        judge.detect(&RuleEvent::End(at), &mut seen, out);
        judge.release(at, true, &mut seen, out);
        self.parts.ctx.names.refresh();
        let (judge, seen) = self.parts.judging();
        judge.hand_out(at, true, &seen, out);
    }
}

#[cfg(test)]
mod tests;
