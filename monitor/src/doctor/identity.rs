//! What tells tenants on this machine: sockets of container runtimes, and Kubernetes.

use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Check, State};
use crate::identity::{CRI_SOCKETS, DOCKER_SOCKETS, KubernetesConfig, Sockets, kubernetes};

/// What is lost where nobody tells labels.
const LOST: &str = "labels of containers: tenants come from cgroup paths and `identity.static` alone";

pub(super) fn checks() -> [Check; 3] {
    [sockets("docker", "Docker or Podman", &DOCKER_SOCKETS), sockets("cri", "a CRI runtime", &CRI_SOCKETS), cluster()]
}

/// Whether the usual sockets are there, and answer.
fn sockets(name: &'static str, what: &str, usual: &[&str]) -> Check {
    let (paths, _) = Sockets::Auto.paths(usual);
    if paths.is_empty() {
        return Check::new(name, State::Info, format!("no socket of {what} at the usual places"));
    }
    let tried: Vec<(String, Option<String>)> = paths.iter().map(|p| (p.display().to_string(), closed(p))).collect();
    let found: Vec<String> = tried
        .iter()
        .map(|(path, problem)| match problem {
            None => path.clone(),
            Some(problem) => format!("{path}: {problem}"),
        })
        .collect();
    let found = found.join("; ");
    if tried.iter().all(|(_, problem)| problem.is_none()) {
        return Check::new(name, State::Ok, found);
    }
    Check::new(name, State::Limited, found)
        .lost(LOST)
        .remedy(format!("start the runtime, let the agent read the socket, or set `identity.containers.{name}: off`"))
}

/// Why nobody answers at a socket.
fn closed(path: &Path) -> Option<String> {
    UnixStream::connect(path).err().map(|e| e.to_string())
}

fn cluster() -> Check {
    let config = KubernetesConfig::default();
    if cfg!(not(feature = "kubernetes")) {
        return Check::new("kubernetes", State::Info, "this build has no Kubernetes: no API server is asked");
    }
    if !kubernetes::wanted(&config) {
        return Check::new("kubernetes", State::Info, "not in a pod with a service account: no API server is asked");
    }
    match kubernetes::reach(&config) {
        Ok(how) => Check::new("kubernetes", State::Ok, format!("{how}; whether it may read pods is told by `/readyz`")),
        Err(why) => Check::new("kubernetes", State::Limited, why)
            .lost("tenants by the labels of pods and namespaces")
            .remedy("see docs/configuration.md, Kubernetes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_sockets_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (open, shut) = (path("open.sock"), path("shut.sock"));
        let _listener = std::os::unix::net::UnixListener::bind(&open).unwrap();
        assert_eq!(sockets("docker", "Docker", &[&shut]).state, State::Info, "nothing there");
        drop(std::os::unix::net::UnixListener::bind(&shut).unwrap());
        assert_eq!(sockets("docker", "Docker", &[&open]).state, State::Ok);
        let both = sockets("docker", "Docker", &[&open, &shut]);
        assert_eq!(both.state, State::Limited);
        assert!(both.found.contains("shut.sock: Connection refused"), "{}", both.found);
        assert!(both.remedy.unwrap().contains("identity.containers.docker"));
    }
}
