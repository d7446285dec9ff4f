//! Containers by a real Docker of our own: private directories, a private socket, no network of its own. Its packages
//! are unpacked, not installed, and it lives in a namespace of processes and mounts that ends with it: nothing is left,
//! whatever happens.
//!
//! Containers see the machine's programs and files, read-only, so that what the lab runs in a cgroup runs in a container,
//! too.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::cgroup::Shadows;
use super::process::{Launch, Process};
use super::{ALLOW_MISSING, Scratch, clients_dir, net, target_dir};

/// The packages that a runtime is made of, as Debian names them.
pub const PACKAGES: [&str; 3] = ["containerd", "docker.io", "runc"];
/// The only image: a skeleton, into which the machine's directories are mounted.
const IMAGE: &str = "leasewarden-lab:1";
/// Directories of the machine that a container has its own of.
const OWN: [&str; 7] = ["boot", "dev", "lost+found", "proc", "run", "sys", "tmp"];

/// Starts a daemon with directories of its own in place of those that daemons share and create when they start first:
/// several start at once.
const PRIVATE: &str = "mkdir -p /etc/docker && mount -t tmpfs none /etc/docker && mount -t tmpfs none /run && \
                       exec \"$0\" \"$@\"";

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
    for program in ["usr/sbin/dockerd", "usr/bin/docker", "usr/bin/containerd", "usr/sbin/runc"] {
        if !dir.join(program).exists() {
            bail!(
                "no {}: `cargo xtask setup` unpacks it there (set {ALLOW_MISSING}=1 to go on without what needs it)",
                dir.join(program).display()
            );
        }
    }
    Ok(dir)
}

/// A running daemon.
#[derive(Debug)]
pub struct Docker {
    // The daemon ends before its directories are removed.
    _process: Process,
    _shadows: Shadows,
    _scratch: Scratch,
    programs: PathBuf,
    socket: PathBuf,
    /// What the containers' names begin with.
    prefix: String,
    /// Below the cgroup v2 root.
    cgroup_parent: String,
    /// Where a container may write.
    logs: PathBuf,
}

impl Docker {
    /// Starts it. Cgroups of its containers are below `parent`, a directory of the cgroup v2 hierarchy. `logs` is also
    /// where what runs inside may write.
    ///
    /// # Errors
    /// When its packages are not there, or it does not come up.
    pub fn start(parent: &Path, logs: &Path) -> Result<Self> {
        let programs = programs()?;
        let below = parent.strip_prefix(super::cgroup::mount()?).context("no cgroup v2 directory")?;
        let prefix = below.to_string_lossy().replace('/', "-");
        // Unix sockets' paths are short, so are those of Docker's files.
        let scratch = Scratch::new(&format!("docker-{prefix}"))?;
        let at = |name: &str| scratch.path().join(name);
        let socket = at("docker.sock");
        let path = std::env::join_paths(
            ["usr/sbin", "usr/bin"]
                .map(|dir| programs.join(dir))
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        )?;
        let mut process = Launch::new("dockerd", "unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", PRIVATE])
            .arg(programs.join("usr/sbin/dockerd"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2", "--log-level", "warn"])
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("docker.pid"))
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .env("PATH", path)
            // What it runs dies with its namespace: there is nothing to wait for.
            .stop_with(Signal::KILL)
            .start(logs)?;
        let cgroup_parent = format!("/{}/docker", below.display());
        let docker = |args: &[&str]| {
            Command::new(programs.join("usr/bin/docker"))
                .args(["-H", &format!("unix://{}", socket.display())])
                .args(args)
                .output()
        };
        net::wait_until(&mut process, "Docker", Duration::from_secs(60), || {
            docker(&["version"]).is_ok_and(|output| output.status.success())
        })?;
        let skeleton = skeleton(scratch.path())?;
        let output = docker(&["import", &skeleton.to_string_lossy(), IMAGE]).context("cannot start docker")?;
        if !output.status.success() {
            bail!("docker import failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self {
            _process: process,
            _shadows: Shadows::of(&below.to_string_lossy()),
            _scratch: scratch,
            programs,
            socket,
            prefix,
            cgroup_parent,
            logs: logs.to_owned(),
        })
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
        let mut run: Vec<OsString> = vec![self.programs.join("usr/bin/docker").into(), "-H".into()];
        run.push(format!("unix://{}", self.socket.display()).into());
        run.extend(["run", "--rm", "--interactive", "--network", "host", "--name"].map(OsString::from));
        run.push(self.name(name).into());
        run.extend(["--cgroup-parent".into(), self.cgroup_parent.clone().into()]);
        for (key, value) in labels {
            run.extend(["--label".into(), format!("{key}={value}").into()]);
        }
        // The directory of builds may lie in the machine's /tmp, which is not the container's.
        let readable = machine_dirs().into_iter().chain([target_dir(), clients_dir()].map(absolute));
        for (dir, how) in readable.map(|dir| (dir, "ro")).chain([(absolute(self.logs.clone()), "rw")]) {
            run.extend(["--volume".into(), format!("{dir}:{dir}:{how}", dir = dir.display()).into()]);
        }
        Container { run, nested: false }
    }
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
        all.push(IMAGE.into());
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
