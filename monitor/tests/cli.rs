//! The binary as a script sees it: exit codes, what goes to standard output and what to standard error.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn leasewarden(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leasewarden")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn write(dir: &Path, name: &str, content: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::File::create(&path).unwrap().write_all(content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A pcap file without packets: magic (microseconds), version 2.4, snap length, Ethernet.
const EMPTY_PCAP: [u8; 24] = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for args in [
        &[][..],
        &["no-such-command"],
        &["run", "--no-such-flag"],
        &["run", "--for", "soon"],
        &["replay"],
        &["replay", "x.pcap", "--fail-on", "worst"],
        &["replay", "x.pcap", "--findings", "-", "--operations", "-"],
        &["check"],
    ] {
        let out = leasewarden(args);
        assert_eq!(code(&out), 2, "{args:?}: {}", text(&out.stderr));
        assert!(out.stdout.is_empty(), "{args:?}: {}", text(&out.stdout));
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["replay", "--help"], &["help", "check"]] {
        let out = leasewarden(args);
        assert_eq!((code(&out), out.stderr.is_empty()), (0, true), "{args:?}: {}", text(&out.stderr));
    }
    let help = text(&leasewarden(&["replay", "--help"]).stdout);
    assert!(help.contains("Examples:") && help.contains("--fail-on <SEVERITY>"), "{help}");
    let version = text(&leasewarden(&["--version"]).stdout);
    assert!(version.starts_with(concat!("leasewarden ", env!("CARGO_PKG_VERSION"), " (revision ")), "{version}");
    assert!(version.ends_with("probes)\n"), "{version}");
    let commands = text(&leasewarden(&["--help"]).stdout);
    assert!(commands.contains("doctor") && !commands.contains("schema"), "{commands}");
}

#[test]
fn check_says_where_and_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "good.yaml", b"version: 1\ntenants: [{ name: acme }]\n");
    let out = leasewarden(&["check", &good]);
    assert_eq!(code(&out), 0, "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with(&format!("{good}: OK\n")), "{}", text(&out.stdout));

    let bad = write(dir.path(), "bad.yaml", b"version: 1\nservces: []\nlimits: { flows: few }\n");
    let out = leasewarden(&["check", &bad]);
    assert_eq!(code(&out), 2);
    assert!(out.stdout.is_empty());
    let said = text(&out.stderr);
    assert!(said.contains(&format!("{bad}:2:1: servces: unknown key; expected `version`")), "{said}");
    assert!(said.contains("did you mean `services`?"), "{said}");
    assert!(said.contains(&format!("{bad}:3:18: limits.flows: expected a whole number")), "{said}");

    for command in [&["run", "--config"][..], &["replay", "x.pcap", "--config"]] {
        let out = leasewarden(&[command, &[bad.as_str()]].concat());
        assert_eq!(code(&out), 2, "{command:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("bad.yaml:2:1"), "{}", text(&out.stderr));
    }
    assert_eq!(code(&leasewarden(&["check", "/nonexistent/x.yaml"])), 2);
}

#[test]
fn replay_of_what_is_no_capture_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let junk = write(dir.path(), "junk.pcap", b"not a capture at all");
    for input in [junk.as_str(), "/nonexistent/x.pcap"] {
        let out = leasewarden(&["replay", input]);
        assert_eq!(code(&out), 1, "{input}");
        assert!(out.stdout.is_empty());
        assert!(text(&out.stderr).contains(input), "{}", text(&out.stderr));
    }
    let empty = write(dir.path(), "empty.pcap", &EMPTY_PCAP);
    let out = leasewarden(&["replay", &empty, "--fail-on", "info"]);
    assert_eq!((code(&out), text(&out.stdout).as_str()), (0, ""), "{}", text(&out.stderr));
    let out = leasewarden(&["replay", &empty, "--findings", "/nonexistent/dir/f.jsonl"]);
    assert_eq!(code(&out), 1);
    assert!(text(&out.stderr).contains("/nonexistent/dir/f.jsonl"), "{}", text(&out.stderr));
}

#[test]
fn lists_are_json() {
    for (args, key) in [(["rules", "--json"].as_slice(), "id"), (&["metrics"], "name")] {
        let out = leasewarden(args);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
        assert!(!list.is_empty() && list.iter().all(|r| r[key].is_string()), "{args:?}");
    }
    let schema: serde_json::Value = serde_json::from_slice(&leasewarden(&["schema"]).stdout).unwrap();
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn a_reader_that_leaves_ends_a_command_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leasewarden"))
        .args(["rules", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((code(&out), text(&out.stderr).as_str()), (0, ""));
}

#[test]
fn log_lines_can_be_json() {
    let dir = tempfile::tempdir().unwrap();
    let empty = write(dir.path(), "empty.pcap", &EMPTY_PCAP);
    let out = leasewarden(&["replay", &empty, "--log-format", "json"]);
    let said = text(&out.stderr);
    assert!(!said.is_empty());
    for line in said.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["level"], "INFO", "{line}");
    }
}

#[test]
fn no_command_leaves_a_core_and_what_it_writes_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (findings, operations) = (dir.path().join("findings"), dir.path().join("operations"));
    for (path, mode) in [(&findings, 0o666), (&operations, 0o644)] {
        std::fs::write(path, "old").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_leasewarden"))
        .arg("replay")
        .arg(&pipe)
        .arg("--findings")
        .arg(&findings)
        .arg("--operations")
        .arg(&operations)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Whoever opens the pipe waits for the one that reads it: the command is at work.
    let mut input = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    input.write_all(&EMPTY_PCAP).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    for path in [&findings, &operations] {
        let found = std::fs::metadata(path).unwrap();
        assert_eq!((found.permissions().mode() & 0o7777, found.len()), (0o600, 0), "{}", path.display());
    }
}
