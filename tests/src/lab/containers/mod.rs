//! Containers by a runtime of our own, Docker or Podman: private directories, a private socket, no network of its own. Its
//! packages are unpacked, not installed, and nothing of it is left, whatever happens.
//!
//! Containers see the machine's programs and files, read-only, so that what the lab runs in a cgroup runs in a container,
//! too.

mod docker;
mod podman;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::cgroup::Shadows;
use super::process::Process;
use super::{ALLOW_MISSING, Scratch, clients_dir, target_dir};

/// The packages that both runtimes are made of, as Debian names them.
pub const PACKAGES: [&str; 7] = [
    "conmon",
    "containerd",
    "docker.io",
    "golang-github-containers-common",
    "golang-github-containers-image",
    "podman",
    "runc",
];
/// Libraries that Podman alone needs, as Debian 12 names them; where they go by other names, the machine has to have them.
pub const LIBRARIES: [&str; 3] = ["libassuan0", "libgpgme11", "libsubid4"];
/// Directories of the machine that a container has its own of.
const OWN: [&str; 7] = ["boot", "dev", "lost+found", "proc", "run", "sys", "tmp"];

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Docker, with a daemon.
    Docker,
    /// Podman, with a service that answers for it.
    Podman,
}

impl Engine {
    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }

    /// The only image, a skeleton into which the machine's directories are mounted, as this runtime names it.
    fn image(self) -> &'static str {
        match self {
            Self::Docker => "leasewarden-lab:1",
            Self::Podman => "localhost/leasewarden-lab:1",
        }
    }
}

/// Where the packages are unpacked.
#[must_use]
pub fn packages_dir() -> PathBuf {
    target_dir().join("lab/containers")
}

/// Whether they are.
///
/// # Errors
/// What is missing, and what to do.
pub fn programs() -> Result<PathBuf> {
    let dir = packages_dir();
    let all = ["sbin/dockerd", "bin/docker", "bin/containerd", "sbin/runc", "bin/podman", "bin/conmon"];
    for program in all {
        let path = dir.join("usr").join(program);
        if !path.exists() {
            bail!(
                "no {}: `cargo xtask setup` unpacks it there (set {ALLOW_MISSING}=1 to go on without what needs it)",
                path.display()
            );
        }
    }
    Ok(dir)
}

/// Where the libraries are among the unpacked packages.
#[must_use]
pub fn libraries_dir() -> PathBuf {
    packages_dir().join("usr/lib").join(system_libraries())
}

/// What Debian calls the directory of libraries, below `/usr/lib`.
fn system_libraries() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// How a runtime was started.
struct Started {
    /// Answers for it, and is what its directories live in.
    process: Process,
    socket: PathBuf,
    /// What its command line begins with.
    client: Vec<OsString>,
    /// What it needs to be told of every container.
    options: Vec<OsString>,
}

/// A running container runtime.
#[derive(Debug)]
pub struct Runtime {
    engine: Engine,
    // It ends before its directories are removed.
    _process: Process,
    _shadows: Shadows,
    scratch: Scratch,
    socket: PathBuf,
    client: Vec<OsString>,
    options: Vec<OsString>,
    /// What the containers' names begin with.
    prefix: String,
    /// Below the cgroup v2 root.
    cgroup_parent: String,
    /// Where a container may write.
    logs: PathBuf,
}

impl Runtime {
    /// Starts it. Cgroups of its containers are below `parent`, a directory of the cgroup v2 hierarchy. `logs` is also
    /// where what runs inside may write.
    ///
    /// # Errors
    /// When its packages are not there, or it does not come up.
    pub fn start(engine: Engine, parent: &Path, logs: &Path) -> Result<Self> {
        let programs = programs()?;
        let below = parent.strip_prefix(super::cgroup::mount()?).context("no cgroup v2 directory")?;
        let prefix = below.to_string_lossy().replace('/', "-");
        // Unix sockets' paths are short, so are those of a runtime's files.
        let scratch = Scratch::new(&format!("containers-{prefix}"))?;
        let Started { process, socket, client, options } = match engine {
            Engine::Docker => docker::start(&programs, scratch.path(), logs)?,
            Engine::Podman => podman::start(&programs, scratch.path(), logs)?,
        };
        let runtime = Self {
            engine,
            _process: process,
            _shadows: Shadows::of(&below.to_string_lossy()),
            socket,
            client,
            options,
            prefix,
            cgroup_parent: format!("/{}/{}", below.display(), engine.name().to_lowercase()),
            logs: logs.to_owned(),
            scratch,
        };
        let skeleton = skeleton(runtime.scratch.path())?;
        let output = run(&runtime.client, &["import", &skeleton.to_string_lossy(), engine.image()])?;
        if !output.status.success() {
            bail!("{} import failed: {}", engine.name(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(runtime)
    }

    /// The socket of its API.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The name that a container made by [`Self::container`] has.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A container to be started, with these labels.
    #[must_use]
    pub fn container(&self, name: &str, labels: &[(&str, &str)]) -> Container {
        let mut run = self.client.clone();
        run.extend(["run", "--interactive", "--network", "host", "--name"].map(OsString::from));
        run.push(self.name(name).into());
        run.extend(["--cgroup-parent".into(), self.cgroup_parent.clone().into()]);
        run.extend(self.options.iter().cloned());
        for (key, value) in labels {
            run.extend(["--label".into(), format!("{key}={value}").into()]);
        }
        // The directory of builds may lie in the machine's /tmp, which is not the container's.
        let readable = machine_dirs().into_iter().chain([target_dir(), clients_dir()].map(absolute));
        for (dir, how) in readable.map(|dir| (dir, "ro")).chain([(absolute(self.logs.clone()), "rw")]) {
            run.extend(["--volume".into(), format!("{dir}:{dir}:{how}", dir = dir.display()).into()]);
        }
        Container { run, image: self.engine.image(), nested: false }
    }
}

/// A command of the runtime, to its end.
fn run(client: &[OsString], args: &[&str]) -> Result<Output> {
    let (program, first) = client.split_first().context("no command")?;
    Command::new(program).args(first).args(args).output().with_context(|| format!("cannot start {}", program.display()))
}

fn absolute(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or(path)
}

/// The machine's own directories that a container sees.
fn machine_dirs() -> Vec<PathBuf> {
    let entries = fs::read_dir("/").into_iter().flatten().flatten();
    let own = |entry: &fs::DirEntry| OWN.iter().any(|name| entry.file_name() == *name);
    entries.filter(|e| !own(e) && e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

/// An archive of what an image needs to have the machine's directories mounted into it: their links.
fn skeleton(scratch: &Path) -> Result<PathBuf> {
    let dir = scratch.join("skeleton");
    for name in OWN {
        fs::create_dir_all(dir.join(name))?;
    }
    for entry in fs::read_dir("/")?.flatten() {
        if entry.file_type()?.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, dir.join(entry.file_name()))?;
        }
    }
    let archive = scratch.join("skeleton.tar");
    let output = Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&archive).arg(".").output()?;
    if !output.status.success() {
        bail!("tar failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(archive)
}

/// A container to be started.
#[derive(Clone, Debug)]
pub struct Container {
    run: Vec<OsString>,
    image: &'static str,
    nested: bool,
}

impl Container {
    /// What runs inside moves into a cgroup below the container's own first, as systemd in a container does.
    ///
    /// # Errors
    /// When cgroup v2 is not mounted.
    pub fn nested(mut self) -> Result<Self> {
        let mount = super::cgroup::mount()?;
        self.run.extend(["--volume".into(), format!("{dir}:{dir}:rw", dir = mount.display()).into()]);
        self.nested = true;
        Ok(self)
    }

    /// The command that runs `program` inside.
    pub(super) fn command(&self, envs: &[(OsString, OsString)], program: &[OsString]) -> Result<Vec<OsString>> {
        let mut all = self.run.clone();
        for (key, value) in envs {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            all.extend(["--env".into(), pair]);
        }
        all.push(self.image.into());
        if self.nested {
            let script = format!(
                "d={}$(sed -n 's/^0:://p' /proc/self/cgroup)/inner && mkdir -p $d && echo $$ > $d/cgroup.procs && exec \"$@\"",
                super::cgroup::mount()?.display()
            );
            all.extend(["sh".into(), "-c".into(), script.into(), "sh".into()]);
        }
        all.extend(program.iter().cloned());
        Ok(all)
    }
}

/// Where a program of the lab lives.
#[derive(Clone, Debug)]
pub enum Home {
    /// In this cgroup.
    Cgroup(PathBuf),
    /// In a container of its own.
    Container(Box<Container>),
}

impl From<&Path> for Home {
    fn from(cgroup: &Path) -> Self {
        Self::Cgroup(cgroup.to_owned())
    }
}

impl From<&PathBuf> for Home {
    fn from(cgroup: &PathBuf) -> Self {
        Self::Cgroup(cgroup.clone())
    }
}

impl From<Container> for Home {
    fn from(container: Container) -> Self {
        Self::Container(Box::new(container))
    }
}
