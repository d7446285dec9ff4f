//! Kubernetes itself: built once from Debian's source package, with the packages a node needs beside it, unpacked and not
//! installed. Both are kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::PrivateApt;
use crate::{paths, sh};

/// The release that still has Kubernetes' servers as a source package.
const SUITE: &str = "bookworm";
const VERSION: &str = "1.20.2";
const PROGRAMS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "kube-proxy"];
/// What a node is made of, and the libraries of it that a small system may not have.
const PACKAGES: [&str; 16] = [
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "etcd-server",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libseccomp2",
    "libwrap0",
    "libxtables12",
    "runc",
    "socat",
];
/// Programs of the machine that the build or the node needs.
const NEEDED: [(&str, &str); 6] = [
    ("curl", "curl"),
    ("gcc", "build-essential"),
    ("ip", "iproute2"),
    ("make", "build-essential"),
    ("openssl", "openssl"),
    ("unshare", "util-linux"),
];

/// Where everything is.
pub(crate) struct Programs {
    /// Kubernetes' own programs.
    pub(crate) bin: PathBuf,
    /// The node's packages, unpacked.
    pub(crate) root: PathBuf,
}

/// Builds and unpacks what is not in the cache.
///
/// # Errors
/// When a package cannot be had or the build fails.
pub(crate) fn ensure() -> Result<Programs> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| paths::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        crate::apt::install(&missing)?;
    }
    let cache = paths::cache().join("k8s");
    let programs = Programs { bin: cache.join("bin"), root: cache.join("root") };
    if !PROGRAMS.iter().all(|name| programs.bin.join(name).exists()) {
        build(&cache, &programs.bin).context("cannot build Kubernetes")?;
    }
    if !programs.root.join(".complete").exists() {
        unpack(&programs.root).context("cannot unpack the node's packages")?;
    }
    Ok(programs)
}

fn unpack(root: &Path) -> Result<()> {
    sh::step("unpacking the node's packages: containerd, runc, network plugins, etcd");
    let apt = PrivateApt::open(&[SUITE], false)?;
    let _ = fs::remove_dir_all(root);
    for package in PACKAGES {
        apt.unpack(package, root)?;
    }
    merge_usr(root)?;
    // What Debian's alternatives would link.
    for name in ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"] {
        let link = root.join("usr/sbin").join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("xtables-nft-multi", link)?;
    }
    fs::write(root.join(".complete"), "")?;
    Ok(())
}

/// Moves `/bin`, `/sbin` and `/lib` below `/usr`: the tree is laid over the machine's, where those are links.
fn merge_usr(root: &Path) -> Result<()> {
    for dir in ["bin", "lib", "sbin"] {
        let from = root.join(dir);
        if from.is_dir() && !from.is_symlink() {
            sh::quiet(Command::new("cp").arg("-a").arg(from.join(".")).arg(root.join("usr").join(dir)))?;
            fs::remove_dir_all(from)?;
        }
    }
    // Documentation would only hide the machine's own.
    let _ = fs::remove_dir_all(root.join("usr/share"));
    let _ = fs::remove_dir_all(root.join("etc"));
    Ok(())
}

fn build(cache: &Path, bin: &Path) -> Result<()> {
    sh::step(&format!(
        "building Kubernetes {VERSION} from Debian's source package: once, 5 to 15 minutes, 4 GB meanwhile"
    ));
    let work = cache.join("build");
    let _ = fs::remove_dir_all(&work);
    let tools = work.join("tools");
    let apt = PrivateApt::open_with_source(SUITE)?;
    for package in ["golang-1.19-go", "golang-1.19-src", "rsync"] {
        apt.unpack(package, &tools)?;
    }
    let source = work.join("kubernetes");
    fs::create_dir_all(&source)?;
    let archive = apt.source("kubernetes", &work.join("download"))?;
    sh::quiet(Command::new("tar").arg("xf").arg(archive).arg("-C").arg(&source).args(["--strip-components", "1"]))?;
    let gopath = source.join(".go/src/k8s.io");
    fs::create_dir_all(&gopath)?;
    std::os::unix::fs::symlink("../../../..", gopath.join("kubernetes"))?;
    let goroot = tools.join("usr/lib/go-1.19");
    let path = std::env::join_paths(
        [goroot.join("bin"), tools.join("usr/bin")]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let what: Vec<String> = PROGRAMS.iter().map(|name| format!("cmd/{name}")).collect();
    sh::quiet(
        Command::new("nice")
            .arg("make")
            .arg(format!("WHAT={}", what.join(" ")))
            .arg(format!("KUBE_GIT_VERSION=v{VERSION}"))
            .args(["FORCE_HOST_GO=y", "KUBE_BUILD_PLATFORMS=linux/amd64", "GOLDFLAGS=-w -s"])
            .current_dir(&source)
            .env("GOROOT", &goroot)
            .env("GOPATH", source.join(".go"))
            .env("GOCACHE", work.join("gocache"))
            .env("HOME", &work)
            .env("PATH", path)
            .env("CGO_ENABLED", "0")
            .env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local")
            .env_remove("GOFLAGS"),
    )?;
    fs::create_dir_all(bin)?;
    let made = source.join("_output/local/bin/linux/amd64");
    for name in PROGRAMS {
        let from = made.join(name);
        if !from.exists() {
            bail!("the build made no {}", from.display());
        }
        // By another name first: what has its own name is whole.
        let half = bin.join(format!("{name}.half"));
        fs::copy(&from, &half)?;
        fs::rename(half, bin.join(name))?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}
