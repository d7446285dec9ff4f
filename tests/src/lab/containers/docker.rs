//! Docker: a daemon in a namespace of processes and mounts that ends with it, containers included.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{Started, run};
use crate::lab::net;
use crate::lab::process::Launch;

/// Starts a daemon with directories of its own in place of those that daemons share and create when they start first:
/// several start at once.
const PRIVATE: &str = "mkdir -p /etc/docker && mount -t tmpfs none /etc/docker && mount -t tmpfs none /run && \
                       exec \"$0\" \"$@\"";

/// Starts the daemon; its files are in `scratch`.
pub(super) fn start(programs: &Path, scratch: &Path, logs: &Path) -> Result<Started> {
    let at = |name: &str| scratch.join(name);
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
    let host = format!("unix://{}", socket.display());
    let client = vec![programs.join("usr/bin/docker").into(), "-H".into(), host.into()];
    net::wait_until(&mut process, "Docker", Duration::from_secs(60), || {
        run(&client, &["version"]).is_ok_and(|output| output.status.success())
    })?;
    Ok(Started { process, socket, client, options: vec!["--rm".into()] })
}
