//! Licences and doubled versions of the dependencies, judged by `deny.toml`, for machines without cargo-deny.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{paths, sh};

/// What is wrong with the dependencies.
///
/// # Errors
/// When cargo or `deny.toml` cannot be read.
pub(crate) fn problems() -> Result<Vec<String>> {
    let policy = std::fs::read_to_string(paths::root().join("deny.toml")).context("cannot read deny.toml")?;
    let allowed: BTreeSet<&str> = strings_of(&policy, "allow = [").into_iter().collect();
    let skipped: BTreeSet<&str> = crates_of(&policy, "skip = [").into_iter().collect();
    let excepted: BTreeSet<&str> = crates_of(&policy, "exceptions = [").into_iter().collect();
    let text = sh::capture(sh::cargo().args(["metadata", "--format-version", "1", "--all-features"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.pointer("/packages").and_then(Value::as_array).into_iter().flatten() {
        let field = |name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = field("name");
        versions.entry(name).or_default().insert(field("version"));
        let licence = field("license");
        if !excepted.contains(name) && !accepts(licence, &allowed) {
            found.push(format!("{name} {} has licence `{licence}`, which deny.toml does not allow", field("version")));
        }
        let source = field("source");
        if !source.is_empty() && !source.starts_with("registry+https://github.com/rust-lang/crates.io-index") {
            found.push(format!("{name} comes from {source}"));
        }
    }
    for (name, versions) in versions.iter().filter(|(name, v)| v.len() > 1 && !skipped.contains(*name)) {
        let list: Vec<&str> = versions.iter().copied().collect();
        found.push(format!("{name} is there more than once ({}); deny.toml does not say why", list.join(", ")));
    }
    Ok(found)
}

/// The quoted strings of a list in `deny.toml`. Not a TOML parser: our own file, with one list per name.
fn strings_of<'a>(policy: &'a str, opening: &str) -> Vec<&'a str> {
    list_of(policy, opening).lines().map(code).flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

/// The crates of a list of tables in `deny.toml`.
fn crates_of<'a>(policy: &'a str, opening: &str) -> Vec<&'a str> {
    list_of(policy, opening)
        .lines()
        .map(code)
        .filter_map(|line| line.split_once("crate = \"")?.1.split('"').next())
        .map(|spec| spec.split('@').next().unwrap_or(spec))
        .collect()
}

fn list_of<'a>(policy: &'a str, opening: &str) -> &'a str {
    policy.split_once(&format!("\n{opening}")).and_then(|(_, rest)| rest.split_once("\n]")).map_or("", |(list, _)| list)
}

fn code(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// Whether an SPDX expression can be satisfied with allowed licences only.
fn accepts(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    // Old manifests write `MIT/Apache-2.0`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = any_of(&words, &mut at, allowed);
    verdict && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut verdict = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= all_of(words, at, allowed);
    }
    verdict
}

fn all_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut verdict = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(words, at, allowed);
    }
    verdict
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let verdict = any_of(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return verdict && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        // An exception only widens what the licence permits.
        *at += 2;
    }
    allowed.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0"]);
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(accepts(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT GPL-3.0"] {
            assert!(!accepts(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn lists_of_the_policy() {
        let policy = "[licenses]\nallow = [\n  \"MIT\", # \"not this\"\n  \"ISC\",\n]\nskip = [\n  { crate = \"syn@1\", reason = \"x\" },\n]\n";
        assert_eq!(strings_of(policy, "allow = ["), ["MIT", "ISC"]);
        assert_eq!(crates_of(policy, "skip = ["), ["syn"]);
    }
}
