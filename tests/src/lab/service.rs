//! Shared services: programs that take requests of several tenants and do the work on connections they pool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::certificate::Certificate;
use super::containers::Home;
use super::golang;
use super::node::{self, Modules};
use super::process::{Launch, Process};
use super::python::{Packages, python};
use super::{net, python as py, target_dir};

/// The two tenants' bearer tokens: opaque, so that nothing on the wire names anybody.
pub const TOKENS: [(&str, &str); 2] = [("acme", "b7c1d8f02e6a49d3"), ("globex", "94e0aa5f1c7b42d6")];

/// The token of `tenant`.
///
/// # Errors
/// When it has none.
pub fn token(tenant: &str) -> Result<&'static str> {
    TOKENS.iter().find(|(name, _)| *name == tenant).map(|(_, token)| *token).context("no such tenant")
}

/// What a service is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Python's `http.server` with a thread per connection, `psycopg_pool`.
    Threads,
    /// waitress: an I/O thread that hands over to workers, `psycopg_pool`.
    Waitress,
    /// aiohttp, psycopg's asynchronous pool.
    Psycopg,
    /// aiohttp, asyncpg's pool.
    Asyncpg,
    /// aiohttp, redis-py 4.5.1.
    Redis451,
    /// aiohttp, redis-py 5.2.1.
    Redis521,
    /// Node.js `http`, node-postgres' pool.
    Node,
    /// Node.js `http`, ioredis.
    IoRedis,
    /// axum on tokio's work-stealing runtime, deadpool, tokio-postgres.
    Tokio,
    /// aiohttp in front, httpx's pool of keep-alive connections behind.
    Gateway,
    /// Go's net/http on both sides.
    GoGateway,
    /// Bun's server, and its fetch.
    BunGateway,
    /// Python's `http.server`, SQLAlchemy's pool of PyMySQL connections.
    SqlAlchemy,
    /// Python's `http.server`, MySQL Connector's pool, which resets what comes back.
    Connector,
    /// aiohttp, asyncmy's pool.
    Asyncmy,
    /// Python's `http.server`, pymemcache's pool.
    Pymemcache,
    /// aiohttp in front, behind it one channel of grpcio to a server of grpcio.
    Grpc,
    /// Node.js `http` in front, behind it one channel of grpc-js to the same.
    GrpcJs,
    /// aiohttp in front, behind it one connection of httpx over HTTP/2 to hypercorn.
    Http2,
    /// A framework's own recipe for tenancy.
    Recipe(Recipe),
}

/// A framework, as its own documentation uses it for several tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipe {
    /// Its name in tables.
    pub name: &'static str,
    /// The program below `clients/recipes`.
    pub script: &'static str,
    /// What it works on.
    pub behind: Behind,
}

/// What is behind a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behind {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// MariaDB.
    MariaDb,
    /// memcached.
    Memcached,
    /// Another HTTP service.
    Http,
    /// A gRPC service.
    Grpc,
    /// Another HTTP service, over HTTP/2.
    Http2,
}

impl Program {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "http.server + psycopg_pool",
            Self::Waitress => "waitress + psycopg_pool",
            Self::Psycopg => "aiohttp + psycopg_pool (async)",
            Self::Asyncpg => "aiohttp + asyncpg",
            Self::Redis451 => "aiohttp + redis-py 4.5.1",
            Self::Redis521 => "aiohttp + redis-py 5.2.1",
            Self::Node => "Node.js + node-postgres",
            Self::IoRedis => "Node.js + ioredis",
            Self::Tokio => "axum + deadpool + tokio-postgres",
            Self::Gateway => "aiohttp + httpx",
            Self::GoGateway => "Go net/http",
            Self::BunGateway => "Bun",
            Self::SqlAlchemy => "http.server + SQLAlchemy + PyMySQL",
            Self::Connector => "http.server + MySQL Connector",
            Self::Asyncmy => "aiohttp + asyncmy",
            Self::Pymemcache => "http.server + pymemcache",
            Self::Grpc => "aiohttp + grpcio",
            Self::GrpcJs => "Node.js + grpc-js",
            Self::Http2 => "aiohttp + httpx (HTTP/2)",
            Self::Recipe(recipe) => recipe.name,
        }
    }

    /// What is behind it.
    #[must_use]
    pub fn behind(self) -> Behind {
        match self {
            Self::Redis451 | Self::Redis521 | Self::IoRedis => Behind::Redis,
            Self::Gateway | Self::GoGateway | Self::BunGateway => Behind::Http,
            Self::SqlAlchemy | Self::Connector | Self::Asyncmy => Behind::MariaDb,
            Self::Pymemcache => Behind::Memcached,
            Self::Grpc | Self::GrpcJs => Behind::Grpc,
            Self::Http2 => Behind::Http2,
            Self::Recipe(recipe) => recipe.behind,
            _ => Behind::Postgres,
        }
    }

    /// Whether it speaks TLS with its clients, where it has a certificate.
    #[must_use]
    pub fn serves_tls(self) -> bool {
        !matches!(
            self,
            Self::Threads
                | Self::Waitress
                | Self::Tokio
                | Self::SqlAlchemy
                | Self::Connector
                | Self::Pymemcache
                | Self::Grpc
                | Self::GrpcJs
                | Self::Recipe(_)
        )
    }

    fn launch(self) -> Result<Launch> {
        let from = |packages, script, variant: &[&str]| Ok(py::program("service", packages, script)?.args(variant));
        let python = |script, variant| from(Packages::Current, script, variant);
        let stores = |script, variant| from(Packages::Stores, script, variant);
        match self {
            Self::Threads => python("service_threads.py", &["--variant", "stdlib"]),
            Self::Waitress => python("service_threads.py", &["--variant", "waitress"]),
            Self::Psycopg => python("service_asyncio.py", &["--variant", "psycopg"]),
            Self::Asyncpg => python("service_asyncio.py", &["--variant", "asyncpg"]),
            Self::SqlAlchemy => stores("service_mysql.py", &["--variant", "sqlalchemy"]),
            Self::Connector => stores("service_mysql.py", &["--variant", "connector"]),
            Self::Asyncmy => stores("service_mysql.py", &["--variant", "asyncmy"]),
            Self::Pymemcache => stores("service_memcached.py", &[]),
            Self::Redis451 => py::program("service", Packages::Redis451, "service_redis.py"),
            Self::Redis521 => python("service_redis.py", &[]),
            Self::Gateway => python("service_gateway.py", &[]),
            Self::GoGateway => golang::program("service", "service_gateway.go"),
            Self::BunGateway => node::on_bun("service", "service_gateway_bun.js"),
            Self::Grpc => python("service_streams.py", &["--variant", "grpc"]),
            Self::GrpcJs => node::program("service", Modules::Current, "service_grpc.js"),
            Self::Http2 => python("service_streams.py", &["--variant", "httpx"]),
            Self::Node => node::program("service", Modules::Current, "service_node.js"),
            Self::IoRedis => node::program("service", Modules::Current, "service_ioredis.js"),
            Self::Recipe(recipe) => {
                let script = format!("recipes/{}", recipe.script);
                let further = recipe.script.starts_with("further/");
                if script.ends_with(".js") {
                    let modules = if further { Modules::Further } else { Modules::Recipes };
                    node::program("service", modules, &script)
                } else {
                    let packages = if further { Packages::Further } else { Packages::Recipes };
                    py::program("service", packages, &script)
                }
            }
            Self::Tokio => Ok(Launch::new("service", tokio_service()?)),
        }
    }
}

/// `examples/service_tokio.rs`, built.
fn tokio_service() -> Result<PathBuf> {
    let path = target_dir().join("debug/examples/service_tokio");
    if !path.exists() {
        bail!("{} is not built: `cargo build --package tests --example service_tokio`", path.display());
    }
    Ok(path)
}

/// How a service is run.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// What it is made of.
    pub program: Program,
    /// How it binds, in the program's words.
    pub mode: &'static str,
    /// Connections in its pool.
    pub pool: u32,
    /// It passes `traceparent` on, as a header or an SQL comment.
    pub passes_trace: bool,
    /// A background job, `bound` or `unbound`.
    pub job: Option<&'static str>,
    /// Port of a cache, for [`Program::Psycopg`] and [`Program::Asyncpg`].
    pub cache: Option<u16>,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    _process: Process,
    port: u16,
    truth: PathBuf,
}

impl Service {
    /// Starts it, with what is behind it at a port on 127.0.0.1: in TLS where there is a certificate.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(
        spec: &Spec,
        upstream: u16,
        certificate: Option<&Certificate>,
        home: impl Into<Home>,
        logs: &Path,
    ) -> Result<Self> {
        let truth = logs.join("truth.jsonl");
        let _ = fs::remove_file(&truth);
        let tokens: serde_json::Map<_, _> =
            TOKENS.iter().map(|(tenant, token)| ((*token).to_owned(), (*tenant).into())).collect();
        let launch = spec
            .program
            .launch()?
            .args(["--upstream", &upstream.to_string(), "--mode", spec.mode, "--pool", &spec.pool.to_string()])
            .args(["--tokens", &serde_json::to_string(&tokens)?])
            .arg("--truth")
            .arg(&truth)
            .args(spec.passes_trace.then_some("--comment"))
            .args(spec.job.into_iter().flat_map(|job| ["--job", job]))
            .args(spec.cache.into_iter().flat_map(|port| ["--cache".to_owned(), port.to_string()]))
            .envs(certificate.into_iter().flat_map(Certificate::environment));
        let (process, port) = listening(launch.home(home.into()), "service", logs)?;
        Ok(Self { _process: process, port, truth })
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it knows of its own work, as JSON lines.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn truth(&self) -> Result<String> {
        // A service that did nothing has written nothing.
        if !self.truth.exists() {
            return Ok(String::new());
        }
        fs::read_to_string(&self.truth).with_context(|| format!("cannot read {}", self.truth.display()))
    }
}

/// The HTTP service behind the gateway.
#[derive(Debug)]
pub struct Upstream {
    _process: Process,
    port: u16,
    behind: Behind,
}

impl Upstream {
    /// Starts it inside `cgroup`. It knows the tenants' own tokens, and those of the gateway.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(behind: Behind, cgroup: &Path, certificate: Option<&Certificate>, logs: &Path) -> Result<Self> {
        let (script, variant): (_, &[&str]) = match behind {
            Behind::Grpc => ("upstream_streams.py", &["--variant", "grpc"]),
            Behind::Http2 => ("upstream_streams.py", &["--variant", "httpx"]),
            _ => ("upstream_http.py", &[]),
        };
        let tokens = serde_json::json!({
            "b7c1d8f02e6a49d3": ["acme"],
            "94e0aa5f1c7b42d6": ["globex"],
            "0c2f9d4a7be84c6cb1aa": ["acme"],
            "e91b7720c3f5409f8d5e": ["globex"],
            "5d0f63d1e1b14a0b9c1c": ["acme", "globex"],
        });
        let launch = py::program("upstream", Packages::Current, script)?
            .args(["--tokens", &tokens.to_string()])
            .args(variant)
            .envs(certificate.into_iter().flat_map(Certificate::environment));
        let (process, port) = listening(launch.cgroup(cgroup), "upstream", logs)?;
        Ok(Self { _process: process, port, behind })
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it speaks.
    #[must_use]
    pub fn behind(&self) -> Behind {
        self.behind
    }
}

/// Starts a program that prints `PORT N` when it listens.
pub(super) fn listening(launch: Launch, name: &str, logs: &Path) -> Result<(Process, u16)> {
    let log = logs.join(format!("{name}.log"));
    let port = || -> Option<u16> {
        let said = fs::read_to_string(&log).ok()?;
        let (whole, _) = said.rsplit_once('\n')?;
        whole.lines().find_map(|line| line.strip_prefix("PORT ")?.parse().ok())
    };
    let mut process = launch.start(logs)?;
    net::wait_until(&mut process, name, Duration::from_secs(30), || port().is_some())?;
    let port = port().context("it said its port")?;
    Ok((process, port))
}

/// Versions of what the services are made of, for tables.
///
/// # Errors
/// When a program is missing.
pub fn versions() -> Result<Vec<(String, String)>> {
    let said = |program: &Path, args: &[&str]| -> Result<String> {
        let output = Command::new(program).args(args).output().with_context(|| format!("cannot start {program:?}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let mut all = vec![
        ("PostgreSQL".to_owned(), said(&super::postgres::bin_dir()?.join("postgres"), &["--version"])?),
        ("Redis".to_owned(), said(Path::new("redis-server"), &["--version"])?),
        ("MariaDB".to_owned(), super::mariadb::version()?),
        ("memcached".to_owned(), said(Path::new("memcached"), &["--version"])?),
        ("Node.js".to_owned(), said(Path::new("node"), &["--version"])?),
        ("Python".to_owned(), said(&python(Packages::Current)?, &["--version"])?),
    ];
    for (name, file) in [
        ("Python packages", "requirements.txt"),
        ("and", "requirements-redis-4.5.1.txt"),
        ("for MariaDB and memcached", "requirements-stores.txt"),
        ("for queues", "requirements-queue.txt"),
        ("for recipes", "recipes/requirements.txt"),
        ("for further ones", "recipes/further/requirements.txt"),
    ] {
        let text = fs::read_to_string(super::clients_dir().join(file))?;
        all.push((name.to_owned(), text.split_whitespace().collect::<Vec<_>>().join(", ")));
    }
    let lock: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(super::clients_dir().join("package-lock.json"))?)?;
    for (name, package) in
        [("node-postgres", "pg"), ("BullMQ", "bullmq"), ("ioredis", "ioredis"), ("kafkajs", "kafkajs")]
    {
        let version = lock.pointer(&format!("/packages/node_modules~1{package}/version"));
        all.push((name.to_owned(), version.and_then(serde_json::Value::as_str).unwrap_or("?").to_owned()));
    }
    all.extend(super::brokers::versions()?);
    Ok(all)
}
