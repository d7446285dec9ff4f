//! The DaemonSet's pod on a kernel with nothing but cgroup v2: a kubelet without an API server, in QEMU.
//!
//! This machine may have version 1 beside it, as many have; a guest is the sure way to a pure one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::charts;
use super::super::image::{self, Image};
use super::super::vm::{self, Machine};
use super::kubernetes::Programs;
use super::lab;
use crate::cpio::Cpio;
use crate::kernels::{self, MATRIX};
use crate::{apt, paths, sh};

/// The long-term series of Debian's stable release.
const KERNEL: &str = "6.12";
/// Emulated without KVM; what is on the disk of others is in its memory.
const MACHINE: Machine = Machine { memory_mib: 3072, processors: 2, budget: Duration::from_secs(600) };
/// Of this machine.
const OWN: [&str; 20] = [
    "bash",
    "cat",
    "chroot",
    "cp",
    "curl",
    "cut",
    "grep",
    "ip",
    "mkdir",
    "mount",
    "nice",
    "pgrep",
    "sed",
    "sleep",
    "switch_root",
    "tail",
    "tr",
    "umount",
    "uname",
    "env",
];
/// Of the node's packages.
const NODE: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];

/// Boots the guest; gives what it says.
///
/// # Errors
/// When the pod does not become ready, or anything about it is not as it should be.
pub(crate) fn play(programs: &Programs, agent: &Path, name: &str) -> Result<()> {
    if paths::find_program("qemu-system-x86_64").is_none() {
        apt::install(&["qemu-system-x86"])?;
    }
    let series = MATRIX.iter().find(|series| series.name == KERNEL).context("the matrix has no such kernel")?;
    let kernel = kernels::fetch(series, kernels::Arch::Amd64)?;
    let work = paths::lab().join("cluster/guest");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(work.join("images"))?;
    sh::quiet(charts::script("guest_pod.py")?.arg(work.join("pod.json")).arg(work.join("config.yaml")))?;
    image::write(agent, name, &work.join("images/leasewarden.tar")).context("cannot pack the agent")?;
    write_pause(&work)?;
    let disk = work.join("disk.cpio");
    write_disk(&disk, &work, programs)?;
    sh::step(&format!("a guest with Linux {KERNEL} and cgroup v2 alone, emulated: two to four minutes"));
    let console = work.join("console.log");
    let verdict = vm::boot(&kernel, &disk, &console, &MACHINE);
    fs::remove_file(disk)?;
    fs::remove_dir_all(work.join("images"))?;
    println!("    {}", verdict.with_context(|| format!("console: {}", console.display()))?);
    Ok(())
}

fn write_pause(work: &Path) -> Result<()> {
    let pause: Image = lab::pause_image(work)?;
    pause.write(fs::File::create(work.join("images/pause.tar"))?).map(drop)
}

/// The initial RAM disk: programs with their libraries, where they are on this machine, and the lab's files.
fn write_disk(disk: &Path, work: &Path, programs: &Programs) -> Result<()> {
    let lab = paths::root().join("deploy/lab");
    let mut files: Vec<(String, PathBuf)> = vec![
        ("init".to_owned(), lab.join("guest.sh")),
        ("lab/guest.sh".to_owned(), lab.join("guest.sh")),
        ("lab/containerd.toml".to_owned(), lab.join("containerd.toml")),
        ("lab/kubelet.yaml".to_owned(), lab.join("kubelet.yaml")),
        ("lab/pod.json".to_owned(), work.join("pod.json")),
        ("lab/agent/config.yaml".to_owned(), work.join("config.yaml")),
        ("images/leasewarden.tar".to_owned(), work.join("images/leasewarden.tar")),
        ("images/pause.tar".to_owned(), work.join("images/pause.tar")),
        ("usr/bin/kubelet".to_owned(), programs.bin.join("kubelet")),
    ];
    let mut libraries = BTreeSet::new();
    for name in OWN {
        let program = paths::find_program(name).with_context(|| format!("this machine has no {name}"))?;
        libraries.extend(vm::shared_libraries(&program)?);
        files.push((format!("usr/bin/{name}"), program));
    }
    for name in NODE {
        let program =
            ["bin", "sbin"].iter().map(|dir| programs.root.join("usr").join(dir).join(name)).find(|p| p.exists());
        let program = program.with_context(|| format!("the node's packages have no {name}"))?;
        libraries.extend(vm::shared_libraries(&program)?);
        files.push((format!("usr/bin/{name}"), program));
    }
    files.push(("bin/bash".to_owned(), paths::find_program("bash").context("this machine has no bash")?));
    for library in libraries {
        let name = library.strip_prefix("/").unwrap_or(&library).to_str().context("odd library name")?.to_owned();
        files.push((name, library));
    }
    let folders: BTreeSet<&Path> = files
        .iter()
        .flat_map(|(name, _)| Path::new(name).ancestors().skip(1))
        .filter(|p| *p != Path::new(""))
        .collect();
    let mut cpio = Cpio::new(std::io::BufWriter::new(fs::File::create(disk)?));
    for folder in folders.iter().filter_map(|folder| folder.to_str()).chain(["dev"]) {
        cpio.dir(folder)?;
    }
    for (name, from) in &files {
        cpio.file(name, from).with_context(|| format!("cannot pack {}", from.display()))?;
    }
    cpio.finish()?;
    Ok(())
}
