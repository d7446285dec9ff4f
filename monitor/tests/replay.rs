//! Recordings of a real PgBouncer (transaction mode, one server connection) used by two tenants, replayed through the
//! binary: `tests/replay/*.lwr` beside what they come to, `*.txt`. `UPDATE_EXPECT=1` blesses.
//!
//! The recordings were made with `leasewarden run --record` and psql clients; tables, tenants and values are made up.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn leasewarden(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leasewarden")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay").join(name)
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// What a recording comes to: findings as they end up, and how the operations were judged.
fn digest(input: &str) -> String {
    let findings = leasewarden(&["replay", input, "--findings", "-"]);
    assert!(findings.status.success(), "{}", String::from_utf8_lossy(&findings.stderr));
    let operations = leasewarden(&["replay", input, "--operations", "-"]);
    assert!(operations.status.success());
    let again = leasewarden(&["replay", input, "--findings", "-"]);
    assert!(findings.stdout == again.stdout, "the same input gave other findings");
    assert!(operations.stdout == leasewarden(&["replay", input, "--operations", "-"]).stdout, "other operations");

    let mut out = String::new();
    let mut last = std::collections::BTreeMap::new();
    for f in lines(&findings.stdout) {
        last.insert(f["id"].as_str().unwrap().to_owned(), f);
    }
    let mut findings: Vec<String> = last
        .values()
        .map(|f| {
            let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
            let whom = format!("use={} bound={}", text(&f["tenant"]["use"]), text(&f["tenant"]["bound"]));
            format!("finding {} {} {whom} count={}\n", text(&f["rule"]), text(&f["severity"]), f["count"])
        })
        .collect();
    findings.sort();
    out.extend(findings);
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for op in lines(&operations.stdout) {
        let text = |key: &str| op[key].as_str().unwrap_or("-").to_owned();
        let key = format!("{} {} {} {}", text("kind"), text("use_tenant"), text("basis"), text("verdict"));
        *counts.entry(key).or_default() += 1;
    }
    out.extend(counts.iter().map(|(key, n)| format!("operations {key}: {n}\n")));
    out
}

#[test]
fn recordings_come_to_what_is_recorded_beside_them() {
    let mut n_recordings = 0;
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "lwr") {
            continue;
        }
        n_recordings += 1;
        let actual = digest(path.to_str().unwrap());
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some_and(|v| v == "1") {
            std::fs::write(&expected, &actual).unwrap();
        }
        let recorded = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(actual, recorded, "{}", path.display());
    }
    assert!(n_recordings >= 2, "recordings are missing");
}

#[test]
fn a_violation_is_critical_and_its_clean_twin_silent() {
    let bad = fixture("pooled-session-set.lwr");
    let good = fixture("pooled-transaction-local.lwr");
    let code = |input: &Path, severity: &str| {
        leasewarden(&["replay", input.to_str().unwrap(), "--fail-on", severity]).status.code().unwrap()
    };
    assert_eq!([code(&bad, "critical"), code(&bad, "info")], [3, 3]);
    assert_eq!([code(&good, "critical"), code(&good, "low")], [0, 0]);
}

#[test]
fn a_cut_recording_is_read_up_to_the_cut_and_says_so() {
    let whole = std::fs::read(fixture("pooled-session-set.lwr")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.lwr");
    std::fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let out = leasewarden(&["replay", cut.to_str().unwrap()]);
    assert!(out.status.success());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("WARN") && said.contains("cut.lwr"), "{said}");
}

#[test]
fn a_configuration_changes_what_a_replay_says() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.yaml");
    std::fs::write(
        &config,
        "version: 1\nservices: [{ name: orders-db, match: { port: 15432 } }]\n\
         rules: { session-set-under-pooler: { enabled: false }, pool-stale-binding: { severity: low } }\n\
         suppress: [{ rule: shared-service-unpartitioned, reason: known, until: 2999-12-31 }]\n",
    )
    .unwrap();
    let input = fixture("pooled-session-set.lwr");
    let args = ["replay", input.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let out = leasewarden(&args);
    let found = lines(&out.stdout);
    assert!(!found.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    for f in found {
        assert_eq!(
            (f["rule"].as_str(), f["severity"].as_str(), f["service"]["name"].as_str()),
            (Some("pool-stale-binding"), Some("low"), Some("orders-db"))
        );
    }
}
