//! What a container or a pod is one of: the Deployment, the CronJob, the image. Replicas and successors have names of
//! their own; findings are known by what they have in common.
//!
//! Only what is certain is taken for an owner: a controller's reference, a label that the controller itself writes, a name
//! that is built from one of these. Else a pod is what it is called.

use std::collections::{BTreeMap, HashMap};

use monitor_core::engine::OwnerFact;

use super::facts::printable;

/// What Deployments write onto their pods; a ReplicaSet of theirs is called `<deployment>-<hash>`.
const DEPLOYMENT_HASH: &str = "pod-template-hash";
/// The same of Argo's Rollouts.
const ROLLOUT_HASH: &str = "rollouts-pod-template-hash";
/// What Jobs write onto their pods; the second from Kubernetes 1.27 on.
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// What StatefulSets write onto their pods: the pod's own name.
const STATEFUL_POD: &str = "statefulset.kubernetes.io/pod-name";
/// What DaemonSets write onto their pods, and StatefulSets too, with their own name before it.
const REVISION: &str = "controller-revision-hash";
/// What DaemonSets alone write onto their pods.
const GENERATION: &str = "pod-template-generation";
/// Letters and digits that are put behind the name of whoever makes a pod.
const SUFFIX: usize = 5;
/// How long after the time in its name a CronJob's Job may still make pods, in seconds.
const LATE: i64 = 86_400;
/// How far clocks may be apart, in seconds.
const EARLY: i64 = 120;

/// A reference to a controller (`metadata.ownerReferences`, the one with `controller: true`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Controller<'a> {
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
}

/// A pod, as far as it tells what it is one of.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodNames<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Seconds since the epoch; 0: not known.
    pub(super) created: i64,
    /// The node it runs on, if known.
    pub(super) node: Option<&'a str>,
}

/// What a pod is one of. `controller`: as the API server tells; a runtime knows labels only.
pub(super) fn of_pod<'l>(
    pod: PodNames<'_>,
    controller: Option<Controller<'_>>,
    label: impl Fn(&str) -> Option<&'l String>,
) -> OwnerFact {
    let (kind, name) = match controller {
        Some(c) => by_controller(pod, c, &label),
        None => by_labels(pod, &label),
    };
    OwnerFact {
        kind: printable(&kind),
        namespace: pod.namespace.to_owned(),
        name: printable(&name),
        pod: pod.name.to_owned(),
    }
}

type Named = (String, String);

fn by_controller<'l>(pod: PodNames<'_>, c: Controller<'_>, label: &impl Fn(&str) -> Option<&'l String>) -> Named {
    let named = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
    match c.kind {
        "ReplicaSet" => {
            let by = |key, kind| Some(named(kind, without_suffix(c.name, label(key)?)?));
            by(DEPLOYMENT_HASH, "Deployment")
                .or_else(|| by(ROLLOUT_HASH, "Rollout"))
                .unwrap_or_else(|| named("ReplicaSet", c.name))
        }
        "Job" => job(c.name, pod.created),
        // The kubelet's own pods (static ones) are called by their manifest and the node.
        "Node" => named("Pod", without_suffix(pod.name, c.name).unwrap_or(pod.name)),
        kind => named(kind, c.name),
    }
}

fn by_labels<'l>(pod: PodNames<'_>, label: &impl Fn(&str) -> Option<&'l String>) -> Named {
    let made = |kind: &str, name: Option<&str>| name.map(|n| (kind.to_owned(), n.to_owned()));
    let random = || without_random(pod.name);
    let replicas = |key, kind| made(kind, random().and_then(|name| without_suffix(name, label(key)?)));
    let stateful = || {
        label(STATEFUL_POD).filter(|own| *own == pod.name)?;
        let (name, ordinal) = pod.name.rsplit_once('-')?;
        ordinal.bytes().all(|b| b.is_ascii_digit()).then_some(name)
    };
    let daemon = || label(REVISION).and(label(GENERATION)).and_then(|_| random());
    let of_job = || JOB_NAME.iter().find_map(|key| label(key)).map(|name| job(name, pod.created));
    let fixed = || pod.node.and_then(|node| without_suffix(pod.name, node));
    replicas(DEPLOYMENT_HASH, "Deployment")
        .or_else(|| replicas(ROLLOUT_HASH, "Rollout"))
        .or_else(|| made("StatefulSet", stateful()))
        .or_else(|| made("DaemonSet", daemon()))
        .or_else(of_job)
        .or_else(|| made("Pod", fixed()))
        .unwrap_or_else(|| ("Pod".to_owned(), pod.name.to_owned()))
}

/// A Job, or the CronJob that made it: its name ends with the time it was due, in minutes since the epoch (in seconds
/// before Kubernetes 1.21), and its pods are made then or a little later.
fn job(name: &str, created: i64) -> Named {
    let cron = || {
        let (before, number) = name.rsplit_once('-')?;
        let unit = match number.len() {
            8 => 60,
            10 => 1,
            _ => return None,
        };
        let due = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse::<i64>().ok())??.checked_mul(unit)?;
        (due - EARLY..=due + LATE).contains(&created).then_some(before)
    };
    match cron() {
        Some(before) => ("CronJob".to_owned(), before.to_owned()),
        None => ("Job".to_owned(), name.to_owned()),
    }
}

/// `name` without `-` and `suffix`, if that leaves something.
fn without_suffix<'n>(name: &'n str, suffix: &str) -> Option<&'n str> {
    name.strip_suffix(suffix)?.strip_suffix('-').filter(|n| !n.is_empty() && !suffix.is_empty())
}

/// `name` without the letters that Kubernetes puts behind a generated name.
fn without_random(name: &str) -> Option<&str> {
    let (before, random) = name.rsplit_once('-')?;
    (random.len() == SUFFIX && random.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())).then_some(before)
}

/// What a container outside Kubernetes is one of: its unit, its service by Compose or Swarm, else its image without tag
/// and digest.
pub(super) fn of_container(labels: &HashMap<String, String>, image: &str) -> Option<OwnerFact> {
    let get = |key: &str| labels.get(key).filter(|v| !v.is_empty());
    let owner = |kind: &str, namespace: &str, name: &str| {
        Some(OwnerFact {
            kind: kind.to_owned(),
            namespace: printable(namespace),
            name: printable(name),
            pod: String::new(),
        })
    };
    if let Some(unit) = get("PODMAN_SYSTEMD_UNIT") {
        return owner("Unit", "", unit);
    }
    if let Some(service) = get("com.docker.compose.service") {
        let project = get("com.docker.compose.project").map_or("", String::as_str);
        return owner("ComposeService", project, service);
    }
    if let Some(service) = get("com.docker.swarm.service.name") {
        return owner("SwarmService", "", service);
    }
    owner("Image", "", image_name(image)?)
}

/// An image's name without tag and digest; `None`: it is known by its digest alone.
fn image_name(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon before the last slash is a port's.
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    let digest = name == "sha256" || (name.len() >= 12 && name.bytes().all(|b| b.is_ascii_hexdigit()));
    (!name.is_empty() && !digest).then_some(name)
}

/// Labels, as the API server tells them.
pub(super) fn in_map<'l>(labels: &'l BTreeMap<String, String>) -> impl Fn(&str) -> Option<&'l String> + use<'l> {
    move |key| labels.get(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T00:00:00Z.
    const NOW: i64 = 1_795_219_200;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn pod(name: &str) -> PodNames<'_> {
        PodNames { namespace: "shop", name, created: NOW, node: Some("node-1") }
    }

    fn shown(o: &OwnerFact) -> String {
        format!("{} {}/{} {}", o.kind, o.namespace, o.name, o.pod)
    }

    #[test]
    fn by_controllers() {
        let minute = NOW / 60 - 1;
        let hash = [("pod-template-hash", "5d9c7f")];
        for (name, kind, controller, with, expected) in [
            ("web-5d9c7f-x2b4z", "ReplicaSet", "web-5d9c7f", &hash[..], "Deployment shop/web"),
            // The next rollout, and a name that ends like a hash.
            ("web-a-66bb-x2b4z", "ReplicaSet", "web-a-66bb", &[("pod-template-hash", "66bb")], "Deployment shop/web-a"),
            ("web-1", "ReplicaSet", "web-5d9c7f", &[], "ReplicaSet shop/web-5d9c7f"),
            ("web-1", "ReplicaSet", "web-other", &hash, "ReplicaSet shop/web-other"),
            ("web-77-x", "ReplicaSet", "web-77", &[("rollouts-pod-template-hash", "77")], "Rollout shop/web"),
            ("db-0", "StatefulSet", "db", &[], "StatefulSet shop/db"),
            ("agent-x2b4z", "DaemonSet", "agent", &[], "DaemonSet shop/agent"),
            ("import-x2b4z", "Job", "import", &[], "Job shop/import"),
            (&format!("nightly-{minute}-abcde"), "Job", &format!("nightly-{minute}"), &[], "CronJob shop/nightly"),
            (&format!("n-{}-abcde", NOW - 5), "Job", &format!("n-{}", NOW - 5), &[], "CronJob shop/n"),
            // Numbers that are no time of this pod's.
            ("report-20261121-abcde", "Job", "report-20261121", &[], "Job shop/report-20261121"),
            ("report-2026-abcde", "Job", "report-2026", &[], "Job shop/report-2026"),
            ("etcd-node-1", "Node", "node-1", &[], "Pod shop/etcd"),
            ("orders-1", "Cluster", "orders", &[], "Cluster shop/orders"),
        ] {
            let with = labels(with);
            let got = of_pod(pod(name), Some(Controller { kind, name: controller }), in_map(&with));
            assert_eq!(shown(&got), format!("{expected} {name}"));
        }
    }

    #[test]
    fn by_labels_alone_where_a_runtime_tells() {
        let revision = [("controller-revision-hash", "7b9"), ("pod-template-generation", "1")];
        for (name, with, expected) in [
            ("web-5d9c7f-x2b4z", &[("pod-template-hash", "5d9c7f")][..], "Deployment shop/web"),
            ("db-10", &[("statefulset.kubernetes.io/pod-name", "db-10")], "StatefulSet shop/db"),
            ("agent-x2b4z", &revision, "DaemonSet shop/agent"),
            ("import-x2b4z", &[("job-name", "import")], "Job shop/import"),
            ("etcd-node-1", &[], "Pod shop/etcd"),
            ("alone", &[], "Pod shop/alone"),
            // Labels that somebody wrote himself, and that do not go with the name.
            ("web-x2b4z", &[("pod-template-hash", "5d9c7f")], "Pod shop/web-x2b4z"),
            ("db-10", &[("statefulset.kubernetes.io/pod-name", "db-11")], "Pod shop/db-10"),
        ] {
            let with = labels(with);
            assert_eq!(shown(&of_pod(pod(name), None, in_map(&with))), format!("{expected} {name}"));
        }
    }

    #[test]
    fn outside_kubernetes() {
        let of = |pairs: &[(&str, &str)], image: &str| {
            let labels = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            of_container(&labels, image).map(|o| format!("{} {} {}", o.kind, o.namespace, o.name))
        };
        let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web")];
        assert_eq!(of(&compose, "nginx").as_deref(), Some("ComposeService shop web"));
        assert_eq!(of(&[("com.docker.swarm.service.name", "web")], "x").as_deref(), Some("SwarmService  web"));
        assert_eq!(of(&[("PODMAN_SYSTEMD_UNIT", "web.service")], "x").as_deref(), Some("Unit  web.service"));
        for (image, name) in [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("registry:5000/shop/web", "registry:5000/shop/web"),
            ("registry:5000/shop/web:v2@sha256:0123", "registry:5000/shop/web"),
        ] {
            assert_eq!(of(&[], image), Some(format!("Image  {name}")));
        }
        assert_eq!((of(&[], "sha256:0123456789ab"), of(&[], "0123456789ab"), of(&[], "")), (None, None, None));
    }
}
