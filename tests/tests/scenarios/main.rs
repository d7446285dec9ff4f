//! Scenario tests: real PostgreSQL, real PgBouncer, real clients, each in a cgroup of its own, the real agent with its
//! probes in the kernel. Every scenario is there twice, as a mistake that must be found and as the same work done right
//! that must be met with silence, and each of them with one connection per tenant and with sixteen.
//!
//! Run by `cargo xtask test`. They need root.

mod containers;
mod direct;
mod late;
mod loss;
mod mcp;
mod opaque;
mod prepared;
mod privileges;
mod prometheus;
mod proxied;
mod queue;
mod recipes;
mod reload;
mod roles;
mod room;
mod session_set;
mod shared;
mod shared_asyncio;
mod shared_encrypted;
mod shared_gateway;
mod shared_http2;
mod shared_memcached;
mod shared_mysql;
mod shared_redis;
mod shared_runtimes;
mod shared_threads;
mod traps;
mod unbound;

use anyhow::{Result, ensure};
use tests::lab::client::{Client, Seen, Work};
use tests::lab::pgbouncer::Pool;
use tests::lab::scene::{Scene, To};

const STALE: &str = "pool-stale-binding";
const REUSE: &str = "pool-reuse-unrevalidated";
const SESSION_SET: &str = "session-set-under-pooler";
const UNPARTITIONED: &str = "shared-service-unpartitioned";
const LOCAL_SET: &str = "local-set-ineffective";

/// A query whose rows tell which tenant was in force.
const SELECT: &str = "SELECT tenant, item FROM orders ORDER BY id LIMIT 5";

/// The same bytes and the same answer whoever asks: nothing but its connection tells for whom it is.
const NOTHING: &str = "SELECT tenant FROM orders WHERE id < 0";

/// Both concurrencies of a scenario: `NAME::with_1` and `NAME::with_16`.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn with_1() {
                crate::play(concat!(module_path!(), "-1"), 1, super::$name);
            }
            #[test]
            fn with_16() {
                crate::play(concat!(module_path!(), "-16"), 16, super::$name);
            }
        }
    )+};
}
pub(crate) use scenarios;

/// Sets the scene for one test, plays it, and says all there is to know when it fails.
fn play(name: &str, workers: u32, body: fn(&mut Stage) -> Result<()>) {
    let _seat = room::enter(workers);
    let name = name.trim_start_matches("scenarios::").replace("::", "-");
    let scene = Scene::new(&name).unwrap_or_else(|error| panic!("cannot set the scene: {error:#}"));
    let mut stage = Stage { scene, workers };
    if let Err(error) = body(&mut stage) {
        panic!("{name}: {error:#}\n{}", stage.scene.report());
    }
}

/// One test's scene and concurrency.
struct Stage {
    scene: Scene,
    /// Connections per tenant.
    workers: u32,
}

impl Stage {
    /// A pool that is too small for everybody: one server connection for one client each, two for sixteen each.
    fn pool_size(&self) -> u32 {
        if self.workers == 1 { 1 } else { 2 }
    }

    /// Rounds per worker: with one, few; with many, enough that they get into each other's way.
    fn rounds(&self) -> u32 {
        if self.workers == 1 { 4 } else { 12 }
    }

    /// A transaction pooler with a small pool, and the agent before the first connection.
    fn pooled(&mut self) -> Result<()> {
        self.scene.start_pooler(&Pool::transaction(self.pool_size()))?;
        self.scene.start_agent("")
    }

    /// A tenant's client on the pooler, holding its connections.
    fn client(&self, tenant: &str) -> Result<Client> {
        self.client_to(tenant, To::Pooler, &[])
    }

    fn client_to(&self, tenant: &str, to: To, options: &[&'static str]) -> Result<Client> {
        let work = Work { workers: self.workers, options: options.to_vec(), ..Work::default() };
        self.scene.client(tenant, to, &work)
    }

    /// Both tenants at once, each with steps of its own.
    fn together<S: AsRef<str>>(
        &self,
        (acme, acme_steps): (&mut Client, &[S]),
        (globex, globex_steps): (&mut Client, &[S]),
    ) -> Result<(Seen, Seen)> {
        acme.order(self.rounds(), acme_steps)?;
        globex.order(self.rounds(), globex_steps)?;
        Ok((acme.done()?, globex.done()?))
    }
}

/// The client got its own rows and nobody else's.
fn only_own(tenant: &str, seen: &Seen) -> Result<()> {
    ensure!(seen.foreign(tenant) == 0 && seen.rows.contains_key(tenant), "{tenant} should see its own rows: {seen:?}");
    Ok(())
}

/// The client got somebody else's rows: the mistake is real, not only suspected.
fn leaked(tenant: &str, seen: &Seen) -> Result<()> {
    ensure!(seen.foreign(tenant) > 0, "the leak did not happen, so nothing is tested: {tenant} saw {seen:?}");
    Ok(())
}
