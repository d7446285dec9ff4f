//! `demo`: the agent on this host, beside it two tenants behind one PgBouncer that set their tenant for the session, and
//! behind one HTTP service that does so on its own pool. Everything is real, and everything is gone afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::lab::Scratch;
use tests::lab::cgroup::Tree;
use tests::lab::client::{Client, Work};
use tests::lab::load::{How, Load};
use tests::lab::net;
use tests::lab::pgbouncer::{PgBouncer, Pool};
use tests::lab::postgres::Postgres;
use tests::lab::process::{Launch, Process};
use tests::lab::prometheus::Prometheus;
use tests::lab::redis::Redis;
use tests::lab::service::{Program, Service, Spec, token};
use tests::lab::signals::Stop;

use super::build::{Profile, agent};
use super::setup::{self, Need, ensure};
use crate::{paths, sh};

/// Where the agent serves with the embedded policy.
const DEFAULT_PORT: u16 = 9464;
/// What a tenant's client asks for all the time.
const QUERY: &str = "SELECT tenant, item FROM orders ORDER BY id LIMIT 3";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// End by itself after this long; until Ctrl-C when left out.
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    time: Option<Duration>,
    /// Also start a Prometheus that scrapes the agent, with the alerts and recording rules of `dashboards/`.
    #[arg(long)]
    with_prometheus: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !sh::is_root() {
        bail!("the demo needs root for cgroups and probes: run `sudo -E cargo xtask demo`");
    }
    sh::note(&how_long());
    ensure(Need::Demo)?;
    if args.with_prometheus {
        setup::prometheus()?;
    }
    let binary = agent(Profile::Lean)?;
    let stop = Stop::listen()?;
    let mut stage = Stage::build(&binary, args.with_prometheus)?;
    let result = stage.play(args.time, &stop);
    sh::step("cleaning up");
    let outcome = stage.end();
    // After Ctrl-C the services get the signal too: what breaks then is no failure.
    if !stop.asked() {
        result?;
    }
    outcome
}

/// Processor time that compiling takes from nothing, in seconds, as `cargo build --timings` has it on the machine of
/// docs/benchmarks.md: the agent without Kubernetes and OTLP, the probes, and bpf-linker where it is missing.
const AGENT: u64 = 300;
const PROBES: u64 = 35;
const LINKER: u64 = 110;

/// What somebody who waits wants to know. Another machine is another matter: a rough word is better than none.
fn how_long() -> String {
    let built = paths::target().join("debug/leasewarden").exists();
    let probes = paths::target().join("bpf").exists();
    let linker = paths::find_program("bpf-linker").is_some();
    let work =
        [(built, AGENT), (probes, PROBES), (linker, LINKER)].iter().filter(|(there, _)| !there).map(|(_, s)| s).sum();
    expected(work, std::thread::available_parallelism().map_or(1, |n| n.get() as u64))
}

fn expected(work: u64, processors: u64) -> String {
    if work == 0 {
        return "everything is compiled already: this takes seconds, unless the source has changed".to_owned();
    }
    // Beyond four, one crate waits for another.
    let minutes = work.div_ceil(processors.clamp(1, 4)).div_ceil(60);
    format!(
        "the first time compiles for about {minutes} min with {processors} processors, beside what packages take that have \
         yet to be installed; later ones take seconds"
    )
}

/// Everything that runs. Fields are dropped in this order: first who uses, then who is used.
struct Stage {
    clients: Vec<(&'static str, Client)>,
    callers: Vec<(&'static str, Load)>,
    _cache_clients: Vec<Process>,
    _prometheus: Option<Prometheus>,
    agent: Process,
    agent_port: u16,
    _service: Service,
    _pooler: PgBouncer,
    _redis: Redis,
    _postgres: Postgres,
    _tree: Tree,
    _scratch: Scratch,
    logs: PathBuf,
    began: Instant,
}

impl Stage {
    fn build(binary: &Path, with_prometheus: bool) -> Result<Self> {
        let logs = paths::lab().join("demo");
        let tree = Tree::new("leasewarden-demo")?;
        let scratch = Scratch::new("demo")?;
        sh::step("starting PostgreSQL, Redis, PgBouncer (transaction mode, two server connections)");
        let postgres = Postgres::start(&scratch, &tree.dir("shared/orders-db")?, &logs)?;
        let redis = Redis::start(&tree.dir("shared/cache")?, &logs)?;
        let tenants = ["acme", "globex"];
        let cgroups: Vec<PathBuf> =
            tenants.iter().map(|tenant| tree.dir(&format!("tenants/{tenant}/agent"))).collect::<Result<_>>()?;
        sh::step("starting the agent: leasewarden run");
        let (agent, agent_port) = start_agent(binary, &logs)?;
        let began = Instant::now();
        let pooler = tree.dir("shared/pgbouncer")?;
        let pooler = PgBouncer::start(&Pool::transaction(2), &postgres, &scratch, &pooler, &logs)?;
        sh::step("starting a shared HTTP service with a pool of its own to PostgreSQL and Redis");
        let spec = Spec {
            program: Program::Psycopg,
            mode: "session-set",
            pool: 2,
            passes_trace: false,
            job: None,
            cache: Some(redis.port()),
        };
        let service = Service::start(&spec, postgres.port(), None, &tree.dir("shared/tools")?, &logs)?;
        sh::step("two tenants at work; each has said `SET app.tenant_id` once, for its session");
        let (mut clients, mut callers, mut cache_clients) = (Vec::new(), Vec::new(), Vec::new());
        for (tenant, cgroup) in tenants.into_iter().zip(&cgroups) {
            let work = Work { workers: 2, setup: vec![format!("SET app.tenant_id = '{tenant}'")], ..Work::default() };
            clients.push((tenant, Client::start(tenant, cgroup, pooler.port(), &work, &logs)?));
            let how = How {
                port: service.port(),
                token: token(tenant)?,
                workers: 1,
                traced: false,
                cookie: false,
                certificate: None,
            };
            callers.push((tenant, Load::start(&format!("{tenant}-http"), cgroup, how, &logs)?));
            cache_clients.push(
                Launch::new(&format!("{tenant}-cache"), "redis-cli")
                    .args(["-p", &redis.port().to_string(), "-r", "-1", "-i", "0.5", "SET", "greeting", tenant])
                    .cgroup(cgroup)
                    .start(&logs)?,
            );
        }
        eprintln!(
            "\n    metrics   http://127.0.0.1:{agent_port}/metrics\n    findings  http://127.0.0.1:{agent_port}/findings\n    \
             services  http://127.0.0.1:{agent_port}/services\n"
        );
        let prometheus = if with_prometheus {
            let prometheus = Prometheus::start(agent_port, &scratch.path().join("prometheus"), &logs)?;
            let url = prometheus.url();
            eprintln!(
                "    prometheus  {url}/graph?g0.expr=leasewarden:findings:increase10m&g0.tab=0&g0.range_input=5m\n    \
                 alerts      {url}/alerts\n"
            );
            Some(prometheus)
        } else {
            None
        };
        Ok(Self {
            _prometheus: prometheus,
            clients,
            callers,
            _cache_clients: cache_clients,
            agent,
            agent_port,
            _service: service,
            _pooler: pooler,
            _redis: redis,
            _postgres: postgres,
            _tree: tree,
            _scratch: scratch,
            logs,
            began,
        })
    }

    /// Lets the tenants work until it is time to end.
    fn play(&mut self, time: Option<Duration>, stop: &Stop) -> Result<()> {
        let until = time.map(|time| Instant::now() + time);
        if until.is_none() {
            sh::note("Ctrl-C ends the demo");
        }
        let (mut leak_shown, mut shared_leak_shown) = (false, false);
        while !stop.asked() && until.is_none_or(|until| Instant::now() < until) {
            if let Some(status) = self.agent.ended()? {
                bail!("the agent ended ({status}):\n{}", self.agent.log_tail());
            }
            for (tenant, client) in &mut self.clients {
                let seen = client.ask(1, &[QUERY])?;
                if !leak_shown && seen.foreign(tenant) > 0 {
                    leak_shown = true;
                    show_leak("the pooler", tenant, &seen.rows, self.began.elapsed());
                }
            }
            for (tenant, caller) in &mut self.callers {
                // acme's path binds for the session; globex' forgot to, and both share what is cached.
                let path = if *tenant == "acme" { "GET /orders/{new}" } else { "GET /peek/{new}" };
                let got = caller.ask(1, &[path, "GET /summary"], None)?;
                if !shared_leak_shown && got.foreign(tenant) > 0 {
                    shared_leak_shown = true;
                    show_leak("the shared service", tenant, &got.rows, self.began.elapsed());
                }
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        Ok(())
    }

    /// Says what was found, then ends everything.
    fn end(mut self) -> Result<ExitCode> {
        let found = findings(self.agent_port);
        let summary = match &found {
            Ok(rules) if !rules.is_empty() => format!("found: {}", rules.join(", ")),
            Ok(_) => "found: nothing".to_owned(),
            // After Ctrl-C the agent has drained and gone already.
            Err(_) => "the agent has ended".to_owned(),
        };
        self.clients.clear();
        self.callers.clear();
        let status = self.agent.stop()?;
        let log = self.agent.log_tail();
        let logs = self.logs.clone();
        drop(self);
        eprintln!("    {summary}; logs in {}", logs.display());
        if !status.success() {
            bail!("the agent did not drain and exit with 0 ({status}):\n{log}");
        }
        if found.is_ok_and(|rules| rules.is_empty()) {
            bail!("the agent found nothing; it said:\n{log}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// With the embedded default policy where its port is free, else with the smallest configuration that names another.
fn start_agent(binary: &Path, logs: &Path) -> Result<(Process, u16)> {
    let mut launch = Launch::new("agent", binary).arg("run").on_terminal();
    let mut port = DEFAULT_PORT;
    if net::listens(DEFAULT_PORT) {
        port = net::free_port()?;
        sh::note(&format!("port {DEFAULT_PORT} is taken here: serving on {port}"));
        fs::create_dir_all(logs)?;
        let file = logs.join("leasewarden.yaml");
        fs::write(&file, format!("version: 1\nexport:\n  listen: \"127.0.0.1:{port}\"\n"))?;
        launch = launch.arg("--config").arg(file);
    }
    let mut agent = launch.start(logs)?;
    net::wait_until(&mut agent, "the agent", Duration::from_secs(30), || {
        net::http_get(port, "/readyz").is_ok_and(|(status, _)| status == 200)
    })?;
    Ok((agent, port))
}

fn show_leak(through: &str, tenant: &str, rows: &BTreeMap<String, u64>, after: Duration) {
    let others: Vec<String> =
        rows.iter().filter(|(owner, _)| *owner != tenant).map(|(owner, n)| format!("{n} of {owner}'s")).collect();
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (on, off) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    eprintln!(
        "    {on}{tenant} asked {through} for its own orders and got {}{off} ({:.1} s after the agent's start)\n",
        others.join(", "),
        after.as_secs_f32()
    );
}

/// The rules that have found something, each with its number of findings.
fn findings(port: u16) -> Result<Vec<String>> {
    let (status, body) = net::http_get(port, "/findings")?;
    if status != 200 {
        bail!("/findings answered {status}");
    }
    let list: serde_json::Value = serde_json::from_str(&body)?;
    let mut counts = std::collections::BTreeMap::new();
    for finding in list.as_array().context("/findings is no array")? {
        let rule = finding.pointer("/rule").and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
        *counts.entry(rule).or_insert(0) += 1;
    }
    Ok(counts.into_iter().map(|(rule, n)| format!("{n} {rule}")).collect())
}

// Not `tests`: that is the lab's crate.
#[cfg(test)]
mod waiting {
    use super::*;

    #[test]
    fn says_how_long_it_takes() {
        assert!(expected(0, 2).contains("seconds"));
        assert!(expected(AGENT + PROBES + LINKER, 2).contains("about 4 min with 2 processors"));
        assert!(expected(AGENT, 64).contains("about 2 min"), "{}", expected(AGENT, 64));
        assert!(expected(PROBES, 1).contains("about 1 min"));
    }
}
