//! Scripted conversations for the tests of loss: MCP servers and their lists, ids, versions and retries; a cache; a
//! gateway whose requests carry traces; a worker that asks a policy.

use super::*;

pub(super) const SERVER: u64 = DATABASE;
pub(super) const TENANTS: [u64; 2] = [ACME, GLOBEX];
const TASK: &str = "7f3d9a52-0c41-4be8-9d17-62ab8e50f1c9";

/// A script, and its name.
pub(super) type Scene = (&'static str, Vec<Step>);

pub(super) fn post(target: &str, headers: &str, body: &str) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n{headers}");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub(super) fn answer(status: &str, body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn tools(names: &[&str], hints: &str) -> String {
    let one = |n: &&str| format!("{{\"name\":\"{n}\",\"description\":\"Does {n}\",\"inputSchema\":{{}}{hints}}}");
    names.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Two tenants' clients of one MCP server, each with a token of its own.
pub(super) struct Mcp {
    pub(super) script: Script,
    pub(super) clients: [usize; 2],
    id: u32,
}

impl Mcp {
    pub(super) fn new() -> Self {
        let mut script = Script::default();
        let clients = TENANTS.map(|who| script.connect(who, SERVER, 41_000 + who as u16, 8080));
        Self { script, clients, id: 0 }
    }

    /// A request and its answer, the result or all of it.
    pub(super) fn ask(&mut self, who: usize, method: &str, params: &str, result: &str) {
        self.asks(who, method, params);
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}", self.id);
        self.script.send(self.clients[who], 1, answer("200 OK", &body));
    }

    fn asks(&mut self, who: usize, method: &str, params: &str) {
        self.id += 1;
        let headers = format!("mcp-protocol-version: 2025-06-18\r\nauthorization: Bearer token-of-{who}\r\n");
        let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"{method}\",\"params\":{params}}}", self.id);
        self.script.send(self.clients[who], 0, post("/mcp", &headers, &body));
    }

    fn refused(&mut self, who: usize, method: &str, params: &str) {
        self.asks(who, method, params);
        self.script.send(self.clients[who], 1, answer("429 Too Many Requests", "{}"));
    }

    pub(super) fn call(&mut self, who: usize, tool: &str, arguments: &str, text: &str) {
        let params = format!("{{\"name\":\"{tool}\",\"arguments\":{arguments}}}");
        let result = format!("{{\"content\":[{{\"type\":\"text\",\"text\":\"ok\"}}],\"structuredContent\":{text}}}");
        self.ask(who, "tools/call", &params, &result);
    }

    /// A list in pages.
    pub(super) fn list(&mut self, who: usize, pages: &[&[&str]], more: &str) {
        for (n, page) in pages.iter().enumerate() {
            let params = if n == 0 { "{}".to_owned() } else { format!("{{\"cursor\":\"page-{n}\"}}") };
            let next = if n + 1 == pages.len() { String::new() } else { format!(",\"nextCursor\":\"page-{}\"", n + 1) };
            let hints = if more.contains("idempotentHint") { more } else { "" };
            let scope = if more.contains("cacheScope") { more } else { "" };
            let result = format!("{{\"tools\":[{}]{next}{scope}}}", tools(page, hints));
            self.ask(who, "tools/list", &params, &result);
        }
    }

    fn initialize(&mut self, who: usize, version: &str) {
        let params = "{\"protocolVersion\":\"2025-06-18\",\"clientInfo\":{\"name\":\"c\",\"version\":\"1\"}}";
        let server = format!("{{\"name\":\"orders\",\"version\":\"{version}\"}}");
        let result = format!("{{\"protocolVersion\":\"2025-06-18\",\"serverInfo\":{server}}}");
        self.ask(who, "initialize", params, &result);
    }

    /// The script, with some time after it and every connection closed.
    pub(super) fn over(mut self) -> Vec<Step> {
        self.script.steps.push(Step::Wait { millis: 4_000 });
        for conn in self.clients {
            self.script.close(conn);
        }
        self.script.steps
    }
}

fn gives() -> String {
    format!("{{\"taskId\":\"{TASK}\",\"id\":\"{TASK}\"}}")
}

/// An id that both are given, or one alone, and that the other then uses.
pub(super) fn handed(to_both: bool) -> Vec<Step> {
    let mut mcp = Mcp::new();
    mcp.call(0, "start", "{}", &gives());
    if to_both {
        mcp.call(1, "start", "{}", &gives());
    }
    mcp.call(1, "look", "{\"n\":1}", "{}");
    mcp.call(1, "look", &format!("{{\"id\":\"{TASK}\"}}"), "{\"n\":1}");
    mcp.over()
}

/// Lists in pages, newer lists, and calls of what they hold; the other tenant's list is another.
fn listed() -> Vec<Step> {
    let mut mcp = Mcp::new();
    mcp.list(0, &[&["add"], &["buy"], &["cut"]], "");
    mcp.list(1, &[&["add"], &["dig"]], "");
    mcp.call(0, "buy", "{\"n\":1}", "{}");
    mcp.call(1, "dig", "{\"n\":1}", "{}");
    mcp.list(0, &[&["add"], &["buy"], &["cut"], &["eat"]], "");
    mcp.call(0, "eat", "{\"n\":2}", "{}");
    mcp.list(0, &[&["add", "fly"]], "");
    mcp.call(0, "fly", "{\"n\":3}", "{}");
    mcp.over()
}

/// Lists that anybody may keep: all the same, and then all the same once more.
fn public() -> Vec<Step> {
    let mut mcp = Mcp::new();
    let scope = ",\"cacheScope\":\"public\"";
    for pages in [&[&["add"][..], &["buy"], &["cut"]][..], &[&["add"], &["buy", "dig"], &["cut"]]] {
        for who in [0, 1] {
            mcp.list(who, pages, scope);
        }
        mcp.list(0, &[&["add"], &["buy", "dig"], &["cut"]], scope);
    }
    mcp.over()
}

/// The server is replaced by another version, whose tools differ.
fn versions() -> Vec<Step> {
    let mut mcp = Mcp::new();
    mcp.initialize(0, "1.0");
    mcp.list(0, &[&["add"]], "");
    mcp.call(0, "add", "{\"n\":1}", "{}");
    mcp.initialize(0, "2.0");
    mcp.list(0, &[&["add"]], ",\"annotations\":{\"idempotentHint\":true}");
    mcp.call(0, "add", "{\"n\":2}", "{}");
    mcp.over()
}

/// Calls again after a refusal, or of what may be called twice; or neither.
fn again(guilty: bool) -> Vec<Step> {
    let mut mcp = Mcp::new();
    let harmless = ",\"annotations\":{\"idempotentHint\":true}";
    mcp.list(0, &[&["charge"]], if guilty { ",\"annotations\":{\"idempotentHint\":false}" } else { harmless });
    mcp.list(1, &[&["charge"]], if guilty { ",\"annotations\":{\"idempotentHint\":false}" } else { harmless });
    let order = "{\"order\":7}";
    mcp.refused(1, "tools/call", "{\"name\":\"refund\",\"arguments\":{\"order\":7}}");
    mcp.call(1, "refund", order, "{}");
    mcp.call(0, "charge", order, "{}");
    mcp.call(0, "charge", order, "{}");
    mcp.over()
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend(format!("${}\r\n{w}\r\n", w.len()).into_bytes());
    }
    out
}

/// A cache in which each writes before it reads, and is refused once.
pub(super) fn cache() -> Vec<Step> {
    let mut script = Script::default();
    let conns = TENANTS.map(|who| script.connect(who, SERVER, 41_000 + who as u16, 6379));
    let mut run = |who: usize, words: &[&str], reply: &str| {
        script.send(conns[who], 0, command(words));
        script.send(conns[who], 1, reply.as_bytes().to_vec());
    };
    run(0, &["PING"], "+PONG\r\n");
    run(1, &["SET", "report", "y"], "+OK\r\n");
    run(0, &["SET", "report", "x"], "-OOM command not allowed\r\n");
    run(0, &["PING"], "+PONG\r\n");
    run(1, &["GET", "report"], "$1\r\ny\r\n");
    run(0, &["SET", "report", "x"], "+OK\r\n");
    run(0, &["GET", "report"], "$1\r\nx\r\n");
    run(1, &["SET", "report", "y"], "+OK\r\n");
    run(1, &["GET", "report"], "$1\r\ny\r\n");
    script.steps.push(Step::Wait { millis: 4_000 });
    conns.into_iter().for_each(|conn| script.close(conn));
    script.steps
}

/// A service with a pool of one. Where `traced`, acme's requests carry a trace that its statements repeat; globex's never.
pub(super) fn traced() -> Vec<Step> {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut script = Script::default();
    let pool = script.connect(POOLER, DATABASE, 40_000, 5432);
    let clients = TENANTS.map(|who| script.connect(who, POOLER, 41_000 + who as u16, 8080));
    script.start(pool, "app");
    for n in 0..6 {
        let (who, name) = [(0, "acme"), (1, "globex")][n % 2];
        let header = if who == 0 { format!("traceparent: {TRACE}\r\n") } else { String::new() };
        let comment = if who == 0 { format!(" /*traceparent='{TRACE}'*/") } else { String::new() };
        script.send(clients[who], 0, format!("GET /orders/{n} HTTP/1.1\r\nhost: s\r\n{header}\r\n").into_bytes());
        let bind = format!("SELECT set_config('app.tenant_id', '{name}', true)");
        for (sql, tag, status) in [
            ("BEGIN", "BEGIN", b'T'),
            (bind.as_str(), "SELECT 1", b'T'),
            ("SELECT item FROM orders", "SELECT 1", b'T'),
            ("COMMIT", "COMMIT", b'I'),
        ] {
            script.send(pool, 0, pg::query(&format!("{sql}{comment}")));
            script.send(pool, 1, pg::reply(tag, status));
        }
        script.send(clients[who], 1, answer("200 OK", "{}"));
    }
    script.steps.push(Step::Wait { millis: 4_000 });
    [clients[0], clients[1], pool].into_iter().for_each(|conn| script.close(conn));
    script.steps
}

/// All of them.
pub(super) fn all_scenes() -> Vec<Scene> {
    vec![
        ("handed to both", handed(true)),
        ("handed to one", handed(false)),
        ("listed", listed()),
        ("public lists", public()),
        ("versions", versions()),
        ("again after refusals", again(false)),
        ("again and guilty", again(true)),
        ("cache", cache()),
        ("traced", traced()),
        ("workers", workers()),
        ("one jar", cookies::one_jar("sid", "; HttpOnly", ["", ""])),
        ("sessions", cookies::sessions()),
        ("stream of anothers", streams::taken_up(1, [streams::EVENT; 2], false)),
        ("stream of its own", streams::taken_up(0, [streams::EVENT; 2], false)),
        ("numbered stream of anothers", streams::taken_up(1, ["5"; 2], true)),
        ("numbered stream of its own", streams::taken_up(0, ["5"; 2], true)),
        ("numbered stream of another session", streams::taken_up(1, ["5"; 2], false)),
        ("one id at once", streams::one_session([1, 1], true)),
        ("one id in turn", streams::one_session([1, 1], false)),
        ("two ids at once", streams::one_session([1, 2], true)),
        ("one session for both", streams::in_session()),
        ("counted sessions", streams::counted(false)),
        ("counted session of anothers", streams::counted(true)),
        ("cache shared", caches::shared()),
        ("cache of the same for all", caches::alike()),
        ("pooler session", story(SESSION_SET)),
        ("pooler local", story(LOCAL)),
        ("pooler unbound", story(UNBOUND)),
    ]
}

/// Workers of both tenants tell each other that they are there, on a channel of a library that nobody here knows.
fn workers() -> Vec<Step> {
    let mut script = Script::default();
    let mut port = 41_000;
    let mut connect = |script: &mut Script, who: u64| {
        port += 1;
        script.connect(who, 15, port, 6379)
    };
    let talks = TENANTS.map(|who| connect(&mut script, who));
    let listens: Vec<usize> = [ACME, GLOBEX, POOLER].map(|who| connect(&mut script, who)).into();
    for conn in &listens {
        script.send(*conn, 0, command(&["SUBSCRIBE", "fleet"]));
        script.send(*conn, 1, b"*3\r\n$9\r\nsubscribe\r\n$5\r\nfleet\r\n:1\r\n".to_vec());
    }
    for n in 0..6 {
        let text = format!("{{\"worker\":\"w{}\",\"beat\":{n}}}", n % 2);
        script.send(talks[n % 2], 0, command(&["PUBLISH", "fleet", &text]));
        script.send(talks[n % 2], 1, format!(":{}\r\n", listens.len()).into_bytes());
        for conn in &listens {
            script.send(*conn, 1, command(&["message", "fleet", &text]));
        }
        script.steps.push(Step::Wait { millis: 2_000 });
    }
    script.steps.push(Step::Wait { millis: 40_000 });
    talks.into_iter().chain(listens).for_each(|conn| script.close(conn));
    script.steps
}

#[test]
fn what_workers_tell_each_other_is_no_job() {
    let seen = all(&workers());
    assert!(!rules(&seen).contains("queue-tenant-unrevalidated"), "{:#?}", seen.findings);
}
