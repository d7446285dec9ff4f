//! A node, or an API server alone, in namespaces of its own; the driver that tests it; and the end of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::super::image::{Entry, Image};
use super::kubernetes::Programs;
use crate::{paths, sh};

/// A node that is not ready by then never will be.
const START: Duration = Duration::from_secs(400);
/// The longest the driver may take.
const DRIVE: Duration = Duration::from_secs(900);

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Control plane, kubelet, containerd.
    Node,
    /// etcd, API server and controllers.
    Api,
}

/// Its files, and, once started, its first process.
pub(crate) struct Lab {
    kind: Kind,
    work: PathBuf,
    bin: PathBuf,
    root: PathBuf,
    child: Option<Child>,
}

impl Lab {
    /// Makes its directory and the images of the tenants' programs.
    ///
    /// # Errors
    /// When another cluster is at work on this machine, or a file cannot be written.
    pub(crate) fn prepare(kind: Kind, programs: &Programs) -> Result<Self> {
        if kind == Kind::Node && !processes_of_pods().is_empty() {
            bail!("this machine already runs pods (there are processes in /kubepods): no second node beside them");
        }
        let work = paths::lab().join("cluster").join(if kind == Kind::Node { "node" } else { "api" });
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(work.join("images"))?;
        let lab = Self { kind, work, bin: programs.bin.clone(), root: programs.root.clone(), child: None };
        if kind == Kind::Node {
            lab.write_images()?;
        }
        Ok(lab)
    }

    /// Archives in here are loaded by the node when it starts.
    pub(crate) fn images(&self) -> PathBuf {
        self.work.join("images")
    }

    /// Images without programs: the pods mount the machine's `/usr` read-only, so nothing has to be downloaded.
    fn write_images(&self) -> Result<()> {
        let write = |image: &Image, name: &str| -> Result<()> {
            image.write(fs::File::create(self.images().join(format!("{name}.tar")))?).map(drop)
        };
        write(&base("programs", &["/bin/bash"]), "programs")?;
        write(&pause_image(&self.work)?, "pause")
    }

    /// Starts it and waits until it is ready; what it says is shown.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) fn start(mut self) -> Result<Self> {
        let script = paths::root().join("deploy/lab").join(if self.kind == Kind::Node { "node.sh" } else { "api.sh" });
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "bash"])
            .arg(script)
            .env("WORK", &self.work)
            .env("BIN", &self.bin)
            .env("ROOT", &self.root)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start unshare")?;
        self.child = Some(child);
        let until = Instant::now() + START;
        while !self.work.join("ready").exists() {
            if let Some(status) = self.child.as_mut().context("no child")?.try_wait()? {
                bail!("it ended before it was ready ({status}); logs in {}", self.work.join("log").display());
            }
            if Instant::now() > until {
                bail!("not ready after {} s; logs in {}", START.as_secs(), self.work.join("log").display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(self)
    }

    /// Runs the driver in the lab's network.
    ///
    /// # Errors
    /// When a test fails, or the driver takes too long.
    pub(crate) fn drive(&self, script: Command, agent: &Path) -> Result<()> {
        let child = self.child.as_ref().context("not started")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", child.id())).arg("--").arg(script.get_program());
        command.args(script.get_args()).arg(if self.kind == Kind::Node { "node" } else { "api" });
        for (key, value) in script.get_envs() {
            if let Some(value) = value {
                command.env(key, value);
            }
        }
        let mut driver = command
            .env("KUBECONFIG", self.work.join("pki/admin.kubeconfig"))
            .env("WORK", &self.work)
            .env("BIN", &self.bin)
            .env("AGENT", agent)
            .current_dir(paths::root())
            // The Helm engine's own chatter.
            .stderr(fs::File::create(self.work.join("log/driver.err"))?)
            .spawn()
            .context("cannot start nsenter")?;
        let until = Instant::now() + DRIVE;
        loop {
            if let Some(status) = driver.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("the tests failed ({status}); what they said: {}", self.work.join("log/driver.err").display());
            }
            if Instant::now() > until {
                driver.kill()?;
                driver.wait()?;
                bail!("the tests took longer than {} s", DRIVE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command line that enters the lab's network.
    pub(crate) fn enter(&self) -> String {
        let id = self.child.as_ref().map_or(0, Child::id);
        let config = self.work.join("pki/admin.kubeconfig");
        format!(
            "KUBECONFIG={} nsenter --net=/proc/{id}/ns/net {} get pods -A",
            config.display(),
            self.bin.join("kubectl").display()
        )
    }

    /// Ends everything in it and removes what it leaves behind, except the logs.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(crate) fn end(mut self) -> Result<()> {
        sh::step("cleaning up");
        self.stop();
        Ok(())
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // `--kill-child`: the first process of the namespace goes with it, and the kernel ends all others.
        let _ = child.kill();
        let _ = child.wait();
        if self.kind == Kind::Node {
            // Their processes are gone within moments; the directories of version 1 and 2 stay.
            for _ in 0..50 {
                if processes_of_pods().is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            for dir in pod_cgroups() {
                remove_cgroup(&dir);
            }
        }
        for dir in ["data", "node", "layer", "images"] {
            let _ = fs::remove_dir_all(self.work.join(dir));
        }
        let _ = fs::remove_file(self.work.join("ready"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What pods' sandboxes run.
///
/// # Errors
/// When its program cannot be compiled.
pub(crate) fn pause_image(work: &Path) -> Result<Image> {
    let mut pause = base("pause", &["/pause"]);
    pause.entries.push(Entry::program("pause", &pause_program(work)?)?);
    Ok(pause)
}

fn base(name: &str, entrypoint: &[&str]) -> Image {
    let mut entries: Vec<Entry> =
        ["bin", "lib", "lib64", "sbin"].iter().map(|dir| Entry::link(dir, &format!("usr/{dir}"))).collect();
    entries.extend(["usr", "etc", "data"].map(|dir| Entry::dir(dir, 0o755)));
    entries.push(Entry::dir("tmp", 0o1777));
    entries.push(Entry::text("etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:999:999::/tmp:/bin/sh\n"));
    entries.push(Entry::text("etc/group", "root:x:0:\napp:x:999:\n"));
    Image {
        name: format!("leasewarden.io/lab/{name}:1"),
        entrypoint: entrypoint.iter().map(|s| (*s).to_owned()).collect(),
        command: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        created: "1970-01-01T00:00:00Z".to_owned(),
        entries,
    }
}

/// The smallest program that does nothing but wait, for pods' sandboxes: static, because the image has no libraries.
fn pause_program(work: &Path) -> Result<PathBuf> {
    let source = work.join("pause.rs");
    fs::write(&source, "fn main() { loop { std::thread::sleep(std::time::Duration::from_secs(3600)) } }")?;
    let program = work.join("pause");
    sh::quiet(
        Command::new("rustc")
            .args(["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "--edition", "2024", "-o"])
            .arg(&program)
            .arg(source),
    )?;
    Ok(program)
}

/// The kubelet's directory in every mounted hierarchy.
fn pod_cgroups() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
            (kind == "cgroup" || kind == "cgroup2").then(|| Path::new(at).join("kubepods"))
        })
        .filter(|dir| dir.is_dir())
        .collect()
}

fn processes_of_pods() -> Vec<String> {
    pod_cgroups().iter().flat_map(|dir| processes(dir)).collect()
}

fn processes(dir: &Path) -> Vec<String> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<String> = own.lines().map(str::to_owned).collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// Children first: a cgroup with children cannot be removed. Its files are the kernel's.
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
