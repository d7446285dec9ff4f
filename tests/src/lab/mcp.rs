//! MCP servers that tenants share, their clients, and the agent that watches them: the scenes of `mcp_cases`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::agent::{Agent, Finding};
use super::certificate::Certificate;
use super::cgroup::Tree;
use super::node::{self, Modules};
use super::postgres::Postgres;
use super::process::Process;
use super::python::{Packages, program, python};
use super::scene::Outcome;
use super::service::{TOKENS, listening, token};
use super::talk::Talk;
use super::{Scratch, target_dir};

/// Until the last packet has become an event.
const REST: Duration = Duration::from_millis(500);

/// What a server is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// Python's SDK in one of its versions.
    Python(Packages),
    /// TypeScript's SDK of this version, on Node.js.
    TypeScript(&'static str),
}

impl Sdk {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python(Packages::Mcp126) => "Python SDK 1.26.0",
            Self::Python(Packages::Mcp130) => "Python SDK 1.30.0",
            Self::Python(_) => "Python SDK 2.3.0",
            Self::TypeScript("1.25.3") => "TypeScript SDK 1.25.3",
            Self::TypeScript(_) => "TypeScript SDK 1.26.0",
        }
    }
}

/// How a server is run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What it is made of.
    pub sdk: Sdk,
    /// Words for what it does wrong, or otherwise; see `clients/mcp_server.py`.
    pub ways: String,
    /// Whose each token is.
    pub tokens: Value,
    /// Further arguments.
    pub args: Vec<String>,
}

impl Spec {
    /// A server that knows both tenants' opaque tokens.
    #[must_use]
    pub fn new(sdk: Sdk, ways: &str) -> Self {
        let tokens: serde_json::Map<_, _> = TOKENS.iter().map(|(who, t)| ((*t).to_owned(), (*who).into())).collect();
        Self { sdk, ways: ways.to_owned(), tokens: tokens.into(), args: Vec::new() }
    }

    /// Adds an argument and its value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.args.extend([name.to_owned(), value.to_string()]);
        self
    }
}

/// A scene. Fields are dropped in this order: first who uses, then who is used.
#[derive(Debug)]
pub struct Scene {
    agent: Option<Agent>,
    servers: Vec<Process>,
    postgres: Option<Postgres>,
    /// Clients and servers speak TLS, and it is read at the servers.
    certificate: Option<Certificate>,
    tree: Tree,
    scratch: Scratch,
    logs: PathBuf,
}

impl Scene {
    /// An empty one. Logs go to `target/lab/scenes/NAME`.
    ///
    /// # Errors
    /// When not root, or without cgroup v2.
    pub fn new(name: &str) -> Result<Self> {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{}-{}", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
        let logs = target_dir().join("lab/scenes").join(name);
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let tree = Tree::new(&format!("leasewarden-mcp-{unique}"))?;
        let scratch = Scratch::new(&format!("mcp-{unique}"))?;
        // They must be there to be watched, as a container's are before its first packet.
        for tenant in ["acme", "globex"] {
            tree.dir(&format!("tenants/{tenant}/agent"))?;
        }
        Ok(Self { agent: None, servers: Vec::new(), postgres: None, certificate: None, tree, scratch, logs })
    }

    /// From now on clients and servers speak TLS with each other, and the agent may read it where it is served.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn encrypt(&mut self) -> Result<()> {
        self.certificate = Some(Certificate::make(&self.scratch)?);
        Ok(())
    }

    /// Waits until a server's library is probed, where that is to be and can be: what is said before is not read.
    fn wait_until_probed(&self) -> Result<()> {
        match &self.agent {
            Some(agent) if self.certificate.is_some() && !self.servers.is_empty() => {
                agent.wait_for_metric("leasewarden_tls_probes", Duration::from_secs(60))
            }
            _ => Ok(()),
        }
    }

    /// Where logs are.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The cgroup that holds everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.tree.root()
    }

    /// Starts PostgreSQL; gives its port.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_postgres(&mut self) -> Result<u16> {
        let postgres = Postgres::start(&self.scratch, &self.tree.dir("shared/postgres")?, &self.logs)?;
        let port = postgres.port();
        self.postgres = Some(postgres);
        Ok(port)
    }

    /// Starts the agent. `config` is added to the smallest configuration.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_agent(&mut self, binary: &Path, config: &str) -> Result<()> {
        let tls =
            if self.certificate.is_some() { "tls: { enabled: true, workloads: [\"/*/shared/*\"] }\n" } else { "" };
        let config = format!("{config}{tls}");
        self.agent = Some(Agent::start_as(binary, self.tree.root(), &config, None, &self.logs)?);
        self.wait_until_probed()
    }

    /// The agent.
    ///
    /// # Errors
    /// When it was not started.
    pub fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("the agent is not running")
    }

    /// Starts a server under this name, in a cgroup of its own; gives its port.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_server(&mut self, name: &str, spec: &Spec) -> Result<u16> {
        let launch = match spec.sdk {
            Sdk::Python(packages) => program(name, packages, "mcp_server.py")?
                .args(["--tokens", &spec.tokens.to_string(), "--ways", &spec.ways])
                .arg("--truth")
                .arg(self.logs.join(format!("{name}-truth.jsonl"))),
            Sdk::TypeScript(version) => node::program(name, Modules::Current, "mcp_transport.js")?.arg(version),
        };
        let launch =
            launch.args(&spec.args).cgroup(&self.tree.dir(&format!("shared/{name}"))?).envs(self.environment());
        let (process, port) = listening(launch, name, &self.logs)?;
        self.servers.push(process);
        self.wait_until_probed()?;
        Ok(port)
    }

    /// What programs are told of TLS. The database is spoken to in clear.
    fn environment(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        self.certificate.iter().flat_map(Certificate::environment).filter(|(key, _)| *key != "PGSSLMODE")
    }

    /// Starts a tenant's client with its own token.
    ///
    /// # Errors
    /// When it does not start.
    pub fn client(&self, tenant: &str, port: u16, workers: u32) -> Result<Client> {
        self.client_as(tenant, port, workers, token(tenant)?, "2025-11-25")
    }

    /// Starts a tenant's client with this token and revision of the protocol.
    ///
    /// # Errors
    /// When it does not start.
    pub fn client_as(&self, tenant: &str, port: u16, workers: u32, token: &str, revision: &str) -> Result<Client> {
        static CLIENTS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{tenant}-{}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let launch = program(&name, Packages::Current, "mcp_client.py")?
            .args([&port.to_string(), token, "--workers", &workers.to_string(), "--revision", revision])
            .cgroup(&self.tree.dir(&format!("tenants/{tenant}/agent"))?)
            .envs(self.environment());
        Ok(Client { talk: Talk::start(launch, &name, &self.logs)? })
    }

    /// Starts the load of the bench in acme's cgroup: so many sessions that call a tool, see `clients/mcp_bench.py`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn load(&self, port: u16, connections: u32) -> Result<Talk> {
        let launch = program("load", Packages::Current, "mcp_bench.py")?
            .args([&port.to_string(), token("acme")?, "--connections", &connections.to_string()])
            .cgroup(&self.tree.dir("tenants/acme/agent")?);
        Talk::start(launch, "load", &self.logs)
    }

    /// Waits until a server has said this.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_until_said(&self, server: &str, words: &str) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        while !fs::read_to_string(self.logs.join(format!("{server}.log"))).unwrap_or_default().contains(words) {
            ensure!(Instant::now() < until, "{server} does not say {words}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends the agent once it has seen everything; gives what it found and counted.
    ///
    /// # Errors
    /// When it does not end as it should, or has read nothing through TLS where that is spoken.
    pub fn outcome(&mut self) -> Result<Outcome> {
        std::thread::sleep(REST);
        let agent = self.agent.take().context("the agent is not running")?;
        if self.certificate.is_some() {
            agent.wait_until_tls_is_read()?;
        }
        let metrics = agent.metrics()?;
        fs::write(self.logs.join("metrics.txt"), metrics.told())?;
        Ok(Outcome { findings: agent.stop()?, metrics })
    }

    /// What there is to know, for a test that failed.
    #[must_use]
    pub fn report(&self) -> String {
        let findings: Vec<Finding> = self.agent.as_ref().and_then(|agent| agent.findings().ok()).unwrap_or_default();
        let lines: Vec<&str> = findings.iter().map(|f| f.line.as_str()).collect();
        format!("logs in {}\n{}", self.logs.display(), lines.join("\n"))
    }
}

/// What came of one step of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The step.
    pub op: String,
    /// HTTP status; 0 when the client gave up.
    pub status: u64,
    /// `result`, `tool_error`, a JSON-RPC error's code, or nothing.
    pub what: String,
    /// Its text.
    pub text: String,
}

impl Got {
    /// It was done.
    #[must_use]
    pub fn is_result(&self) -> bool {
        self.what == "result"
    }
}

/// Everything that came of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of each step.
    pub results: Vec<Got>,
    /// The sessions that the client is in.
    pub sessions: Vec<String>,
    /// The exports that it was given.
    pub exports: Vec<String>,
}

impl Seen {
    /// Results of calls.
    pub fn calls(&self) -> impl Iterator<Item = &Got> {
        self.results.iter().filter(|got| got.op == "call")
    }

    /// Whether there were calls, and all of them hold.
    pub fn all_calls(&self, holds: impl Fn(&Got) -> bool) -> bool {
        self.calls().next().is_some() && self.calls().all(holds)
    }

    /// The export that was given last.
    ///
    /// # Errors
    /// When there is none.
    pub fn export(&self) -> Result<&str> {
        self.exports.last().map(String::as_str).context("no export was given")
    }
}

/// A tenant's client that waits for orders.
#[derive(Debug)]
pub struct Client {
    talk: Talk,
}

impl Client {
    /// Gives an order; does not wait.
    ///
    /// # Errors
    /// When it has gone.
    pub fn order(&mut self, rounds: u32, steps: &[Value]) -> Result<()> {
        self.talk.order(&json!({ "rounds": rounds, "steps": steps }))
    }

    /// Waits until the last order is carried out.
    ///
    /// # Errors
    /// When it could not be.
    pub fn done(&mut self) -> Result<Seen> {
        let answer = self.talk.answer()?;
        let texts = |key: &str| -> Vec<String> {
            let all = answer.get(key).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let results = answer.get("results").and_then(Value::as_array).context("no results")?;
        let text = |got: &Value, key: &str| got.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let results = results
            .iter()
            .map(|got| Got {
                op: text(got, "op"),
                status: got.get("status").and_then(Value::as_u64).unwrap_or(0),
                what: text(got, "what"),
                text: text(got, "text"),
            })
            .collect();
        Ok(Seen { results, sessions: texts("sessions"), exports: texts("exports") })
    }

    /// [`Self::order`] and [`Self::done`].
    ///
    /// # Errors
    /// As these.
    pub fn ask(&mut self, rounds: u32, steps: &[Value]) -> Result<Seen> {
        self.order(rounds, steps)?;
        self.done()
    }
}

/// Opens a session.
#[must_use]
pub fn initialize() -> Value {
    json!({ "op": "initialize" })
}

/// Asks for the tools.
#[must_use]
pub fn list() -> Value {
    json!({ "op": "list" })
}

/// Calls a tool.
#[must_use]
pub fn call(tool: &str, arguments: Value) -> Value {
    json!({ "op": "call", "tool": tool, "arguments": arguments })
}

/// Asks for orders, with an id in it that nobody else sends.
#[must_use]
pub fn orders() -> Value {
    call("list_orders", json!({ "ref": "{new}" }))
}

/// A step with one more member.
#[must_use]
pub fn with(mut step: Value, key: &str, value: Value) -> Value {
    if let Some(members) = step.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
    step
}

/// Makes a key pair, and tokens signed with it, of one of the kinds of `clients/mcp_tokens.py`: the public key's file, and
/// each tenant's token.
///
/// # Errors
/// When they cannot be made.
pub fn signed_tokens(kind: &str, logs: &Path) -> Result<(PathBuf, Value)> {
    let key = logs.join("tokens.pem");
    let output = std::process::Command::new(python(Packages::Mcp126)?)
        .arg(super::clients_dir().join("mcp_tokens.py"))
        .args([kind.as_ref(), key.as_os_str()])
        .output()
        .context("cannot start mcp_tokens.py")?;
    if !output.status.success() {
        bail!("mcp_tokens.py failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok((key, serde_json::from_slice(&output.stdout)?))
}

/// Runs the agent's own program, as `leasewarden tools …`.
///
/// # Errors
/// When it fails.
pub fn leasewarden(binary: &Path, args: &[&std::ffi::OsStr]) -> Result<()> {
    let output = std::process::Command::new(binary).args(args).output().context("cannot start leasewarden")?;
    if !output.status.success() {
        bail!("{args:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
