//! From Kubernetes' objects to facts. `None`: an object without the names that it must have.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kube::core::ObjectMeta;

use super::super::facts::{Fact, NamespaceFact, PodFact, ServiceFact, printable, role_name};
use super::super::owner::{self, Controller, PodNames};
use super::Rules;
use super::objects::{self, EndpointSlice, Namespace, Pod, Port, Service};

/// What the kubelet writes into a mirror pod of a static pod: the uid that its cgroups are named by.
const STATIC_UID: &str = "kubernetes.io/config.hash";
/// The service that a slice's endpoints are of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn pod(pod: Pod, rules: &Rules) -> Option<(String, Fact)> {
    let uid = pod.metadata.uid.clone()?;
    let (namespace, name) = names(&pod.metadata)?;
    let labels = objects::labels(&pod.metadata);
    let none = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let role = rules.labels.role.iter().find_map(|k| labels.get(k).or_else(|| annotations.get(k)));
    let role = role.filter(|_| rules.labels.pod_roles);
    let status = pod.status;
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut addresses: Vec<IpAddr> = Vec::new();
    // A pod in the node's own network has the node's address, and so has every other such pod.
    if !over && !pod.spec.host_network {
        let all = status.pod_ips.into_iter().flatten().map(|p| p.ip).chain(status.pod_ip);
        for ip in all.filter_map(|ip| ip.parse().ok()) {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    let statuses = [status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses];
    // Cgroups are this node's: of pods elsewhere the addresses are all that is asked for.
    let ours = pod.spec.node_name.as_ref() == Some(&rules.node);
    let containers = statuses
        .into_iter()
        .filter(|_| ours)
        .flatten()
        .flatten()
        .filter_map(|c| c.container_id)
        // `containerd://<id>`
        .filter_map(|id| id.split_once("://").map(|(_, id)| id.to_owned()))
        .filter(|id| !id.is_empty())
        .collect();
    let created = pod.metadata.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second());
    let references = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let controller =
        references.iter().find(|r| r.controller == Some(true)).map(|r| Controller { kind: &r.kind, name: &r.name });
    let names = PodNames { namespace: &namespace, name: &name, created, node: pod.spec.node_name.as_deref() };
    // Without a controller, labels of one are somebody else's doing.
    let owner = match controller {
        Some(_) => owner::of_pod(names, controller, owner::in_map(labels)),
        None => owner::of_pod(names, None, |_| None),
    };
    let fact = PodFact {
        cgroup_uid: annotations.get(STATIC_UID).cloned(),
        created,
        tenants: rules.config.of_pod(labels, annotations),
        owner: (owner.kind, owner.name),
        role: role.and_then(|r| role_name(r)),
        uid: uid.clone(),
        namespace,
        name,
        addresses,
        containers,
    };
    Some((uid, Fact::Pod(fact)))
}

pub(super) fn namespace(namespace: Namespace, rules: &Rules) -> Option<(String, Fact)> {
    let name = namespace.metadata.name.as_ref()?;
    let labels = objects::labels(&namespace.metadata);
    let tenant = rules.config.of_namespace(name, labels);
    let role = rules.labels.role.iter().find_map(|k| labels.get(k)).and_then(|r| role_name(r));
    Some((name.clone(), Fact::Namespace(name.clone(), NamespaceFact { tenant, role })))
}

pub(super) fn service(service: Service) -> Option<(String, Fact)> {
    let (namespace, name) = names(&service.metadata)?;
    let key = format!("{namespace}/{name}");
    let ips = service.spec.cluster_ips.into_iter().flatten().chain(service.spec.cluster_ip);
    // `None` is what a headless service has for an address.
    let ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    let addresses = sockets(&ips, service.spec.ports);
    Some((key.clone(), Fact::Service(ServiceFact { name: key.clone(), key, addresses })))
}

pub(super) fn slice(slice: EndpointSlice) -> Option<(String, Fact)> {
    let (namespace, own) = names(&slice.metadata)?;
    let service = objects::labels(&slice.metadata).get(SERVICE_NAME).map(|s| printable(s)).unwrap_or_default();
    let endpoints = slice.endpoints.into_iter().flatten().flat_map(|e| e.addresses);
    let ips: Vec<IpAddr> = endpoints.filter_map(|ip| ip.parse().ok()).collect();
    // Endpoints of no service name nothing.
    let addresses = if service.is_empty() { Vec::new() } else { sockets(&ips, slice.ports) };
    let key = format!("{namespace}/{own}");
    Some((key.clone(), Fact::Service(ServiceFact { key, name: format!("{namespace}/{service}"), addresses })))
}

fn names(meta: &ObjectMeta) -> Option<(String, String)> {
    Some((printable(meta.namespace.as_ref()?), printable(meta.name.as_ref()?)))
}

/// Every address with every TCP port.
fn sockets(ips: &[IpAddr], ports: Option<Vec<Port>>) -> Vec<SocketAddr> {
    let tcp = |p: &Port| p.protocol.as_deref().is_none_or(|proto| proto == "TCP");
    let ports: Vec<u16> =
        ports.into_iter().flatten().filter(tcp).filter_map(|p| p.port.and_then(|n| u16::try_from(n).ok())).collect();
    let mut all: Vec<SocketAddr> =
        ips.iter().flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(*ip, *port))).collect();
    all.sort_unstable();
    all.dedup();
    all
}
