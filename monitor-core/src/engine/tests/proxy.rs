//! A proxy that begins its connections with a header: the client is whom it names, where the operator trusts it.

use super::*;
use crate::model::BindPolicy;
use crate::model::settings::ServiceSpec;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FRONT: u16 = 6443;

fn header(client: u16, second: bool) -> Vec<u8> {
    if second {
        let mut out = [SIGNATURE, &[0x21, 0x11, 0, 19, 127, 0, 0, 1, 127, 0, 0, 1]].concat();
        out.extend(client.to_be_bytes());
        out.extend(FRONT.to_be_bytes());
        // Something more that the header's length covers.
        out.extend(b"\x04\0\x04more");
        return out;
    }
    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {client} {FRONT}\r\n").into_bytes()
}

fn settings(trusted: &str) -> Settings {
    let service = ServiceSpec {
        name: "orders-db".into(),
        port: Some(5432),
        net: None,
        protocol: None,
        minimum: None,
        policy: BindPolicy::default(),
        proxies: vec![(trusted.parse().unwrap(), 32)],
    };
    let show = Show { names: vec!["*".to_owned()], ..Show::default() };
    Settings { operations: true, show, services: vec![service], ..Settings::default() }
}

/// Both tenants talk to a proxy in words that nobody reads; it connects to the database for each, and for itself.
fn proxied(pieces: &dyn Fn(Vec<u8>) -> Vec<Vec<u8>>, second: bool) -> Vec<Step> {
    let mut script = Script::default();
    for (i, who) in [ACME, GLOBEX].into_iter().enumerate() {
        let port = 41_000 + i as u16;
        let front = script.connect(who, POOLER, port, FRONT);
        script.send(front, 0, vec![7; 64]);
        let back = script.connect(POOLER, DATABASE, 40_000 + i as u16, 5432);
        for piece in pieces([header(port, second), pg::startup("app")].concat()) {
            script.send(back, 0, piece);
        }
        script.send(back, 1, pg::ready_after_startup());
        for n in 0..3 {
            script.send(back, 0, pg::query(&format!("SELECT item FROM orders WHERE id = {n}")));
            script.send(back, 1, pg::reply("SELECT 1", b'I'));
        }
        script.close(back);
    }
    let own = script.connect(POOLER, DATABASE, 40_009, 5432);
    script.send(own, 0, [SIGNATURE, &[0x20, 0, 0, 0]].concat());
    script.send(own, 0, pg::startup("check"));
    script.send(own, 1, pg::ready_after_startup());
    script.send(own, 0, pg::query("SELECT item FROM health"));
    script.send(own, 1, pg::reply("SELECT 1", b'I'));
    script.steps.push(Step::Wait { millis: 4_000 });
    script.steps
}

fn whole(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    vec![bytes]
}

fn selects(seen: &Seen) -> Vec<&str> {
    seen.operations.iter().filter(|o| o.contains("SELECT")).map(String::as_str).collect()
}

fn run(trusted: &str, steps: &[Step]) -> Seen {
    play_on(engine_with(settings(trusted)), steps, |_| true, false)
}

const ATTRIBUTED: [&str; 7] = [
    "data SELECT orders acme single-tenant",
    "data SELECT orders acme single-tenant",
    "data SELECT orders acme single-tenant",
    "data SELECT orders globex single-tenant",
    "data SELECT orders globex single-tenant",
    "data SELECT orders globex single-tenant",
    "data SELECT health - indeterminate",
];

#[test]
fn a_trusted_header_names_the_client_however_it_is_cut() {
    for second in [false, true] {
        let seen = run("127.0.0.1", &proxied(&whole, second));
        assert_eq!(selects(&seen), ATTRIBUTED);
        // Behind a header that came in pieces, the connection that it names is not looked for; the rest is read.
        let len = header(41_000, second).len();
        for cut in [1, 5, 11, 12, 13, 16, 20, len - 8, len - 1, len, len + 1] {
            let pieces = |bytes: Vec<u8>| vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()];
            let seen = run("127.0.0.1", &proxied(&pieces, second));
            let read = selects(&seen).iter().filter(|o| o.starts_with("data SELECT orders")).count();
            assert_eq!(read, 6, "{second} {cut}: {:#?}", seen.operations);
            assert!(seen.findings.iter().all(|f| !f.rule.starts_with("pool-")), "{:#?}", seen.findings);
        }
    }
}

#[test]
fn an_untrusted_header_is_passed_over_and_names_nobody() {
    let seen = run("10.9.9.9", &proxied(&whole, true));
    let orders = selects(&seen).into_iter().filter(|o| o.contains("orders")).collect::<Vec<_>>();
    assert_eq!(orders.len(), 6, "{:#?}", seen.operations);
    assert!(orders.iter().all(|o| o.ends_with("- indeterminate")), "{orders:#?}");
    // Where nothing is configured, nobody is trusted.
    let seen = all(&proxied(&whole, false));
    assert!(selects(&seen).iter().all(|o| o.contains(" - ")), "{:#?}", seen.operations);
}

#[test]
fn whoever_is_named_is_not_the_proxys_pool() {
    // One of the client's own names another: the header of a connection decides for that connection alone.
    for lost in 0..proxied(&whole, true).len() {
        let steps = proxied(&whole, true);
        let seen = play_on(engine_with(settings("127.0.0.1")), &steps, |i| i != lost, true);
        let told = seen.findings.iter().filter(|f| f.rule.starts_with("pool-")).count();
        assert_eq!(told, 0, "without event {lost}: {:#?}", seen.findings);
    }
}
