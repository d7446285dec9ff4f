//! Shared queues in the accuracy page: what must be found of each case, and what was. Whose each job is and whose rows it
//! got is written down by producers and workers themselves; a case in which nothing went wrong that should have, or the
//! other way about, counts as not played.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ::tests::lab::cases::{Judged, Twin};
use ::tests::lab::queue::Ground;
use ::tests::lab::queue_cases::{CASES, Program, QueueCase, STORMS};
use anyhow::Result;
use serde_json::{Value, json};

use crate::sh;

/// What one case came to.
pub(super) struct Row {
    case: &'static QueueCase,
    in_flight: u32,
    measured: Result<Measured, String>,
}

struct Measured {
    judged: Judged,
    /// Demanded or allowed findings that were made, by evidence class.
    classes: BTreeMap<String, usize>,
    /// Jobs done, and rows that went to a job of somebody else's.
    jobs: usize,
    foreign: u64,
}

/// Plays the cases whose name has `part` in it; `quick`: one violating and one clean case of each program, as it is
/// played first.
pub(super) fn measure(binary: &Path, part: Option<&str>, quick: bool) -> Vec<Row> {
    let mut seen = Vec::new();
    let mut chosen: Vec<(&QueueCase, u32)> = Vec::new();
    for case in CASES.iter().chain(STORMS.iter().filter(|_| !quick)) {
        let kind = (case.program, case.twin.name());
        if part.is_none_or(|part| case.name.contains(part)) && !(quick && seen.contains(&kind)) {
            seen.push(kind);
            let all = case.in_flight.iter().take(if quick { 1 } else { usize::MAX });
            chosen.extend(all.map(|in_flight| (case, *in_flight)));
        }
    }
    // A broker is started once for all cases that stand together.
    let mut ground: Option<(Program, Ground)> = None;
    let mut rows = Vec::new();
    for &(case, in_flight) in &chosen {
        let measured = play(&mut ground, case, in_flight, binary).map_err(|error| format!("{error:#}"));
        let told = match &measured {
            Err(error) => format!("FAILED: {error}"),
            Ok(m) => format!(
                "found {} of {}, {} false",
                m.judged.n_found,
                m.judged.n_found + m.judged.missed.len(),
                m.judged.false_positives.len()
            ),
        };
        sh::note(&format!("queue {:>3} of {}  {:<28} {in_flight:>2}  {told}", rows.len() + 1, chosen.len(), case.name));
        rows.push(Row { case, in_flight, measured });
    }
    rows
}

fn play(
    ground: &mut Option<(Program, Ground)>,
    case: &'static QueueCase,
    in_flight: u32,
    binary: &Path,
) -> Result<Measured> {
    let kept = ground.take().filter(|(program, _)| program.broker() == case.program.broker());
    let (_, ground) = match kept {
        Some(kept) => ground.insert(kept),
        None => ground.insert((
            case.program,
            Ground::new(case.program.broker(), &format!("accuracy-queue-{}", case.program.broker().name()))?,
        )),
    };
    let played = ground.play(case, in_flight, binary, false)?;
    let judged = case.judge(in_flight, &played.outcome.findings);
    let mut classes = BTreeMap::new();
    for finding in &played.outcome.findings {
        if !judged.false_positives.iter().any(|(_, line)| *line == finding.line) {
            *classes.entry(finding.class.clone()).or_default() += 1;
        }
    }
    for (severity, line) in &judged.false_positives {
        sh::note(&format!("false, {severity}: {line}"));
    }
    for missed in &judged.missed {
        sh::note(&format!("missed: {missed}"));
    }
    Ok(Measured { judged, classes, jobs: played.truth.done.len(), foreign: played.truth.foreign(None) })
}

/// The tables; nothing where nothing was played.
pub(super) fn markdown(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let measured = || rows.iter().filter_map(|row| row.measured.as_ref().ok().map(|m| (row, m)));
    let (mut found, mut all, mut severe, mut clean) = (0, 0, 0, 0);
    for (row, m) in measured() {
        found += m.judged.n_found;
        all += m.judged.n_found + m.judged.missed.len();
        severe += m.judged.false_positives.iter().filter(|(s, _)| s == "high" || s == "critical").count();
        clean += if row.case.twin == Twin::Clean { m.judged.false_positives.len() } else { 0 };
    }
    let mut out = String::from(
        "\n## Shared queues\n\n\
         Two tenants' producers, a broker, and a worker whose jobs have their side effects in PostgreSQL or at an HTTP \
         service. `Jobs`: done in all; `foreign`: rows of another tenant's that jobs really got.\n\n\
         | Wanted | Measured |\n|---|---|\n",
    );
    let _ = writeln!(out, "| every demanded finding is made | {found} of {all} |");
    let _ = writeln!(out, "| no false positive above medium | {severe} |");
    let _ = writeln!(out, "| no finding in a clean twin | {clean} |");
    let _ = writeln!(out, "| cases that could not be played: none | {} |", rows.len() - measured().count());
    out.push_str(
        "\n| Case | Broker and client | Twin | In flight | Jobs | Foreign | Found | Class | False |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let case = row.case;
        let _ = write!(out, "| {} | {} | {} | {} | ", case.name, case.program.name(), case.twin.name(), row.in_flight);
        match &row.measured {
            Err(error) => {
                let first = error.lines().next().unwrap_or_default().replace('|', "/");
                let _ = writeln!(out, "not played: {first} | | | | |");
            }
            Ok(m) => {
                let classes: Vec<String> = m.classes.iter().map(|(class, n)| format!("{n} {class}")).collect();
                let _ = writeln!(
                    out,
                    "{} | {} | {} of {} | {} | {} |",
                    m.jobs,
                    m.foreign,
                    m.judged.n_found,
                    m.judged.n_found + m.judged.missed.len(),
                    if classes.is_empty() { "—".to_owned() } else { classes.join(", ") },
                    m.judged.false_positives.len()
                );
            }
        }
    }
    out
}

/// How many could not be played.
pub(super) fn n_failed(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.measured.is_err()).count()
}

/// Everything, for programs.
pub(super) fn json(rows: &[Row]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            let (case, twin) = (row.case.name, row.case.twin.name());
            let service = row.case.program.name();
            match &row.measured {
                Err(error) => {
                    json!({ "case": case, "service": service, "twin": twin, "in_flight": row.in_flight, "error": error })
                }
                Ok(m) => json!({
                    "case": case,
                    "service": service,
                    "twin": twin,
                    "in_flight": row.in_flight,
                    "jobs": m.jobs,
                    "foreign": m.foreign,
                    "found": m.judged.n_found,
                    "missed": m.judged.missed,
                    "false_positives": m.judged.false_positives.iter().map(|(s, _)| s).collect::<Vec<_>>(),
                    "classes": m.classes,
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_false_or_not_played_is_in_the_table() {
        let judged = Judged {
            n_found: 1,
            missed: vec!["something".into()],
            false_positives: vec![("high".into(), String::new())],
        };
        let measured = Measured { judged, classes: [("inferred".to_owned(), 2)].into(), jobs: 24, foreign: 12 };
        let row = |measured| Row { case: CASES.first().unwrap(), in_flight: 1, measured };
        let text = markdown(&[row(Ok(measured)), row(Err("no | such\nthing".into()))]);
        for part in [
            "made | 1 of 2 |",
            "above medium | 1 |",
            "played: none | 1 |",
            "| 24 | 12 | 1 of 2 | 2 inferred | 1 |",
            "not played: no / such |",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(markdown(&[]).is_empty());
    }
}
