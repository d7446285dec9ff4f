//! What has changed between a lock and the tools that are seen now.

use std::fmt::Write as _;

use serde::Serialize;

use super::lock::{Entry, Lock, hash_text};

/// How a tool relates to its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is not what was locked.
    Changed,
    /// It is not in the lock.
    Added,
    /// It is in the lock, and was not seen.
    Removed,
    /// It is as locked.
    Same,
}

impl Status {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Same => "same",
        }
    }
}

/// One tool of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// How it relates.
    pub status: Status,
    /// Its server.
    pub server: String,
    /// Its name.
    pub tool: String,
    /// The server's version that was locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_version: Option<String>,
    /// The server's version that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The hash that was locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_hash: Option<String>,
    /// The hash that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Compares tools that are seen with a lock: a row per tool, by server and name. A tool of another version of its server
/// is compared with the version that was locked: what counts is what models read.
pub fn compare(lock: &Lock, seen: &Lock) -> Vec<Row> {
    let mut rows = Vec::new();
    for now in &seen.tools {
        let all: Vec<&Entry> = lock.tools.iter().filter(|e| e.server == now.server && e.tool == now.tool).collect();
        let own: Vec<&Entry> = all.iter().filter(|e| e.version == now.version).copied().collect();
        // The same version's entry decides, if there is one.
        let candidates = if own.is_empty() { &all } else { &own };
        let equal = candidates.iter().find(|e| e.hash == now.hash);
        let (status, before) = match (equal, candidates.last()) {
            (Some(e), _) => (Status::Same, Some(*e)),
            (None, Some(e)) => (Status::Changed, Some(*e)),
            (None, None) => (Status::Added, None),
        };
        rows.push(row(status, before, Some(now)));
    }
    for old in &lock.tools {
        let known = |e: &Entry| e.server == old.server && e.tool == old.tool;
        if !seen.tools.iter().any(known) {
            rows.push(row(Status::Removed, Some(old), None));
        }
    }
    rows.sort_by(|a, b| (&a.server, &a.tool, &a.version, a.status).cmp(&(&b.server, &b.tool, &b.version, b.status)));
    rows
}

fn row(status: Status, before: Option<&Entry>, now: Option<&Entry>) -> Row {
    let any = now.or(before);
    let name = |part: fn(&Entry) -> &String| any.map(part).cloned().unwrap_or_default();
    let hash = |e: Option<&Entry>| e.map(|e| hash_text(&e.hash));
    Row {
        status,
        server: name(|e| &e.server),
        tool: name(|e| &e.tool),
        locked_version: before.map(|e| e.version.clone()),
        version: now.map(|e| e.version.clone()),
        locked_hash: hash(before),
        hash: hash(now),
    }
}

/// Whether every tool is as locked.
pub fn all_same(rows: &[Row]) -> bool {
    rows.iter().all(|r| r.status == Status::Same)
}

/// A table for people.
pub fn table(rows: &[Row]) -> String {
    let head = ["", "SERVER", "VERSION", "TOOL", "HASH"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head)
        .chain(rows.iter().map(|r| {
            [
                r.status.name().to_owned(),
                clean(&r.server),
                clean(&change(r.locked_version.as_deref(), r.version.as_deref())),
                clean(&r.tool),
                change(r.locked_hash.as_deref().map(short), r.hash.as_deref().map(short)),
            ]
        }))
        .collect();
    let width = |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        let _ = writeln!(out, "{}", padded.join("  ").trim_end());
    }
    let count = |status| rows.iter().filter(|r| r.status == status).count();
    let _ = writeln!(
        out,
        "{} changed, {} added, {} removed, {} same",
        count(Status::Changed),
        count(Status::Added),
        count(Status::Removed),
        count(Status::Same)
    );
    out
}

/// `a → b`, or the one that there is.
fn change(before: Option<&str>, now: Option<&str>) -> String {
    match (before, now) {
        (Some(a), Some(b)) if a != b => format!("{} → {}", or_dash(a), or_dash(b)),
        (_, Some(one)) | (Some(one), None) => or_dash(one).to_owned(),
        (None, None) => String::new(),
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// The beginning of a hash: enough to tell two apart.
fn short(hash: &str) -> &str {
    hash.strip_prefix("sha256:").and_then(|h| h.get(..12)).unwrap_or(hash)
}

/// Names come from servers: nothing in them may move the cursor.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::lock::tests::entry;

    fn lock(tools: &[Entry]) -> Lock {
        let mut tools = tools.to_vec();
        tools.sort();
        Lock { tools, signature: None }
    }

    fn told(locked: &[Entry], seen: &[Entry]) -> Vec<(Status, String)> {
        compare(&lock(locked), &lock(seen)).into_iter().map(|r| (r.status, r.tool)).collect()
    }

    #[test]
    fn every_difference_is_told() {
        use Status::{Added, Changed, Removed, Same};
        let locked =
            [entry("s", "1", "a", 1), entry("s", "1", "b", 2), entry("s", "1", "c", 3), entry("t", "1", "a", 9)];
        let seen = [entry("s", "1", "a", 1), entry("s", "1", "b", 7), entry("s", "1", "d", 4), entry("t", "1", "a", 9)];
        let rows = compare(&lock(&locked), &lock(&seen));
        let got: Vec<_> = rows.iter().map(|r| (r.status, r.server.as_str(), r.tool.as_str())).collect();
        assert_eq!(
            got,
            [(Same, "s", "a"), (Changed, "s", "b"), (Removed, "s", "c"), (Added, "s", "d"), (Same, "t", "a")]
        );
        assert!(!all_same(&rows) && all_same(&compare(&lock(&locked), &lock(&locked))));
        assert_eq!(
            table(&rows),
            "         SERVER  VERSION  TOOL  HASH\n\
             same     s       1        a     010101010101\n\
             changed  s       1        b     020202020202 → 070707070707\n\
             removed  s       1        c     030303030303\n\
             added    s       1        d     040404040404\n\
             same     t       1        a     090909090909\n\
             1 changed, 1 added, 1 removed, 2 same\n"
        );
    }

    #[test]
    fn another_version_is_compared_with_the_locked_one() {
        let a = |version, hash| entry("s", version, "a", hash);
        assert_eq!(told(&[a("1", 1)], &[a("2", 1)]), [(Status::Same, "a".into())]);
        assert_eq!(told(&[a("1", 1)], &[a("2", 5)]), [(Status::Changed, "a".into())]);
        // Locked for both versions: each with its own.
        let both = [a("1", 1), a("2", 2)];
        assert_eq!(told(&both, &[a("1", 2)]), [(Status::Changed, "a".into())]);
        assert_eq!(told(&both, &[a("2", 2)]), [(Status::Same, "a".into())]);
        // Two hashes were approved for one version.
        assert_eq!(told(&[a("1", 1), a("1", 2)], &[a("1", 1)]), [(Status::Same, "a".into())]);
    }

    #[test]
    fn names_cannot_write_to_the_terminal() {
        let text = table(&compare(&Lock::default(), &lock(&[entry("s\u{1b}[2J", "1\n", "a\tb", 1)])));
        assert!(text.contains("s\u{fffd}[2J") && text.lines().count() == 3, "{text}");
    }
}
