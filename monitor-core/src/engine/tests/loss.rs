//! Invariant 2 over all scripted conversations and all recordings: whatever of one is lost, it never shows a finding that
//! the whole of it does not.

use std::collections::BTreeMap;
use std::path::Path;

use super::scenes::{self, Scene, TENANTS};
use super::*;
use crate::model::Severity;

/// Findings by what they accuse of: the worst of each.
pub(super) type Worst = BTreeMap<(&'static str, String, String), Severity>;

/// A finding that a part may show though the whole does not: one of the same cause.
struct SameCause {
    /// The rule that speaks of the part.
    part: &'static str,
    /// The rule that speaks of the whole, at least as severely.
    whole: &'static str,
    /// Of the same two tenants.
    same_tenants: bool,
    /// Why it is true all the same.
    why: &'static str,
}

/// All of them.
const SAME_CAUSE: &[SameCause] = &[
    SameCause {
        part: "pool-reuse-unrevalidated",
        whole: "pool-stale-binding",
        same_tenants: true,
        why: "the binding that was left behind is lost; that another's use follows without one of its own stays true",
    },
    SameCause {
        part: "queue-tenant-missing",
        whole: "queue-tenant-missing",
        same_tenants: false,
        why: "several publish to one queue without a tenant; whoever's message comes second is told",
    },
];

pub(super) fn worst(seen: &Seen) -> Worst {
    let mut out = Worst::new();
    for f in &seen.latest {
        let name = |t: &Option<String>| t.clone().unwrap_or_default();
        let key = (f.rule, name(&f.tenants.used), name(&f.tenants.bound));
        let severity = out.entry(key).or_insert(f.severity);
        *severity = f.severity.max(*severity);
    }
    out
}

/// What `part` accuses of and `whole` does not, or not so badly.
pub(super) fn invented(whole: &Worst, part: &Worst) -> Vec<String> {
    let stands_in = |(rule, used, bound): &(&str, String, String), severity: Severity| {
        SAME_CAUSE.iter().filter(|same| same.part == *rule && !same.why.is_empty()).any(|same| {
            whole.iter().any(|((r, u, b), s)| {
                *r == same.whole && (!same.same_tenants || (u, b) == (used, bound)) && *s >= severity
            })
        })
    };
    let is_new = |(key, severity): &(&(&'static str, String, String), &Severity)| {
        whole.get(key).is_none_or(|s| s < severity) && !stands_in(key, **severity)
    };
    part.iter().filter(is_new).map(|(key, severity)| format!("{key:?} {severity:?}")).collect()
}

/// The connection that a step is of: both of its sockets' cookies lead to it.
fn conn(step: &Step) -> Option<u64> {
    match step {
        Step::Open { cookie, .. }
        | Step::Segment { cookie, .. }
        | Step::Cut { cookie, .. }
        | Step::Close { cookie }
        | Step::Read { cookie, .. } => Some(cookie / 2),
        Step::Wait { .. } | Step::Lost | Step::LostOf { .. } => None,
    }
}

/// Where the segments are: each as the steps that show it, at one socket and at the other.
pub(super) fn segments(steps: &[Step]) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut latest: Option<(u64, u32, Vec<u8>)> = None;
    for (i, step) in steps.iter().enumerate() {
        let Step::Segment { cookie, seq, bytes, .. } = step else { continue };
        let this = (cookie / 2, *seq, bytes.clone());
        match out.last_mut() {
            Some(copies) if latest.as_ref() == Some(&this) => copies.push(i),
            _ => out.push(vec![i]),
        }
        latest = Some(this);
    }
    out
}

/// The steps that are left when `lost` are, and whether nothing on the wire shows that any is: then the source has to
/// say so, as the kernel's counters do within a second.
fn without(steps: &[Step], lost: &[usize]) -> (Vec<Step>, Option<usize>) {
    let is_lost = |i: usize| lost.binary_search(&i).is_ok();
    let unseen = lost.iter().copied().find(|l| {
        let goes_on = |(i, s): (usize, &Step)| {
            i > *l && !is_lost(i) && matches!(s, Step::Segment { .. }) && conn(s) == conn(&steps[*l])
        };
        !steps.iter().enumerate().any(goes_on)
    });
    let left = steps.iter().enumerate().map(|(i, s)| if is_lost(i) { Step::Wait { millis: 0 } } else { s.clone() });
    (left.collect(), unseen)
}

/// What is seen by an agent that begins at step `from`: sockets that were open already are told by their next bytes.
pub(super) fn late(steps: &[Step], from: usize) -> Vec<Step> {
    let mut open: BTreeMap<u64, Step> = BTreeMap::new();
    for step in &steps[..from] {
        match step {
            Step::Open { cookie, cgroup, local, peer, .. } => {
                let (cgroup, local, peer) = (*cgroup, *local, *peer);
                let old = Step::Open { cookie: *cookie, cgroup, local, peer, role: Role::Unknown, starts: None };
                open.insert(*cookie, old);
            }
            Step::Close { cookie } => drop(open.remove(cookie)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for step in &steps[from..] {
        if let Step::Segment { cookie, .. } = step {
            out.extend(open.remove(cookie));
        }
        out.push(step.clone());
    }
    out
}

/// Plays steps; after `told`, the source says within a second that something was lost.
fn play_part(steps: &[Step], told: Option<usize>) -> Worst {
    let mut steps = steps.to_vec();
    if let Some(told) = told {
        steps.insert(told + 1, Step::Lost);
    }
    worst(&all(&steps))
}

/// So many of `n`, spread evenly and always the same.
pub(super) fn spread(n: usize, of: usize) -> impl Iterator<Item = usize> {
    let step = n.div_ceil(of.max(1)).max(1);
    (0..n).step_by(step)
}

/// How much of a scene is tried: plays of each kind.
#[derive(Clone, Copy)]
struct Effort {
    singles: usize,
    pairs: usize,
    stretches: usize,
    starts: usize,
}

/// Loses parts of a scene in every way; gives what was invented.
fn harm((name, steps): &Scene, effort: Effort) -> Vec<String> {
    let whole = worst(&all(steps));
    let mut wrong = Vec::new();
    let mut judge = |what: String, part: &Worst| {
        let new = invented(&whole, part);
        if !new.is_empty() {
            wrong.push(format!("{name}, {what}: {new:?}"));
        }
    };
    let all_segments = segments(steps);
    let n = all_segments.len();
    let mut lose = |what: String, lost: &[usize]| {
        let mut lost: Vec<usize> = lost.iter().flat_map(|s| all_segments[*s].iter().copied()).collect();
        lost.sort_unstable();
        let (left, unseen) = without(steps, &lost);
        judge(what, &play_part(&left, unseen));
    };
    for one in spread(n, effort.singles) {
        lose(format!("without segment {one}"), &[one]);
    }
    for pair in spread(n * n, effort.pairs) {
        let (a, b) = (pair / n, (pair * 7 + pair / n) % n);
        if a != b {
            lose(format!("without segments {a} and {b}"), &[a, b]);
        }
    }
    for (i, first) in spread(n, effort.stretches).enumerate() {
        let length = [2, 3, 5, 8, 13][i % 5];
        let stretch: Vec<usize> = (first..n.min(first + length)).collect();
        lose(format!("without {length} segments from {first}"), &stretch);
    }
    // One direction of one connection alone, and of all.
    let whose = |s: &Vec<usize>| match &steps[s[0]] {
        Step::Segment { cookie, dir, .. } => (cookie / 2, (cookie % 2 == 1) != (*dir == Direction::Rx)),
        _ => unreachable!(),
    };
    let directions: BTreeSet<(u64, bool)> = all_segments.iter().map(whose).collect();
    for direction in &directions {
        let lost: Vec<usize> = (0..n).filter(|s| whose(&all_segments[*s]) == *direction).collect();
        lose(format!("without direction {direction:?}"), &lost);
    }
    for from_server in [true, false] {
        let lost: Vec<usize> = (0..n).filter(|s| whose(&all_segments[*s]).1 == from_server).collect();
        lose(format!("without what {} sent", if from_server { "servers" } else { "clients" }), &lost);
    }
    for from in spread(steps.len(), effort.starts) {
        judge(format!("from step {from}"), &play_part(&late(steps, from), None));
    }
    wrong
}

#[test]
fn whatever_is_lost_of_a_conversation_never_makes_a_finding() {
    let effort = Effort { singles: usize::MAX, pairs: 150, stretches: 60, starts: usize::MAX };
    let wrong: Vec<String> = scenes::all_scenes().iter().flat_map(|scene| harm(scene, effort)).collect();
    assert!(wrong.is_empty(), "{} invented:\n{}", wrong.len(), wrong.join("\n"));
}

/// The recordings of all decoders, each played by two tenants beside each other at one server. What of a recording nobody
/// else can have (`NAME.one`: a session's id, a token) is another for the second: its first lines `= HEX HEX` say which.
pub(super) fn recorded() -> Vec<(String, Vec<Step>)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(golden)
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "in" || e == "one"))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (format!("{} by two", path.file_stem().unwrap().to_string_lossy()), by_two(&text, true))
        })
        .collect()
}

/// A recording as two tenants play it; the second with what is its own, or with all that the first has.
fn by_two(recording: &str, with_own: bool) -> Vec<Step> {
    let bytes =
        |hex: &str| (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let (mut script, mut own) = (Script::default(), Vec::new());
    let conns = TENANTS.map(|who| script.connect(who, DATABASE, 41_000 + who as u16, 9_999));
    for line in recording.lines() {
        let (side, hex) = line.split_once(' ').unwrap();
        if side == "=" {
            own.extend(hex.split_once(' ').filter(|_| with_own));
            continue;
        }
        let others = own.iter().fold(hex.to_owned(), |hex, (first, second)| hex.replace(first, second));
        for (conn, hex) in conns.into_iter().zip([hex, &others]) {
            script.send(conn, usize::from(side == "S"), bytes(hex));
        }
    }
    script.steps.push(Step::Wait { millis: 4_000 });
    conns.into_iter().for_each(|c| script.close(c));
    script.steps
}

#[test]
fn whatever_is_lost_of_a_recording_never_makes_a_finding() {
    let mut wrong = Vec::new();
    for (name, steps) in recorded() {
        // Long recordings are tried at fewer places.
        let n = (20_000 / steps.len()).clamp(4, 60);
        let effort = Effort { singles: n, pairs: n / 4, stretches: n / 4, starts: n / 4 };
        wrong.extend(harm(&(name.leak(), steps), effort));
    }
    assert!(wrong.is_empty(), "{} invented:\n{}", wrong.len(), wrong.join("\n"));
}

/// Who plays a recording with another's session and token is found out by that alone, and whom each finding names first depends
/// on what is lost: that is no loss' doing.
#[test]
fn a_recording_is_played_by_a_second_one_with_what_is_his_own() {
    let one = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/http2/mcp.one");
    let text = std::fs::read_to_string(one).unwrap();
    for rule in ["mcp-session-cross-tenant", "mcp-token-fanout"] {
        let found = |with_own| worst(&all(&by_two(&text, with_own))).keys().any(|(found, ..)| *found == rule);
        assert_eq!((found(true), found(false)), (false, true), "{rule}");
    }
}
