//! Recipes of frameworks in the accuracy page: what must be found of each faulty twin, and that nothing at medium or above
//! is found of the clean ones.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ::tests::lab::cases::{Judged, Twin};
use ::tests::lab::recipe_cases::{CASES, Case};
use ::tests::lab::recipes::Stage;
use anyhow::Result;
use serde_json::{Value, json};

use crate::sh;

/// What one case came to.
pub(super) struct Row {
    case: &'static Case,
    in_flight: u32,
    measured: Result<Measured, String>,
}

struct Measured {
    judged: Judged,
    /// What was said and counts, by rule, severity and class.
    told: Vec<String>,
    /// Findings below medium.
    low: usize,
}

/// Plays the cases whose name has `part` in it, with these requests in flight or with the case's own; `quick`: the first
/// violating and the first clean one of each framework, as it is played first.
pub(super) fn measure(binary: &Path, part: Option<&str>, in_flight: &[u32], quick: bool, keep: bool) -> Vec<Row> {
    let mut seen = Vec::new();
    let mut chosen: Vec<(&Case, u32)> = Vec::new();
    for case in CASES.iter().filter(|case| part.is_none_or(|part| case.name.contains(part))) {
        let kind = (case.recipe, case.twin.name());
        if !(quick && seen.contains(&kind)) {
            seen.push(kind);
            let wanted = if in_flight.is_empty() { case.in_flight } else { in_flight };
            chosen.extend(wanted.iter().take(if quick { 1 } else { usize::MAX }).map(|n| (case, *n)));
        }
    }
    let mut rows = Vec::new();
    for &(case, in_flight) in &chosen {
        let measured = play(case, in_flight, binary, keep).map_err(|error| format!("{error:#}"));
        let told = match &measured {
            Err(error) => format!("FAILED: {error}"),
            Ok(m) => {
                format!("found {}, {} false; {}", found(&m.judged), m.judged.false_positives.len(), m.told.join(", "))
            }
        };
        sh::note(&format!(
            "recipe {:>3} of {}  {:<42} {in_flight:>2}  {told}",
            rows.len() + 1,
            chosen.len(),
            case.name
        ));
        rows.push(Row { case, in_flight, measured });
    }
    rows
}

fn play(case: &'static Case, in_flight: u32, binary: &Path, keep: bool) -> Result<Measured> {
    let mut stage = Stage::new(case, in_flight, &format!("accuracy-{}-{in_flight}", case.name))?;
    let (outcome, recording) = stage.play(binary, keep)?;
    let judged = case.judge(&outcome.findings);
    for (severity, line) in &judged.false_positives {
        sh::note(&format!("false, {severity}: {line}"));
    }
    for missed in &judged.missed {
        sh::note(&format!("missed: {missed}"));
    }
    if let Some(recording) = recording.filter(|_| !keep) {
        fs::remove_file(recording)?;
    }
    let (low, told): (Vec<_>, Vec<_>) =
        outcome.findings.iter().partition(|f| matches!(f.severity.as_str(), "info" | "low"));
    let mut told: Vec<String> = told.iter().map(|f| format!("{} ({}, {})", f.rule, f.severity, f.class)).collect();
    told.sort();
    told.dedup();
    Ok(Measured { judged, told, low: low.len() })
}

fn found(judged: &Judged) -> String {
    format!("{} of {}", judged.n_found, judged.n_found + judged.missed.len())
}

/// The tables; nothing where nothing was played.
pub(super) fn markdown(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let measured =
        |twin: Twin| rows.iter().filter(move |r| r.case.twin == twin).filter_map(|r| r.measured.as_ref().ok());
    let is_demanded = |row: &Row| !row.case.blind_together || row.in_flight == 1;
    let (mut n_found, mut n_demanded) = (0, 0);
    for row in rows.iter().filter(|row| is_demanded(row)) {
        if let Ok(m) = &row.measured {
            n_found += m.judged.n_found;
            n_demanded += m.judged.n_found + m.judged.missed.len();
        }
    }
    let n_clean = measured(Twin::Clean).count();
    let false_clean: usize = measured(Twin::Clean).map(|m| m.judged.false_positives.len()).sum();
    let false_faulty: usize = measured(Twin::Violating).map(|m| m.judged.false_positives.len()).sum();
    let mut out = String::from(
        "\n## Recipes of frameworks\n\n\
         Released frameworks and libraries, used for two tenants as their own documentation, or a public bug report, has \
         it, on real servers. `Said`: what counts, that is medium or above; in a clean twin all of it is false. ¹ With \
         several requests in flight nothing tells these apart: what is missed then is shown, not demanded.\n\n\
         | Wanted | Measured |\n|---|---|\n",
    );
    let _ = writeln!(out, "| legitimate patterns tried, each alone and with 16 in flight | {n_clean} |");
    let _ = writeln!(out, "| false findings of medium or above in these: none | {false_clean} |");
    let _ = writeln!(out, "| hints below medium in these | {} |", measured(Twin::Clean).map(|m| m.low).sum::<usize>());
    let _ = writeln!(out, "| faulty twins: every demanded finding is made | {n_found} of {n_demanded} |");
    let _ = writeln!(out, "| untrue findings of medium or above in faulty twins: none | {false_faulty} |");
    let _ = writeln!(out, "| cases that could not be played: none | {} |", n_failed(rows));
    out.push_str("\n| Case | Made of | Twin | In flight | Found | False | Said |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let case = row.case;
        let mark = if is_demanded(row) { "" } else { " ¹" };
        let _ =
            write!(out, "| {}{mark} | {} | {} | {} | ", case.name, case.recipe.name, case.twin.name(), row.in_flight);
        let _ = match &row.measured {
            Err(error) => {
                let first = error.lines().next().unwrap_or_default().replace('|', "/");
                writeln!(out, "not played: {first} | | |")
            }
            Ok(m) => {
                let said = if m.told.is_empty() { "—".to_owned() } else { m.told.join(", ") };
                writeln!(out, "{} | {} | {said} |", found(&m.judged), m.judged.false_positives.len())
            }
        };
    }
    out.push_str(OTHERS);
    out
}

/// What stands in no table of this page.
const OTHERS: &str = "
### What was tried that nobody here wrote, and what is only scripted

| What | How | Came to |
|---|---|---|
| the frameworks and libraries of the table above | released versions against real servers | the table above |
| node-postgres: a client released without `ROLLBACK`; redis-py 4.5.1: a cancelled command; django-multitenant: a tenant \
left behind; MCP SDKs 1.25.3 and 1.26.0; one cookie jar for all callers; a chat history under a default key | public bug \
reports, with the released software that has the fault | cases `recipe-node-no-rollback`, `redis-cancelled-4.5.1`, \
`…-carried`, `mcp-one-transport-1.25.3`, `mcp-session-of-another`, `recipe-httpx-one-jar`, `recipe-chat-default-key` |
| Rails Apartment, acts_as_tenant, Laravel tenancy, Hibernate, Spring, Npgsql, Ecto, PostgREST, Supabase: runtimes or engines \
that are not installed here | statements as their documentation has them, scripted (`monitor-core/src/engine/tests/recipes.rs`), through a pooler \
and in an application, with any stretch lost | no false finding of medium or above, every faulty twin found |
| texts of tools: legitimate ones with words of warning, and orders to a model | scripted \
(`tool-description-poisoned`, `tool-output-injection`) | 37 legitimate: none above low; 29 orders: all found |
| any event, two, or a stretch lost of every scripted conversation and every recording; late starts; one direction only | \
scripted, a property over all of them (`monitor-core/src/engine/tests/loss.rs`, `monitor-core/tests/late.rs`) | no finding that the \
whole does not have |
";

/// How many could not be played.
pub(super) fn n_failed(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.measured.is_err()).count()
}

/// Everything, for programs.
pub(super) fn json(rows: &[Row]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            let (case, service, twin) = (row.case.name, row.case.recipe.name, row.case.twin.name());
            match &row.measured {
                Err(error) => {
                    json!({ "case": case, "service": service, "twin": twin, "in_flight": row.in_flight, "error": error })
                }
                Ok(m) => json!({
                    "case": case,
                    "service": service,
                    "twin": twin,
                    "in_flight": row.in_flight,
                    "found": m.judged.n_found,
                    "missed": m.judged.missed,
                    "false_positives": m.judged.false_positives.iter().map(|(s, _)| s).collect::<Vec<_>>(),
                    "told": m.told,
                    "low": m.low,
                }),
            }
        })
        .collect()
}
