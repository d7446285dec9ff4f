//! The whole core on a proxy that shares its server connection between clients whose sessions are cookies.

use super::*;

fn through_proxy(cookies: [&str; 2]) -> Script {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 8081);
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, POOLER, 41_000 + who as u16, 8080));
    for i in 0..8 {
        let (client, cookie) = (clients[i % 2], cookies[i % 2]);
        let request =
            format!("GET /orders/{} HTTP/1.1\r\nhost: app\r\ncookie: {cookie}\r\n\r\n", 4000 + i).into_bytes();
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\norder{i}").into_bytes();
        script.send(client, 0, request.clone());
        script.send(server, 0, request);
        script.send(server, 1, reply.clone());
        script.send(client, 1, reply);
    }
    script
}

#[test]
fn a_session_cookie_in_each_request_re_validates_it() {
    let own = ["lb=s1; sid=9f86d081884c7d65", "lb=s1; sid=60303ae22b998861"];
    let steps = through_proxy(own).steps;
    let seen = all(&steps);
    assert_eq!(found(&seen), BTreeSet::new(), "{:#?}", seen.operations);
    assert!(seen.operations.iter().any(|o| o.ends_with("globex revalidated")), "{:#?}", seen.operations);
    for lost in 0..steps.len() {
        let seen = play(&steps, |i| i != lost, false);
        assert_eq!(found(&seen), BTreeSet::new(), "without event {lost}");
    }
}

#[test]
fn one_session_for_all_and_cookies_that_are_no_sessions_prove_nothing() {
    let shared = "sid=9f86d081884c7d65";
    for cookies in
        [[shared, shared], ["SERVERID=s1", "SERVERID=s2"], ["_ga=GA1.2.1159632287.1", "_ga=GA1.2.77159632287.1"]]
    {
        let seen = all(&through_proxy(cookies).steps);
        let reuse = ("pool-reuse-unrevalidated", "globex".to_owned(), "acme".to_owned());
        assert!(found(&seen).contains(&reuse), "{cookies:?} {:?} {:#?}", found(&seen), seen.operations);
    }
}

#[test]
fn one_session_that_a_proxy_puts_in_every_request_is_its_owners() {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 8081);
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, POOLER, 41_000 + who as u16, 8080));
    let request = |i: usize, sid: &str| {
        format!("GET /orders/{} HTTP/1.1\r\nhost: app\r\ncookie: sid={sid}\r\n\r\n", 4000 + i).into_bytes()
    };
    for i in 0..12 {
        let body = format!("{{\"order\":{i},\"customer\":\"acme\",\"total\":1299}}");
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
        script.send(clients[i % 2], 0, request(i, SESSIONS[i % 2]));
        script.send(server, 0, request(i, SESSIONS[0]));
        script.send(server, 1, reply.clone());
        script.send(clients[i % 2], 1, reply);
        script.steps.push(Step::Wait { millis: 20 });
    }
    script.steps.push(Step::Wait { millis: 3_000 });
    let seen = all(&script.steps);
    let told = seen.findings.iter().filter(|f| f.severity >= crate::model::Severity::Medium);
    let told: BTreeSet<_> = told.map(|f| (f.rule, f.tenants.used.clone().unwrap_or_default())).collect();
    assert!(told.contains(&("pool-reuse-unrevalidated", "globex".to_owned())), "{told:?} {:#?}", seen.operations);
    // acme's own requests carry its own session, and no cache is there.
    assert!(told.iter().all(|(rule, used)| used == "globex" && *rule != "http-cache-shared"), "{told:?}");
}

const SESSIONS: [&str; 2] = ["9f86d081884c7d659a2feaa0", "60303ae22b998861bce3b28f"];

/// One request through a gateway, which opens a connection of its own for each: what it carries, and what the answer
/// sets.
pub(super) struct Passed<'a> {
    who: usize,
    path: &'a str,
    carries: String,
    sets: String,
}

fn passed(who: usize, path: &str, carries: impl Into<String>, sets: impl Into<String>) -> Passed<'_> {
    Passed { who, path, carries: carries.into(), sets: sets.into() }
}

fn cookie(name: &str, whose: usize) -> String {
    format!("cookie: {name}={}\r\n", SESSIONS[whose])
}

fn set(name: &str, whose: usize, attributes: &str) -> String {
    format!("set-cookie: {name}={}; Path=/{attributes}\r\n", SESSIONS[whose])
}

/// The gateway's requests, in turn; `shared`: all on one connection, as the clients send them.
pub(super) fn through_gateway(requests: &[Passed<'_>], shared: bool) -> Vec<Step> {
    let mut script = Script::default();
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, POOLER, 41_000 + who as u16, 8080));
    let mut server = script.connect(POOLER, DATABASE, 40_000, 8081);
    for (i, r) in requests.iter().enumerate() {
        if !shared && i > 0 {
            script.close(server);
            server = script.connect(POOLER, DATABASE, 40_000 + i as u16, 8081);
        }
        let line = format!("GET {}/{} HTTP/1.1\r\nhost: app\r\n", r.path, 4000 + i);
        let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 6\r\n\r\norder{}", r.sets, i % 10).into_bytes();
        let own = if shared { r.carries.as_str() } else { "" };
        script.send(clients[r.who], 0, format!("{line}{own}\r\n").into_bytes());
        script.send(server, 0, format!("{line}{}\r\n", r.carries).into_bytes());
        script.send(server, 1, head.clone());
        script.send(clients[r.who], 1, head);
        script.steps.push(Step::Wait { millis: 5 });
    }
    script.steps.push(Step::Wait { millis: 4_000 });
    [clients[0], clients[1], server].into_iter().for_each(|conn| script.close(conn));
    script.steps
}

/// One jar for all callers: acme's session goes out with globex's request, beside what `own` says of each.
pub(super) fn one_jar(name: &str, attributes: &str, own: [&str; 2]) -> Vec<Step> {
    let with = |who: usize, cookies: &str| format!("{}{cookies}", own[who]);
    through_gateway(
        &[
            // By its first request the gateway is known for what it is.
            passed(0, "/chat", with(0, ""), ""),
            passed(0, "/chat", with(0, ""), set(name, 0, attributes)),
            passed(0, "/chat", with(0, &cookie(name, 0)), ""),
            passed(1, "/chat", with(1, &cookie(name, 0)), ""),
        ],
        false,
    )
}

/// Two tenants log in, each with a session of its own; and a cookie that says which server is asked.
pub(super) fn sessions() -> Vec<Step> {
    let own = |who: usize| format!("cookie: sid={}; sessnode=0123456789abcdef01\r\n", SESSIONS[who]);
    let node = "set-cookie: sessnode=0123456789abcdef01; HttpOnly\r\n";
    let mut requests: Vec<_> =
        [1, 0].map(|who| passed(who, "/", "", format!("{node}{}", set("sid", who, "; HttpOnly")))).into();
    requests.extend((0..6).map(|i| passed(i % 2, "/orders", own(i % 2), "")));
    through_gateway(&requests, false)
}

const CROSSING: &str = "http-session-cross-tenant";

fn crosses(steps: &[Step]) -> bool {
    found(&all(steps)).contains(&(CROSSING, "globex".to_owned(), "acme".to_owned()))
}

/// Nothing is found of sessions, whatever is lost.
fn apart(what: &str, steps: &[Step]) {
    for lost in std::iter::once(usize::MAX).chain(0..steps.len()) {
        let seen = play(steps, |i| i != lost, false);
        assert!(!rules(&seen).contains(CROSSING), "{what} without {lost}: {:#?}", seen.findings);
    }
}

const TOKENS: [&str; 2] = ["authorization: Bearer token-of-acme-1\r\n", "authorization: Bearer token-of-globex-2\r\n"];

#[test]
fn one_jar_for_all_callers_sends_anothers_session() {
    for (name, attributes) in
        [("session_id", ""), ("sid", "; HttpOnly"), ("app", "; HttpOnly"), ("_app", "; HttpOnly; Max-Age=3600")]
    {
        for own in [["", ""], TOKENS] {
            let steps = one_jar(name, attributes, own);
            assert!(
                crosses(&steps),
                "{name} {attributes} {own:?}: {:#?} {:#?}",
                all(&steps).findings,
                all(&steps).operations
            );
        }
    }
}

#[test]
fn cookies_that_are_no_sessions_may_be_everybodys() {
    for (name, attributes) in
        [("app", ""), ("app", "; HttpOnly; Max-Age=31536000"), ("GCLB", "; HttpOnly"), ("AWSALB", "")]
    {
        apart(name, &one_jar(name, attributes, ["", ""]));
    }
    // The gateway's own account has a session like anybody's.
    let service = "authorization: Basic Z2F0ZXdheTpzeW50aGV0aWM=\r\n";
    apart("of its own", &one_jar("sid", "; HttpOnly", [service, service]));
    // It logs in when it needs to, which is in the course of somebody's request.
    let login = through_gateway(
        &[
            passed(1, "/orders", "", ""),
            passed(0, "/login", "", set("sid", 0, "; HttpOnly")),
            passed(0, "/orders", cookie("sid", 0), ""),
            passed(1, "/orders", cookie("sid", 0), ""),
            passed(0, "/orders", cookie("sid", 0), ""),
        ],
        false,
    );
    apart("logs in once", &login);
    // Which server is asked: one value, set for everybody.
    let affinity = through_gateway(
        &[
            passed(0, "/orders", "", ""),
            passed(1, "/orders", "", set("sessnode", 0, "; HttpOnly")),
            passed(0, "/orders", "", set("sessnode", 0, "; HttpOnly")),
            passed(1, "/orders", cookie("sessnode", 0), ""),
        ],
        false,
    );
    apart("affinity", &affinity);
}

#[test]
fn each_with_its_own_session_is_clean_and_shows_whose_is_whose() {
    for name in ["sid", "app"] {
        let own = |who: usize| passed(who, "/orders", cookie(name, who), "");
        let mut requests: Vec<_> = (0..8).map(|i| own(i % 2)).collect();
        apart(name, &through_gateway(&requests, false));
        // Nobody was seen to set it, and it is still acme's.
        requests.push(passed(1, "/orders", cookie(name, 0), ""));
        assert!(crosses(&through_gateway(&requests, false)), "{name}");
        // Visits are counted alike; they are known by their names.
        let counted: Vec<_> =
            (0..9).map(|i| passed(i % 2, "/orders", cookie("_ga_X1", if i == 8 { 1 } else { i % 2 }), "")).collect();
        apart("counted", &through_gateway(&counted, false));
    }
}

#[test]
fn who_logs_in_on_a_shared_connection_uses_nobodys_session() {
    for (path, attributes) in [("/login", "; HttpOnly"), ("/", "; HttpOnly")] {
        let mut requests =
            vec![passed(0, path, "", set("app", 0, attributes)), passed(1, path, "", set("app", 1, attributes))];
        requests.extend((0..6).map(|i| passed(i % 2, "/orders", cookie("app", i % 2), "")));
        let steps = through_gateway(&requests, true);
        for lost in std::iter::once(usize::MAX).chain(0..steps.len()) {
            let seen = play(&steps, |i| i != lost, false);
            assert_eq!(found(&seen), BTreeSet::new(), "without {lost}: {:#?}", seen.operations);
        }
        let seen = all(&steps);
        assert!(seen.operations.iter().any(|o| o.ends_with("globex revalidated")), "{:#?}", seen.operations);
    }
    // Who is given a session each time and never comes back with it has none.
    let mut requests: Vec<_> = Vec::new();
    for i in 0..9 {
        let fresh = format!("set-cookie: app={}{i}; HttpOnly\r\n", SESSIONS[i % 2]);
        requests.push(passed(i % 2, "/orders", "", fresh));
    }
    let seen = all(&through_gateway(&requests, true));
    assert!(rules(&seen).contains("pool-reuse-unrevalidated"), "{:#?}", seen.operations);
}
