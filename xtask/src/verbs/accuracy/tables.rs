//! What was measured, as tables for people and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ::tests::lab::cases::Twin;
use ::tests::lab::truth::{Counts, Tally, class_of};
use serde_json::{Value, json};

use super::{Measured, Row, SWITCHABLE};

/// `docs/accuracy.md`.
pub(super) fn document(rows: &[Row], others: &str, date: &str, versions: &[(String, String)]) -> String {
    let mut out = format!(
        "# Accuracy through a shared process\n\n\
         Measured on {date} by `cargo xtask accuracy`, which writes this page: real services, each in a cgroup of its \
         own, two tenants' clients, and the agent on their sockets. What the agent says is compared with what the \
         services themselves wrote down for each operation on their pools. Nobody but them knows it: tokens are \
         opaque, and the notes go to a file.\n\n"
    );
    out.push_str(&markdown(rows));
    out.push_str(others);
    out.push_str("\n## Versions\n\n| What | Version |\n|---|---|\n");
    for (name, version) in versions {
        let _ = writeln!(out, "| {name} | {version} |");
    }
    out
}

/// The tables.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut out = String::new();
    targets(&mut out, rows);
    scenarios(&mut out, rows);
    by_basis(&mut out, rows);
    alone(&mut out, rows);
    out
}

fn measured(rows: &[Row]) -> impl Iterator<Item = (&Row, &Measured)> {
    rows.iter().filter_map(|row| row.measured.as_ref().ok().map(|m| (row, m)))
}

fn concurrencies(rows: &[Row]) -> BTreeSet<u32> {
    rows.iter().map(|row| row.concurrency).collect()
}

/// `97.3 %`, or a dash when there is nothing to divide by.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "—".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// Operations that were for somebody.
fn of_somebody(tally: &Tally) -> u64 {
    let sum = tally.sum(|_| true);
    sum.right + sum.wrong + tally.abstained
}

/// What is wanted, and what came of it.
fn targets(out: &mut String, rows: &[Row]) {
    let above_medium = |severity: &str| severity == "high" || severity == "critical";
    let mut false_severe = 0;
    let mut false_clean = 0;
    let mut false_all = 0;
    for (row, m) in measured(rows) {
        false_all += m.judged.false_positives.len();
        false_severe += m.judged.false_positives.iter().filter(|(severity, _)| above_medium(severity)).count();
        false_clean += if row.case.twin == Twin::Clean { m.judged.false_positives.len() } else { 0 };
    }
    let wanted = |f: &dyn Fn(&Row) -> bool| {
        measured(rows).filter(|(row, _)| f(row)).fold((0, 0), |(found, all), (_, m)| {
            (found + m.judged.n_found as u64, all + (m.judged.n_found + m.judged.missed.len()) as u64)
        })
    };
    out.push_str("| Wanted | Measured |\n|---|---|\n");
    let _ = writeln!(out, "| no false positive above medium | {false_severe} (of any severity {false_all}) |");
    let _ = writeln!(out, "| no finding in a clean twin | {false_clean} |");
    let _ = writeln!(out, "| cases that could not be played: none | {} |", rows.len() - measured(rows).count());
    for n in concurrencies(rows) {
        let (found, all) = wanted(&|row| row.concurrency == n && !row.case.blind_together);
        let _ = writeln!(out, "| {n} in flight: every demanded finding is made | {found} of {all} |");
        let (found, all) = wanted(&|row| row.concurrency == n && row.case.blind_together);
        if n > 1 && all > 0 {
            let _ = writeln!(out, "| {n} in flight, requests that nothing tells apart | {found} of {all} |");
        }
    }
    // Only where somebody had to infer: what wire and endpoint settle is not counted.
    for n in concurrencies(rows).into_iter().filter(|n| *n > 1) {
        for (what, blind) in [("", false), (" (requests that nothing tells apart)", true)] {
            let mut sum = Counts::default();
            let mut open = 0;
            for (_, m) in measured(rows).filter(|(r, _)| r.concurrency == n && r.case.blind_together == blind) {
                let inferred = m.tally.sum(|basis| class_of(basis) == "inferred");
                sum.right += inferred.right;
                sum.wrong += inferred.wrong;
                open += m.tally.abstained;
            }
            let _ = writeln!(
                out,
                "| {n} in flight, operations left to inference{what}: recall ≥ 90 %, precision ≥ 99 % | {} and {} |",
                share(sum.right, sum.right + sum.wrong + open),
                share(sum.right, sum.right + sum.wrong)
            );
        }
    }
    let settled = measured(rows).fold(Counts::default(), |sum, (_, m)| {
        let settled = m.tally.sum(|basis| class_of(basis) != "inferred");
        Counts { right: sum.right + settled.right, wrong: sum.wrong + settled.wrong }
    });
    let _ = writeln!(
        out,
        "| operations settled by wire or endpoint evidence: all right | {} of {} |",
        settled.right,
        settled.right + settled.wrong
    );
    let unjoined: u64 = measured(rows).map(|(_, m)| m.tally.unseen + m.tally.unknown).sum();
    let lost: f64 = measured(rows).map(|(_, m)| m.lost).sum();
    let _ = writeln!(out, "| operations that only one side knows of: none | {unjoined} |");
    let _ = writeln!(out, "| events lost | {lost:.0} |");
}

fn scenarios(out: &mut String, rows: &[Row]) {
    out.push_str(
        "\n## Scenarios\n\n\
         `Found`: findings that must be made and were, of how many; `class`: the evidence of all true findings made. \
         `False`: findings that are not true. Operations are those on the service's pool: attributed right, wrong, \
         and left open. ¹ With several requests in flight nothing tells these apart: what is missed then is shown \
         here, not demanded.\n\n\
         | | Case | Service | Twin | In flight | Found | Class | False | Right | Wrong | Open |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let case = row.case;
        let mark = if case.blind_together && row.concurrency > 1 { " ¹" } else { "" };
        let _ = write!(
            out,
            "| {} | {}{mark} | {} | {} | {} | ",
            case.scenario,
            case.name,
            case.program.name(),
            case.twin.name(),
            row.concurrency
        );
        match &row.measured {
            Err(error) => {
                let first = error.lines().next().unwrap_or_default().replace('|', "/");
                let _ = writeln!(out, "not played: {first} | | | | | |");
            }
            Ok(m) => {
                let sum = m.tally.sum(|_| true);
                let classes: Vec<String> = m.classes.iter().map(|(class, n)| format!("{n} {class}")).collect();
                let _ = writeln!(
                    out,
                    "{} of {} | {} | {} | {} | {} | {} |",
                    m.judged.n_found,
                    m.judged.n_found + m.judged.missed.len(),
                    if classes.is_empty() { "—".to_owned() } else { classes.join(", ") },
                    m.judged.false_positives.len(),
                    sum.right,
                    sum.wrong,
                    m.tally.abstained
                );
            }
        }
    }
}

/// All operations at each concurrency, by the basis that settled them.
fn by_basis(out: &mut String, rows: &[Row]) {
    out.push_str(
        "\n## Operations by what settled them\n\n\
         Precision: right of those it settled. Share: right of all operations on the pools that were for somebody.\n\n\
         | In flight | Class | Basis | Right | Wrong | Precision | Share |\n|---|---|---|---|---|---|---|\n",
    );
    for n in concurrencies(rows) {
        let mut all = Tally::default();
        for (_, m) in measured(rows).filter(|(row, _)| row.concurrency == n) {
            all.add(&m.tally);
        }
        let whole = of_somebody(&all);
        let mut bases: Vec<_> = all.by_basis.iter().map(|(basis, c)| (class_of(basis), basis, c)).collect();
        bases.sort_by_key(|(class, basis, _)| (std::cmp::Reverse(*class), *basis));
        for (class, basis, c) in bases {
            let _ = writeln!(
                out,
                "| {n} | {class} | {basis} | {} | {} | {} | {} |",
                c.right,
                c.wrong,
                share(c.right, c.right + c.wrong),
                share(c.right, whole)
            );
        }
        let _ = writeln!(out, "| {n} | — | open (indeterminate) | | | | {} |", share(all.abstained, whole));
        if all.nobody > 0 {
            let _ = writeln!(out, "| {n} | — | nobody's, left open: right | {} | | | |", all.nobody);
        }
    }
}

/// Each basis when no other of its kind is asked.
fn alone(out: &mut String, rows: &[Row]) {
    out.push_str(
        "\n## Each basis alone\n\n\
         The same recordings, replayed with all other switchable bases off; endpoint labels and bindings are always \
         on. By service: right, wrong.\n\n| In flight | Service |",
    );
    for basis in SWITCHABLE {
        let _ = write!(out, " {basis} |");
    }
    let _ = writeln!(out, " Operations |\n|---|---|{}---|", "---|".repeat(SWITCHABLE.len()));
    for n in concurrencies(rows) {
        let mut programs: BTreeMap<_, (BTreeMap<&str, Counts>, u64)> = BTreeMap::new();
        for (row, m) in measured(rows).filter(|(row, _)| row.concurrency == n) {
            let (counts, whole) = programs.entry(row.case.program).or_default();
            *whole += of_somebody(&m.tally);
            for (basis, c) in &m.alone {
                let sum = counts.entry(basis).or_default();
                sum.right += c.right;
                sum.wrong += c.wrong;
            }
        }
        for (program, (counts, whole)) in programs {
            let _ = write!(out, "| {n} | {} |", program.name());
            for basis in SWITCHABLE {
                let c = counts.get(basis).copied().unwrap_or_default();
                let _ = write!(out, " {}, {} |", c.right, c.wrong);
            }
            let _ = writeln!(out, " {whole} |");
        }
    }
}

/// Everything, for programs.
pub(super) fn json(rows: &[Row]) -> Vec<Value> {
    let counts = |c: &Counts| json!({ "right": c.right, "wrong": c.wrong });
    rows.iter()
        .map(|row| {
            let mut value = json!({
                "case": row.case.name,
                "scenario": row.case.scenario,
                "service": row.case.program.name(),
                "twin": row.case.twin.name(),
                "in_flight": row.concurrency,
            });
            let more = match &row.measured {
                Err(error) => json!({ "error": error }),
                Ok(m) => json!({
                    "found": m.judged.n_found,
                    "missed": m.judged.missed,
                    "false_positives": m.judged.false_positives.iter().map(|(s, _)| s).collect::<Vec<_>>(),
                    "classes": m.classes,
                    "bases": m.tally.by_basis.iter().map(|(b, c)| (b.clone(), counts(c))).collect::<BTreeMap<_, _>>(),
                    "alone": m.alone.iter().map(|(b, c)| ((*b).to_owned(), counts(c))).collect::<BTreeMap<_, _>>(),
                    "open": m.tally.abstained,
                    "nobody": m.tally.nobody,
                    "unseen": m.tally.unseen,
                    "unknown": m.tally.unknown,
                    "events_lost": m.lost,
                }),
            };
            if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
                value.extend(more);
            }
            value
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ::tests::lab::cases::{CASES, Judged};

    use super::*;

    fn row(concurrency: u32, right: u64, wrong: u64, open: u64) -> Row {
        let tally = Tally {
            by_basis: [("value-flow".to_owned(), Counts { right, wrong })].into(),
            abstained: open,
            ..Tally::default()
        };
        let measured =
            Measured { judged: Judged::default(), classes: BTreeMap::new(), tally, alone: BTreeMap::new(), lost: 0.0 };
        Row { case: CASES.first().unwrap(), concurrency, measured: Ok(measured) }
    }

    #[test]
    fn shares_are_of_what_they_say() {
        let text = markdown(&[row(16, 90, 10, 100), row(16, 90, 10, 100)]);
        assert!(text.contains("| 45.0 % and 90.0 % |"), "{text}");
        assert!(text.contains("| 16 | inferred | value-flow | 180 | 20 | 90.0 % | 45.0 % |"), "{text}");
        assert!(text.contains("| 16 | — | open (indeterminate) | | | | 50.0 % |"), "{text}");
        assert_eq!(share(0, 0), "—");
    }

    #[test]
    fn what_was_not_played_is_in_the_table() {
        let mut failed = row(1, 0, 0, 0);
        failed.measured = Err("no | such\nthing".to_owned());
        let text = markdown(&[failed]);
        assert!(text.contains("not played: no / such |") && text.contains("could not be played: none | 1 |"), "{text}");
    }
}
