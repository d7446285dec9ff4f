//! MCP in the accuracy page: what must be found of each case, and what was. A case whose mistake did not happen, as the
//! clients themselves saw it, counts as not played.

use std::fmt::Write as _;
use std::path::Path;

use ::tests::lab::cases::{Judged, Twin};
use ::tests::lab::mcp_cases::{CASES, Case, Stage};
use anyhow::Result;
use serde_json::{Value, json};

use crate::sh;

/// What one case came to.
pub(super) struct Row {
    case: &'static Case,
    in_flight: u32,
    measured: Result<Judged, String>,
}

/// Plays the cases whose name has `part` in it; `quick`: only as each is played first.
pub(super) fn measure(binary: &Path, part: Option<&str>, quick: bool) -> Vec<Row> {
    let chosen: Vec<(&Case, u32)> = CASES
        .iter()
        .filter(|case| part.is_none_or(|part| case.name.contains(part)))
        .flat_map(|case| case.in_flight.iter().take(if quick { 1 } else { usize::MAX }).map(move |n| (case, *n)))
        .collect();
    let mut rows = Vec::new();
    for &(case, in_flight) in &chosen {
        let measured = play(case, in_flight, binary).map_err(|error| format!("{error:#}"));
        let told = match &measured {
            Err(error) => format!("FAILED: {error}"),
            Ok(judged) => format!("found {}, {} false", found(judged), judged.false_positives.len()),
        };
        sh::note(&format!("mcp {:>3} of {}  {:<30} {in_flight:>2}  {told}", rows.len() + 1, chosen.len(), case.name));
        rows.push(Row { case, in_flight, measured });
    }
    rows
}

fn play(case: &'static Case, in_flight: u32, binary: &Path) -> Result<Judged> {
    let mut stage = Stage::new(case, in_flight, &format!("accuracy-{}-{in_flight}", case.name), binary)?;
    let judged = case.judge(&stage.play()?.findings);
    for (severity, line) in &judged.false_positives {
        sh::note(&format!("false, {severity}: {line}"));
    }
    for missed in &judged.missed {
        sh::note(&format!("missed: {missed}"));
    }
    Ok(judged)
}

fn found(judged: &Judged) -> String {
    format!("{} of {}", judged.n_found, judged.n_found + judged.missed.len())
}

/// The rules that a case demands, or, in a clean twin, the rules that must be silent.
fn about(case: &Case) -> String {
    let mut rules: Vec<&str> = case.must.iter().map(|must| must.rule).chain(case.silent.iter().copied()).collect();
    rules.dedup();
    if rules.is_empty() { "—".to_owned() } else { rules.join(", ") }
}

/// The tables; nothing where nothing was played.
pub(super) fn markdown(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let (mut n_found, mut n_demanded, mut severe, mut clean, mut unplayed) = (0, 0, 0, 0, 0);
    for row in rows {
        let Ok(judged) = &row.measured else {
            unplayed += 1;
            continue;
        };
        n_found += judged.n_found;
        n_demanded += judged.n_found + judged.missed.len();
        severe += judged.false_positives.iter().filter(|(s, _)| s == "high" || s == "critical").count();
        clean += if row.case.twin == Twin::Clean { judged.false_positives.len() } else { 0 };
    }
    let mut out = String::from(
        "\n## MCP servers\n\n\
         Servers on the official SDKs that two tenants share, and the tenants' clients. `Rules`: those that must speak \
         in a violating twin, and those that must be silent in a clean one, where nothing else may speak at medium or \
         above.\n\n| Wanted | Measured |\n|---|---|\n",
    );
    let _ = writeln!(out, "| every demanded finding is made | {n_found} of {n_demanded} |");
    let _ = writeln!(out, "| no false positive above medium | {severe} |");
    let _ = writeln!(out, "| no untrue finding in a clean twin | {clean} |");
    let _ = writeln!(out, "| cases that could not be played: none | {unplayed} |");
    out.push_str("\n| Case | Server | Twin | In flight | Rules | Found | False |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let case = row.case;
        let _ = write!(
            out,
            "| {} | {} | {} | {} | {} | ",
            case.name,
            case.sdk.name(),
            case.twin.name(),
            row.in_flight,
            about(case)
        );
        let _ = match &row.measured {
            Err(error) => {
                let first = error.lines().next().unwrap_or_default().replace('|', "/");
                writeln!(out, "not played: {first} | |")
            }
            Ok(judged) => writeln!(out, "{} | {} |", found(judged), judged.false_positives.len()),
        };
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
            let (case, service, twin) = (row.case.name, row.case.sdk.name(), row.case.twin.name());
            match &row.measured {
                Err(error) => {
                    json!({ "case": case, "service": service, "twin": twin, "in_flight": row.in_flight, "error": error })
                }
                Ok(judged) => json!({
                    "case": case,
                    "service": service,
                    "twin": twin,
                    "in_flight": row.in_flight,
                    "found": judged.n_found,
                    "missed": judged.missed,
                    "false_positives": judged.false_positives.iter().map(|(s, _)| s).collect::<Vec<_>>(),
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
        let row = |measured| Row { case: CASES.first().unwrap(), in_flight: 1, measured };
        let text = markdown(&[row(Ok(judged)), row(Err("no | such\nthing".into()))]);
        for part in ["made | 1 of 2 |", "above medium | 1 |", "played: none | 1 |", "| 1 of 2 | 1 |", "no / such |"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(markdown(&[]).is_empty());
    }
}
