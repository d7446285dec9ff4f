//! What tenants' clients do in each case of MCP, and that what is claimed of it is true.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::mcp::{Client, Got, Seen, Spec, call, initialize, leasewarden, list, orders, signed_tokens, with};
use super::mcp_cases::Stage;
use super::service::token;

/// Rounds of each client.
const ROUNDS: u32 = 4;
/// Where a server is started.
const NAME: &str = "orders-mcp";
/// The revision without sessions.
const STATELESS: &str = "2026-07-28";

impl Stage<'_> {
    fn start_agent(&mut self, config: &str) -> Result<()> {
        self.scene.start_agent(self.binary, config)
    }

    fn spec(&self) -> Spec {
        Spec::new(self.case.sdk, self.case.ways)
    }

    /// The agent, the server of the case, and both tenants' clients.
    fn usual(&mut self, config: &str) -> Result<(Client, Client)> {
        self.start_agent(config)?;
        let port = self.scene.start_server(NAME, &self.spec())?;
        Ok((self.scene.client("acme", port, self.workers())?, self.scene.client("globex", port, self.workers())?))
    }

    /// One after the other with one request in flight, else together.
    fn both(
        &self,
        rounds: u32,
        a: &mut Client,
        one: &[Value],
        b: &mut Client,
        other: &[Value],
    ) -> Result<(Seen, Seen)> {
        if self.in_flight == 1 {
            let (mut first, mut second) = (Seen::default(), Seen::default());
            for _ in 0..rounds {
                first.results.extend(a.ask(1, one)?.results);
                second.results.extend(b.ask(1, other)?.results);
            }
            return Ok((first, second));
        }
        a.order(rounds, one)?;
        b.order(rounds, other)?;
        Ok((a.done()?, b.done()?))
    }
}

fn all_done(seen: &[&Seen]) -> Result<()> {
    for seen in seen {
        ensure!(seen.all_calls(Got::is_result), "calls failed: {seen:?}");
    }
    Ok(())
}

fn open(clients: [&mut Client; 2]) -> Result<()> {
    for client in clients {
        let seen = client.ask(1, &[initialize(), list()])?;
        ensure!(seen.results.iter().all(Got::is_result), "no session: {seen:?}");
    }
    Ok(())
}

/// Each tenant with its own token, session and arguments.
pub(super) fn own_work(stage: &mut Stage<'_>) -> Result<()> {
    work(stage, "")
}

fn work(stage: &mut Stage<'_>, config: &str) -> Result<()> {
    let (mut acme, mut globex) = stage.usual(config)?;
    open([&mut acme, &mut globex])?;
    let (one, other) = stage.both(ROUNDS, &mut acme, &[orders()], &mut globex, &[orders()])?;
    all_done(&[&one, &other])
}

/// globex has found acme's session ids and uses them with its own token.
pub(super) fn session_of_another(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    let seen = acme.ask(ROUNDS, &[orders()])?;
    all_done(&[&seen])?;
    let join = json!({ "op": "join", "sessions": seen.sessions });
    let seen = globex.ask(1, &[join, orders(), orders()])?;
    let status = if stage.is_wrong() { 200 } else { 404 };
    ensure!(seen.all_calls(|got| got.status == status), "should be answered {status}: {seen:?}");
    Ok(())
}

pub(super) fn token_at_initialize(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    let bare = [with(orders(), "anonymous", json!(true))];
    let (one, other) = stage.both(ROUNDS, &mut acme, &bare, &mut globex, &bare)?;
    all_done(&[&one, &other])
}

pub(super) fn one_token(stage: &mut Stage<'_>) -> Result<()> {
    stage.start_agent("")?;
    let port = stage.scene.start_server(NAME, &stage.spec())?;
    let n = stage.workers();
    let as_one = |tenant| stage.scene.client_as(tenant, port, n, token("acme")?, "2025-11-25");
    let (mut acme, mut globex) = (as_one("acme")?, as_one("globex")?);
    open([&mut acme, &mut globex])?;
    let (one, other) = stage.both(ROUNDS, &mut acme, &[orders()], &mut globex, &[orders()])?;
    all_done(&[&one, &other])
}

/// Tenants call a gateway, which calls the server with what `service_token` says.
fn gateway(stage: &mut Stage<'_>, tokens: Option<Value>, service_token: Option<Value>) -> Result<()> {
    stage.start_agent("")?;
    let mut server = Spec::new(stage.case.sdk, "by-tenant,one-token");
    if let Some(tokens) = tokens {
        server.ways = "by-tenant".to_owned();
        server.tokens = tokens;
    }
    if let Some(Value::String(one)) = &service_token {
        server.ways = "by-tenant,one-token".to_owned();
        server.tokens = json!({ (one.clone()): "acme" });
    }
    let behind = stage.scene.start_server(NAME, &server)?;
    let mut gateway = stage.spec().with("--upstream", behind);
    if let Some(service_token) = service_token {
        gateway = gateway.with("--service-token", service_token);
    }
    let port = stage.scene.start_server("gateway-mcp", &gateway)?;
    let (mut acme, mut globex) = (stage.scene.client("acme", port, 1)?, stage.scene.client("globex", port, 1)?);
    open([&mut acme, &mut globex])?;
    let (one, other) = stage.both(ROUNDS, &mut acme, &[orders()], &mut globex, &[orders()])?;
    all_done(&[&one, &other])?;
    let truth = fs::read_to_string(stage.scene.logs().join(format!("{NAME}-truth.jsonl")))?;
    ensure!(truth.lines().count() == 2 * ROUNDS as usize, "the gateway did not pass calls on: {truth}");
    Ok(())
}

pub(super) fn gateway_one_token(stage: &mut Stage<'_>) -> Result<()> {
    gateway(stage, None, Some(json!("5d0f63d1e1b14a0b9c1c")))
}

pub(super) fn gateway_passed_on(stage: &mut Stage<'_>) -> Result<()> {
    let own = Spec::new(stage.case.sdk, "").tokens;
    gateway(stage, Some(own), None)
}

pub(super) fn gateway_exchanged(stage: &mut Stage<'_>) -> Result<()> {
    let tokens = json!({ "0c2f9d4a7be84c6cb1aa": "acme", "e91b7720c3f5409f8d5e": "globex" });
    let exchanged = json!({ "acme": "0c2f9d4a7be84c6cb1aa", "globex": "e91b7720c3f5409f8d5e" });
    gateway(stage, Some(tokens), Some(exchanged))
}

fn signed(stage: &mut Stage<'_>, kind: &str) -> Result<()> {
    let (key, tokens) = signed_tokens(kind, stage.scene.logs())?;
    stage.start_agent(&format!("tokens:\n  keys: [\"{}\"]\n", key.display()))?;
    let port = stage.scene.start_server(NAME, &stage.spec().with("--key", key.display()))?;
    let mut all = Vec::new();
    for tenant in ["acme", "globex"] {
        let token = tokens.get(tenant).and_then(Value::as_str).context("no token")?;
        all.push(stage.scene.client_as(tenant, port, 1, token, "2025-11-25")?);
    }
    for client in &mut all {
        let seen = client.ask(1, &[initialize(), list(), orders(), orders()])?;
        all_done(&[&seen])?;
    }
    Ok(())
}

pub(super) fn weak_tokens(stage: &mut Stage<'_>) -> Result<()> {
    signed(stage, "weak")
}

pub(super) fn strong_tokens(stage: &mut Stage<'_>) -> Result<()> {
    signed(stage, "strong")
}

/// The configuration says which tools are whose.
pub(super) fn entitled(stage: &mut Stage<'_>) -> Result<()> {
    let common = "\"list_orders\", \"charge\", \"open_export\", \"read_export\"";
    work(
        stage,
        &format!(
            "entitlements:\n  - {{ tenant: acme, tools: [{common}, \"acme_*\"] }}\n  - {{ tenant: globex, tools: \
             [{common}, \"globex_*\"] }}\n"
        ),
    )
}

/// acme calls a tool that only globex is shown.
pub(super) fn unlisted_tool(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    all_done(&[&globex.ask(1, &[call("globex_payroll", json!({}))])?])?;
    let seen = acme.ask(2, &[call("globex_payroll", json!({}))])?;
    let wrong = stage.is_wrong();
    ensure!(seen.all_calls(|got| got.is_result() == wrong), "done or refused: {seen:?}");
    Ok(())
}

/// Clients of the revision without sessions.
fn stateless(stage: &mut Stage<'_>) -> Result<(Client, Client)> {
    stage.start_agent("")?;
    let port = stage.scene.start_server(NAME, &stage.spec())?;
    let client = |tenant| stage.scene.client_as(tenant, port, 1, token(tenant)?, STATELESS);
    Ok((client("acme")?, client("globex")?))
}

pub(super) fn stateless_lists(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stateless(stage)?;
    let steps = [list(), orders()];
    let (one, other) = (acme.ask(2, &steps)?, globex.ask(2, &steps)?);
    all_done(&[&one, &other])?;
    let tools = |seen: &Seen| seen.results.iter().find(|got| got.op == "list").map(|got| got.text.clone());
    ensure!(tools(&one) != tools(&other) && tools(&one).is_some(), "lists should differ: {one:?} {other:?}");
    Ok(())
}

fn naming(tenant: &str) -> Value {
    call("list_orders", json!({ "tenant_id": tenant, "ref": "{new}" }))
}

pub(super) fn argument_of_another(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    let (one, other) = stage.both(2, &mut acme, &[naming("acme")], &mut globex, &[naming("acme")])?;
    all_done(&[&one])?;
    let wrong = stage.is_wrong();
    let leaked = |got: &Got| got.is_result() && got.text.contains("acme-order");
    ensure!(other.all_calls(|got| leaked(got) == wrong), "acme's orders to globex: {other:?}");
    Ok(())
}

pub(super) fn argument_own(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    let (one, other) = stage.both(2, &mut acme, &[naming("acme")], &mut globex, &[naming("globex")])?;
    all_done(&[&one, &other])?;
    ensure!(other.all_calls(|got| got.text.contains("globex-order")), "{other:?}");
    Ok(())
}

/// One transport for everybody: both ask under the same id, acme first and for something that takes longer.
pub(super) fn one_transport(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    let slow = with(with(call("slow", json!({ "order_id": "acme-{new}" })), "id", json!(1)), "patience", json!(1500));
    let quick =
        with(with(call("slow", json!({ "order_id": "globex-{new}" })), "id", json!(1)), "patience", json!(1500));
    let mut crossed = 0;
    for _ in 0..3 {
        acme.order(1, std::slice::from_ref(&slow))?;
        sleep(Duration::from_millis(100));
        let seen = globex.ask(1, std::slice::from_ref(&quick))?;
        crossed += seen.calls().filter(|got| got.text.contains("acme-")).count();
        acme.done()?;
    }
    ensure!((crossed > 0) == stage.is_wrong(), "acme's results came to globex {crossed} times");
    Ok(())
}

fn charges(seen: &Seen) -> Result<u64> {
    let text = seen.calls().last().map(|got| got.text.clone()).unwrap_or_default();
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("no charge: {text}"))?;
    answer.get("charged").and_then(Value::as_u64).context("no number")
}

fn retry(stage: &mut Stage<'_>, headers: Value) -> Result<u64> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    let first = with(call("charge", json!({ "amount": 40, "order": "{new}" })), "headers", headers.clone());
    let again = with(call("charge", json!({ "amount": 40, "order": "{last}" })), "headers", headers);
    let seen = acme.ask(2, &[first, again])?;
    all_done(&[&seen])?;
    charges(&seen)
}

pub(super) fn retry_without_key(stage: &mut Stage<'_>) -> Result<()> {
    let n = retry(stage, json!({}))?;
    ensure!(n == 4, "each retry should charge again: {n}");
    Ok(())
}

pub(super) fn retry_with_key(stage: &mut Stage<'_>) -> Result<()> {
    let n = retry(stage, json!({ "idempotency-key": "{last}" }))?;
    ensure!(n == 2, "no retry should charge again: {n}");
    Ok(())
}

/// A minute of calm, then a minute in which acme's clients try again and again.
pub(super) fn retry_storm(stage: &mut Stage<'_>) -> Result<()> {
    stage.start_agent("")?;
    let port = stage.scene.start_server(NAME, &stage.spec())?;
    let (mut acme, mut globex) = (stage.scene.client("acme", port, 16)?, stage.scene.client("globex", port, 1)?);
    open([&mut acme, &mut globex])?;
    let calm = Instant::now();
    // The best that it can do: a machine that has other work slows single calls, and would hide what the storm does.
    let mut quick = Duration::MAX;
    while calm.elapsed() < Duration::from_secs(61) {
        quick = quick.min(timed(&mut globex, 1)?);
        sleep(Duration::from_millis(1000));
    }
    let storm = Instant::now();
    let mut slow = Vec::new();
    let again = [call("charge", json!({ "amount": 40, "order": "o-1" }))];
    acme.order(1, &again)?;
    while storm.elapsed() < Duration::from_secs(64) {
        acme.done()?;
        acme.order(8, &again)?;
        // In the middle of it, not while it begins.
        sleep(Duration::from_millis(200));
        slow.push(timed(&mut globex, 1)?);
    }
    acme.done()?;
    slow.sort_unstable();
    let median = slow.get(slow.len() / 2).copied().unwrap_or_default();
    ensure!(median > quick * 2, "globex should have been slowed: {quick:?} before, {median:?} meanwhile");
    // The window is judged at what comes after it.
    all_done(&[&globex.ask(1, &[orders()])?])
}

fn timed(client: &mut Client, n: u32) -> Result<Duration> {
    let begun = Instant::now();
    all_done(&[&client.ask(n, &[orders()])?])?;
    Ok(begun.elapsed() / n)
}

/// A description changes while the server runs; whoever comes later opens a session of its own.
pub(super) fn changed(stage: &mut Stage<'_>) -> Result<()> {
    stage.start_agent("")?;
    let flip = stage.scene.logs().join("flip");
    let port = stage.scene.start_server(NAME, &stage.spec().with("--flip", flip.display()))?;
    let (mut acme, mut globex) = (stage.scene.client("acme", port, 1)?, stage.scene.client("globex", port, 1)?);
    let steps = [initialize(), list(), orders()];
    let (one, other) = (acme.ask(1, &steps)?, globex.ask(1, &steps)?);
    all_done(&[&one, &other])?;
    fs::write(&flip, "")?;
    stage.scene.wait_until_said(NAME, "FLIPPED")?;
    let (one, other) = (acme.ask(1, &steps)?, globex.ask(1, &steps)?);
    all_done(&[&one, &other])
}

/// Locks what one agent has seen and lets another compare; `sign` it, and perhaps change a tool in between.
fn locked(stage: &mut Stage<'_>, sign: bool, change: bool) -> Result<()> {
    let flip = stage.scene.logs().join("flip");
    stage.start_agent("")?;
    let port = stage.scene.start_server(NAME, &stage.spec().with("--flip", flip.display()))?;
    let (mut acme, mut globex) = (stage.scene.client("acme", port, 1)?, stage.scene.client("globex", port, 1)?);
    let steps = [initialize(), list(), orders()];
    for client in [&mut acme, &mut globex] {
        all_done(&[&client.ask(1, &steps)?])?;
    }
    // What it has seen is served once a second.
    sleep(Duration::from_millis(2500));
    let tools = stage.scene.logs().join("tools.json");
    fs::write(&tools, stage.scene.agent()?.get("/tools")?)?;
    let (lock, key) = (stage.scene.logs().join("tools.lock.json"), stage.scene.logs().join("lock-key"));
    let url = stage.scene.agent()?.url();
    let mut args = vec!["tools".as_ref(), "lock".as_ref(), "--out".as_ref(), lock.as_os_str()];
    let private = key.with_extension("key");
    if sign {
        leasewarden(stage.binary, &["tools".as_ref(), "keygen".as_ref(), "--out".as_ref(), key.as_os_str()])?;
        args.extend(["--sign".as_ref(), private.as_os_str()]);
    }
    args.push(url.as_ref());
    leasewarden(stage.binary, &args)?;
    drop(stage.scene.outcome()?);
    if change {
        fs::write(&flip, "")?;
        stage.scene.wait_until_said(NAME, "FLIPPED")?;
    }
    let mut config = format!("locks: [\"{}\"]\n", lock.display());
    if sign {
        config.push_str(&format!("lock_keys: [\"{}\"]\n", key.with_extension("pub").display()));
    }
    stage.start_agent(&config)?;
    for client in [&mut acme, &mut globex] {
        all_done(&[&client.ask(1, &steps)?])?;
    }
    Ok(())
}

pub(super) fn changed_since_locked(stage: &mut Stage<'_>) -> Result<()> {
    locked(stage, true, true)
}

pub(super) fn lock_unsigned(stage: &mut Stage<'_>) -> Result<()> {
    locked(stage, false, false)
}

pub(super) fn lock_signed(stage: &mut Stage<'_>) -> Result<()> {
    locked(stage, true, false)
}

/// A tool that queries PostgreSQL through a pool.
pub(super) fn tool_on_postgres(stage: &mut Stage<'_>) -> Result<()> {
    let database = stage.scene.start_postgres()?;
    stage.start_agent("")?;
    let pool = if stage.in_flight == 1 { 1 } else { 4 };
    let spec = stage.spec().with("--database", database).with("--pool", pool);
    let port = stage.scene.start_server(NAME, &spec)?;
    let n = stage.workers();
    let (mut acme, mut globex) = (stage.scene.client("acme", port, n)?, stage.scene.client("globex", port, n)?);
    open([&mut acme, &mut globex])?;
    let (one, other) = stage.both(3 * ROUNDS, &mut acme, &[orders()], &mut globex, &[orders()])?;
    all_done(&[&one, &other])?;
    let foreign = |seen: &Seen, other: &str| seen.calls().filter(|got| got.text.contains(other)).count();
    let crossed = foreign(&one, "globex") + foreign(&other, "acme");
    ensure!((crossed > 0) == stage.is_wrong(), "rows of others came {crossed} times: {one:?}");
    Ok(())
}

pub(super) fn canaries(stage: &mut Stage<'_>) -> Result<()> {
    let canary = |tenant: &str| format!("  - {{ tenant: {tenant}, value: \"CANARY-{tenant}-4f1d9c2e\" }}\n");
    work(stage, &format!("canaries:\n{}{}", canary("acme"), canary("globex")))
}

pub(super) fn export_of_another(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stage.usual("")?;
    open([&mut acme, &mut globex])?;
    let seen =
        acme.ask(1, &[call("open_export", json!({})), call("read_export", json!({ "export_id": "{export}" }))])?;
    all_done(&[&seen])?;
    let seen = globex.ask(1, &[call("read_export", json!({ "export_id": seen.export()? }))])?;
    let wrong = stage.is_wrong();
    ensure!(seen.all_calls(|got| got.is_result() == wrong), "done or refused: {seen:?}");
    Ok(())
}

/// The header, by which a gateway decides, names a harmless tool; the body another.
pub(super) fn header_of_another_tool(stage: &mut Stage<'_>) -> Result<()> {
    let (mut acme, mut globex) = stateless(stage)?;
    all_done(&[&globex.ask(1, &[list(), orders()])?])?;
    let charge = call("charge", json!({ "amount": 40, "order": "{new}" }));
    let seen = acme.ask(2, &[with(charge, "headers", json!({ "mcp-name": "list_orders" }))])?;
    let wrong = stage.is_wrong();
    ensure!(seen.all_calls(|got| got.is_result() == wrong), "done or refused: {seen:?}");
    Ok(())
}
