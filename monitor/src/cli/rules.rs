//! `leasewarden rules`: every rule, for people, as JSON, or as the page `docs/rules.md`.

use std::fmt::Write as _;
use std::process::ExitCode;

use monitor_core::detect::{RULES, references};
use serde::Serialize;

use super::{Failure, on_terminal, print};
use crate::export::human::{Style, wrap};

/// List every rule: id, severity, what it needs, why, remediation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  leasewarden rules
  leasewarden rules --json | jq -r .[].id")]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As the documentation's page.
    #[arg(long, hide = true, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Serialize)]
struct Rule {
    id: &'static str,
    severity: &'static str,
    needs: &'static str,
    why: &'static str,
    remediation: &'static str,
    references: Vec<Reference>,
    source: &'static str,
}

#[derive(Serialize)]
struct Reference {
    id: &'static str,
    title: &'static str,
    url: &'static str,
}

fn all() -> Vec<Rule> {
    RULES
        .iter()
        .map(|r| Rule {
            id: r.id,
            severity: r.severity.name(),
            needs: r.needs,
            why: r.why,
            remediation: r.remediation,
            references: references(r.id).map(|r| Reference { id: r.id, title: r.title, url: r.url }).collect(),
            source: r.source,
        })
        .collect()
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.json {
        let mut text = serde_json::to_string_pretty(&all()).unwrap_or_default();
        text.push('\n');
        return print(&text);
    }
    if args.markdown {
        return print(&markdown());
    }
    let style = if on_terminal() { Style::detect() } else { Style { colour: false, width: 100 } };
    print(&human(style))
}

fn human(style: Style) -> String {
    let mut out = String::new();
    for rule in RULES {
        let severity = style.severity(rule.severity, rule.severity.name());
        let _ = writeln!(out, "{}  {severity}", style.bold(rule.id));
        for (label, text) in [("why", rule.why), ("needs", rule.needs), ("remedy", rule.remediation)] {
            for (i, line) in wrap(text, style.width.saturating_sub(10)).into_iter().enumerate() {
                let _ = writeln!(out, "  {}{line}", style.dim(&format!("{:<8}", if i == 0 { label } else { "" })));
            }
        }
        out.push('\n');
    }
    out
}

/// The page `docs/rules.md`.
fn markdown() -> String {
    let mut out = String::from(
        "# Rules\n\nEvery rule of this version, generated from the code (`cargo xtask docs`). A rule that has not enough to \
         tell stays silent\nand is counted (`leasewarden_rule_insufficient_total`): silence is not safety. Severities can be \
         changed and rules\nswitched off in the configuration (`rules`); exceptions need a reason and an end (`suppress`).\n",
    );
    for r in all() {
        let links: Vec<String> = r.references.iter().map(|r| format!("[{}]({}) {}", r.id, r.url, r.title)).collect();
        let _ = write!(
            out,
            "\n## `{}`\n\n- Severity: {}\n- Why: {}\n- Needs: {}\n- Remediation: {}\n- References: {}\n- Source: {}\n",
            r.id,
            r.severity,
            r.why,
            r.needs,
            r.remediation,
            links.join("; "),
            r.source
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_current() {
        crate::testing::assert_current("docs/rules.md", &markdown());
    }

    #[test]
    fn every_rule_says_everything() {
        for r in all() {
            for text in [r.needs, r.why, r.remediation, r.source] {
                assert!(!text.trim().is_empty(), "{} leaves something out", r.id);
            }
        }
        let text = human(Style { colour: false, width: 80 });
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    }
}
