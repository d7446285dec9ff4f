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
