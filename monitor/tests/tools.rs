//! `leasewarden tools` as an operator uses it: keys, a lock of what an agent has seen, and what has changed since.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn leasewarden(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let out: Output = Command::new(env!("CARGO_BIN_EXE_leasewarden"))
        .args(args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// Something that answers like an agent that has seen these tools (name and a byte of the hash), each time it is asked.
fn agent(tools: &[(&str, u8)]) -> String {
    let list: Vec<String> = tools
        .iter()
        .map(|(name, hash)| {
            let hash = format!("{hash:02x}").repeat(32);
            format!(
                r#"{{"server":"orders","version":"1.0","service":"orders-mcp","tool":"{name}","hash":"sha256:{hash}"}}"#
            )
        })
        .collect();
    let body = format!("[{}]\n", list.join(","));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 1024];
            let n = stream.read(&mut asked).unwrap();
            assert!(asked[..n].starts_with(b"GET /tools "));
            write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    url
}

#[test]
fn locked_signed_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (then, now) = (agent(&[("search", 1), ("add", 2)]), agent(&[("search", 9), ("drop", 3)]));

    let (code, out, err) = leasewarden(dir, &["tools", "keygen"]);
    assert_eq!((code, out.as_str()), (0, "private key  lock-key.key\npublic key   lock-key.pub\n"), "{err}");
    assert_eq!(std::fs::metadata(dir.join("lock-key.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(dir.join("lock-key.key")).unwrap();
    let (code, _, err) = leasewarden(dir, &["tools", "keygen"]);
    assert!(code == 1 && err.contains("cannot write lock-key.key"), "a key is never replaced: {err}");
    assert_eq!(std::fs::read(dir.join("lock-key.key")).unwrap(), before);
    assert_eq!(leasewarden(dir, &["tools", "keygen", "--out", "other"]).0, 0);

    let (code, out, err) = leasewarden(dir, &["tools", "lock", "--out", "l.json", "--sign", "lock-key.key", &then]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("2 tools locked in l.json, signed"), "{err}");
    let (code, unsigned, _) = leasewarden(dir, &["tools", "lock", &then]);
    assert!(
        code == 0 && unsigned.starts_with(r#"{"schema":"leasewarden.tools-lock/v1","tools":[{"hash":"sha256:02"#),
        "{unsigned}"
    );

    let (code, out, err) = leasewarden(dir, &["tools", "verify", "l.json", &then, "--key", "lock-key.pub"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("0 changed, 0 added, 0 removed, 2 same\nsignature: good\n"), "{out}");
    let (code, out, _) = leasewarden(dir, &["tools", "verify", "l.json", &now]);
    assert_eq!(code, 1);
    assert!(out.contains("changed  orders  1.0      search  010101010101 → 090909090909\n"), "{out}");
    assert!(out.ends_with("1 changed, 1 added, 1 removed, 0 same\nsignature: not checked\n"), "{out}");
    let (code, out, _) = leasewarden(dir, &["tools", "verify", "l.json", &now, "--json", "--key", "lock-key.pub"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["same"], &report["signature"]), (1, &false.into(), &"good".into()));
    let told: Vec<_> = report["tools"].as_array().unwrap().iter().map(|t| (&t["tool"], &t["status"])).collect();
    let want = [("add", "removed"), ("drop", "added"), ("search", "changed")];
    assert_eq!(format!("{told:?}"), format!("{:?}", want.map(|(t, s)| (serde_json::json!(t), serde_json::json!(s)))));

    // Whoever changes a lock, or signs it with another key, is found out.
    let (code, _, err) = leasewarden(dir, &["tools", "verify", "l.json", &then, "--key", "other.pub"]);
    assert!(code == 2 && err.contains("signature: of another key"), "{err}");
    let changed = std::fs::read_to_string(dir.join("l.json")).unwrap().replace(&"01".repeat(32), &"09".repeat(32));
    std::fs::write(dir.join("changed.json"), &changed).unwrap();
    let (code, _, err) = leasewarden(dir, &["tools", "verify", "changed.json", &now, "--key", "lock-key.pub"]);
    assert!(code == 2 && err.contains("changed.json: signature: bad"), "{err}");
    let (code, out, err) = leasewarden(dir, &["tools", "verify", "l.json", &then, "--key", "lock-key.key"]);
    assert!(code == 2 && out.is_empty() && err.contains("a private key"), "{err}");
    std::fs::write(dir.join("c.yaml"), "version: 1\nlocks: [changed.json]\nlock_keys: [lock-key.pub]\n").unwrap();
    let (code, _, err) = leasewarden(dir, &["check", "c.yaml"]);
    assert!(
        code == 2 && err.contains("c.yaml:2:9: locks[0]: changed.json: its signature is not its content's"),
        "{err}"
    );
}

#[test]
fn nothing_to_lock_is_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (code, out, err) = leasewarden(dir, &["tools", "lock", &agent(&[])]);
    assert!(code == 1 && out.is_empty() && err.contains("no server was seen to list its tools"), "{err}");
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/pooled-session-set.lwr");
    let (code, out, err) = leasewarden(dir, &["tools", "lock", recording.to_str().unwrap()]);
    assert!(code == 1 && out.is_empty() && err.contains("no server was seen to list its tools"), "{err}");
    for (args, part) in [
        (&["tools", "lock", "missing.lwr"][..], "missing.lwr"),
        (&["tools", "lock", "--sign", "missing.key", "x.lwr"], "cannot read missing.key"),
        (&["tools", "lock", "https://127.0.0.1:1"], "expected the address of an agent"),
    ] {
        let (code, _, err) = leasewarden(dir, args);
        assert!(code == 1 && err.contains(part), "{args:?}: {err}");
    }
    assert_eq!(leasewarden(dir, &["tools"]).0, 2);
}

/// As diff has it: 1 is a difference, 2 is that nothing could be compared.
#[test]
fn what_could_not_be_compared_is_no_difference() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (code, _, err) = leasewarden(dir, &["tools", "lock", "--out", "l.json", &agent(&[("search", 1)])]);
    assert_eq!(code, 0, "{err}");
    std::fs::write(dir.join("broken.json"), "{").unwrap();
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/pooled-session-set.lwr");
    let bytes = std::fs::read(&recording).unwrap();
    std::fs::write(dir.join("cut.lwr"), &bytes[..bytes.len() / 2]).unwrap();
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (args, part) in [
        (&["missing.json", "x.lwr"][..], "cannot read missing.json"),
        (&["broken.json", "x.lwr"], "broken.json:1:"),
        (&["l.json", "missing.lwr"], "missing.lwr"),
        (&["l.json", "cut.lwr"], "not all of it could be read"),
        (&["l.json", recording.to_str().unwrap()], "no server was seen to list its tools"),
        (&["l.json", &agent(&[])], "no server was seen to list its tools"),
        (&["l.json", &gone], "cannot ask the agent"),
        (&["l.json", "x.lwr", "--key", "missing.pub"], "cannot read missing.pub"),
    ] {
        let (code, out, err) = leasewarden(dir, &[&["tools", "verify"], args].concat());
        assert!(code == 2 && out.is_empty() && err.contains(part), "{args:?}: {code}: {err}");
    }
    let (code, out, err) = leasewarden(dir, &["tools", "lock", "cut.lwr"]);
    assert!(code == 1 && out.is_empty() && err.contains("not all of it could be read"), "no lock of a part: {err}");
    assert_eq!(leasewarden(dir, &["tools", "verify", "l.json", &agent(&[("other", 1)])]).0, 1);
}
