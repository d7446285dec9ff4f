//! Process 1 of a virtual machine that holds a kernel, this program and the agent: runs the first scenario in both
//! its forms, prints one verdict line on the console and switches the machine off.
//!
//! The same program is every other process too: `vm-init ROLE CGROUP ARGS…` enters the cgroup and plays the role.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};
use tests::lab::agent::{Finding, Metrics, parse_findings};
use tests::lab::net::{http_get, listens};
use tests::minipg::{At, Session, listen, pool, serve};

mod seal;

/// The agent's default address for metrics.
const METRICS_PORT: u16 = 9464;
/// Emulated machines are slow, and two share a core: generous.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often each tenant asks for its orders.
const ROUNDS: usize = 5;
/// What stands before a port where TLS is spoken.
const SEALED: &str = "tls:";
/// The configuration of an agent that reads TLS.
const TLS_CONFIG: &str = "/tmp/tls.yaml";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [role, cgroup, rest @ ..] = words.as_slice() {
        return match play(role, cgroup, rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{role}: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    if std::process::id() != 1 {
        eprintln!("vm-init is process 1 of a test machine; `cargo xtask vm` builds one");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let result = set_up().context("setting up").and_then(|()| scenario());
    let verdict = match &result {
        Ok(summary) => format!("ok: {summary}, {:.0} s in the guest", began.elapsed().as_secs_f32()),
        Err(error) => format!("FAILED: {error:#}").replace('\n', " | "),
    };
    println!("\nVERDICT {verdict}");
    let _ = std::io::stdout().flush();
    leave();
    ExitCode::FAILURE
}

/// Switches the machine off. What counts is the verdict on the console: a kernel that panics prints none.
fn leave() {
    let Err(error) = rustix::system::reboot(rustix::system::RebootCommand::PowerOff) else { return };
    println!("cannot switch the machine off: {error}");
}

fn set_up() -> Result<()> {
    // Those that a kernel may lack are for the agent to miss, and to say so.
    for (kind, target, required) in [
        ("proc", "/proc", true),
        ("sysfs", "/sys", true),
        ("devtmpfs", "/dev", true),
        ("tmpfs", "/tmp", true),
        ("tmpfs", "/run", true),
        ("cgroup2", "/sys/fs/cgroup", true),
        ("bpf", "/sys/fs/bpf", false),
        ("tracefs", "/sys/kernel/tracing", false),
        ("securityfs", "/sys/kernel/security", false),
    ] {
        let _ = fs::create_dir_all(target);
        let result = mount(kind, target, kind, MountFlags::empty(), None);
        // devtmpfs may have been mounted by the kernel itself.
        if let Err(error) = result
            && required
            && error != rustix::io::Errno::BUSY
        {
            bail!("cannot mount {kind} on {target}: {error}");
        }
    }
    loopback_up().context("cannot bring up the loopback device")?;
    for cgroup in ["tenants/acme", "tenants/globex", "shared/pooler", "shared/db"] {
        fs::create_dir_all(Path::new("/sys/fs/cgroup").join(cgroup))?;
    }
    Ok(())
}

/// Sets the loopback device up by netlink: `RTM_NEWLINK` with `IFF_UP`, as `ip link set lo up` does.
fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
    // The default protocol of this family, 0, is NETLINK_ROUTE.
    let route = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let mut request = Vec::new();
    request.extend(32u32.to_ne_bytes()); // length
    request.extend(16u16.to_ne_bytes()); // RTM_NEWLINK
    request.extend(5u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK
    request.extend([0; 8]); // sequence, port
    request.extend([0; 4]); // family, padding, device type
    request.extend(1i32.to_ne_bytes()); // the loopback device is always the first
    request.extend(1u32.to_ne_bytes()); // IFF_UP
    request.extend(1u32.to_ne_bytes()); // change that flag only
    send(&route, &request, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (n, _) = recv(&route, &mut answer, RecvFlags::empty())?;
    // NLMSG_ERROR carries an errno after its 16-byte header; 0 is the acknowledgement.
    let code = answer.get(..n).and_then(|a| a.get(16..20)).and_then(|c| c.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        other => bail!("the kernel answered {other:?}"),
    }
}

fn scenario() -> Result<String> {
    let doctor = Command::new("/leasewarden").arg("doctor").status().context("cannot start the agent")?;
    if !doctor.success() {
        bail!("`leasewarden doctor` says that `run` would not work ({doctor})");
    }
    let (violating, metrics) = one_sets("violating", ["5001", "5002"])?;
    is_found("in clear", &violating, &metrics)?;
    let (clean, metrics) = both_bind("clean", ["5003", "5004"])?;
    let bound = is_silent("in clear", &clean, &metrics)?;
    is_whole("in clear", bound, &metrics)?;
    let lost = metrics.sum("leasewarden_events_lost_total", &[]);
    let unix = over_unix_sockets(&metrics)?;
    let tls = through_tls()?;
    Ok(format!(
        "violating: {}; clean: silent, {bound} operations revalidated, {lost} events lost; {unix}; {tls}",
        names(&violating)
    ))
}

/// The violating twin: acme leaves its tenant on the server's connection, and globex comes and binds nothing.
fn one_sets(name: &str, at: [&str; 2]) -> Result<(Vec<Finding>, Metrics)> {
    watched(name, at, |pooler| {
        let mut acme = client("acme", pooler, "session")?;
        finish(&mut acme, "client of acme")?;
        let mut globex = client("globex", pooler, "bare")?;
        finish(&mut globex, "client of globex")
    })
}

/// The clean twin: both bind in each transaction.
fn both_bind(name: &str, at: [&str; 2]) -> Result<(Vec<Finding>, Metrics)> {
    watched(name, at, |pooler| {
        let mut acme = client("acme", pooler, "local")?;
        let mut globex = client("globex", pooler, "local")?;
        finish(&mut acme, "client of acme")?;
        finish(&mut globex, "client of globex")
    })
}

/// The violating twin's mistake is among the findings, with the right tenants.
fn is_found(how: &str, findings: &[Finding], metrics: &Metrics) -> Result<()> {
    let stale = findings.iter().find(|f| f.rule == "pool-stale-binding");
    let stale =
        stale.with_context(|| format!("{how} no pool-stale-binding among {}\n{}", names(findings), metrics.0))?;
    let tenants = (stale.used_for.as_deref(), stale.bound.as_deref());
    if tenants != (Some("globex"), Some("acme")) || stale.severity != "critical" {
        bail!("{how} pool-stale-binding is wrong: {}", stale.line);
    }
    Ok(())
}

/// The clean twin gave no finding; gives how many operations were seen to be bound.
fn is_silent(how: &str, findings: &[Finding], metrics: &Metrics) -> Result<f64> {
    if let Some(finding) = findings.iter().find(|f| f.severity != "info") {
        bail!("{how} a finding in the clean twin: {}", finding.line);
    }
    Ok(metrics.sum("leasewarden_operations_total", &[("kind", "data"), ("verdict", "revalidated")]))
}

/// Silence must not be blindness: the same operations were seen, and seen to be bound.
fn is_whole(how: &str, bound: f64, metrics: &Metrics) -> Result<()> {
    if bound < (2 * ROUNDS) as f64 {
        bail!("{how} only {bound} revalidated operations seen in the clean twin\n{}", metrics.0);
    }
    Ok(())
}

/// The same with everything encrypted by rustls, both sides of the pooler, and read by its secrets.
fn through_tls() -> Result<String> {
    fs::write(TLS_CONFIG, "version: 1\ntls: { enabled: true }\n")?;
    let (violating, metrics) = one_sets("tls-violating", ["tls:5011", "tls:5012"])?;
    is_found("through TLS", &violating, &metrics)?;
    let read = metrics.sum("leasewarden_tls_connections_total", &[("result", "read")]);
    let (clean, metrics) = both_bind("tls-clean", ["tls:5013", "tls:5014"])?;
    let bound = is_silent("through TLS", &clean, &metrics)?;
    is_whole("through TLS", bound, &metrics)?;
    Ok(format!("tls: {}, clean: silent, {bound} revalidated, {read} connections read", names(&violating)))
}

/// The same over Unix sockets, where the agent could attach to them: from 6.1 on it must.
fn over_unix_sockets(metrics: &Metrics) -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    if metrics.sum("leasewarden_hook_attached", &[("hook", "unix_sockets")]) < 1.0 {
        // Those of 64-bit ARM can attach programs to functions from 6.4 on.
        let too_old = release.starts_with("5.") || cfg!(target_arch = "aarch64") && release.starts_with("6.1.");
        if too_old {
            return Ok("unix sockets: not attached".to_owned());
        }
        bail!("the hook unix_sockets is not attached");
    }
    // A kernel that preempts passes a probe over now and then, the more the slower the machine: that is told as a loss, and
    // nothing may be concluded then.
    let missed =
        |metrics: &Metrics| metrics.sum("leasewarden_events_lost_total", &[("reason", "probe_passed_over")]) > 0.0;
    let how = "over Unix sockets";
    let mut n_missed = 0;
    let violating = loop {
        let at = [format!("/run/server-1-{n_missed}"), format!("/run/pooler-1-{n_missed}")];
        let (findings, metrics) = one_sets("unix-violating", [&at[0], &at[1]])?;
        if findings.iter().any(|f| f.rule == "pool-stale-binding") || n_missed == 3 || !missed(&metrics) {
            is_found(how, &findings, &metrics)?;
            break findings;
        }
        n_missed += 1;
    };
    let (clean, metrics) = both_bind("unix-clean", ["/run/server-2", "/run/pooler-2"])?;
    let bound = is_silent(how, &clean, &metrics)?;
    if !missed(&metrics) {
        is_whole(how, bound, &metrics)?;
    }
    let told = if n_missed > 0 || missed(&metrics) { ", reads missed and told" } else { "" };
    Ok(format!("unix sockets: {}, clean: silent, {bound} revalidated{told}", names(&violating)))
}

fn names(findings: &[Finding]) -> String {
    let mut names: Vec<&str> = findings.iter().map(|f| f.rule.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "nothing".into() } else { names.join(" ") }
}

/// Runs the agent around some traffic over a fresh server and pooler; gives what it found, and its last metrics.
fn watched(
    name: &str,
    [server_at, pooler_at]: [&str; 2],
    traffic: impl Fn(&str) -> Result<()>,
) -> Result<(Vec<Finding>, Metrics)> {
    let file = format!("/tmp/{name}.jsonl");
    let encrypted = server_at.starts_with(SEALED);
    let config = if encrypted { &["--config", TLS_CONFIG][..] } else { &[] };
    let agent = Command::new("/leasewarden").args(["run", "--findings", &file]).args(config).spawn()?;
    let mut agent = Running { child: agent };
    agent.wait_until("the agent is not ready", || http_get(METRICS_PORT, "/readyz").is_ok_and(|(s, _)| s == 200))?;
    let ready =
        |at: &str| at.strip_prefix(SEALED).unwrap_or(at).parse().map_or_else(|_| Path::new(at).exists(), listens);
    // The one program that plays every part, looked through before anybody speaks.
    let seen = if encrypted { Some(Running { child: role("idle", "shared/db", &["."])? }) } else { None };
    if encrypted {
        agent.wait_until("no probe for TLS is in place", || {
            let metrics = http_get(METRICS_PORT, "/metrics").map(|(_, body)| Metrics(body));
            metrics.is_ok_and(|m| m.sum("leasewarden_tls_probes", &[]) > 0.0)
        })?;
    }
    let mut server = Running { child: role("server", "shared/db", &[server_at])? };
    server.wait_until("the server does not listen", || ready(server_at))?;
    let mut pooler = Running { child: role("pooler", "shared/pooler", &[pooler_at, server_at])? };
    pooler.wait_until("the pooler does not listen", || ready(pooler_at))?;
    traffic(pooler_at)?;
    // Metrics are refreshed once a second.
    std::thread::sleep(Duration::from_millis(2500));
    let (_, body) = http_get(METRICS_PORT, "/metrics")?;
    drop((server, pooler, seen));
    agent.terminate()?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    Ok((parse_findings(&text)?, Metrics(body)))
}

fn role(name: &str, cgroup: &str, args: &[&str]) -> Result<Child> {
    Command::new("/init").arg(name).arg(cgroup).args(args).spawn().with_context(|| format!("cannot start {name}"))
}

fn client(tenant: &str, pooler: &str, mode: &str) -> Result<Child> {
    role("client", &format!("tenants/{tenant}"), &[pooler, tenant, mode])
}

fn finish(child: &mut Child, what: &str) -> Result<()> {
    let status = child.wait()?;
    if !status.success() {
        bail!("the {what} failed ({status})");
    }
    Ok(())
}

/// A child that is killed when it is dropped.
struct Running {
    child: Child,
}

impl Running {
    fn wait_until(&mut self, problem: &str, ready: impl Fn() -> bool) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{problem}: it ended ({status})");
            }
            if Instant::now() > until {
                bail!("{problem} within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// SIGTERM; demands status 0.
    fn terminate(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no pid")?;
        kill_process(pid, Signal::TERM)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the agent ended with {status} at SIGTERM"),
                None if Instant::now() > until => bail!("the agent does not end at SIGTERM"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Enters the cgroup, then plays a part; sockets made from now on belong to it.
fn play(role: &str, cgroup: &str, args: &[&str]) -> Result<()> {
    let procs = Path::new("/sys/fs/cgroup").join(cgroup).join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string()).with_context(|| format!("cannot enter {cgroup}"))?;
    let at = |text: &str| match text.strip_prefix(SEALED) {
        Some(port) => Ok(At::Sealed(port.parse()?, seal::SEAL)),
        None => text.parse::<At>().with_context(|| format!("neither a port nor a path: {text}")),
    };
    match (role, args) {
        ("server", [own]) => Ok(serve(&listen(&at(own)?)?)?),
        ("pooler", [own, server]) => Ok(pool(&listen(&at(own)?)?, &at(server)?)?),
        ("idle", _) => loop {
            std::thread::park();
        },
        ("client", [pooler, tenant, mode]) => tenants_work(&at(pooler)?, tenant, mode),
        _ => bail!("unknown role {role} {args:?}"),
    }
}

fn tenants_work(pooler: &At, tenant: &str, mode: &str) -> Result<()> {
    let mut session = Session::open(pooler, "app")?;
    if mode == "session" {
        session.query(&format!("SET app.tenant_id = '{tenant}'"))?;
    }
    for _ in 0..ROUNDS {
        if mode == "local" {
            session.query("BEGIN")?;
            session.query(&format!("SELECT set_config('app.tenant_id', '{tenant}', true)"))?;
        }
        session.query("SELECT item FROM orders")?;
        if mode == "local" {
            session.query("COMMIT")?;
        }
    }
    Ok(())
}
