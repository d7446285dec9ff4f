//! What a container's cgroup path tells: runtime, container id, the pod's uid.
//!
//! Paths are made by the kubelet and the runtimes' cgroup drivers, each in its own way; `systemd` writes scopes and
//! slices (dashes nest, so a uid's are underscores), `cgroupfs` plain directories.

use super::path::{last_segment, prefixes};

/// Who made a container's cgroup, as far as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// containerd, by its CRI plugin or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Docker.
    Docker,
    /// Podman and what else uses libpod.
    Podman,
    /// A bare id: cgroupfs drivers name no runtime.
    Unnamed,
}

/// A container, by the directory on a path that is its outermost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPath<'p> {
    /// The container's directory; what is nested below belongs to it.
    pub cgroup: &'p str,
    /// The runtime's id: 64 hexadecimal digits, or at least 12 where a name before it says what it is.
    pub id: &'p str,
    /// Who made it.
    pub runtime: Runtime,
    /// Uid of the Kubernetes pod, with dashes (a static pod's, which is a hash, without).
    pub pod_uid: Option<String>,
}

/// Digits of a container id that container tools show.
pub(super) const SHORT_ID: usize = 12;

/// Length of a full container id, in hexadecimal digits.
const FULL_ID: usize = 64;

/// What runtimes write before the id in a directory's name. `libpod-conmon-` and `crio-conmon-`, the monitors beside
/// containers, are none: what follows the prefix is no id.
const PREFIXES: [(&str, Runtime); 7] = [
    ("docker-", Runtime::Docker),
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("crio-", Runtime::CriO),
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
    // containerd with the cgroupfs driver below a kubelet with the systemd driver: `<slice>:cri-containerd:<id>`.
    ("cri-containerd:", Runtime::Containerd),
];

/// The innermost container on `path`; `None`: there is none.
pub fn container(path: &str) -> Option<ContainerPath<'_>> {
    let (cgroup, id, runtime) =
        prefixes(path).filter_map(|p| container_name(last_segment(p)).map(|(id, r)| (p, id, r))).last()?;
    let above = cgroup.rsplit('/').find_map(pod_uid);
    let runtime = match runtime {
        Runtime::Unnamed if cgroup.strip_suffix(id).is_some_and(|p| p.ends_with("/docker/")) => Runtime::Docker,
        named => named,
    };
    Some(ContainerPath { cgroup, id, runtime, pod_uid: above })
}

/// The container id in a directory's name, with who wrote it.
pub(super) fn container_name(segment: &str) -> Option<(&str, Runtime)> {
    let bare = segment.strip_suffix(".scope").unwrap_or(segment);
    // A slice before a colon is the pod's.
    let bare = bare.split_once(".slice:").map_or(bare, |(_, rest)| rest);
    let (id, runtime) =
        PREFIXES.iter().find_map(|(p, r)| bare.strip_prefix(p).map(|id| (id, *r))).unwrap_or((bare, Runtime::Unnamed));
    let hex = id.bytes().all(|b| b.is_ascii_hexdigit());
    // A bare name must be a full id; behind a runtime's prefix a short one will do.
    let long = id.len() == FULL_ID || (id.len() >= SHORT_ID && runtime != Runtime::Unnamed);
    (hex && long).then_some((id, runtime))
}

/// The pod's uid in a directory's name: `pod<uid>` (cgroupfs), `kubepods-burstable-pod<uid>.slice` (systemd).
fn pod_uid(segment: &str) -> Option<String> {
    let name = segment.split_once(".slice").map_or(segment, |(name, _)| name);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None if name.contains("kubepods") => name.rsplit_once("-pod")?.1,
        None => return None,
    };
    let uid = uid.replace('_', "-");
    is_uid(&uid).then_some(uid)
}

/// A UUID, or the hash that a static pod has for a uid.
fn is_uid(text: &str) -> bool {
    let hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
    let groups: Vec<&str> = text.split('-').collect();
    match groups.as_slice() {
        [one] => one.len() == 32 && hex(one),
        [a, b, c, d, e] => {
            [a, b, c, d, e].iter().all(|g| hex(g)) && [a, b, c, d, e].map(|g| g.len()) == [8, 4, 4, 4, 12]
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_every_runtime_and_driver() {
        use Runtime::{Containerd, CriO, Docker, Podman, Unnamed};
        let id = "0123456789abcdef".repeat(4);
        let uid = "2e5b0a5c-7f3c-4b0a-9f55-c0ffee123456";
        let low = uid.replace('-', "_");
        let user = "/user.slice/user-1000.slice/user@1000.service/user.slice";
        for (path, cgroup, runtime, pod) in [
            // Docker: systemd, cgroupfs, rootless, a parent of the operator's choice, systemd inside.
            (format!("/system.slice/docker-{id}.scope"), "", Docker, false),
            (format!("/docker/{id}"), "", Docker, false),
            (format!("{user}/docker-{id}.scope"), "", Docker, false),
            (format!("/tenants/acme/{id}"), "", Unnamed, false),
            (format!("/docker/{id}/init.scope"), "/init.scope", Docker, false),
            (format!("/docker/{id}/system.slice/nginx.service"), "/system.slice/nginx.service", Docker, false),
            // Podman: systemd, its inner directory, rootless, in a pod, cgroupfs, below a unit of its own.
            (format!("/machine.slice/libpod-{id}.scope"), "", Podman, false),
            (format!("/machine.slice/libpod-{id}.scope/container"), "/container", Podman, false),
            (format!("{user}/libpod-{id}.scope/container"), "/container", Podman, false),
            (format!("/machine.slice/machine-libpod_pod_{id}.slice/libpod-{id}.scope"), "", Podman, false),
            (format!("/libpod_parent/libpod-{id}"), "", Podman, false),
            (format!("/system.slice/web.service/libpod-payload-{id}"), "", Podman, false),
            // containerd without Kubernetes: nerdctl, ctr.
            (format!("/system.slice/nerdctl-{id}.scope"), "", Containerd, false),
            (format!("/default/{id}"), "", Unnamed, false),
            // Kubernetes, systemd driver: burstable, best effort, guaranteed.
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice/cri-containerd-{id}.scope"
                ),
                "",
                Containerd,
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{low}.slice/crio-{id}.scope"),
                "",
                CriO,
                true,
            ),
            (format!("/kubepods.slice/kubepods-pod{low}.slice/crio-{id}.scope/container"), "/container", CriO, true),
            (format!("/kubepods.slice/kubepods-pod{low}.slice/docker-{id}.scope"), "", Docker, true),
            // cgroupfs driver.
            (format!("/kubepods/burstable/pod{uid}/{id}"), "", Unnamed, true),
            (format!("/kubepods/besteffort/pod{uid}/crio-{id}"), "", CriO, true),
            (format!("/kubepods/pod{uid}/{id}/nested/deep"), "/nested/deep", Unnamed, true),
            // Drivers that disagree.
            (
                format!("/system.slice/containerd.service/kubepods-besteffort-pod{low}.slice:cri-containerd:{id}"),
                "",
                Containerd,
                true,
            ),
            // kind: a node in a container; the innermost counts.
            (
                format!(
                    "/docker/{}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{low}.slice/cri-containerd-{id}.scope",
                    "f".repeat(64)
                ),
                "",
                Containerd,
                true,
            ),
        ] {
            let found = container(&path).unwrap_or_else(|| panic!("{path}"));
            let own = path.strip_suffix(cgroup).unwrap();
            assert_eq!((found.cgroup, found.id, found.runtime), (own, id.as_str(), runtime), "{path}");
            assert_eq!(found.pod_uid.as_deref(), pod.then_some(uid), "{path}");
        }
    }

    #[test]
    fn a_static_pods_uid_is_a_hash() {
        let (hash, id) = ("0123456789abcdef".repeat(2), "a".repeat(64));
        let path = format!("/kubepods/burstable/pod{hash}/{id}");
        assert_eq!(container(&path).unwrap().pod_uid, Some(hash));
    }

    #[test]
    fn what_is_no_container() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            "/".to_owned(),
            "/system.slice/ssh.service".to_owned(),
            "/kubepods/burstable/pod2e5b0a5c-7f3c-4b0a-9f55-c0ffee123456".to_owned(),
            format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("/system.slice/crio-conmon-{id}.scope"),
            "/decade".to_owned(),
            "/docker-abc.scope".to_owned(),
            format!("/{id}0"),
            String::new(),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }
}
