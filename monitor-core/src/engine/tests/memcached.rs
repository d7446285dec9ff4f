//! The whole core on a scripted cache that two tenants share, asked in memcached's words: by themselves, and through a
//! service that works for both.

use super::shared_service::{SERVICE, TENANTS};
use super::*;

/// What each of two tenants says, and what is answered, in turn.
fn cache(talk: &[(usize, &str, &str)]) -> Vec<Step> {
    let mut script = Script::default();
    let conns = [ACME, GLOBEX].map(|who| script.connect(who, DATABASE, 41_000 + who as u16, 11_211));
    for (who, said, answer) in talk {
        script.send(conns[*who], 0, said.as_bytes().to_vec());
        if !answer.is_empty() {
            script.send(conns[*who], 1, answer.as_bytes().to_vec());
        }
    }
    script.steps.push(Step::Wait { millis: 4_000 });
    conns.into_iter().for_each(|conn| script.close(conn));
    script.steps
}

const TEXT: &str = "the quarterly report of one of them";

fn written(key: &str, noreply: bool) -> (String, String) {
    let set = format!("set {key} 0 60 {}{}\r\n{TEXT}\r\n", TEXT.len(), if noreply { " noreply" } else { "" });
    (set, format!("VALUE {key} 0 {}\r\n{TEXT}\r\nEND\r\n", TEXT.len()))
}

fn told(steps: &[Step]) -> bool {
    rules(&all(steps)).contains("cache-key-unscoped")
}

#[test]
fn what_one_has_written_and_another_is_handed_is_told() {
    for noreply in [false, true] {
        let (set, value) = written("report:latest", noreply);
        let stored = if noreply { "" } else { "STORED\r\n" };
        assert!(told(&cache(&[(0, &set, stored), (1, "get report:latest\r\n", &value)])), "{noreply}");
        assert!(!told(&cache(&[(0, &set, stored), (0, "get report:latest\r\n", &value)])), "its own");
        assert!(!told(&cache(&[(0, &set, stored), (1, "get report:latest\r\n", "END\r\n")])), "nothing was there");
        // Each writes before it reads.
        let own = [(0, set.as_str(), stored), (1, set.as_str(), stored), (1, "get report:latest\r\n", value.as_str())];
        assert!(!told(&cache(&own)), "its own again");
    }
    let (set, value) = written("acme:report", false);
    assert!(!told(&cache(&[(0, &set, "STORED\r\n"), (1, "get acme:report\r\n", &value)])), "the key says whose it is");
    let (set, value) = written("report:latest", false);
    assert!(!told(&cache(&[(0, &set, "SERVER_ERROR out of memory\r\n"), (1, "get report:latest\r\n", &value)])));
    let add = set.replacen("set", "add", 1);
    assert!(!told(&cache(&[(0, &add, "NOT_STORED\r\n"), (1, "get report:latest\r\n", &value)])), "refused");
    // Locks and counters are nobody's.
    let lock = "add lock:7 0 30 1\r\n1\r\n";
    assert!(!told(&cache(&[(0, lock, "STORED\r\n"), (1, "get lock:7\r\n", "VALUE lock:7 0 1\r\n1\r\nEND\r\n")])));
}

#[test]
fn meta_commands_are_the_same_keys() {
    let (_, value) = written("report:latest", false);
    let set = format!("ms report:latest {} T60\r\n{TEXT}\r\n", TEXT.len());
    assert!(told(&cache(&[(0, &set, "HD\r\n"), (1, "get report:latest\r\n", &value)])));
    let (set, _) = written("report:latest", false);
    let va = format!("VA {}\r\n{TEXT}\r\n", TEXT.len());
    assert!(told(&cache(&[(0, &set, "STORED\r\n"), (1, "mg report:latest v\r\n", &va)])));
    // Whose of two quiet reads it is, nobody can tell.
    let both = format!("{va}MN\r\n");
    let asked = "mg report:latest v q\r\nmg other v q\r\nmn\r\n";
    assert!(!told(&cache(&[(0, &set, "STORED\r\n"), (1, asked, &both)])));
    let (asked, both) =
        (asked.replace("v q", "v q k Ox"), format!("VA {} kreport:latest Ox\r\n{TEXT}\r\nMN\r\n", TEXT.len()));
    let asked = asked.replacen("other v q k Ox", "other v q k Oy", 1);
    assert!(told(&cache(&[(0, &set, "STORED\r\n"), (1, &asked, &both)])), "its token says so");
}

#[test]
fn whatever_is_lost_makes_no_finding() {
    let (set, value) = written("report:latest", false);
    let get = "get report:latest\r\n";
    let clean = cache(&[(0, &set, "STORED\r\n"), (0, get, &value), (1, &set, "STORED\r\n"), (1, get, &value)]);
    for lost in 0..clean.len() {
        let seen = play(&clean, |i| i != lost, true);
        assert!(!rules(&seen).contains("cache-key-unscoped"), "without event {lost}: {:#?}", seen.findings);
    }
}

/// Both tenants' requests at once, each on its own connection to the cache, which they swap every time. They write the
/// same key: what they write alone tells them apart.
fn interleaved(length: usize) -> Vec<Step> {
    let mut script = Script::default();
    let pool = [40_000, 40_001].map(|port| script.connect(SERVICE, DATABASE, port, 11_211));
    let clients = [ACME, GLOBEX].map(|who| script.connect(who, SERVICE, 41_000 + who as u16, 8080));
    for i in 0..40 {
        let texts = [0, 1].map(|tenant| {
            let text =
                format!("{{\"about\":\"report-{i}-{tenant}-of-this-year\",\"rest\":\"{}\"}}", "x ".repeat(length));
            let head = "PUT /reports/latest HTTP/1.1\r\nhost: service\r\ncontent-type: application/json\r\n";
            let put = format!("{head}content-length: {}\r\n\r\n{text}", text.len());
            script.send(clients[tenant], 0, put.into_bytes());
            text
        });
        for (tenant, text) in texts.iter().enumerate() {
            let set = format!("set report:latest 0 60 {}\r\n{text}\r\n", text.len());
            let conn = pool[(tenant + i) % 2];
            script.send(conn, 0, set.into_bytes());
            script.send(conn, 1, b"STORED\r\n".to_vec());
        }
        for tenant in [1, 0] {
            let ok = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            script.send(clients[tenant], 1, ok.to_vec());
        }
        script.steps.push(Step::Wait { millis: 3 });
    }
    script.steps.push(Step::Wait { millis: 500 });
    script.steps
}

#[test]
fn what_is_written_leads_to_the_request_that_brought_it() {
    // Short enough to be kept, and longer.
    for length in [1, 400] {
        let seen = all(&interleaved(length));
        for tenant in TENANTS {
            let of = |o: &&String| o.starts_with("data set ") && o.contains(tenant);
            let n = seen.operations.iter().filter(of).count();
            assert!(n >= 30, "{tenant}, {length}: {n} of 40: {:#?}", seen.operations);
        }
    }
}
