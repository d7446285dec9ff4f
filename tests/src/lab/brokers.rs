//! Message brokers of our own: private directories, private ports, nothing kept.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::certificate::Certificate;
use super::process::{Launch, Process};
use super::python::{Packages, program};
use super::{Scratch, net};

/// A kind of broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// AMQP 0-9-1.
    RabbitMq,
    /// Streams, and the queues that libraries make of it.
    Redis,
    /// JetStream.
    Nats,
    /// MQTT.
    Mosquitto,
    /// librdkafka's mock cluster: the real protocol over TCP, without a real store.
    Kafka,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::RabbitMq, Self::Redis, Self::Nats, Self::Mosquitto, Self::Kafka];

    /// Its name, for directories, logs and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Mosquitto => "mosquitto",
            Self::Kafka => "kafka",
        }
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    _process: Process,
    port: u16,
}

impl Broker {
    /// Starts it inside `cgroup`. RabbitMQ and NATS speak TLS alone where there is a certificate.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(
        kind: Kind,
        certificate: Option<&Certificate>,
        scratch: &Scratch,
        cgroup: &Path,
        logs: &Path,
    ) -> Result<Self> {
        if kind == Kind::Kafka {
            return Self::kafka(cgroup, logs);
        }
        let port = net::free_port()?;
        let launch = match kind {
            Kind::RabbitMq => rabbitmq(port, certificate, scratch)?,
            Kind::Nats => Launch::new("nats", "nats-server")
                .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
                .arg(scratch.dir_of("nats", "nobody")?)
                .args(match certificate.map(|c| c.of("nobody", scratch)).transpose()? {
                    Some(c) => {
                        let option = |name: &str, file: PathBuf| [name.into(), file.into_os_string()];
                        let files = [option("--tlscert", c.file()), option("--tlskey", c.key())];
                        files.concat().into_iter().chain(["--tls".into()]).collect::<Vec<OsString>>()
                    }
                    None => Vec::new(),
                })
                .user("nobody"),
            Kind::Mosquitto => {
                let dir = scratch.dir_of("mosquitto", "nobody")?;
                let config = dir.join("mosquitto.conf");
                fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\n"))?;
                Launch::new("mosquitto", "mosquitto").arg("-c").arg(config).user("nobody")
            }
            Kind::Redis | Kind::Kafka => Launch::new("redis", "redis-server")
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/"])
                .args(["--port", &port.to_string()]),
        };
        let mut process = launch.cgroup(cgroup).start(logs)?;
        net::wait_until(&mut process, kind.name(), Duration::from_secs(60), || net::listens(port))?;
        Ok(Self { _process: process, port })
    }

    fn kafka(cgroup: &Path, logs: &Path) -> Result<Self> {
        let launch = program("kafka", Packages::Queue, "queue_kafka_broker.py")?;
        let (process, port) = super::service::listening(launch.cgroup(cgroup), "kafka", logs)?;
        Ok(Self { _process: process, port })
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The server's start script, whatever its version: the one on the PATH insists on directories of the system's.
///
/// # Errors
/// When RabbitMQ is not installed.
pub fn rabbitmq_program() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/rabbitmq/lib").context("no RabbitMQ below /usr/lib/rabbitmq")?;
    versions
        .flatten()
        .map(|entry| entry.path().join("sbin/rabbitmq-server"))
        .find(|path| path.exists())
        .context("no rabbitmq-server below /usr/lib/rabbitmq/lib")
}

/// The versions of the brokers that are installed, by name. Redis and Kafka's mock cluster are told elsewhere.
///
/// # Errors
/// When one is not installed.
pub fn versions() -> Result<Vec<(String, String)>> {
    let home = rabbitmq_program()?;
    let name = home.components().find_map(|c| c.as_os_str().to_str()?.strip_prefix("rabbitmq_server-"));
    let first = |program: &str, argument: &str| -> Result<String> {
        let output = Command::new(program).arg(argument).output().with_context(|| format!("cannot start {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("?").to_owned())
    };
    Ok(vec![
        ("RabbitMQ".to_owned(), name.unwrap_or("?").to_owned()),
        ("NATS".to_owned(), first("nats-server", "--version")?),
        ("Mosquitto".to_owned(), first("mosquitto", "-h")?),
    ])
}

/// A node with a name, directories and ports of its own. The name's host must be one that resolves.
fn rabbitmq(port: u16, certificate: Option<&Certificate>, scratch: &Scratch) -> Result<Launch> {
    let dir = scratch.dir_of("rabbitmq", "rabbitmq")?;
    let plugins = dir.join("plugins");
    fs::write(&plugins, "[].\n")?;
    let (dist, epmd) = (net::free_port()?.to_string(), net::free_port()?.to_string());
    let launch = match certificate.map(|c| c.of("rabbitmq", scratch)).transpose()? {
        Some(c) => {
            let (file, key) = (c.file(), c.key());
            let config = format!(
                "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {0}\n\
                 ssl_options.certfile = {0}\nssl_options.keyfile = {1}\nssl_options.verify = verify_none\n",
                file.display(),
                key.display()
            );
            fs::write(dir.join("rabbitmq.conf"), config)?;
            Launch::new("rabbitmq", rabbitmq_program()?)
        }
        None => Launch::new("rabbitmq", rabbitmq_program()?)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string()),
    };
    Ok(launch
        .env("HOME", &dir)
        .env("RABBITMQ_NODENAME", format!("lab{port}@localhost"))
        .env("RABBITMQ_DIST_PORT", dist)
        .env("ERL_EPMD_PORT", epmd)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq"))
        .user("rabbitmq")
        // It keeps nothing that is worth an orderly end; what it started ends with its cgroup.
        .stop_with(Signal::KILL))
}
