//! Processes as a script plays them: a thread per request, an event loop, hand-over to a pool, work stealing, jobs of
//! their own. Where a basis would be wrong, it must abstain.

use rustc_hash::FxHashMap;

use super::*;
use crate::model::{ConnId, Fingerprint, Protocol, RequestKey, RequestNo, ServiceId, Sym, ThreadId, UnitNo};

const SHAPE: Shape = (ServiceId(0), Sym(10), Sym(11));
const JOB: Shape = (ServiceId(0), Sym(12), Sym(13));

/// How a process works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    /// Each request stays with a thread of its own.
    ThreadPerRequest,
    /// One thread does everything, requests interleave.
    EventLoop,
    /// One thread reads and answers, others do the work.
    HandOver,
    /// A request goes on with whichever of few threads is free.
    Stealing,
}

/// A process with its requests, a source of chance, and what was said of it.
struct Play {
    process: SharedProcess,
    at: u64,
    chance: u64,
    next: u64,
    /// One of so many senders goes before the answer; 0: none.
    deserters: u64,
    right: FxHashMap<Basis, u32>,
    wrong: FxHashMap<Basis, u32>,
    why: FxHashMap<(Basis, &'static str), u32>,
}

/// A request under way.
#[derive(Clone, Copy)]
struct Going {
    key: RequestKey,
    tenant: TenantId,
    thread: u32,
}

fn ids(n: u64) -> Fingerprint {
    Fingerprint(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Play {
    fn new() -> Self {
        let mut process = SharedProcess::default();
        process.followed = true;
        Self {
            process,
            at: 1_000_000_000_000,
            chance: 7,
            next: 0,
            deserters: 0,
            right: FxHashMap::default(),
            wrong: FxHashMap::default(),
            why: FxHashMap::default(),
        }
    }

    fn now(&mut self, micros: u64) -> Nanos {
        self.at += micros * 1000;
        Nanos(self.at)
    }

    /// A number below `n`.
    fn any(&mut self, n: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % n
    }

    fn arrive(&mut self, values: bool) -> Going {
        self.next += 1;
        let key = (ConnId(self.next as u32), RequestNo::Sent(1));
        let tenant = TenantId((self.next % 2) as u32);
        let at = self.now(50);
        self.process.arrived(key, Whom::Tenant(tenant, EvidenceClass::Endpoint), Protocol::Http, at);
        if values {
            self.process.carries_value(key, ids(self.next));
            self.process.carries_value(key, ids(u64::MAX));
        }
        Going { key, tenant, thread: 100 + (self.next % 40) as u32 }
    }

    /// One unit of work for `going`, by `thread`.
    fn work(
        &mut self,
        going: Option<Going>,
        thread: Option<u32>,
        shape: Shape,
        value: bool,
    ) -> (Borrow, Option<TenantId>) {
        let at = self.now(100);
        let mut b = Borrow::begin(&self.process, at);
        b.thread.and(thread.map(ThreadId));
        self.process.worked.text();
        if let Some(g) = going.filter(|_| value) {
            for value in [ids(u64::from(g.key.0.0)), ids(u64::MAX)] {
                b.carries_value(&self.process, value);
                self.process.worked.seen(value);
            }
        }
        let done = self.now(300);
        b.worked(shape, done);
        self.process.quiet.work(shape, at, !b.candidates.is_empty());
        (b, going.map(|g| g.tenant))
    }

    fn answer(&mut self, going: Going, thread: Option<u32>) {
        let at = self.now(50);
        if let Some(thread) = thread {
            self.process.affinity.answers(ThreadId(thread), at);
        }
        self.process.answered(going.key, at, thread.map(ThreadId));
    }

    fn look(&mut self, unit: &(Borrow, Option<TenantId>)) {
        let now = Nanos(self.at);
        let why = &mut self.why;
        let t =
            resolve((ConnId(0), UnitNo(0)), &unit.0, &mut self.process, &BasisPolicy::default(), now, &mut |(b, w)| {
                if let Some(w) = w {
                    *why.entry((b, w)).or_default() += 1;
                }
            });
        for (basis, tenant) in t.votes.iter().copied().chain(t.settled.map(|s| (s.basis, s.tenant))) {
            let n = if Some(tenant) == unit.1 { &mut self.right } else { &mut self.wrong };
            *n.entry(basis).or_default() += 1;
        }
    }

    /// `n` requests, `together` at once, each doing three units of work.
    fn serve(&mut self, model: Model, n: usize, together: usize, values: bool) {
        let mut going: Vec<(Going, u32)> = Vec::new();
        let mut units = Vec::new();
        let mut started = 0;
        while started < n || !going.is_empty() {
            if started < n && (going.len() < together) {
                started += 1;
                let g = self.arrive(values);
                going.push((g, 0));
            }
            let at = self.any(going.len() as u64) as usize;
            let (g, done) = going[at];
            let few = self.any(4) as u32;
            let (works, answers) = match model {
                Model::ThreadPerRequest => (g.thread, g.thread),
                Model::EventLoop => (1, 1),
                Model::HandOver => (10 + few, 1),
                Model::Stealing => (1 + few, 1 + self.any(4) as u32),
            };
            if done < 3 {
                going[at].1 += 1;
                let unit = self.work(Some(g), Some(works), SHAPE, values);
                units.push(unit);
                if done == 0 && self.deserters > 0 && self.any(self.deserters) == 0 {
                    // The process works on: nobody will see for how long.
                    self.process.deserted(g.key);
                }
            } else {
                if !self.process.request(g.key).is_some_and(|r| r.deserted) {
                    self.answer(g, Some(answers));
                }
                going.swap_remove(at);
                if together == 1 {
                    self.now(500);
                }
            }
            if units.len() > 50 && going.is_empty() || units.len() > 400 {
                for unit in units.drain(..units.len() - going.len() * 3) {
                    self.look(&unit);
                }
            }
        }
        for unit in units {
            self.look(&unit);
        }
    }

    fn n(&self, basis: Basis) -> (u32, u32) {
        (self.right.get(&basis).copied().unwrap_or(0), self.wrong.get(&basis).copied().unwrap_or(0))
    }
}

#[test]
fn a_thread_per_request_tells_nearly_all() {
    let mut p = Play::new();
    p.serve(Model::ThreadPerRequest, 600, 16, false);
    let (right, wrong) = p.n(Basis::SameThread);
    assert!(right > 1600 && wrong == 0, "{right} right, {wrong} wrong of 1800; {:?}", p.why);
}

#[test]
fn an_event_loop_is_not_told_by_its_thread_but_by_values() {
    let mut p = Play::new();
    p.serve(Model::EventLoop, 600, 16, true);
    let (right, wrong) = p.n(Basis::SameThread);
    assert!(right + wrong < 40 && wrong == 0, "{right} right, {wrong} wrong");
    let (right, wrong) = p.n(Basis::ValueFlow);
    assert!(right > 1700 && wrong == 0, "{right} right, {wrong} wrong of 1800; {:?}", p.why);
}

#[test]
fn hand_over_and_work_stealing_are_not_told_by_threads() {
    for model in [Model::HandOver, Model::Stealing] {
        for together in [1, 2, 16] {
            let mut p = Play::new();
            p.serve(model, 600, together, false);
            let (right, wrong) = p.n(Basis::SameThread);
            assert!(wrong <= 4 && right < 90, "{model:?} {together}: {right} right, {wrong} wrong");
        }
    }
}

#[test]
fn one_at_a_time_is_bracketed_whatever_the_model() {
    for model in [Model::ThreadPerRequest, Model::EventLoop, Model::HandOver, Model::Stealing] {
        let mut p = Play::new();
        p.serve(model, 200, 1, false);
        let (right, wrong) = p.n(Basis::Bracketed);
        assert!(right > 540 && wrong == 0, "{model:?}: {right} right, {wrong} wrong of 600; {:?}", p.why);
    }
}

#[test]
fn a_job_of_its_own_is_nobodys() {
    // A timer fires whether or not somebody asks, in the event loop's own thread.
    let mut p = Play::new();
    for round in 0..300 {
        p.serve(Model::EventLoop, 1, 1, false);
        if round % 3 == 0 {
            let job = p.work(None, Some(1), JOB, false);
            p.look(&job);
        }
        if round % 5 == 0 {
            let g = p.arrive(false);
            let job = p.work(None, Some(1), JOB, false);
            let own = p.work(Some(g), Some(1), SHAPE, false);
            p.answer(g, Some(1));
            p.look(&job);
            p.look(&own);
        }
    }
    for basis in [Basis::Bracketed, Basis::OnlyTenant, Basis::SameThread] {
        let (_, wrong) = p.n(basis);
        assert_eq!(wrong, 0, "{basis:?} {:?}", p.why);
    }
}

#[test]
fn nothing_is_said_while_somebody_unseen_may_be_in_flight() {
    let mut p = Play::new();
    p.serve(Model::ThreadPerRequest, 200, 1, true);
    let before = (p.right.clone(), p.wrong.clone());
    p.process.miss(Nanos(p.at));
    p.serve(Model::ThreadPerRequest, 20, 1, true);
    assert_eq!((p.right, p.wrong), before);
    assert!(p.why.contains_key(&(Basis::Bracketed, "something was missed")));
}

#[test]
fn a_request_whose_sender_has_gone_misleads_nobody_and_blinds_nobody() {
    for model in [Model::ThreadPerRequest, Model::EventLoop, Model::HandOver, Model::Stealing] {
        for together in [1, 2, 16] {
            let mut p = Play::new();
            p.serve(model, 100, together, true);
            let before = p.n(Basis::ValueFlow).0;
            p.deserters = 20;
            p.serve(model, 400, together, true);
            for basis in [Basis::Bracketed, Basis::OnlyTenant, Basis::SameThread, Basis::ValueFlow] {
                // As many as where nobody goes, by threads that mislead at times.
                let most = if basis == Basis::SameThread { 4 } else { 0 };
                assert!(p.n(basis).1 <= most, "{model:?} {together} {basis:?}: {:?}", p.n(basis));
            }
            let told = p.n(Basis::ValueFlow).0 - before;
            assert!(told > 1150, "{model:?} {together}: {told} of 1200 by their values; {:?}", p.why);
            let after = DESERTED + Nanos(p.at);
            p.at = after.0;
            let open = p.process.open().collect::<Vec<_>>();
            assert!(!open.is_empty() && !p.process.is_clear(after));
            open.into_iter().for_each(|key| p.process.answered(key, after, None));
            assert!(p.process.is_clear(after) && p.process.only_tenant().is_none());
        }
    }
}

#[test]
fn a_trace_id_that_two_tenants_carry_leads_nowhere() {
    let mut p = Play::new();
    let (a, b) = (p.arrive(false), p.arrive(false));
    for (key, ids_of) in [(a.key, [1, 3]), (b.key, [2, 3])] {
        for id in ids_of {
            p.process.carries_trace(key, ids(id));
        }
    }
    let lead = |p: &mut Play, id| {
        let mut borrow = Borrow::begin(&p.process, Nanos(p.at));
        borrow.carries_trace(&p.process, ids(id));
        resolve((ConnId(0), UnitNo(0)), &borrow, &mut p.process, &BasisPolicy::default(), Nanos(p.at), &mut |_| {})
            .settled
    };
    let found = lead(&mut p, 1).unwrap();
    assert_eq!((found.tenant, found.basis, found.class), (a.tenant, Basis::TraceId, EvidenceClass::Endpoint));
    assert_eq!(lead(&mut p, 2).map(|f| f.tenant), Some(b.tenant));
    assert_eq!(lead(&mut p, 3), None);
    assert_eq!(lead(&mut p, 4), None);
}
