//! What the measurements run on: real servers in cgroups, load in a tenant's, the agent beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::tests::lab::Scratch;
use ::tests::lab::agent::Metrics;
use ::tests::lab::certificate::Certificate;
use ::tests::lab::cgroup::Tree;
use ::tests::lab::net;
use ::tests::lab::postgres::Postgres;
use ::tests::lab::process::{Launch, Process};
use ::tests::lab::redis::Redis;
use anyhow::{Context, Result};

use crate::{paths, sh};

/// How `redis-benchmark` connects to the cache.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connecting {
    /// For each command anew, instead of 50 times for good.
    pub(super) each_time: bool,
    /// By TLS.
    pub(super) encrypted: bool,
}

/// A database with pgbench's tables and a cache in cgroups of their own, a tenant's cgroup for the load.
pub(super) struct Bench {
    pub(super) postgres: Postgres,
    redis: Redis,
    tenant: PathBuf,
    pub(super) tree: Tree,
    _scratch: Scratch,
    pub(super) logs: PathBuf,
}

impl Bench {
    /// The one that is there, or a new one.
    pub(super) fn once(slot: &mut Option<Self>) -> Result<&Self> {
        if slot.is_none() {
            *slot = Some(Self::start()?);
        }
        slot.as_ref().context("just made")
    }

    fn start() -> Result<Self> {
        sh::step("preparing database and cache");
        let logs = paths::lab().join("bench");
        let tree = Tree::new("leasewarden-bench-load")?;
        let scratch = Scratch::new("bench")?;
        let postgres = Postgres::start(&scratch, &tree.dir("shared/postgres")?, &logs)?;
        let mut redis = Redis::start(&tree.dir("shared/redis")?, &logs)?;
        redis.offer_tls(&Certificate::make(&scratch)?)?;
        let tenant = tree.dir("tenants/acme/agent")?;
        let bench = Self { postgres, redis, tenant, tree, _scratch: scratch, logs };
        bench.pgbench("pgbench-init", &["-i", "-q", "-s", "10"])?;
        Ok(bench)
    }

    /// Runs pgbench inside the tenant's cgroup; gives what it printed.
    fn pgbench(&self, name: &str, args: &[&str]) -> Result<String> {
        Launch::new(name, self.postgres.bin().join("pgbench"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.postgres.port().to_string()])
            .args(args)
            .arg("postgres")
            .cgroup(&self.tenant)
            .start(&self.logs)?
            .finish(Duration::from_secs(300))
    }

    /// GETs a second of `redis-benchmark`, and how many it made.
    pub(super) fn commands_per_second(&self, time: Duration, connecting: Connecting) -> Result<(f64, f64)> {
        // It takes a number and no time: about so many fit.
        let n = time.as_secs().max(1)
            * match connecting {
                Connecting { each_time: false, encrypted: false } => 40_000,
                Connecting { each_time: false, encrypted: true } => 25_000,
                Connecting { each_time: true, encrypted: false } => 8_000,
                Connecting { each_time: true, encrypted: true } => 700,
            };
        let port = if connecting.encrypted { self.redis.port() } else { self.redis.plain_port() };
        let said = Launch::new("redis-benchmark", "redis-benchmark")
            .args(["-h", "127.0.0.1", "-p", &port.to_string()])
            .args(["-c", "50", "-t", "get", "--csv", "-n", &n.to_string()])
            .args(["-k", if connecting.each_time { "0" } else { "1" }])
            .args(if connecting.encrypted { &["--tls", "--insecure"][..] } else { &[] })
            .cgroup(&self.tenant)
            .start(&self.logs)?
            .finish(Duration::from_secs(300))?;
        let rate = said
            .lines()
            .find_map(|line| line.strip_prefix("\"GET\",\"")?.split('"').next()?.parse().ok())
            .with_context(|| format!("redis-benchmark printed no rate:\n{said}"))?;
        Ok((rate, n as f64))
    }

    pub(super) fn transactions_per_second(&self, time: Duration) -> Result<f64> {
        let seconds = time.as_secs().max(1).to_string();
        let said = self.pgbench("pgbench", &["-S", "-n", "-c", "16", "-j", "2", "-T", &seconds])?;
        said.lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
            .with_context(|| format!("pgbench printed no rate:\n{said}"))
    }
}

/// A running agent and where it serves.
pub(super) struct Watching {
    process: Process,
    port: u16,
}

impl Watching {
    pub(super) fn start(binary: &Path, cgroup: &Path, logs: &Path) -> Result<Self> {
        Self::configured(binary, cgroup, logs, "")
    }

    /// As [`Self::start`], and it reads what of TLS it can: its probes are in place.
    pub(super) fn reading_tls(binary: &Path, cgroup: &Path, logs: &Path) -> Result<Self> {
        let mut agent = Self::configured(binary, cgroup, logs, "tls: { enabled: true }\n")?;
        let port = agent.port;
        let probed = || {
            let text = net::http_get(port, "/metrics").map(|(_, text)| text);
            text.is_ok_and(|text| Metrics(text).sum("leasewarden_tls_probes", &[]) > 0.0)
        };
        net::wait_until(&mut agent.process, "the probes for TLS", Duration::from_secs(60), probed)?;
        Ok(agent)
    }

    fn configured(binary: &Path, cgroup: &Path, logs: &Path, more: &str) -> Result<Self> {
        let port = net::free_port()?;
        fs::create_dir_all(logs)?;
        let config = logs.join("leasewarden.yaml");
        fs::write(&config, format!("version: 1\nexport:\n  listen: \"127.0.0.1:{port}\"\n{more}"))?;
        let mut process = Launch::new("agent", binary)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .arg("--cgroup")
            .arg(cgroup)
            .arg("--findings")
            .arg(logs.join("findings.jsonl"))
            .start(logs)?;
        net::wait_until(&mut process, "the agent", Duration::from_secs(30), || {
            net::http_get(port, "/readyz").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { process, port })
    }

    pub(super) fn metrics(&self) -> Result<Metrics> {
        Ok(Metrics(net::http_get(self.port, "/metrics")?.1))
    }

    /// CPU time used so far, in seconds: the scheduler's own clock, as ticks miss a thread that sleeps and wakes often.
    pub(super) fn cpu(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.pid()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).context("odd schedstat")?;
        }
        Ok(nanoseconds / 1e9)
    }

    /// Resident memory, in MiB.
    pub(super) fn resident(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let kib =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kib.context("no VmRSS")? / 1024.0)
    }
}
