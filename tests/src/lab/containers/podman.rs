//! Podman: no daemon, but a service that answers for it on a socket. The service and every command run in a namespace of
//! processes and mounts that ends with the service, containers included.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{Started, libraries_dir, system_libraries};
use crate::lab::net;
use crate::lab::process::Launch;

/// Starts the service with settings, libraries, locks and state of its own: what Podman starts itself, to clean up behind
/// a container, finds them by their usual places only. The shell collects what has ended.
const PRIVATE: &str = "mkdir -p /etc/containers && mount --bind \"$SETTINGS\" /etc/containers && \
                       mount -t overlay -o \"lowerdir=$LIBRARIES:$SYSTEM\" none \"$SYSTEM\" && \
                       mount -t tmpfs none /run && mount -t tmpfs none /dev/shm && \
                       \"$0\" \"$@\" & wait";

/// Limits that root without `CAP_SYS_RESOURCE` may set; Podman's own are higher. No `--rm`: Podman 4.3 looks for the exit
/// code of a container that is gone already for 20 seconds.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"];

/// Starts the service; its files are in `scratch`.
pub(super) fn start(programs: &Path, scratch: &Path, logs: &Path) -> Result<Started> {
    let usr = programs.join("usr");
    let at = |name: &str| scratch.join(name);
    let socket = at("podman.sock");
    let settings = at("settings");
    fs::create_dir_all(&settings)?;
    fs::copy(programs.join("etc/containers/policy.json"), settings.join("policy.json"))?;
    fs::write(
        settings.join("containers.conf"),
        format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             conmon_path = [\"{usr}/bin/conmon\"]\n[engine.runtimes]\nrunc = [\"{usr}/sbin/runc\"]\n\
             [containers]\nseccomp_profile = \"{usr}/share/containers/seccomp.json\"\n",
            usr = usr.display()
        ),
    )?;
    let mut podman: Vec<OsString> = vec![usr.join("bin/podman").into()];
    podman.extend(["--root".into(), at("data").into()]);
    podman.extend(
        ["--runroot", "/run/state", "--tmpdir", "/run/libpod", "--storage-driver", "overlay"].map(OsString::from),
    );

    let mut process = Launch::new("podman", "unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", PRIVATE])
        .args(&podman)
        .args(["system", "service", "--time", "0"])
        .arg(format!("unix://{}", socket.display()))
        .env("SETTINGS", settings)
        .env("LIBRARIES", libraries_dir())
        .env("SYSTEM", Path::new("/usr/lib").join(system_libraries()))
        .stop_with(Signal::KILL)
        .start(logs)?;
    net::wait_until(&mut process, "Podman", Duration::from_secs(60), || UnixStream::connect(&socket).is_ok())?;
    let pid = process.pid();
    let inside = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut client: Vec<OsString> =
        ["nsenter", "--mount", "--pid", "--target", inside.trim(), "--"].map(OsString::from).into();
    client.extend(podman);
    Ok(Started { process, socket, client, options: LIMITS.map(OsString::from).to_vec() })
}
