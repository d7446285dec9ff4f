//! The whole core on a proxy with a cache, between clients of two tenants and an origin.

use super::scenes::TENANTS;
use super::*;

const PROXY: u64 = POOLER;
const ORIGIN: u64 = DATABASE;
const TOKENS: [&str; 2] = ["Authorization: Bearer 7c1f0d2b6a9e4c58", "Authorization: Bearer e04a6b1f93d2875c"];

/// What the proxy does with a request.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum From {
    Origin,
    Cache,
    /// The origin says that the cache may go on using what it has.
    Validated,
}

fn request(header: &str) -> Vec<u8> {
    format!("GET /orders HTTP/1.1\r\nhost: shop\r\n{header}\r\n\r\n").into_bytes()
}

fn reply(headers: &str, of: &str) -> Vec<u8> {
    let body = format!("{{\"customer\":\"{of}\",\"orders\":[4711,4712,4713],\"total\":1299}}");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    format!("{head}{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Requests one after another: whose, whose body comes back, and where from.
pub(super) fn proxied(headers: &str, identities: [&str; 2], steps: &[(usize, &str, From)]) -> Vec<Step> {
    let mut script = Script::default();
    let clients = TENANTS.map(|who| script.connect(who, PROXY, 41_000 + who as u16, 8080));
    let origin = script.connect(PROXY, ORIGIN, 40_000, 8081);
    for (who, of, from) in steps {
        script.send(clients[*who], 0, request(identities[*who]));
        match from {
            From::Cache => {}
            From::Origin => {
                script.send(origin, 0, request(identities[*who]));
                script.send(origin, 1, reply(headers, of));
            }
            From::Validated => {
                script.send(origin, 0, request(&format!("{}\r\nif-none-match: \"1\"", identities[*who])));
                script.send(origin, 1, b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec());
            }
        }
        script.send(clients[*who], 1, reply(headers, of));
        script.steps.push(Step::Wait { millis: 20 });
    }
    script.steps.push(Step::Wait { millis: 5_000 });
    clients.into_iter().chain([origin]).for_each(|conn| script.close(conn));
    script.steps
}

/// A cache whose key leaves out who asks, after a while in which all was well.
pub(super) fn shared() -> Vec<Step> {
    let steps = [(0, "acme", From::Origin), (1, "globex", From::Origin), (0, "a", From::Origin), (1, "a", From::Cache)];
    proxied("cache-control: max-age=60\r\n", TOKENS, &steps)
}

/// The same bytes for both, and then out of the cache.
pub(super) fn alike() -> Vec<Step> {
    let steps = [(1, "all", From::Origin), (0, "all", From::Origin), (1, "all", From::Cache), (0, "all", From::Cache)];
    proxied("", TOKENS, &steps)
}

fn crossings(steps: &[Step]) -> Vec<(crate::model::Severity, Option<String>, Option<String>)> {
    let seen = all(steps);
    let of = |f: &&crate::model::Finding| f.rule == "http-cache-shared";
    seen.latest.iter().filter(of).map(|f| (f.severity, f.tenants.used.clone(), f.tenants.bound.clone())).collect()
}

#[test]
fn a_cache_that_answers_one_with_what_it_fetched_for_another() {
    use crate::model::Severity;
    let told = (Severity::High, Some("globex".to_owned()), Some("acme".to_owned()));
    assert_eq!(crossings(&shared()), std::slice::from_ref(&told));
    for identities in [
        ["X-Tenant-Id: acme", "X-Tenant-Id: globex"],
        ["Cookie: sid=9f86d081884c7d65", "Cookie: sid=60303ae22b998861"],
        [TOKENS[0], "X-Nobody: 1"],
    ] {
        let steps = proxied("", identities, &[(0, "a", From::Origin), (1, "a", From::Cache)]);
        assert_eq!(crossings(&steps), std::slice::from_ref(&told), "{identities:?}");
    }
    let steps = proxied("cache-control: private\r\n", TOKENS, &[(0, "a", From::Origin), (1, "a", From::Cache)]);
    assert_eq!(crossings(&steps)[0].0, Severity::Critical);
}

#[test]
fn caches_that_do_as_they_should() {
    let hit = [(0, "a", From::Origin), (1, "a", From::Cache)];
    for (headers, identities, steps) in [
        (
            "",
            TOKENS,
            &[(0, "a", From::Origin), (1, "b", From::Origin), (0, "a", From::Cache), (1, "b", From::Cache)][..],
        ),
        ("", TOKENS, &[(0, "a", From::Origin), (1, "a", From::Validated)][..]),
        ("cache-control: public, max-age=60\r\n", TOKENS, &hit[..]),
        ("vary: Authorization\r\n", TOKENS, &hit[..]),
        ("", ["X-Nobody: 1", "X-Nobody: 2"], &hit[..]),
    ] {
        assert_eq!(crossings(&proxied(headers, identities, steps)), [], "{headers} {identities:?}");
    }
    assert_eq!(crossings(&alike()), []);
}
