//! Faults at each stage, over all scripted conversations and all recordings. None makes a clean run of what was undecided
//! or an offence, none makes a finding of what was clean, and whatever became of each byte is told.

use std::collections::BTreeMap;

use super::loss::{Worst, invented, late, recorded, segments, spread, worst};
use super::scenes::{self, Scene};
use super::*;
use crate::model::settings::Limits;

/// What became of a run.
struct Run {
    worst: Worst,
    data: usize,
    indeterminate: usize,
    /// Something of it was missed, and it says so.
    told: bool,
    /// Bytes seen, and what became of them.
    bytes: (u64, u64),
}

impl Run {
    fn is_clean(&self) -> bool {
        self.worst.is_empty() && self.data > 0 && self.indeterminate == 0 && !self.told
    }
}

/// When something happens.
type Timed = Vec<(Nanos, Step)>;

/// A millisecond apart.
fn timed(steps: &[Step]) -> Timed {
    let mut at = Nanos::secs(1);
    let mut out = Vec::new();
    for step in steps {
        at = at + Nanos::millis(1);
        if let Step::Wait { millis } = step {
            at = at + Nanos::millis(*millis);
        }
        out.push((at, step.clone()));
    }
    out
}

fn run_on(mut engine: Engine, steps: &Timed) -> Run {
    let mut seen = Seen::default();
    let mut last = Nanos::secs(1);
    for (at, step) in steps {
        engine.handle(&step.event(*at), &mut seen);
        last = last.max(*at);
    }
    engine.handle(&Event::Tick { at: last + Nanos::secs(4) }, &mut seen);
    engine.finish(last + Nanos::secs(5), &mut seen);
    let s = engine.stats();
    let missed = s.bytes_lost + s.bytes_truncated + s.orphans + s.flows_evicted;
    let data = seen.operations.iter().filter(|op| op.starts_with("data "));
    Run {
        worst: worst(&seen),
        data: data.clone().count(),
        indeterminate: data.filter(|op| op.ends_with(" indeterminate")).count(),
        told: missed > 0 || !s.lost.is_empty() || !s.disturbances.is_empty(),
        bytes: (s.bytes_seen, s.bytes_decoded + s.bytes_opaque + s.bytes_truncated + s.bytes_lost),
    }
}

/// A fault: its name, what it makes of a run, and whether nothing is lost by it, so that all must be as it was.
struct Fault {
    name: &'static str,
    harmless: bool,
    /// At one of so many places.
    apply: fn(&[Step], usize) -> Timed,
}

fn same_stream(a: &Step, b: &Step) -> bool {
    match (a, b) {
        (Step::Segment { cookie: c, dir: d, .. }, Step::Segment { cookie: e, dir: f, .. }) => c == e && d == f,
        _ => false,
    }
}

/// The segments at place `n`, at both sockets.
fn copies(steps: &[Step], n: usize) -> Vec<usize> {
    let all = segments(steps);
    all.get(n % all.len().max(1)).cloned().unwrap_or_default()
}

fn lost(steps: &[Step], n: usize) -> Timed {
    let gone = copies(steps, n);
    let mut left = timed(steps);
    // As the kernel's counters do within a second.
    if let Some(last) = gone.last() {
        left[*last].1 = Step::Lost;
    }
    for i in gone.iter().rev().skip(1) {
        left.remove(*i);
    }
    left
}

fn doubled(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    for i in copies(steps, n).into_iter().rev() {
        let copy = out[i].clone();
        out.insert(i + 1, copy);
    }
    out
}

/// Sent again, long after, and not in the same pieces: what came before it and half of it.
fn retransmitted(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    for i in copies(steps, n).into_iter().rev() {
        let (_, Step::Segment { cookie, dir, seq, ack, bytes }) = out[i].clone() else { continue };
        let half = bytes.len().div_ceil(2);
        let closed = |(_, s): &(Nanos, Step)| matches!(s, Step::Close { cookie: c } if *c == cookie);
        let end = out.iter().position(closed).unwrap_or(out.len());
        let at = (i + 3).min(end);
        let when = out.get(at.saturating_sub(1)).map_or(out[i].0, |(when, _)| *when);
        out.insert(at, (when, Step::Segment { cookie, dir, seq, ack, bytes: bytes[..half].to_vec() }));
    }
    out
}

/// Two segments of one direction in the wrong order, each with the acknowledgement that it carries.
fn reordered(steps: &[Step], n: usize) -> Timed {
    let mut steps = steps.to_vec();
    for i in copies(&steps, n) {
        let next = (i + 1..steps.len().min(i + 4)).find(|j| same_stream(&steps[i], &steps[*j]));
        let between = |j: usize| steps[i + 1..j].iter().all(|s| matches!(s, Step::Segment { .. }));
        if let Some(j) = next.filter(|j| between(*j)) {
            steps.swap(i, j);
        }
    }
    timed(&steps)
}

/// In two pieces.
fn split(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    for i in copies(steps, n).into_iter().rev() {
        let (at, Step::Segment { cookie, dir, seq, ack, bytes }) = out[i].clone() else { continue };
        let half = bytes.len() / 2;
        let piece = |seq, bytes: &[u8]| (at, Step::Segment { cookie, dir, seq, ack, bytes: bytes.to_vec() });
        let pieces = [piece(seq, &bytes[..half]), piece(seq.wrapping_add(half as u32), &bytes[half..])];
        out.splice(i..=i, pieces);
    }
    out
}

/// Captured by half.
fn cut(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    for i in copies(steps, n) {
        let (_, Step::Segment { cookie, dir, seq, ack, bytes }) = out[i].clone() else { continue };
        let (len, half) = (bytes.len() as u32, bytes.len() / 2);
        out[i].1 = Step::Cut { cookie, dir, seq, ack, len, bytes: bytes[..half].to_vec() };
    }
    out
}

/// All processors stamp alike for a while.
fn equal_clocks(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    let (from, len) = (n % out.len().max(1), out.len());
    if let Some(at) = out.get(from).map(|(at, _)| *at) {
        out[from..len.min(from + 12)].iter_mut().filter(|(t, _)| *t > at).for_each(|(t, _)| *t = at);
    }
    out
}

/// Every other processor's clock is behind by less than lies between a cause and its effect on one of them.
fn backward_clocks(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    for (i, (at, _)) in out.iter_mut().enumerate() {
        if (i + n).is_multiple_of(2) {
            *at = Nanos(at.0 - 1_400_000);
        }
    }
    out
}

/// The agent stands still for a while; the ring is full, and what did not fit is told when it goes on.
fn stopped(steps: &[Step], n: usize) -> Timed {
    let mut out = timed(steps);
    let from = n % out.len().max(1);
    let to = (from + 9).min(out.len());
    let at = out.get(to).or(out.last()).map_or(Nanos::secs(1), |(at, _)| *at);
    // Connections that were announced meanwhile are told by their next segment, closed ones a little later.
    let mut unannounced = BTreeMap::new();
    let mut closed = Vec::new();
    for (_, step) in out.drain(from..to) {
        match step {
            Step::Open { cookie, cgroup, local, peer, .. } => {
                let open = Step::Open { cookie, cgroup, local, peer, role: Role::Unknown, starts: None };
                unannounced.insert(cookie, open);
            }
            Step::Close { cookie } => closed.push(cookie),
            _ => {}
        }
    }
    let mut rest = out.split_off(from);
    out.push((at, Step::Lost));
    for (at, step) in rest.drain(..) {
        if let Step::Segment { cookie, .. } = step {
            out.extend(unannounced.remove(&cookie).map(|open| (at, open)));
        }
        out.push((at, step));
    }
    let end = out.last().map_or(at, |(at, _)| *at);
    out.extend(closed.into_iter().map(|cookie| (end, Step::Close { cookie })));
    out
}

fn restarted(steps: &[Step], n: usize) -> Timed {
    timed(&late(steps, n % steps.len().max(1)))
}

const FAULTS: &[Fault] = &[
    Fault { name: "ring full", harmless: false, apply: lost },
    Fault { name: "doubled", harmless: true, apply: doubled },
    Fault { name: "retransmitted", harmless: true, apply: retransmitted },
    Fault { name: "reordered", harmless: false, apply: reordered },
    Fault { name: "split", harmless: true, apply: split },
    Fault { name: "cut", harmless: false, apply: cut },
    Fault { name: "equal clocks", harmless: false, apply: equal_clocks },
    Fault { name: "backward clocks", harmless: false, apply: backward_clocks },
    Fault { name: "stopped", harmless: false, apply: stopped },
    Fault { name: "restarted", harmless: false, apply: restarted },
];

fn judge(name: &str, fault: &str, n: usize, whole: &Run, part: &Run, harmless: bool, wrong: &mut Vec<String>) {
    let mut say = |what: String| wrong.push(format!("{name}, {fault} at {n}: {what}"));
    let new = invented(&whole.worst, &part.worst);
    if !new.is_empty() {
        say(format!("invented {new:?}"));
    }
    if part.is_clean() && !(whole.worst.is_empty() && whole.indeterminate == 0) {
        say("clean".to_owned());
    }
    if part.bytes.0 != part.bytes.1 {
        say(format!("{} bytes seen, {} accounted for", part.bytes.0, part.bytes.1));
    }
    if harmless && (part.worst != whole.worst || part.indeterminate != whole.indeterminate || part.data != whole.data) {
        say(format!(
            "not as without it: {} and {} of {} instead of {} of {}",
            part.worst.len(),
            part.indeterminate,
            part.data,
            whole.indeterminate,
            whole.data
        ));
    }
}

fn inject((name, steps): &Scene, places: usize) -> Vec<String> {
    let whole = run_on(engine(), &timed(steps));
    let mut wrong = Vec::new();
    judge(name, "nothing", 0, &whole, &whole, true, &mut wrong);
    for fault in FAULTS {
        for n in spread(steps.len(), places) {
            let part = run_on(engine(), &(fault.apply)(steps, n));
            judge(name, fault.name, n, &whole, &part, fault.harmless, &mut wrong);
        }
    }
    // A table with room for one connection, or for two.
    for flows in [2, 3] {
        let limits = Limits { flows, ..Limits::default() };
        let part = run_on(engine_with(Settings { operations: true, limits, ..Settings::default() }), &timed(steps));
        judge(name, "table full", flows, &whole, &part, false, &mut wrong);
    }
    wrong
}

#[test]
fn no_fault_clears_or_accuses_in_a_conversation() {
    let wrong: Vec<String> = scenes::all_scenes().iter().flat_map(|scene| inject(scene, 24)).collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_fault_clears_or_accuses_in_a_recording() {
    let mut wrong = Vec::new();
    for (name, steps) in recorded() {
        let places = (2_000 / steps.len()).clamp(1, 8);
        wrong.extend(inject(&(name.leak(), steps), places));
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same addresses and ports once more: what is said on them is judged as if they were others, whether or not the end of
/// the connections before was seen.
#[test]
fn addresses_used_again_are_another_connection() {
    for (first, second) in [(false, true), (true, false), (true, true), (false, false)] {
        let (first, second) = (scenes::handed(first), scenes::handed(second));
        let told = |ports: u16, with_close: bool| {
            let mut steps: Vec<Step> =
                first.iter().filter(|s| with_close || !matches!(s, Step::Close { .. })).cloned().collect();
            steps.extend(second.iter().map(|s| s.renumbered(10_000, ports)));
            run_on(engine(), &timed(&steps))
        };
        for with_close in [true, false] {
            let (same, others) = (told(0, with_close), told(1_000, with_close));
            let new = invented(&others.worst, &same.worst);
            assert!(new.is_empty(), "{with_close}: {new:?}");
            assert!(!same.is_clean() || others.worst.is_empty());
        }
    }
}

/// A container is gone and its cgroup's id is another tenant's: connections that were open keep whose they were.
#[test]
fn a_cgroup_that_is_gone_and_its_id_used_again() {
    let mut script = Script::default();
    let old = script.connect(ACME, DATABASE, 41_000, 8080);
    let ask = |n: usize| format!("GET /orders/{n} HTTP/1.1\r\nhost: shop\r\n\r\n").into_bytes();
    for n in 0..3 {
        script.send(old, 0, ask(n));
        script.send(old, 1, scenes::answer("200 OK", "{}"));
    }
    let before = script.steps.len();
    for n in 3..6 {
        script.send(old, 0, ask(n));
        script.send(old, 1, scenes::answer("200 OK", "{}"));
    }
    let new = script.connect(ACME, DATABASE, 41_001, 8080);
    script.send(new, 0, ask(9));
    script.send(new, 1, scenes::answer("200 OK", "{}"));
    let mut engine = engine();
    let mut seen = Seen::default();
    for (i, (at, step)) in timed(&script.steps).into_iter().enumerate() {
        if i == before {
            engine.forget_cgroup(at, CgroupId(ACME));
            let fact = WorkloadFact {
                name: "another".to_owned(),
                cgroup: "/another".to_owned(),
                tenants: vec!["initech".to_owned()],
                role: None,
                owner: None,
            };
            engine.learn_cgroup(at, CgroupId(ACME), &fact);
        }
        engine.handle(&step.event(at), &mut seen);
    }
    engine.finish(Nanos::secs(9), &mut seen);
    let whose: Vec<&str> = seen.operations.iter().filter_map(|op| op.split(' ').rev().nth(1)).collect();
    assert_eq!(whose, ["acme", "acme", "acme", "acme", "acme", "acme", "initech"]);
    assert!(seen.findings.is_empty());
}
