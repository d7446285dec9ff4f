//! The whole core on what two tenants' programs do with one Redis: what one wrote and another receives is told, and what
//! is compared, counted, refused, empty, or its own is not.

use super::*;
use crate::model::Severity;

const STORE: u64 = 15;
const RULE: &str = "cache-key-unscoped";
const TOKENS: [&str; 2] = ["0b8f6a2e5d5d4c0e9f1f6f0f3a1b2c3d", "7c1d9a4be0f24b6c8a5e3d2f1b0a9c8d"];

/// One exchange: who (`a` or `b`), the command, and the reply as the protocol has it, where `_` ends a line.
type Said<'a> = (char, &'a str, &'a str);

pub(super) fn command(text: &str) -> Vec<u8> {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend(format!("${}\r\n{w}\r\n", w.len()).into_bytes());
    }
    out
}

/// `+OK`, `:1`, `nil`, a text, or `[a b c]`, which may nest.
pub(super) fn reply(text: &str) -> Vec<u8> {
    match text.as_bytes().first() {
        Some(b'+' | b':' | b'-') => format!("{text}\r\n").into_bytes(),
        Some(b'[') => {
            let mut items: Vec<Vec<u8>> = Vec::new();
            let (mut depth, mut item) = (0, String::new());
            for c in text[1..text.len() - 1].chars().chain([' ']) {
                match c {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                if c == ' ' && depth == 0 {
                    if !item.is_empty() {
                        items.push(reply(&std::mem::take(&mut item)));
                    }
                } else {
                    item.push(c);
                }
            }
            let mut out = format!("*{}\r\n", items.len()).into_bytes();
            out.extend(items.concat());
            out
        }
        _ if text == "nil" => b"$-1\r\n".to_vec(),
        _ => format!("${}\r\n{text}\r\n", text.len()).into_bytes(),
    }
}

fn script(said: &[Said<'_>]) -> Vec<Step> {
    let mut script = Script::default();
    let conns = [ACME, GLOBEX].map(|who| script.connect(who, STORE, 42_000 + who as u16, 6379));
    for (who, asked, answered) in said {
        let conn = conns[usize::from(*who == 'b')];
        script.send(conn, 0, command(asked));
        script.send(conn, 1, reply(answered));
    }
    script.steps.push(Step::Wait { millis: 3_000 });
    script.steps
}

/// Readers and writers of what is found.
fn crossings(said: &[Said<'_>]) -> Vec<(String, String)> {
    let seen = all(&script(said));
    let found = seen.findings.iter().filter(|f| f.rule == RULE);
    found
        .map(|f| {
            assert_eq!(f.severity, Severity::High);
            (f.tenants.used.clone().unwrap_or_default(), f.tenants.bound.clone().unwrap_or_default())
        })
        .collect()
}

fn b_gets_as(said: &[Said<'_>]) {
    let found = crossings(said);
    assert!(found.contains(&("globex".to_owned(), "acme".to_owned())), "{said:?}: {found:?}");
    // Each alone is silent, and so are two who stay apart.
    for who in ['a', 'b'] {
        let own: Vec<_> = said.iter().copied().filter(|(w, ..)| *w == who).collect();
        assert!(crossings(&own).is_empty(), "{own:?}");
    }
    losing_makes_nothing(said, true);
}

fn silent(said: &[Said<'_>]) {
    let found = crossings(said);
    assert!(found.is_empty(), "{said:?}: {found:?}");
    losing_makes_nothing(said, false);
}

/// No lost event makes a finding that the whole does not have.
fn losing_makes_nothing(said: &[Said<'_>], guilty: bool) {
    if guilty {
        return;
    }
    let steps = script(said);
    for lost in 0..steps.len() {
        let seen = play(&steps, |i| i != lost, false);
        let found = seen.findings.iter().find(|f| f.rule == RULE);
        assert!(found.is_none(), "losing event {lost} of {said:?}: {found:?}");
    }
}

#[test]
fn what_both_append_to_and_read() {
    // A chat history under a default key.
    b_gets_as(&[
        ('a', "RPUSH message_store:default {\"content\":\"a's_question\"}", ":1"),
        ('b', "RPUSH message_store:default {\"content\":\"b's_question\"}", ":2"),
        ('b', "LRANGE message_store:default 0 -1", "[{\"content\":\"a's_question\"} {\"content\":\"b's_question\"}]"),
    ]);
    // A hash of memories, by field and as a whole.
    b_gets_as(&[
        ('a', "HSET memories plan buy_globex", ":1"),
        ('b', "HSET memories mood fine", ":1"),
        ('b', "HGETALL memories", "[plan buy_globex mood fine]"),
    ]);
    b_gets_as(&[('a', "HSET memories plan buy_globex", ":1"), ('b', "HMGET memories x plan", "[nil buy_globex]")]);
    b_gets_as(&[('a', "HSET memories plan buy_globex", ":1"), ('b', "HVALS memories", "[buy_globex]")]);
    // A sorted set, with and without scores.
    b_gets_as(&[
        ('a', "ZADD memories 1 buy_globex", ":1"),
        ('b', "ZADD memories 2 stay_calm", ":1"),
        ('b', "ZREVRANGE memories 0 -1 WITHSCORES", "[stay_calm 2 buy_globex 1]"),
    ]);
    b_gets_as(&[('a', "ZINCRBY leaders 5 anna", "5"), ('b', "ZRANGE leaders 0 -1", "[anna]")]);
    b_gets_as(&[
        ('a', "SADD topics mergers", ":1"),
        ('b', "SADD topics pets", ":1"),
        ('b', "SMEMBERS topics", "[mergers pets]"),
    ]);
    // A stream.
    b_gets_as(&[
        ('a', "XADD log * text hello", "1700000000000-1"),
        ('b', "XADD log * text salve", "1700000000000-2"),
        ('b', "XRANGE log - +", "[[1700000000000-1 [text hello]] [1700000000000-2 [text salve]]]"),
    ]);
    // A text that both append to.
    b_gets_as(&[('a', "SET notes one.", "+OK"), ('b', "APPEND notes two.", ":8"), ('b', "GET notes", "one.two.")]);
}

#[test]
fn what_one_wrote_and_the_other_reads() {
    b_gets_as(&[('a', "SET answer forty-two", "+OK"), ('b', "GET answer", "forty-two")]);
    b_gets_as(&[('a', "SETEX answer 60 forty-two", "+OK"), ('b', "GETEX answer", "forty-two")]);
    b_gets_as(&[('a', "SET answer {\"n\":42} NX EX 60", "+OK"), ('b', "GET answer", "{\"n\":42}")]);
    b_gets_as(&[('a', "SET answer forty-two", "+OK"), ('b', "SET answer other GET", "forty-two")]);
    b_gets_as(&[('a', "SET answer forty-two", "+OK"), ('b', "GETSET answer other", "forty-two")]);
    b_gets_as(&[('a', &format!("SET token {} EX 60", TOKENS[0]), "+OK"), ('b', "GET token", TOKENS[0])]);
    b_gets_as(&[
        ('a', "MULTI", "+OK"),
        ('a', "SET answer forty-two", "+QUEUED"),
        ('a', "EXEC", "[+OK]"),
        ('b', "MULTI", "+OK"),
        ('b', "PING", "+QUEUED"),
        ('b', "GET answer", "+QUEUED"),
        ('b', "EXEC", "[+PONG forty-two]"),
    ]);
}

#[test]
fn every_key_counts() {
    b_gets_as(&[('a', "MSET x one y forty-two", "+OK"), ('b', "MGET z y", "[nil forty-two]")]);
    b_gets_as(&[('a', "SET y forty-two", "+OK"), ('a', "RENAME y z", "+OK"), ('b', "GET z", "forty-two")]);
    // What lies under a name that is put together from a shared version is content like any other.
    let entry = format!("page:{}", TOKENS[0]);
    b_gets_as(&[
        ('a', &format!("SET version {}", TOKENS[0]), "+OK"),
        ('a', &format!("SET {entry} a's_report"), "+OK"),
        ('b', "GET version", TOKENS[0]),
        ('b', &format!("GET {entry}"), "a's_report"),
    ]);
    b_gets_as(&[('a', "SADD x mergers", ":1"), ('b', "SUNIONSTORE own x y", ":1"), ('b', "SMEMBERS own", "[mergers]")]);
    b_gets_as(&[
        ('a', "ZADD x 1 mergers", ":1"),
        ('b', "ZUNIONSTORE own 2 y x", ":1"),
        ('b', "ZRANGE own 0 -1", "[mergers]"),
    ]);
    b_gets_as(&[('a', "SADD x mergers", ":1"), ('b', "SINTER y x", "[mergers]")]);
    b_gets_as(&[('a', "SET x forty-two", "+OK"), ('a', "COPY x y", ":1"), ('b', "GET y", "forty-two")]);
    b_gets_as(&[
        ('a', "EVALSHA 0123456789012345678901234567890123456789 2 x y forty-two", "+OK"),
        ('b', "GET y", "forty-two"),
    ]);
    b_gets_as(&[('a', "SET y forty-two", "+OK"), ('b', "FCALL_RO get 2 x y", "[forty-two]")]);
    b_gets_as(&[
        ('a', "SET x forty-two", "+OK"),
        ('b', "MOVE x 1", ":1"),
        ('b', "SELECT 1", "+OK"),
        ('b', "GET x", "forty-two"),
    ]);
    b_gets_as(&[
        ('a', "SET x forty-two", "+OK"),
        ('b', "COPY x y DB 2 REPLACE", ":1"),
        ('b', "SELECT 2", "+OK"),
        ('b', "GET y", "forty-two"),
    ]);
    b_gets_as(&[
        ('a', "RPUSH x mergers", ":1"),
        ('b', "SORT x BY nosort ALPHA STORE own", ":1"),
        ('b', "LRANGE own 0 -1", "[mergers]"),
    ]);
    b_gets_as(&[
        ('a', "XADD log * text hello", "1700000000000-1"),
        ('b', "XADD log * text salve", "1700000000000-2"),
        ('b', "XREAD COUNT 9 STREAMS log 0", "[[log [[1700000000000-1 [text hello]]]]]"),
    ]);
    // Two streams in one command, whose entries may have the same ids.
    let [one, two] = ["1700000000000-1 [text hello]", "1700000000000-1 [text salve]"];
    let both = format!("[[log [[{one}]]] [own [[{two}]]]]");
    let reads = "XREAD COUNT 9 STREAMS log own 0 0";
    b_gets_as(&[('a', "XADD log * text hello", "1700000000000-1"), ('b', reads, &both)]);
    b_gets_as(&[('a', "XADD log * text hello", "1700000000000-1"), ('b', reads, &format!("[[log [[{one}]]]]"))]);
    silent(&[('a', "XADD log * text hello", "1700000000000-1"), ('b', reads, &format!("[[own [[{two}]]]]"))]);
    b_gets_as(&[
        ('a', "GEOADD x 1 2 mergers", ":1"),
        ('b', "GEORADIUS x 1 2 9 km STORE own", ":1"),
        ('b', "ZRANGE own 0 -1", "[mergers]"),
    ]);
    b_gets_as(&[('a', "GEOADD x 1 2 mergers", ":1"), ('b', "GEORADIUSBYMEMBER x y 9 km", "[mergers]")]);
    b_gets_as(&[('a', "MSETEX 2 x one y forty-two EX 60", ":1"), ('b', "MGET z y", "[nil forty-two]")]);
    silent(&[('a', "MSETEX 2 x one y forty-two NX", ":0"), ('b', "MGET x y", "[one two]")]);
    silent(&[('a', "SET x forty-two", "+OK"), ('a', "DELEX x", ":1"), ('b', "GET x", "nil")]);
    b_gets_as(&[('a', "SADD x mergers", ":1"), ('b', "SMOVE x own mergers", ":1"), ('b', "SMEMBERS own", "[mergers]")]);
    b_gets_as(&[
        ('a', "ZADD x 1 mergers", ":1"),
        ('b', "ZRANGESTORE own x 0 -1", ":1"),
        ('b', "ZRANGE own 0 -1", "[mergers]"),
    ]);
    b_gets_as(&[('a', "ZADD x 1 mergers", ":1"), ('b', "ZMPOP 2 y x MIN", "[x [[mergers 1]]]")]);
    b_gets_as(&[('a', "ZADD x 1 mergers", ":1"), ('b', "BZPOPMIN y x 5", "[x mergers 1]")]);
    silent(&[('a', "PFADD x one", ":1"), ('b', "PFMERGE own x", "+OK"), ('b', "PFCOUNT own x", ":1")]);
    silent(&[('a', "SET x forty-two", "+OK"), ('a', "MOVE x 1", ":1"), ('b', "GET x", "nil")]);
    silent(&[
        ('a', "SET x forty-two", "+OK"),
        ('b', "MOVE x 1", ":0"),
        ('b', "SELECT 1", "+OK"),
        ('b', "GET x", "other"),
    ]);
    silent(&[('a', "SET x forty-two", "+OK"), ('a', "COPY x y DB 2", ":1"), ('b', "GET y", "forty-two")]);
    silent(&[('a', "MSET x one y forty-two", "+OK"), ('a', "DEL z y", ":1"), ('b', "MGET z y", "[nil nil]")]);
    silent(&[('a', "MSET x one y two", "+OK"), ('b', "MSET y two z three", "+OK"), ('b', "MGET y z", "[two three]")]);
}

#[test]
fn a_write_that_was_refused_is_none() {
    for refused in ["SET answer theirs NX", "SET answer theirs XX", "SET answer theirs IFEQ ours"] {
        silent(&[('a', refused, "nil"), ('b', "GET answer", "theirs")]);
    }
    silent(&[('a', "SET answer theirs NX GET", "theirs"), ('b', "GET answer", "theirs")]);
    silent(&[('a', "SETNX answer theirs", ":0"), ('b', "GET answer", "theirs")]);
    silent(&[('a', "MSETNX x one y two", ":0"), ('b', "MGET x y", "[one two]")]);
    silent(&[('a', "HSETNX h f words", ":0"), ('b', "HGETALL h", "[f words]")]);
    silent(&[('a', "ZADD z NX 1 anna", ":0"), ('b', "ZRANGE z 0 -1", "[anna]")]);
    silent(&[('a', "ZADD z XX 1 anna", ":0"), ('b', "ZRANGE z 0 -1", "[anna]")]);
    silent(&[('a', "ZADD z 1 anna 2 otto", ":1"), ('b', "ZRANGE z 0 -1", "[anna otto]")]);
    silent(&[('a', "SADD s anna", ":0"), ('b', "SMEMBERS s", "[anna]")]);
    silent(&[('a', "LPUSHX l anna", ":0"), ('b', "LRANGE l 0 -1", "[anna]")]);
    silent(&[('a', "RENAMENX x y", ":0"), ('b', "GET y", "words")]);
    silent(&[('a', "SET answer theirs", "-OOM"), ('b', "GET answer", "theirs")]);
    // What was there stays whose it was.
    b_gets_as(&[('a', "SET answer theirs", "+OK"), ('b', "SET answer ours NX", "nil"), ('b', "GET answer", "theirs")]);
    b_gets_as(&[('a', "SADD s anna", ":1"), ('b', "SADD s anna", ":0"), ('b', "SMEMBERS s", "[anna]")]);
    b_gets_as(&[('a', "SET answer theirs NX GET", "nil"), ('b', "GET answer", "theirs")]);
}

#[test]
fn a_read_that_gives_nothing_away_is_none() {
    for (asked, answered) in [
        ("GET answer", "nil"),
        ("EXISTS answer", ":1"),
        ("TTL answer", ":60"),
        ("TYPE answer", "+string"),
        ("STRLEN answer", ":9"),
        ("EXPIRE answer 60", ":1"),
        ("OBJECT ENCODING answer", "embstr"),
        ("EVALSHA 0123456789012345678901234567890123456789 1 answer x", ":0"),
        ("WATCH answer", "+OK"),
    ] {
        silent(&[('a', "SET answer forty-two", "+OK"), ('b', asked, answered)]);
    }
    silent(&[('a', "SADD s anna", ":1"), ('b', "SISMEMBER s anna", ":1"), ('b', "SCARD s", ":1")]);
    silent(&[('a', "ZADD z 1 anna", ":1"), ('b', "ZSCORE z anna", "1"), ('b', "ZRANK z anna", ":0")]);
    silent(&[('a', "HSET h f forty-two", ":1"), ('b', "HGET h g", "nil"), ('b', "HGET h g", "other")]);
}

#[test]
fn locks_leases_counters_and_limits_are_nobodys() {
    let release = "EVALSHA 0123456789012345678901234567890123456789 1 lock";
    let [ours, theirs] = TOKENS;
    // Redlock, redis-py's Lock: taken in turn, asked for in between.
    silent(&[
        ('a', &format!("SET lock {ours} NX PX 30000"), "+OK"),
        ('b', &format!("SET lock {theirs} NX PX 30000"), "nil"),
        ('b', "GET lock", ours),
        ('a', &format!("{release} {ours}"), ":1"),
        ('b', &format!("SET lock {theirs} NX PX 30000"), "+OK"),
        ('a', "GET lock", theirs),
        ('b', &format!("{release} {theirs}"), ":1"),
    ]);
    // Who leads: a name, kept alive.
    silent(&[
        ('a', "SET leader host-a:4242 NX EX 10", "+OK"),
        ('b', "SET leader host-b:17 NX EX 10", "nil"),
        ('b', "GET leader", "host-a:4242"),
        ('a', "SET leader host-a:4242 XX EX 10", "+OK"),
        ('b', "GET leader", "host-a:4242"),
    ]);
    // The oldest recipe: SETNX and a time.
    silent(&[
        ('a', "SETNX lock 1700000000.5", ":1"),
        ('b', "SETNX lock 1700000001.5", ":0"),
        ('b', "GET lock", "1700000000.5"),
        ('b', "GETSET lock 1700000011.5", "1700000000.5"),
        ('a', "GET lock", "1700000011.5"),
    ]);
    // Windows of a rate limit, in four spellings.
    silent(&[
        ('a', "INCR limit", ":1"),
        ('a', "EXPIRE limit 60", ":1"),
        ('b', "INCR limit", ":2"),
        ('b', "GET limit", "2"),
    ]);
    silent(&[
        ('a', "GET limit", "nil"),
        ('a', "SET limit 1 EX 60", "+OK"),
        ('b', "GET limit", "1"),
        ('b', "INCR limit", ":2"),
        ('a', "GET limit", "2"),
    ]);
    silent(&[
        ('a', "ZADD limit 1700000000.25 1700000000.25", ":1"),
        ('b', "ZREMRANGEBYSCORE limit 0 1699999999", ":0"),
        ('b', "ZCARD limit", ":1"),
        ('b', "ZRANGE limit 0 0 WITHSCORES", "[1700000000.25 1700000000.25]"),
        ('a', &format!("ZADD limit 1700000001 {ours}"), ":1"),
        ('b', "ZRANGE limit 0 0", &format!("[{ours}]")),
    ]);
    silent(&[
        ('a', "EVALSHA 0123456789012345678901234567890123456789 1 limit 10 1700000000 60", "[:1 :9]"),
        ('b', "EVALSHA 0123456789012345678901234567890123456789 1 limit 10 1700000001 60", "[:1 :8]"),
        ('b', "HMGET limit tokens time", "[9 1700000000]"),
    ]);
    // A version under everybody's key, which names what each caches: seen first by its writer, or by another.
    let entry = |who: &str| format!("flask_cache_{who}4fQ1nZr0pW2mT8kL{ours}");
    let (a, b) = (entry("a"), entry("b"));
    silent(&[
        ('a', "GET memver", "nil"),
        ('a', &format!("SETEX memver 300 {ours}"), "+OK"),
        ('a', &format!("GET {a}"), "nil"),
        ('a', &format!("SETEX {a} 300 a's_report"), "+OK"),
        ('b', "GET memver", ours),
        ('b', &format!("GET {b}"), "nil"),
        ('b', &format!("SETEX {b} 300 b's_report"), "+OK"),
        ('a', "GET memver", ours),
    ]);
    silent(&[
        ('a', &format!("SETEX memver 300 {ours}"), "+OK"),
        ('b', "GET memver", ours),
        ('b', &format!("GET {b}"), "nil"),
        ('a', &format!("GET {a}"), "nil"),
    ]);
    // A place in a hash that is taken once.
    silent(&[('a', &format!("HSETNX locks job {ours}"), ":1"), ('b', "HGET locks job", ours)]);
}

#[test]
fn what_nobody_known_wrote_or_names_its_tenant_is_silent() {
    silent(&[
        ('a', "GET config", "{\"theme\":1}"),
        ('b', "GET config", "{\"theme\":1}"),
        ('b', "HGETALL flags", "[beta on]"),
    ]);
    silent(&[
        ('a', &format!("SET session:{} acme's", TOKENS[0]), "+OK"),
        ('a', &format!("GET session:{}", TOKENS[0]), "acme's"),
        ('b', &format!("SET session:{} globex's", TOKENS[1]), "+OK"),
        ('b', &format!("GET session:{}", TOKENS[1]), "globex's"),
    ]);
    silent(&[
        ('a', "ZADD tenant:acme:leaders 1 anna", ":1"),
        ('b', "ZADD tenant:globex:leaders 1 otto", ":1"),
        ('b', "ZRANGE tenant:globex:leaders 0 -1", "[otto]"),
    ]);
    silent(&[
        ('a', "SET answer forty-two", "+OK"),
        ('b', "SET answer forty-two", "+OK"),
        ('b', "GET answer", "forty-two"),
    ]);
}

/// What Celery, RQ and the like keep between two tenants' own workers: no job, and nobody's data.
#[test]
fn libraries_own_channels_are_nobodys() {
    silent(&[('a', "HSET rq:job:17 data abcdefghij", ":1"), ('b', "HGETALL rq:job:17", "[data abcdefghij]")]);
    silent(&[('a', "SADD rq:workers rq:worker:anna", ":1"), ('b', "SMEMBERS rq:workers", "[rq:worker:anna]")]);
    for (channel, is_chore) in [("/0.celeryev/worker.heartbeat", true), ("/0.celery.pidbox", true), ("orders", false)] {
        let mut script = Script::default();
        let sends = script.connect(ACME, STORE, 42_000, 6379);
        let hears = script.connect(GLOBEX, STORE, 42_001, 6379);
        script.send(hears, 0, command(&format!("SUBSCRIBE {channel}")));
        script.send(hears, 1, reply(&format!("[subscribe {channel} :1]")));
        for i in 0..3 {
            let body = format!("{{\"n\":{i}}}");
            script.send(sends, 0, command(&format!("PUBLISH {channel} {body}")));
            script.send(sends, 1, reply(":1"));
            script.send(hears, 1, reply(&format!("[message {channel} {body}]")));
        }
        script.steps.push(Step::Wait { millis: 3_000 });
        let seen = all(&script.steps);
        // Nothing shows that it is a job: the listener does nothing about it.
        let found = seen.findings.iter().find(|f| f.rule == "queue-tenant-unrevalidated").map(|f| f.severity);
        assert_eq!(found, (!is_chore).then_some(Severity::Low), "{channel}: {:#?}", seen.findings);
    }
}

/// Two tenants' messages on one list: what says where the job is, or names the tenant in the address, is not without one.
#[test]
fn a_tenant_that_is_elsewhere_is_not_missing() {
    for (queue, body, missing) in [
        ("jobs", "{\"n\":1}", true),
        ("jobs", "5e2f7c3a-0000-4000-8000-000000000000", false),
        ("jobs", "report-17", false),
        ("jobs.eu.acme.created", "{\"n\":1}", false),
    ] {
        let mut script = Script::default();
        let conns = [ACME, GLOBEX].map(|who| script.connect(who, STORE, 42_000 + who as u16, 6379));
        for conn in conns {
            script.send(conn, 0, command(&format!("LPUSH {queue} {body}")));
            script.send(conn, 1, reply(":1"));
        }
        let worker = script.connect(POOLER, STORE, 43_000, 6379);
        script.send(worker, 0, command(&format!("RPOP {queue}")));
        script.send(worker, 1, reply(body));
        script.steps.push(Step::Wait { millis: 3_000 });
        let seen = all(&script.steps);
        let found = seen.findings.iter().any(|f| f.rule == "queue-tenant-missing");
        assert_eq!(found, missing, "{queue} {body}: {:#?}", seen.findings);
    }
}

/// The verdicts on what the tenants' own programs did, with what was found.
fn verdicts(said: &[Said<'_>]) -> (Vec<String>, BTreeSet<(&'static str, String, String)>) {
    let seen = all(&script(said));
    (seen.operations.iter().filter(|o| o.starts_with("data")).cloned().collect(), found(&seen))
}

#[test]
fn a_key_of_anothers_among_ones_own_is_a_crossing() {
    for asked in [
        "MGET globex:plan acme:plan",
        "MSET globex:plan x acme:plan y",
        "RENAME acme:plan globex:plan",
        "COPY acme:plan globex:plan",
        "DEL globex:plan other acme:plan",
        "SUNIONSTORE globex:all globex:a acme:a",
        "EVALSHA 0123456789012345678901234567890123456789 2 globex:a acme:a",
        "SORT acme:plan STORE globex:plan",
        "GEORADIUS acme:places 1 2 9 km STOREDIST globex:places",
        "MIGRATE 10.0.0.9 6379  0 1000 COPY KEYS globex:plan acme:plan",
        "MSETEX 2 globex:plan x acme:plan y",
        "JSON.MGET globex:plan acme:plan $",
        "JSON.MSET globex:plan $ 1 acme:plan $ 2",
        "BITOP AND globex:bits globex:a acme:a",
        "PFMERGE globex:n acme:n",
        "SMOVE acme:s globex:s x",
        "SINTERCARD 2 globex:s acme:s",
        "ZMPOP 2 globex:z acme:z MIN",
        "LCS globex:plan acme:plan",
        "TOUCH globex:plan acme:plan",
        "MGET other acme:plan",
    ] {
        let (_, found) = verdicts(&[('b', asked, ":1")]);
        assert!(found.contains(&("pool-stale-binding", "globex".into(), "acme".into())), "{asked}: {found:?}");
    }
    for asked in ["MGET globex:plan globex:notes", "MGET globex:plan other", "MGET other more", "DEL globex:plan"] {
        let (operations, found) = verdicts(&[('b', asked, ":1")]);
        assert_eq!(found, BTreeSet::new(), "{asked}: {operations:?}");
    }
    let said = [('a', "MGET acme:plan acme:notes", "[x y]"), ('b', "MGET globex:plan globex:notes", "[x y]")];
    let steps = script(&said);
    for lost in 0..steps.len() {
        assert_eq!(found(&play(&steps, |i| i != lost, false)), BTreeSet::new(), "without {lost}");
    }
}
