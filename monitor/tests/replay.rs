//! Recordings of a real PgBouncer (transaction mode, one server connection) used by two tenants, replayed through the
//! binary: `tests/replay/*.lwr` beside what they come to, `*.txt`. `UPDATE_EXPECT=1` blesses.
//!
//! The recordings were made with `leasewarden run --record` and psql clients; tables, tenants and values are made up. The
//! captures are of nginx 1.22 with `proxy_cache` and `gzip`, between two tenants and an origin that answers by the
//! credential: with a key that leaves it out, with one that has it, with what is public, and with what is validated.

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
    // A capture has no cgroups: its configuration says who is who.
    let config = fixture("captures.yaml");
    let config = ["--config", config.to_str().unwrap()];
    let with = |more: [&str; 2]| {
        let config = if input.ends_with(".pcap") { &config[..] } else { &[] };
        leasewarden(&[&["replay", input][..], &more[..], config].concat())
    };
    let findings = with(["--findings", "-"]);
    assert!(findings.status.success(), "{}", String::from_utf8_lossy(&findings.stderr));
    let operations = with(["--operations", "-"]);
    assert!(operations.status.success());
    let again = with(["--findings", "-"]);
    assert!(findings.stdout == again.stdout, "the same input gave other findings");
    assert!(operations.stdout == with(["--operations", "-"]).stdout, "other operations");

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
        if path.extension().is_none_or(|e| e != "lwr" && e != "pcap") {
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
    assert!(n_recordings >= 7, "recordings are missing");
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
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("WARN") && said.contains("cut.lwr"), "{said}");
}

/// The exit code of a replay of these bytes, and what it says last.
fn judged(bytes: &[u8], args: &[&str]) -> (i32, String, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    std::fs::write(&file, bytes).unwrap();
    let out = leasewarden(&[&["replay", file.to_str().unwrap()], args].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap(), said.lines().last().unwrap_or_default().to_owned(), lines(&out.stdout))
}

/// Bytes of the last block header: the end mark that a stopped agent writes and a killed one does not.
const END_MARK: usize = 16;

#[test]
fn what_was_not_read_is_no_pass_whatever_was_found() {
    let fail_on = ["--fail-on", "critical"];
    for name in ["pooled-session-set.lwr", "pooled-transaction-local.lwr"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let found = name.contains("session");
        let (code, _, all) = judged(&whole, &fail_on);
        assert_eq!(code, if found { 3 } else { 0 });
        // What an agent leaves that is killed while it records: everything is there but the end mark.
        let killed = &whole[..whole.len() - END_MARK];
        let (code, said, findings) = judged(killed, &fail_on);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("not all of it could be read") && said.contains("without its end mark"), "{said}");
        assert!(!said.contains("operations 0,"), "what was read is told: {said}");
        assert_eq!(said.contains("--fail-on critical: there are such findings in what was read"), found, "{said}");
        assert_eq!(said.contains("--fail-on critical: none in what was read"), !found, "{said}");
        assert_eq!(!findings.is_empty(), found, "findings of what was read are written");
        // Cut anywhere behind the header, or with any byte of it changed: never 0, never 3.
        for at in (100..whole.len()).step_by(whole.len() / 40) {
            let (code, said, _) = judged(&whole[..at], &fail_on);
            assert_eq!(code, 1, "cut after {at}: {said}");
            let mut corrupt = whole.clone();
            corrupt[at] ^= 0x10;
            let (code, said, findings) = judged(&corrupt, &fail_on);
            // One that unpacks to the same bytes does no harm: the same text may stand at two distances.
            let harmless = code == i32::from(found) * 3 && findings == all;
            assert!(code == 1 || harmless, "byte {at} is another: {code}, {said}");
        }
        let (code, said, _) = judged(&whole[..whole.len() / 2], &[]);
        assert!(code == 1 && !said.contains("--fail-on"), "without --fail-on, too: {said}");
        let mut more = whole.clone();
        more.push(0);
        assert_eq!(judged(&more, &fail_on).0, 1, "bytes behind the end are not read either");
    }
}

/// A capture of one frame on a link layer of this number; `len` more bytes than are there.
fn pcap(link: u32, len: u32) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    file.extend(link.to_le_bytes());
    // An ARP request, which is read and of no interest.
    let frame = [[0xff; 12].as_slice(), &[8, 6], &[0; 28]].concat();
    for field in [0, 0, frame.len() as u32 + len, frame.len() as u32 + len] {
        file.extend(field.to_le_bytes());
    }
    file.extend(frame);
    file
}

#[test]
fn captures_are_judged_alike() {
    let fail_on = ["--fail-on", "low"];
    assert_eq!(judged(&pcap(1, 0), &fail_on).0, 0);
    for (file, part) in [
        (pcap(1, 1), "ends inside a packet record"),
        (pcap(1, 60 << 20), "is damaged at byte 24"),
        (pcap(147, 0), "link type 147 is not supported"),
    ] {
        let (code, said, _) = judged(&file, &fail_on);
        assert!(code == 1 && said.contains(part) && said.contains("--fail-on low"), "{said}");
    }
    // A section, then a packet of an interface that it does not describe.
    let section = [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28];
    let packet = [6_u32, 36, 5, 0, 0, 4, 4, 0, 36];
    let file: Vec<u8> = section.iter().chain(&packet).flat_map(|n| n.to_le_bytes()).collect();
    let (code, said, _) = judged(&file, &fail_on);
    assert!(code == 1 && said.contains("does not describe"), "{said}");
}

#[test]
fn a_verdict_is_of_the_whole_file_also_when_nobody_reads_the_findings() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_leasewarden"))
        .args(["replay", fixture("pooled-session-set.lwr").to_str().unwrap(), "--fail-on", "critical"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(3));
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

/// What the binary writes of real recordings is what the shipped schemas declare, and nothing else.
#[test]
fn real_output_is_as_the_schemas_declare() {
    fn close(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if map.contains_key("properties") {
                    map.insert("additionalProperties".to_owned(), Value::Bool(false));
                }
                map.values_mut().for_each(close);
            }
            Value::Array(list) => list.iter_mut().for_each(close),
            _ => {}
        }
    }
    let schema = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas").join(name);
        let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        close(&mut schema);
        jsonschema::validator_for(&schema).unwrap()
    };
    let input = fixture("pooled-session-set.lwr");
    let input = input.to_str().unwrap();
    for (option, schema) in
        [("--findings", schema("finding.schema.json")), ("--operations", schema("operation.schema.json"))]
    {
        let out = lines(&leasewarden(&["replay", input, option, "-"]).stdout);
        assert!(!out.is_empty(), "{option}: nothing to compare");
        for line in out {
            let errors: Vec<String> = schema.iter_errors(&line).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{option}: {errors:?} in {line}");
        }
    }
}

/// An exception keeps a finding out of the output, and `--show-suppressed` shows it with its reason.
#[test]
fn suppressed_findings_can_be_listed() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.yaml");
    let write = |until: &str| {
        let suppress = format!(
            "version: 1\nsuppress:\n  - rule: pool-stale-binding\n    reason: known\n    owner: team-a\n    ticket: OPS-1\n    until: {until}\n"
        );
        std::fs::write(&config, suppress).unwrap();
    };
    let input = fixture("pooled-session-set.lwr");
    let run = |more: &[&str]| {
        let base = ["replay", input.to_str().unwrap(), "--config", config.to_str().unwrap(), "--findings", "-"];
        lines(&leasewarden(&[&base, more].concat()).stdout)
    };
    let stale = |all: &[Value]| all.iter().filter(|f| f["rule"] == "pool-stale-binding").cloned().collect::<Vec<_>>();
    write("2999-01-01");
    assert!(stale(&run(&[])).is_empty());
    let shown = stale(&run(&["--show-suppressed"]));
    assert_eq!(shown[0]["suppressed"]["owner"], "team-a");
    assert_eq!(shown[0]["suppressed"]["ticket"], "OPS-1");
    write("2001-01-01");
    let told = stale(&run(&[]));
    assert!(told[0]["suppressed"].is_null() && told[0]["message"].as_str().unwrap().contains("expired"));
}

/// What is needed of a packet of an Ethernet capture of TCP over IPv4: whose it is, its numbers, and how much it carries.
struct Packet {
    ends: [[u8; 6]; 2],
    seq: u32,
    ack: u32,
    len: u32,
    frame: Vec<u8>,
}

impl Packet {
    fn of(frame: &[u8]) -> Self {
        let ip = &frame[14..];
        let tcp = &ip[usize::from(ip[0] & 15) * 4..];
        let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        let end = |a: usize, p: usize| [&ip[a..a + 4], &tcp[p..p + 2]].concat().try_into().unwrap();
        let headers = usize::from(ip[0] & 15) * 4 + usize::from(tcp[12] >> 4) * 4;
        let len = u32::from(u16::from_be_bytes([ip[2], ip[3]])) - headers as u32;
        Self { ends: [end(12, 0), end(16, 2)], seq: number(4), ack: number(8), len, frame: frame.to_vec() }
    }

    fn acknowledges(&self, other: &Self) -> bool {
        let [from, to] = other.ends;
        self.ends == [to, from] && other.len > 0 && self.ack == other.seq.wrapping_add(other.len)
    }
}

/// The capture with each packet that acknowledges the one before it put before it; the times stay in order. And how many
/// those are.
fn acknowledged_early(file: &[u8]) -> (Vec<u8>, usize) {
    let (head, mut rest) = file.split_at(24);
    let (mut times, mut packets) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        times.push(rest[..8].to_vec());
        packets.push(Packet::of(&rest[16..16 + len]));
        rest = &rest[16 + len..];
    }
    let (mut i, mut n) = (0, 0);
    while i + 1 < packets.len() {
        if packets[i + 1].acknowledges(&packets[i]) {
            packets.swap(i, i + 1);
            (i, n) = (i + 1, n + 1);
        }
        i += 1;
    }
    let mut out = head.to_vec();
    for (at, packet) in times.iter().zip(packets) {
        let len = (packet.frame.len() as u32).to_le_bytes();
        out.extend([at.as_slice(), &len, &len, &packet.frame].concat());
    }
    (out, n)
}

/// Captures of several queues of one card are written like that.
#[test]
fn an_acknowledgement_that_stands_before_its_bytes_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut n_early = 0;
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "pcap") {
            continue;
        }
        let (early, n) = acknowledged_early(&std::fs::read(&path).unwrap());
        n_early += n;
        let file = dir.path().join("early.pcap");
        std::fs::write(&file, early).unwrap();
        assert_eq!(digest(file.to_str().unwrap()), digest(path.to_str().unwrap()), "{}", path.display());
    }
    assert!(n_early > 20, "{n_early}");
}
