//! A small container: the agent under a limit on its memory is not ended by it, however many connections there are. What
//! `limits.memory_mb` leaves out (the program itself, its threads, what is being read) has to fit beside it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};

use monitor::capture::recording::{Recorder, RecordingInfo};
use monitor_core::model::{CgroupId, Direction, Event, Nanos, Role, Segment, SocketCookie};

/// What the process may have, KiB: memory that it can write to, threads' stacks included.
const PROCESS_KIB: usize = 64 << 10;
/// What it is told to keep within, MiB.
const TOLD_MB: usize = 24;
/// Far more than find room: each takes some 7 KiB.
const CONNECTIONS: u64 = 12_000;

const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$6\r\norders\r\n$1\r\n1\r\n";

/// Connections of two tenants to one Redis, all of them open until the end, each seen at both sockets.
fn record(path: &std::path::Path) {
    let at = Nanos(1_700_000_000_000_000_000);
    let info = RecordingInfo { started: at, agent: "0.1.0".to_owned(), kernel: "6.18.0".to_owned(), secrets: false };
    let mut recorder = Recorder::create(path, &info).unwrap();
    let mut put = |event: Event<'_>| recorder.record(&event).unwrap();
    for (id, path) in [(1, "/tenants/acme/app"), (2, "/tenants/globex/app"), (3, "/shared/redis")] {
        put(Event::CgroupSeen { at, id: CgroupId(id), path });
    }
    let server = SocketAddr::from(([10, 255, 255, 1], 6379));
    for n in 1..=CONNECTIONS {
        let at = Nanos(at.0 + n * 20_000);
        let [.., a, b, c] = n.to_be_bytes();
        let client = SocketAddr::from(([10, a, b, c], 40_000));
        let seq = [n as u32 * 7, n as u32 * 13];
        for (cookie, cgroup, local, peer, role, [tx, rx]) in [
            (2 * n, 1 + n % 2, client, server, Role::Client, seq),
            (2 * n + 1, 3, server, client, Role::Server, [seq[1], seq[0]]),
        ] {
            let (cookie, cgroup) = (SocketCookie(cookie), Some(CgroupId(cgroup)));
            put(Event::Opened { at, cookie, cgroup, local, peer, role, tx_start: Some(tx), rx_start: Some(rx) });
        }
        for (of, bytes, seq, ack) in [(0, SET, seq[0], seq[1]), (1, b"+OK\r\n", seq[1], seq[0] + SET.len() as u32)] {
            put(Event::Segment(Segment {
                at,
                cookie: SocketCookie(2 * n + of),
                dir: Direction::Tx,
                seq,
                ack: Some(ack),
                len: bytes.len() as u32,
                bytes,
                thread: None,
            }));
        }
    }
    recorder.finish().unwrap();
}

fn replay(folder: &std::path::Path, limit_kib: usize, told_mb: usize) -> Output {
    let config = folder.join(format!("{told_mb}.yaml"));
    fs::write(&config, format!("version: 1\nlimits:\n  memory_mb: {told_mb}\n")).unwrap();
    // `ulimit -d`: RLIMIT_DATA. An allocation beyond it fails, which ends the process.
    Command::new("sh")
        .args(["-c", &format!("ulimit -d {limit_kib} && exec \"$@\""), "sh"])
        .arg(env!("CARGO_BIN_EXE_leasewarden"))
        .arg("replay")
        .arg(folder.join("flood.lwr"))
        .arg("--config")
        .arg(config)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

#[test]
fn under_a_small_limit_the_agent_lives() {
    let folder = tempfile::tempdir().unwrap();
    record(&folder.path().join("flood.lwr"));
    let out = replay(folder.path(), PROCESS_KIB, TOLD_MB);
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}: {said}", out.status);
    // What found no room is told.
    let evicted = said.split("connections_evicted=").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(evicted.and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n > 1_000), "{said}");

    // The limit is one: told that it may have more than there is, the process does not live.
    let out = replay(folder.path(), PROCESS_KIB, 1_024);
    assert!(!out.status.success(), "{CONNECTIONS} connections fit into {PROCESS_KIB} KiB: nothing was tried");
}
