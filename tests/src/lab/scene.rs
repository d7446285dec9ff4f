//! A whole scene: a database, a cache or an HTTP service, perhaps a pooler or a shared service before it, two tenants'
//! clients, each in a cgroup of its own, and the agent that watches them. What is in it ends with it, whatever happens.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agent::{self, Agent, Finding, Metrics};
use super::certificate::Certificate;
use super::cgroup::Tree;
use super::client::{Client, Work};
use super::containers::{Engine, Home, Runtime};
use super::front::Front;
use super::load::{How, Load};
use super::mariadb::MariaDb;
use super::memcached::Memcached;
use super::pgbouncer::{PgBouncer, Pool};
use super::postgres::{DATABASE, Postgres};
use super::redis::Redis;
use super::service::{Behind, Service, Spec, Upstream, token};
use super::{Scratch, target_dir};

/// No more probes are expected when there were none for so long.
const SETTLED: Duration = Duration::from_secs(3);

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The pooler at 127.0.0.1.
    Pooler,
    /// The pooler at ::1.
    PoolerIpv6,
    /// The database itself, at 127.0.0.1.
    Database,
}

/// A scene. Fields are dropped in this order: first who uses, then who is used.
#[derive(Debug)]
pub struct Scene {
    agent: Option<Agent>,
    pooler: Option<PgBouncer>,
    front: Option<Front>,
    service: Option<Service>,
    containers: Option<Runtime>,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    mariadb: Option<MariaDb>,
    memcached: Option<Memcached>,
    upstream: Option<Upstream>,
    /// Where what is said is encrypted.
    certificate: Option<Certificate>,
    /// Only the shared service's processes are asked for secrets.
    reads_service_alone: bool,
    /// The shared service speaks TLS with its clients.
    service_is_encrypted: bool,
    tree: Tree,
    scratch: Scratch,
    logs: PathBuf,
}

impl Scene {
    /// Starts the database in its cgroup. Logs go to `target/lab/scenes/NAME`.
    ///
    /// # Errors
    /// When not root, without cgroup v2, or when PostgreSQL does not come up.
    pub fn new(name: &str) -> Result<Self> {
        Self::with(name, Behind::Postgres)
    }

    /// Starts what is behind the service that is to come. Logs go to `target/lab/scenes/NAME`.
    ///
    /// # Errors
    /// When not root, without cgroup v2, or when it does not come up.
    pub fn with(name: &str, behind: Behind) -> Result<Self> {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{}-{}", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
        let logs = target_dir().join("lab/scenes").join(name);
        let _ = std::fs::remove_dir_all(&logs);
        let tree = Tree::new(&format!("leasewarden-lab-{unique}"))?;
        let scratch = Scratch::new(&format!("scene-{unique}"))?;
        let (mut postgres, mut redis, mut upstream) = (None, None, None);
        let (mut mariadb, mut memcached) = (None, None);
        match behind {
            Behind::Postgres => postgres = Some(Postgres::start(&scratch, &tree.dir("shared/postgres")?, &logs)?),
            Behind::Redis => redis = Some(Redis::start(&tree.dir("shared/redis")?, &logs)?),
            Behind::MariaDb => mariadb = Some(MariaDb::start(&scratch, &tree.dir("shared/mariadb")?, &logs)?),
            Behind::Memcached => memcached = Some(Memcached::start(&tree.dir("shared/memcached")?, &logs)?),
            Behind::Http | Behind::Grpc | Behind::Http2 => {
                upstream = Some(Upstream::start(behind, &tree.dir("shared/records")?, None, &logs)?);
            }
        }
        Ok(Self {
            agent: None,
            pooler: None,
            front: None,
            service: None,
            containers: None,
            postgres,
            redis,
            mariadb,
            memcached,
            upstream,
            certificate: None,
            reads_service_alone: false,
            service_is_encrypted: false,
            tree,
            scratch,
            logs,
        })
    }

    /// From now on everybody speaks TLS with what is behind the service or the pooler, and with these where they can, and
    /// the agent may read it.
    ///
    /// # Errors
    /// When something does not take the certificate.
    pub fn encrypt(&mut self) -> Result<()> {
        if self.mariadb.is_some() || self.memcached.is_some() {
            bail!("the lab speaks with MariaDB and memcached in clear alone");
        }
        let certificate = Certificate::make(&self.scratch)?;
        if let Some(postgres) = &self.postgres {
            postgres.offer_tls(&certificate)?;
        }
        if let Some(redis) = &mut self.redis {
            redis.offer_tls(&certificate)?;
        }
        if let Some(behind) = self.upstream.take().map(|upstream| upstream.behind()) {
            let cgroup = self.tree.dir("shared/records")?;
            self.upstream = Some(Upstream::start(behind, &cgroup, Some(&certificate), &self.logs)?);
        }
        self.certificate = Some(certificate);
        Ok(())
    }

    /// As [`Self::encrypt`]; the agent may read what the shared service itself encrypts, and nobody else's: its library, not
    /// the one at the other end, tells the secrets.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub fn encrypt_service(&mut self) -> Result<()> {
        self.encrypt()?;
        self.reads_service_alone = true;
        Ok(())
    }

    /// Lets a service connect once and ends it: its program is known by the time it begins anew, as that of any that is
    /// started again.
    ///
    /// # Errors
    /// When it does not come up, or has nothing that can be probed.
    pub fn rehearse(&mut self, spec: &Spec) -> Result<()> {
        self.start_service(spec)?;
        let agent = self.agent()?;
        agent.wait_for_metric("leasewarden_tls_probes", Duration::from_secs(60))?;
        // Some load a second library a little later.
        let probes = || agent.metrics().map(|m| m.sum("leasewarden_tls_probes", &[]));
        let (mut known, mut since) = (probes()?, Instant::now());
        while since.elapsed() < SETTLED {
            std::thread::sleep(Duration::from_millis(200));
            let now = probes()?;
            if now.to_bits() != known.to_bits() {
                (known, since) = (now, Instant::now());
            }
        }
        self.end_service().map(drop)
    }

    fn postgres(&self) -> Result<&Postgres> {
        self.postgres.as_ref().context("there is no database")
    }

    /// Carries out a script in the scene's database, as an administrator and from outside of the scene.
    ///
    /// # Errors
    /// When there is none, or a statement fails.
    pub fn prepare(&self, script: &str) -> Result<()> {
        self.postgres()?.psql(DATABASE, script).map(drop)
    }

    /// The cache.
    ///
    /// # Errors
    /// When there is none.
    pub fn redis(&self) -> Result<&Redis> {
        self.redis.as_ref().context("there is no cache")
    }

    /// The port of what is behind the service.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn upstream_port(&self) -> Result<u16> {
        self.postgres
            .as_ref()
            .map(Postgres::port)
            .or_else(|| self.redis.as_ref().map(Redis::port))
            .or_else(|| self.mariadb.as_ref().map(MariaDb::port))
            .or_else(|| self.memcached.as_ref().map(Memcached::port))
            .or_else(|| self.upstream.as_ref().map(Upstream::port))
            .context("there is nothing behind the service")
    }

    /// From now on the shared service and the tenants' clients of it live in containers, and labels alone tell whose
    /// they are. In acme's, what runs has moved into a cgroup of its own below the container's.
    ///
    /// # Errors
    /// When the runtime does not come up.
    pub fn start_containers(&mut self, engine: Engine) -> Result<()> {
        self.containers = Some(Runtime::start(engine, self.tree.root(), &self.logs)?);
        Ok(())
    }

    /// The containers.
    ///
    /// # Errors
    /// When there are none.
    pub fn containers(&self) -> Result<&Runtime> {
        self.containers.as_ref().context("there are no containers")
    }

    /// Starts a service that all tenants share.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_service(&mut self, spec: &Spec) -> Result<()> {
        let home: Home = match &self.containers {
            Some(runtime) => runtime.container("tools", &[("leasewarden.io/role", "shared")]).into(),
            None => (&self.tree.dir("shared/service")?).into(),
        };
        let certificate = self.certificate.as_ref();
        self.service_is_encrypted = certificate.is_some() && spec.program.serves_tls();
        self.service = Some(Service::start(spec, self.upstream_port()?, certificate, home, &self.logs)?);
        Ok(())
    }

    /// Puts a load balancer in front of the shared service, which names its clients. Tenants go there from now on.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_front(&mut self) -> Result<()> {
        self.front = Some(Front::start(self.service()?.port(), &self.logs)?);
        Ok(())
    }

    /// The shared service.
    ///
    /// # Errors
    /// When there is none.
    pub fn service(&self) -> Result<&Service> {
        self.service.as_ref().context("there is no shared service")
    }

    /// Starts a tenant's client of the shared service, in the tenant's cgroup.
    ///
    /// # Errors
    /// When it does not start.
    pub fn load(&self, tenant: &str, workers: u32, traced: bool) -> Result<Load> {
        self.load_as(tenant, workers, traced, false)
    }

    /// Like [`Self::load`]; with `cookie`, whose a request is stands in the cookie of a session.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_as(&self, tenant: &str, workers: u32, traced: bool, cookie: bool) -> Result<Load> {
        let home: Home = match (&self.containers, tenant) {
            (Some(runtime), "acme") => runtime.container("one", &[("tenant", tenant)]).nested()?.into(),
            (Some(runtime), _) => runtime.container("two", &[("leasewarden.io/tenant", tenant)]).into(),
            (None, _) => (&self.tree.dir(&format!("tenants/{tenant}/agent"))?).into(),
        };
        let certificate = self.certificate.as_ref().filter(|_| self.service_is_encrypted);
        let port = self.front.as_ref().map_or(self.service()?.port(), Front::port);
        let how = How { port, token: token(tenant)?, workers, traced, cookie, certificate };
        Load::start(tenant, home, how, &self.logs)
    }

    /// Puts a pooler in front of the database.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_pooler(&mut self, pool: &Pool) -> Result<()> {
        let cgroup = self.tree.dir("shared/pgbouncer")?;
        let encrypted = self.certificate.as_ref().map(|certificate| pool.clone().encrypted(certificate));
        let pool = encrypted.as_ref().unwrap_or(pool);
        self.pooler = Some(PgBouncer::start(pool, self.postgres()?, &self.scratch, &cgroup, &self.logs)?);
        Ok(())
    }

    /// Starts the agent on everything in the scene. `config` is added to the smallest configuration.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_agent(&mut self, config: &str) -> Result<()> {
        self.start_agent_as(&agent::binary()?, config, None)
    }

    /// Starts this agent, and lets it record what it takes from the kernel.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_agent_as(&mut self, binary: &Path, config: &str, record: Option<&Path>) -> Result<()> {
        // Its cgroups must be there to be watched, as a container's are before its first packet.
        let mut config = config.to_owned();
        if self.certificate.is_some() {
            let whose = if self.reads_service_alone { "[\"/*/shared/service\"]" } else { "[]" };
            config.push_str(&format!("tls: {{ enabled: true, workloads: {whose} }}\n"));
        }
        match &self.containers {
            Some(runtime) => {
                let socket = runtime.socket().display();
                // A daemon on a busy machine may take long to answer; that its answer is waited for is what matters.
                config.push_str(&format!(
                    "identity: {{ containers: {{ docker: \"{socket}\", cri: off }}, wait: {{ at_most: 15s }} }}\n"
                ));
            }
            None => {
                for tenant in ["acme", "globex"] {
                    self.tree.dir(&format!("tenants/{tenant}/agent"))?;
                }
            }
        }
        let agent = Agent::start_as(binary, self.tree.root(), &config, record, &self.logs)?;
        if self.certificate.is_some() && !self.reads_service_alone {
            // The services run: a handshake before their libraries are probed is not read, and that is as it should be.
            agent.wait_for_metric("leasewarden_tls_probes", Duration::from_secs(60))?;
        }
        self.agent = Some(agent);
        Ok(())
    }

    /// Where logs and recordings of this scene are.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The agent.
    ///
    /// # Errors
    /// When it was not started.
    pub fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("the agent is not running")
    }

    /// Starts a tenant's client in the tenant's cgroup: connected, its setup done.
    ///
    /// # Errors
    /// When it cannot connect or its setup fails.
    pub fn client(&self, tenant: &str, to: To, work: &Work) -> Result<Client> {
        let cgroup = self.tree.dir(&format!("tenants/{tenant}/agent"))?;
        let port = match to {
            To::Database => self.postgres()?.port(),
            To::Pooler | To::PoolerIpv6 => self.pooler.as_ref().context("there is no pooler")?.port(),
        };
        let host = if to == To::PoolerIpv6 { "::1" } else { "127.0.0.1" };
        let encryption = if self.certificate.is_some() { "require" } else { "prefer" };
        let place = format!("host={host} port={port} sslmode={encryption}");
        Client::start_at(tenant, &cgroup, &place, work, &self.logs)
    }

    /// Waits until the agent has decoded everything, ends it, and gives what it found and counted.
    ///
    /// # Errors
    /// When it does not come to rest, or does not end as it should.
    pub fn outcome(&mut self) -> Result<Outcome> {
        let agent = self.agent.take().context("the agent is not running")?;
        agent.settle()?;
        let metrics = agent.metrics()?;
        Ok(Outcome { findings: agent.stop()?, metrics })
    }

    /// Ends the shared service and gives what it knows of its own work.
    ///
    /// # Errors
    /// When there is none.
    pub fn end_service(&mut self) -> Result<String> {
        self.service.take().context("there is no shared service")?.truth()
    }

    /// Like [`Self::outcome`] without waiting for the counters, which are refreshed once a second: what was found is
    /// whole, as the agent drains at its end; what was counted may be a second old.
    ///
    /// # Errors
    /// When the agent does not end as it should, or has read nothing through TLS where that is spoken.
    pub fn outcome_now(&mut self) -> Result<Outcome> {
        let agent = self.agent.take().context("the agent is not running")?;
        if self.certificate.is_some() {
            agent.wait_until_tls_is_read()?;
        }
        let metrics = agent.metrics()?;
        // For whoever wants to know why a basis abstained.
        std::fs::write(self.logs.join("metrics.txt"), metrics.told())?;
        Ok(Outcome { findings: agent.stop()?, metrics })
    }

    /// What the agent can say of itself now, for a test that failed.
    #[must_use]
    pub fn report(&self) -> String {
        let Some(agent) = &self.agent else { return String::new() };
        let findings: Vec<String> = agent.findings().unwrap_or_default().into_iter().map(|f| f.line).collect();
        let metrics = agent.metrics().map(|m| m.told()).unwrap_or_default();
        format!(
            "logs in {}\n--- findings\n{}\n--- metrics\n{metrics}\n--- agent\n{}",
            self.logs.display(),
            findings.join("\n"),
            agent.log_tail()
        )
    }
}

/// What the agent found and counted.
#[derive(Debug)]
pub struct Outcome {
    /// Every finding, once.
    pub findings: Vec<Finding>,
    /// The last scrape.
    pub metrics: Metrics,
}

impl Outcome {
    /// Operations with this verdict.
    #[must_use]
    pub fn n_verdicts(&self, verdict: &str) -> f64 {
        self.metrics.sum("leasewarden_operations_total", &[("verdict", verdict)])
    }

    /// Demands that there is no finding at all.
    ///
    /// # Errors
    /// With what was found and counted.
    pub fn quiet(&self) -> Result<()> {
        self.holds("there is no finding", self.findings.is_empty())
    }

    /// Demands that there is no finding at all, from an agent that saw tenants being bound.
    ///
    /// # Errors
    /// With what was found and counted.
    pub fn silent(&self) -> Result<()> {
        self.quiet()?;
        self.holds("bound operations are counted as such", self.n_verdicts("revalidated") > 0.0)
    }

    /// Demands that findings are of these rules and no other.
    ///
    /// # Errors
    /// With what was found and counted.
    pub fn only(&self, rules: &[&str]) -> Result<()> {
        if let Some(other) = self.findings.iter().find(|f| !rules.contains(&f.rule.as_str())) {
            bail!("{} should not be found\n{self}", other.rule);
        }
        Ok(())
    }

    /// Demands a finding of this rule with this severity and these tenants.
    ///
    /// # Errors
    /// With what was found and counted.
    pub fn has(&self, rule: &str, severity: &str, used: Option<&str>, bound: Option<&str>) -> Result<()> {
        let fits = |f: &&Finding| {
            f.rule == rule && f.severity == severity && f.used_for.as_deref() == used && f.bound.as_deref() == bound
        };
        if self.findings.iter().find(fits).is_none() {
            bail!("no {rule} of severity {severity} with tenants use={used:?} bound={bound:?}\n{self}");
        }
        Ok(())
    }

    /// Demands that something holds.
    ///
    /// # Errors
    /// With what was found and counted.
    pub fn holds(&self, what: &str, holds: bool) -> Result<()> {
        if !holds {
            bail!("does not hold: {what}\n{self}");
        }
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "--- findings")?;
        for finding in &self.findings {
            writeln!(f, "{}", finding.line)?;
        }
        write!(f, "--- metrics\n{}", self.metrics.told())
    }
}
