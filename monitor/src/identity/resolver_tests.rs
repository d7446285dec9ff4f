//! What the resolver makes of what it is told.

use std::collections::HashSet;

use monitor_core::model::ServiceRole;

use super::super::facts::{ContainerFact, NamespaceFact, PodFact, Ranked, ServiceFact, SourceState};
use super::*;

const PODS: SourceId = SourceId(0);
const NAMESPACES: SourceId = SourceId(1);
const SERVICES: SourceId = SourceId(2);
const DOCKER: SourceId = SourceId(3);
const CRI: SourceId = SourceId(4);

fn resolver() -> Resolver {
    let source =
        |kind, place: &str| SourceInfo { kind, place: place.to_owned(), required: false, synced: true, stale: None };
    Resolver::new(
        IdentityConfig::default(),
        vec![
            source(SourceKind::Kubernetes, "pods"),
            source(SourceKind::Kubernetes, "namespaces"),
            source(SourceKind::Kubernetes, "services"),
            source(SourceKind::Docker, "/run/docker.sock"),
            source(SourceKind::Cri, "/run/containerd/containerd.sock"),
        ],
    )
}

fn hex(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn uid(n: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
}

fn ranked(rank: usize, tenant: &str) -> Option<Ranked> {
    Some(Ranked { rank, tenant: tenant.to_owned() })
}

fn pod(n: u8, name: &str, tenant: Option<Ranked>, ip: &str) -> Fact {
    Fact::Pod(PodFact {
        uid: uid(n),
        cgroup_uid: None,
        namespace: "shop".into(),
        name: name.into(),
        created: i64::from(n),
        tenants: tenant.into_iter().collect(),
        role: None,
        owner: ("Deployment".into(), name.split('-').next().unwrap_or_default().into()),
        addresses: ip.parse().into_iter().collect(),
        containers: Vec::new(),
    })
}

fn namespace(tenant: Option<Ranked>) -> Fact {
    Fact::Namespace("shop".into(), NamespaceFact { tenant, role: None })
}

fn container(id: String, name: &str, tenant: Option<&str>) -> Fact {
    Fact::Container(ContainerFact { id, name: name.into(), tenant: tenant.map(Into::into), role: None, owner: None })
}

fn shown(fact: &WorkloadFact) -> String {
    format!("{} [{}]", fact.name, fact.tenants.join(","))
}

fn told(updates: &[Update]) -> Vec<String> {
    let mut all: Vec<String> = updates
        .iter()
        .map(|u| match u {
            Update::Cgroup(id, f) => format!("cgroup {} {}", id.0, shown(f)),
            Update::Address(ip, f) => format!("{ip} {}", f.as_ref().map_or("-".into(), shown)),
            Update::Service(addr, name) => format!("{addr} {}", name.as_deref().unwrap_or("-")),
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_pod_is_known_by_the_uid_in_its_path_or_by_its_container() {
    let mut r = resolver();
    r.apply(PODS, pod(1, "web", ranked(0, "acme"), "10.0.0.1"));
    let path = format!("/kubepods/burstable/pod{}/{}", uid(1), hex('a'));
    let fact = r.seen(CgroupId(1), &path).unwrap();
    assert_eq!((shown(&fact).as_str(), fact.cgroup.as_str()), ("shop/web [acme]", path.as_str()));
    let nested = r.seen(CgroupId(2), &format!("{path}/inner/most")).unwrap();
    assert_eq!((nested.name.as_str(), nested.cgroup.as_str()), ("shop/web", path.as_str()));
    // Without a uid on the path, the container's id in the pod's status leads to it.
    let Fact::Pod(mut fact) = pod(2, "db", None, "") else { unreachable!() };
    fact.containers.push(hex('b'));
    fact.role = Some(ServiceRole::Service);
    r.apply(PODS, Fact::Pod(fact));
    let fact = r.seen(CgroupId(3), &format!("/k8s.io/{}", hex('b'))).unwrap();
    assert_eq!((shown(&fact).as_str(), fact.role), ("shop/db []", Some(ServiceRole::Service)));
}

#[test]
fn the_order_decides_between_pod_and_namespace() {
    let mut r = resolver();
    r.apply(NAMESPACES, namespace(ranked(3, "of-the-namespace")));
    r.apply(PODS, pod(1, "own", ranked(2, "its-own"), ""));
    r.apply(PODS, pod(2, "none", None, ""));
    r.apply(PODS, pod(3, "late", ranked(4, "its-own"), ""));
    r.apply(PODS, pod(4, "same", ranked(4, "Of-The-Namespace"), ""));
    let mut at = |n: u8| r.seen(CgroupId(n.into()), &format!("/kubepods/pod{}/{}", uid(n), hex('a'))).unwrap().tenants;
    assert_eq!([at(1), at(2), at(4)], [["its-own"], ["of-the-namespace"], ["of-the-namespace"]]);
    // The namespace comes first, and the pod contradicts it: both are told, and neither is believed.
    assert_eq!(at(3), ["of-the-namespace", "its-own"]);
    // The namespace gets another label: whom it decided for is told anew.
    r.updates();
    r.apply(NAMESPACES, namespace(ranked(3, "new")));
    assert_eq!(
        told(&r.updates()),
        ["cgroup 2 shop/none [new]", "cgroup 3 shop/late [new,its-own]", "cgroup 4 shop/same [new,Of-The-Namespace]"]
    );
}

#[test]
fn events_wait_only_for_who_may_yet_be_known() {
    let mut r = resolver();
    let pod_path = format!("/kubepods/burstable/pod{}/{}", uid(1), hex('a'));
    assert_eq!(r.seen(CgroupId(1), &pod_path), None);
    assert!(r.awaited(CgroupId(1)) && r.unknown(&pod_path));
    r.blocks(CgroupId(1));
    // The runtime knows the container first; its labels are not the namespace's: the pod is still waited for.
    r.apply(CRI, container(hex('a'), "shop/web", None));
    assert_eq!(told(&r.updates()), [""; 0]);
    assert!(r.awaited(CgroupId(1)));
    r.apply(PODS, pod(1, "web", ranked(0, "acme"), ""));
    assert_eq!(told(&r.updates()), ["cgroup 1 shop/web [acme]"]);
    assert!(!r.awaited(CgroupId(1)));
    assert_eq!(r.waits()[0], (WaitEnd::Labelled, 1));
    // Nobody tells of a plain cgroup or of one that is declared.
    assert!(r.seen(CgroupId(2), "/system.slice/ssh.service").is_some());
    let glob = super::super::CgroupGlob::new("/declared").unwrap();
    r.config.statics.push(super::super::StaticRule {
        matcher: super::super::StaticMatcher::Cgroup(glob),
        tenant: Some("globex".into()),
        workload: None,
        role: None,
    });
    assert_eq!(shown(&r.seen(CgroupId(3), &format!("/declared/{}", hex('c'))).unwrap()), "declared [globex]");
}

#[test]
fn who_is_given_up_is_known_late() {
    let mut r = resolver();
    let path = format!("/system.slice/docker-{}.scope", hex('d'));
    assert_eq!(r.seen(CgroupId(1), &path), None);
    let fact = r.give_up(CgroupId(1), WaitEnd::Timeout).unwrap();
    assert_eq!(shown(&fact), "dddddddddddd []");
    assert_eq!(r.waits()[1], (WaitEnd::Timeout, 1));
    // What is nested in it does not wait again.
    assert!(r.seen(CgroupId(2), &format!("{path}/inner")).is_some());
    r.apply(DOCKER, container(hex('d'), "web", Some("acme")));
    assert_eq!(told(&r.updates()), ["cgroup 1 web [acme]", "cgroup 2 web [acme]"]);
}

#[test]
fn nobody_waits_for_a_source_that_cannot_be_asked() {
    let mut r = resolver();
    let path = format!("/docker/{}", hex('e'));
    assert_eq!(r.seen(CgroupId(1), &path), None);
    r.apply(DOCKER, Fact::State(SourceState::Stale("gone".into())));
    assert_eq!(told(&r.updates()), ["cgroup 1 eeeeeeeeeeee []"]);
    assert!(r.seen(CgroupId(2), &format!("/docker/{}", hex('f'))).is_some());
    // What was known before is kept, and what was missed is told when it is back.
    r.apply(DOCKER, container(hex('e'), "web", Some("acme")));
    r.apply(DOCKER, Fact::State(SourceState::Synced));
    assert_eq!(told(&r.updates()), ["cgroup 1 web [acme]"]);
}

#[test]
fn who_leaves_the_lists_stays_who_it_was() {
    let mut r = resolver();
    r.apply(DOCKER, container(hex('a'), "web", Some("acme")));
    assert_eq!(shown(&r.seen(CgroupId(1), &format!("/docker/{}", hex('a'))).unwrap()), "web [acme]");
    r.apply(DOCKER, Fact::All(HashSet::new()));
    assert_eq!(told(&r.updates()), [""; 0], "its sockets may outlive it by a moment");
    // The cgroup goes; its id and path come back with another container.
    r.gone(CgroupId(1));
    r.apply(DOCKER, container(hex('b'), "web", Some("globex")));
    assert_eq!(shown(&r.seen(CgroupId(1), &format!("/docker/{}", hex('b'))).unwrap()), "web [globex]");
}

#[test]
fn a_changed_label_is_told() {
    let mut r = resolver();
    r.apply(PODS, pod(1, "web", ranked(0, "acme"), "10.0.0.1"));
    r.seen(CgroupId(1), &format!("/kubepods/pod{}/{}", uid(1), hex('a')));
    r.flow("10.0.0.9:40000".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
    r.updates();
    r.apply(PODS, pod(1, "web", ranked(0, "globex"), "10.0.0.1"));
    assert_eq!(told(&r.updates()), ["10.0.0.1 shop/web [globex]", "cgroup 1 shop/web [globex]"]);
}

#[test]
fn a_reused_address_belongs_to_the_younger_pod() {
    let mut r = resolver();
    let flow = |r: &mut Resolver| told(&r.flow("10.0.0.9:40000".parse().unwrap(), "10.0.0.1:80".parse().unwrap()));
    r.apply(PODS, pod(1, "old", ranked(0, "acme"), "10.0.0.1"));
    r.updates();
    assert_eq!(flow(&mut r), ["10.0.0.1 shop/old [acme]"]);
    assert_eq!(flow(&mut r), [""; 0], "told once");
    // The new one is told before the old one is gone …
    r.apply(PODS, pod(2, "new", ranked(0, "globex"), "10.0.0.1"));
    assert_eq!(told(&r.updates()), ["10.0.0.1 shop/new [globex]"]);
    // … whose last words do not take it back.
    let Fact::Pod(mut last) = pod(1, "old", ranked(0, "acme"), "10.0.0.1") else { unreachable!() };
    last.containers.push(hex('a'));
    r.apply(PODS, Fact::Pod(last));
    r.apply(PODS, Fact::PodGone(uid(1)));
    assert_eq!(told(&r.updates()), [""; 0]);
    r.apply(PODS, Fact::PodGone(uid(2)));
    assert_eq!(told(&r.updates()), ["10.0.0.1 -"]);
    // A third one at the same address, which flows have spoken of, is told at once.
    r.apply(PODS, pod(3, "third", None, "10.0.0.1"));
    assert_eq!(told(&r.updates()), ["10.0.0.1 shop/third []"]);
}

#[test]
fn services_by_cluster_address_and_endpoints() {
    let mut r = resolver();
    let service = |key: &str, name: &str, at: &str| {
        Fact::Service(ServiceFact { key: key.into(), name: name.into(), addresses: vec![at.parse().unwrap()] })
    };
    r.apply(SERVICES, service("shop/db", "shop/db", "10.96.0.7:5432"));
    r.apply(SERVICES, service("shop/db-x1", "shop/db", "10.0.0.5:5432"));
    r.apply(SERVICES, service("shop/db-headless-x2", "shop/db-headless", "10.0.0.5:5432"));
    r.updates();
    let flow = |r: &mut Resolver, peer: &str| told(&r.flow("10.0.0.9:40000".parse().unwrap(), peer.parse().unwrap()));
    assert_eq!(flow(&mut r, "10.96.0.7:5432"), ["10.96.0.7:5432 shop/db"]);
    assert_eq!(flow(&mut r, "10.0.0.5:5432"), ["10.0.0.5:5432 shop/db"]);
    assert_eq!(flow(&mut r, "10.0.0.5:80"), [""; 0]);
    r.apply(SERVICES, Fact::All(HashSet::from(["shop/db-headless-x2".to_owned()])));
    assert_eq!(told(&r.updates()), ["10.0.0.5:5432 shop/db-headless", "10.96.0.7:5432 -"]);
    r.apply(SERVICES, Fact::ServiceGone("shop/db-headless-x2".into()));
    assert_eq!(told(&r.updates()), ["10.0.0.5:5432 -"]);
    assert_eq!(r.objects().iter().map(|o| o.2).sum::<usize>(), 0);
}

#[test]
fn a_static_pods_cgroup_is_named_by_its_hash() {
    let mut r = resolver();
    let Fact::Pod(mut fact) = pod(1, "etcd-n1", None, "") else { unreachable!() };
    let hash = "0123456789abcdef".repeat(2);
    fact.cgroup_uid = Some(hash.clone());
    r.apply(PODS, Fact::Pod(fact));
    let fact = r.seen(CgroupId(1), &format!("/kubepods/burstable/pod{hash}/{}", hex('a'))).unwrap();
    assert_eq!(fact.name, "shop/etcd-n1");
}

#[test]
fn by_default_a_pod_cannot_name_itself_another_tenant_or_shared() {
    let config = super::super::KubernetesConfig::default();
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let above = config.of_namespace("shop", &map(&[("capsule.clastix.io/tenant", "acme")]));
    for own in [
        config.of_pod(&map(&[("leasewarden.io/tenant", "globex")]), &map(&[])),
        config.of_pod(&map(&[("tenant", "globex")]), &map(&[])),
        config.of_pod(&map(&[]), &map(&[("leasewarden.io/tenant", "globex")])),
        // One label agrees and another does not.
        config.of_pod(&map(&[("leasewarden.io/tenant", "acme"), ("tenant", "globex")]), &map(&[])),
    ] {
        let mut r = resolver();
        r.apply(NAMESPACES, namespace(above.clone()));
        let Fact::Pod(fact) = pod(1, "web", None, "") else { unreachable!() };
        r.apply(PODS, Fact::Pod(PodFact { tenants: own, ..fact }));
        // A runtime's copy of the label changes nothing.
        r.apply(CRI, container(hex('a'), "shop/web", Some("globex")));
        let fact = r.seen(CgroupId(1), &format!("/kubepods/pod{}/{}", uid(1), hex('a'))).unwrap();
        assert_eq!(fact.tenants, ["acme", "globex"]);
        assert_eq!(fact.role, None);
    }
}

#[test]
fn what_a_pod_is_one_of_is_told_with_its_name() {
    let mut r = resolver();
    r.apply(PODS, pod(1, "web-5d9c7f-x2b4z", ranked(0, "acme"), "10.0.0.1"));
    let fact = r.seen(CgroupId(1), &format!("/kubepods/pod{}/{}", uid(1), hex('a'))).unwrap();
    let owner = fact.owner.unwrap();
    assert_eq!(
        [owner.kind.as_str(), &owner.namespace, &owner.name, &owner.pod],
        ["Deployment", "shop", "web", "web-5d9c7f-x2b4z"]
    );
}

#[test]
fn another_configuration_moves_nobody_silently() {
    let mut r = resolver();
    let tell = |r: &mut Resolver, id: u64, path: &str| r.seen(CgroupId(id), path).unwrap();
    let rule = |glob: &str, tenant: Option<&str>| super::super::StaticRule {
        matcher: super::super::StaticMatcher::Cgroup(super::super::CgroupGlob::new(glob).unwrap()),
        tenant: tenant.map(str::to_owned),
        workload: None,
        role: None,
    };
    tell(&mut r, 1, "/shop/web");
    tell(&mut r, 2, "/tenants/acme/agent");
    tell(&mut r, 3, "/tenants/globex/agent");
    // Nothing new: nothing is told.
    assert_eq!(r.decide(IdentityConfig::default()).1, 0);
    let mut config = IdentityConfig::default();
    config.statics.push(rule("/shop/web", Some("acme")));
    config.statics.push(rule("/tenants/acme/agent", Some("initech")));
    let (updates, moved) = r.decide(config);
    assert_eq!(told(&updates), ["cgroup 1 web [acme]", "cgroup 2 agent []"]);
    assert_eq!(moved, 1, "who had no tenant has one now; who had one is in doubt");
    // Taken back: whoever was labelled by it is in doubt, too. The engine forgets no doubt.
    let (updates, moved) = r.decide(IdentityConfig::default());
    assert_eq!((told(&updates), moved), (vec!["cgroup 1 web []".to_owned(), "cgroup 2 agent [acme]".to_owned()], 1));
}
