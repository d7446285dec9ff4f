//! What the agent has read from a connection is not in its memory once the connection has closed.
//!
//! This test is a process of its own, with the allocator of the binary; it searches its own memory.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod wire;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use monitor_core::detect::FindingEvent;
use monitor_core::engine::Output;
use monitor_core::model::claim::Salt;
use monitor_core::model::{Finding, Settings};

use wire::{Feed, Said};

#[global_allocator]
static ALLOCATOR: monitor::wipe::Wiping = monitor::wipe::Wiping;

/// Nothing that the test keeps looks like a secret: they are stored like this.
const HIDDEN: u8 = 0x5a;

/// Bytes of one secret, and so many of them that are enough to know it by.
const LEN: usize = 24;
const PART: usize = 16;

struct Nowhere(usize);

impl Output for Nowhere {
    fn finding(&mut self, _: &Finding, _: FindingEvent) {
        self.0 += 1;
    }
}

/// Secrets, hidden: different ones in each run.
fn secrets(n: usize) -> Vec<[u8; LEN]> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = File::open("/dev/urandom").unwrap();
    (0..n)
        .map(|_| {
            let mut secret = [0; LEN];
            random.read_exact(&mut secret).unwrap();
            secret.map(|b| ALPHABET[usize::from(b % 32)] ^ HIDDEN)
        })
        .collect()
}

/// The text with each `{0}`, `{1}` … being a secret.
fn with(text: &str, secrets: &[[u8; LEN]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.extend_from_slice(before.as_bytes());
        match after.split_once('}').and_then(|(n, after)| Some((n.parse::<usize>().ok()?, after))) {
            Some((n, after)) => {
                out.extend(secrets[n].iter().map(|b| b ^ HIDDEN));
                rest = after;
            }
            None => {
                out.push(b'{');
                rest = after;
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn http(head: &str, body: &str, secrets: &[[u8; LEN]]) -> Vec<u8> {
    let body = with(body, secrets);
    let mut out = with(&format!("{head}content-length: {}\r\n\r\n", body.len()), secrets);
    out.extend_from_slice(&body);
    out
}

fn sql(kind: u8, text: &str, secrets: &[[u8; LEN]]) -> Vec<u8> {
    let body = with(text, secrets);
    let mut out = vec![kind];
    out.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend(body);
    out
}

fn redis(parts: &[&str], secrets: &[[u8; LEN]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        let part = with(part, secrets);
        out.extend(format!("${}\r\n", part.len()).into_bytes());
        out.extend(part);
        out.extend(b"\r\n");
    }
    out
}

/// Conversations with secrets where programs put them.
fn conversations(s: &[[u8; LEN]]) -> Vec<(u16, Said)> {
    let heads = "POST /login HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {0}\r\ncookie: sid={1}; other={2}\r\nx-api-key: {3}\r\n";
    let web = vec![
        (true, http(heads, "{\"password\":\"{4}\",\"note\":\"\\u00e9 {5}\"}", s)),
        (false, http("HTTP/1.1 200 OK\r\nset-cookie: sid={6}\r\n", "{\"token\":\"{7}\"}", s)),
        (true, http("GET /a?key={8} HTTP/1.1\r\nhost: a\r\nauthorization: Basic {9}\r\n", "", s)),
        (false, http("HTTP/1.1 401 Unauthorized\r\n", "{10}", s)),
    ];
    let call = "POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nauthorization: Bearer {0}\r\nmcp-session-id: {1}\r\n";
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let mcp = vec![
        (
            true,
            http(
                call,
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{"card":"{2}","tenant_id":"acme"}}}"#,
                s,
            ),
        ),
        (
            false,
            http(json, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"paid \n {3}"}]}}"#, s),
        ),
    ];
    let mut hello = vec![0, 3, 0, 0];
    hello.extend(b"user\0app\0database\0shop\0\0");
    let mut startup = u32::try_from(hello.len() + 4).unwrap().to_be_bytes().to_vec();
    startup.extend(hello);
    let ready = || sql(b'Z', "I", &[]);
    let done = |tag: &str| [sql(b'C', &format!("{tag}\0"), &[]), ready()].concat();
    let database = vec![
        (true, startup),
        (false, sql(b'R', "\0\0\0\u{3}", &[])),
        (true, sql(b'p', "{11}\0", s)),
        (false, [sql(b'R', "\0\0\0\0", &[]), ready()].concat()),
        (true, sql(b'Q', "INSERT INTO cards VALUES ('{12}', 1), ('{13}', 2)\0", s)),
        (false, done("INSERT 0 2")),
        (true, sql(b'Q', "SELECT set_config('app.tenant_id', 'acme', false), '{14}' -- {15}\0", s)),
        (false, done("SELECT 1")),
    ];
    let cache = vec![
        (true, redis(&["AUTH", "app", "{16}"], s)),
        (false, b"+OK\r\n".to_vec()),
        (true, redis(&["SET", "session", "{17}"], s)),
        (false, b"+OK\r\n".to_vec()),
        (true, redis(&["GET", "session"], s)),
        (false, [b"$24\r\n".to_vec(), with("{17}", s), b"\r\n".to_vec()].concat()),
        (true, redis(&["RPUSH", "jobs", "{\"token\":\"{18}\"}"], s)),
        (false, b":1\r\n".to_vec()),
    ];
    vec![(8_080, web), (8_081, mcp), (5_432, database), (6_379, cache)]
}

/// How often each secret stands in the writable memory of this process.
fn found(secrets: &[[u8; LEN]]) -> Vec<(usize, String)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut memory = File::open("/proc/self/mem").unwrap();
    let mut window = vec![0; 4 << 20];
    let mut begins = [false; 256];
    secrets.iter().for_each(|s| begins[usize::from(s[0])] = true);
    let mut all = Vec::new();
    for map in maps.lines() {
        let mut parts = map.split_whitespace();
        let (range, mode) = (parts.next().unwrap(), parts.next().unwrap());
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (mut at, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        while at < to {
            let n = usize::try_from((to - at).min(window.len() as u64)).unwrap();
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut window[..n]).is_err() {
                break;
            }
            window[..n].iter_mut().for_each(|b| *b ^= HIDDEN);
            // The stored ones are hidden twice now: only plain ones match. A good part of one is enough.
            for there in 0..n.saturating_sub(PART) {
                if !begins[usize::from(window[there])] {
                    continue;
                }
                if let Some(i) = secrets.iter().position(|s| window[there..there + PART] == s[..PART]) {
                    all.push((i, format!("{:x} in {map}", at + there as u64)));
                }
            }
            let overlap = LEN as u64;
            at += if (n as u64) < overlap || at + n as u64 >= to { n as u64 } else { n as u64 - overlap };
        }
    }
    all
}

#[test]
fn what_was_read_is_gone_once_its_connection_has_closed() {
    let secrets = secrets(19);
    // What is still held is found: the search works.
    let held = with("{0}", &secrets);
    assert!(found(&secrets).iter().any(|(i, _)| *i == 0));
    drop(held);

    let mut feed = Feed::new(Settings { salt: Salt(1, 2), ..Settings::default() });
    let mut out = Nowhere(0);
    for cut in [usize::MAX, 7] {
        for (port, said) in conversations(&secrets) {
            for client in [1, 2] {
                let pieces: Said = said
                    .iter()
                    .flat_map(|(side, bytes)| {
                        bytes.chunks(cut.min(bytes.len().max(1))).map(move |c| (*side, c.to_vec()))
                    })
                    .collect();
                feed.connection(client, port, &pieces, &mut out);
            }
        }
    }
    feed.wait(20, &mut out);
    // What the next connections do with the stack, these did to the one before.
    let quiet: Said = vec![
        (true, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        (false, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    ];
    feed.connection(1, 8_080, &quiet, &mut out);
    let left = found(&secrets);
    assert!(left.is_empty(), "{left:#?}");
    // The agent is alive and knows what it needs to.
    assert!(!feed.engine.services().is_empty());
}
