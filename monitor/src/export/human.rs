//! Findings for people: a block each, wide enough to read, coloured on a terminal.

use std::fmt::Write as _;

use monitor_core::detect::FindingEvent;
use monitor_core::model::{Finding, Severity};

use super::time::clock;

/// How to write for people.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Use colours.
    pub colour: bool,
    /// Columns to fill.
    pub width: usize,
}

/// Columns where nothing tells the terminal's width.
const DEFAULT_WIDTH: usize = 110;
/// Wider lines are hard to read.
const MAX_WIDTH: usize = 140;
/// Where values begin.
const INDENT: usize = 12;

impl Style {
    /// What fits standard output: colours unless `NO_COLOR` is set (no-color.org) or the terminal is `dumb`.
    pub fn detect() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let width = terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(w, _)| usize::from(w.0));
        Self { colour: !no_color && !dumb, width: width.clamp(40, MAX_WIDTH) }
    }

    /// `text` in the colour of a severity.
    pub fn severity(self, severity: Severity, text: &str) -> String {
        self.paint(
            match severity {
                Severity::Critical => "1;97;41",
                Severity::High => "1;31",
                Severity::Medium => "1;33",
                Severity::Low => "36",
                Severity::Info => "2",
            },
            text,
        )
    }

    /// Bold `text`.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Dim `text`.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A finding as a block of lines; one line only when it has just happened again.
pub fn finding(f: &Finding, event: FindingEvent, style: Style) -> String {
    match event {
        FindingEvent::New => block(f, style),
        FindingEvent::Repeated | FindingEvent::Ended => {
            let head = style.severity(f.severity, &format!(" {:<8} ", f.severity.name().to_uppercase()));
            format!("{head} {} {} ×{}  {}\n", clock(f.last_seen), style.bold(f.rule), f.count, style.dim(&parties(f)))
        }
    }
}

fn block(f: &Finding, style: Style) -> String {
    let mut out = String::new();
    let severity = style.severity(f.severity, &format!(" {:<8} ", f.severity.name().to_uppercase()));
    let times = if f.count > 1 { format!("  ×{}", f.count) } else { String::new() };
    let _ = writeln!(out, "{severity} {} {}{times}", clock(f.last_seen), style.bold(f.rule));
    field(&mut out, style, "", &clean(&f.message));
    field(&mut out, style, "where", &parties(f));
    for (i, step) in f.evidence.iter().enumerate() {
        let whom = match (&step.tenant, step.basis) {
            (Some(t), Some(b)) => format!("  [{t}, by {b}]"),
            (Some(t), None) => format!("  [{t}]"),
            (None, Some(b)) => format!("  [by {b}]"),
            (None, None) => String::new(),
        };
        let label = if i == 0 { "evidence" } else { "" };
        field(&mut out, style, label, &clean(&format!("{}  {}: {}{whom}", clock(step.at), step.what, step.detail)));
    }
    field(&mut out, style, "known by", &format!("{} evidence", f.class.name()));
    field(&mut out, style, "remedy", &clean(f.remediation));
    if let Some(s) = &f.suppressed {
        let of =
            |what: &str, value: &Option<String>| value.as_ref().map_or_else(String::new, |v| format!(", {what} {v}"));
        let (owner, ticket) = (of("owner", &s.owner), of("ticket", &s.ticket));
        field(&mut out, style, "silent", &clean(&format!("{}{owner}{ticket}", s.reason)));
    }
    out.push('\n');
    out
}

/// Tenants, workload and service on one line.
fn parties(f: &Finding) -> String {
    let tenants = match (&f.tenants.used, &f.tenants.bound) {
        (Some(u), Some(b)) => format!("for {u}, bound or last used for {b}: "),
        (Some(u), None) => format!("for {u}: "),
        (None, Some(b)) => format!("bound or last used for {b}: "),
        (None, None) => String::new(),
    };
    let mut ends = Vec::new();
    if !f.workload.name.is_empty() {
        // What it is one of says more than where it lives.
        let one_of = f.workload.owner.as_ref().filter(|_| f.workload.pod.is_some());
        let place = match (one_of, &f.workload.cgroup) {
            (Some(owner), _) => format!(" ({} {})", owner.kind, owner.name),
            (None, Some(cgroup)) => format!(" ({cgroup})"),
            (None, None) => String::new(),
        };
        ends.push(format!("{}{place}", f.workload.name));
    }
    if let Some(s) = &f.service {
        // A service that is named after its address has said it already.
        let address = s.address.map(|a| a.to_string()).filter(|a| *a != s.name);
        let address = address.map_or_else(String::new, |a| format!(" {a}"));
        ends.push(format!("{} {}{address}", s.name, s.protocol));
    }
    let out = format!("{tenants}{}", ends.join(" → "));
    clean(&out)
}

/// Names come from the monitored side: nothing of theirs may steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `label` and `text` wrapped beside it.
fn field(out: &mut String, style: Style, label: &str, text: &str) {
    let room = style.width.saturating_sub(INDENT).max(20);
    for (i, line) in wrap(text, room).into_iter().enumerate() {
        let label = if i == 0 { label } else { "" };
        let _ = writeln!(out, "  {}{line}", style.dim(&format!("{label:<width$}", width = INDENT - 2)));
    }
}

/// Breaks `text` between words.
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::sample;

    const PLAIN: Style = Style { colour: false, width: 80 };

    #[test]
    fn a_new_finding_is_a_block() {
        let text = finding(&sample::finding(), FindingEvent::New, PLAIN);
        assert_eq!(
            text,
            "\u{20}CRITICAL  00:00:01.123 pool-stale-binding  ×3\n\
             \x20           globex used a connection that was still bound to acme\n\
             \x20 where     for globex, bound or last used for acme: mcp-gateway\n\
             \x20           (/shared/gateway) → orders-db postgres 127.0.0.1:5432\n\
             \x20 evidence  00:00:00.123  bind: set_config(app.tenant_id) acknowledged, session\n\
             \x20           scope  [acme, by binding]\n\
             \x20           00:00:01.123  data: SELECT orders  [globex, by peer-container]\n\
             \x20 known by  endpoint evidence\n\
             \x20 remedy    Bind per unit of work.\n\n"
        );
    }

    #[test]
    fn an_exception_and_what_a_pod_is_one_of_are_told() {
        let text = finding(&sample::of_a_pod(), FindingEvent::New, Style { colour: false, width: 140 });
        assert!(text.contains("shop/web-5d9c7f-x2b4z (Deployment web) → orders-db"), "{text}");
        assert!(text.contains("silent    known, owner team-a, ticket OPS-1"), "{text}");
    }

    #[test]
    fn a_repeated_finding_is_a_line_and_names_cannot_steer_the_terminal() {
        let mut f = sample::finding();
        f.workload.name = "a\x1b[2Jb\n".into();
        let text = finding(&f, FindingEvent::Repeated, PLAIN);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(finding(&f, FindingEvent::New, Style { colour: true, width: 80 }).contains("\x1b[1;97;41m CRITICAL"));
    }
}
