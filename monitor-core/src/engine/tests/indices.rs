//! The whole core on a search engine that tenants share, each with an index of its own.

use super::*;

/// Requests of the two tenants in turn, each to its own index by `names`, and then one of globex's to `last`; all through a
/// proxy on one connection.
fn searched(names: [&str; 2], last: &str) -> Vec<Step> {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 9200);
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, POOLER, 41_000 + who as u16, 9201));
    let mut ask = |who: usize, path: &str, n: usize| {
        let (asked, told) = (format!("{{\"n\":{n}}}"), format!("found{n}"));
        let length = |text: &str| format!("content-length: {}\r\n\r\n{text}", text.len());
        let request = format!("POST {path} HTTP/1.1\r\nhost: s\r\n{}", length(&asked)).into_bytes();
        let reply = format!("HTTP/1.1 200 OK\r\n{}", length(&told)).into_bytes();
        script.send(clients[who], 0, request.clone());
        script.send(server, 0, request);
        script.send(server, 1, reply.clone());
        script.send(clients[who], 1, reply);
    };
    for n in 0..12 {
        ask(n % 2, &format!("/{}/_search", names[n % 2]), n);
    }
    ask(1, &format!("/{last}/_search"), 12);
    ask(0, &format!("/{}/_doc/1", names[0]), 13);
    script.steps.push(Step::Wait { millis: 4_000 });
    script.steps
}

fn crosses(steps: &[Step]) -> bool {
    found(&all(steps)).contains(&("pool-stale-binding", "globex".into(), "acme".into()))
}

#[test]
fn another_tenants_index_is_a_crossing() {
    assert!(crosses(&searched(["c1842", "c2077"], "c1842")), "learned");
    assert!(crosses(&searched(["acme-orders", "globex-orders"], "acme-orders")), "by its name");
}

#[test]
fn ones_own_or_everybodys_index_is_none() {
    for (names, last) in
        [(["c1842", "c2077"], "c2077"), (["orders", "orders"], "orders"), (["a", "b"], "_all"), (["a", "b"], "a,b")]
    {
        let steps = searched(names, last);
        for lost in std::iter::once(usize::MAX).chain(0..steps.len()) {
            let seen = play(&steps, |i| i != lost, false);
            assert!(
                !rules(&seen).contains("pool-stale-binding"),
                "{names:?} {last} without {lost}: {:#?}",
                seen.findings
            );
        }
    }
}
