//! The whole core on connections that carry two tenants' requests at the same time: HTTP/2 behind a proxy and behind a
//! gateway of many tenants. Every unit of work is told apart from the others on its connection.

use super::scenes::{SERVER, TENANTS, answer};
use super::*;
use crate::decode::http::v2::writing::{get, greeting, literal, message, welcome};

const NAMES: [&str; 2] = ["acme", "globex"];
const TRACES: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"];

/// How the requests behind the proxy differ from those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// Unchanged, each with its sender's token.
    WithToken,
    /// Each without any token.
    Without,
    /// All with one token, of the gateway's own; the sender shows by the trace alone.
    OwnToken,
}

/// Both tenants' requests come in at once over HTTP/1.1, go out together on one connection of HTTP/2, are answered in the
/// other order, and so again `n` times. What crosses a wire at the same time is cut up together.
fn pooled(passes: Passes, traced: bool, n: u32) -> Vec<Step> {
    let mut script = Script::default();
    let pool = script.connect(POOLER, SERVER, 40_000, 8443);
    let clients = TENANTS.map(|who| script.connect(who, POOLER, 41_000 + who as u16, 8080));
    script.send(pool, 0, greeting());
    script.send(pool, 1, welcome());
    let words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];
    for round in 0..n {
        let mut together = Vec::new();
        for who in 0..2 {
            let path = format!("/{}/{}", words[round as usize % words.len()], words[who]);
            let trace = format!("00-{}{:02x}-b7ad6b7169203331-01", &TRACES[who][..30], round);
            let token = format!("Bearer token-of-{}", NAMES[who]);
            let header = if traced { format!("traceparent: {trace}\r\n") } else { String::new() };
            let head = format!("GET {path} HTTP/1.1\r\nhost: s\r\nauthorization: {token}\r\n{header}\r\n");
            script.send(clients[who], 0, head.into_bytes());
            let mut more = Vec::new();
            match passes {
                Passes::WithToken => more.push(literal("authorization", &token)),
                Passes::OwnToken => more.push(literal("authorization", "Bearer of-the-gateway")),
                Passes::Without => {}
            }
            if traced {
                more.push(literal("traceparent", &trace));
            }
            together.extend(message(4 * round + 2 * who as u32 + 1, &get(&path, &more)));
        }
        script.send(pool, 0, together);
        for who in [1, 0] {
            script.send(pool, 1, message(4 * round + 2 * who as u32 + 1, &[0x88]));
            script.send(clients[who], 1, answer("200 OK", ""));
        }
        script.steps.push(Step::Wait { millis: 30 });
    }
    script.steps.push(Step::Wait { millis: 4_000 });
    [pool, clients[0], clients[1]].into_iter().for_each(|conn| script.close(conn));
    script.steps
}

/// Operations behind the proxy, by the second word of their path, with whom they are for and what is said of it.
fn behind(seen: &Seen) -> Vec<String> {
    // What came in is for whoever sent it; each is told twice, here and there.
    seen.operations.iter().filter(|op| op.starts_with("data GET")).cloned().collect()
}

#[test]
fn each_stream_is_for_whoever_sent_what_it_passes_on() {
    let seen = all(&pooled(Passes::WithToken, true, 6));
    let ops = behind(&seen);
    assert_eq!(ops.len(), 24, "{ops:#?}");
    for (word, name) in [("alpha", "acme"), ("beta", "globex")] {
        let of: Vec<_> = ops.iter().filter(|op| op.contains(&format!("/{word} "))).collect();
        assert!(of.iter().all(|op| op.contains(name)), "{of:#?}");
        assert_eq!(of.len(), 12);
    }
    assert!(seen.findings.iter().all(|f| !f.rule.starts_with("pool")), "{:#?}", seen.findings);
}

#[test]
fn streams_without_a_credential_are_told_and_for_the_right_tenants() {
    let seen = all(&pooled(Passes::Without, true, 6));
    let found: Vec<_> = seen.findings.iter().filter(|f| f.rule == "pool-reuse-unrevalidated").collect();
    assert!(!found.is_empty(), "{:#?} {:#?}", behind(&seen), seen.findings.iter().map(|f| f.rule).collect::<Vec<_>>());
    let wrong = behind(&seen).into_iter().filter(|op| {
        (op.contains("/alpha ") && op.contains("globex")) || (op.contains("/beta ") && op.contains("acme"))
    });
    assert_eq!(wrong.count(), 0);
}

#[test]
fn nothing_of_one_stream_counts_for_another() {
    // The only credential is the gateway's: it names nobody, and nothing is bound by it for either.
    let seen = all(&pooled(Passes::OwnToken, true, 6));
    let ops = behind(&seen);
    let wrong = ops.iter().filter(|op| {
        (op.contains("/alpha ") && op.contains("globex")) || (op.contains("/beta ") && op.contains("acme"))
    });
    assert_eq!(wrong.count(), 0, "{ops:#?}");
}

#[test]
fn without_traces_it_is_the_right_tenant_or_nobody() {
    for passes in [Passes::WithToken, Passes::Without] {
        let seen = all(&pooled(passes, false, 8));
        let ops = behind(&seen);
        let of = |word: &str, name: &str| {
            ops.iter().filter(|o| o.contains(&format!("/{word} ")) && o.contains(name)).count()
        };
        assert_eq!((of("alpha", "globex"), of("beta", "acme")), (0, 0), "{ops:#?}");
        assert!(of("alpha", "acme") > 8 && of("beta", "globex") > 8, "passed on unchanged: {ops:#?}");
    }
}

#[test]
fn losing_any_event_names_nobody_else_and_accuses_nobody_new() {
    for (passes, traced) in [(Passes::WithToken, true), (Passes::WithToken, false)] {
        let steps = pooled(passes, traced, 3);
        for lost in 0..steps.len() {
            let left: Vec<Step> =
                steps.iter().enumerate().filter(|(i, _)| *i != lost).map(|(_, s)| s.clone()).collect();
            let seen = all(&left);
            assert!(seen.findings.iter().all(|f| !f.rule.starts_with("pool")), "{lost}: {:#?}", seen.findings);
            for op in behind(&seen) {
                let wrong =
                    (op.contains("/alpha ") && op.contains("globex")) || (op.contains("/beta ") && op.contains("acme"));
                assert!(!wrong, "without {lost}: {op}");
            }
        }
    }
}
