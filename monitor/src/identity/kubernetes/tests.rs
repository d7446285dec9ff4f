//! A scripted API server: pages, watches, bookmarks, `410`, disconnects, refusals, absence.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::super::facts::{PodFact, SourceId, SourceState};
use super::super::scripted::Running;
use super::super::settings::ContainersConfig;
use super::super::sources::Told;
use super::*;

type Lines = mpsc::UnboundedSender<Result<String, std::io::Error>>;

/// What the server has, and what it was asked.
#[derive(Default)]
struct Script {
    /// Objects by plural.
    objects: HashMap<&'static str, Vec<Value>>,
    /// Open watches by plural.
    watches: HashMap<String, Lines>,
    /// Requests as `plural?query`.
    asked: Vec<String>,
    forbidden: bool,
    old_slices: bool,
}

type Shared = Arc<Mutex<Script>>;

async fn handle(State(script): State<Shared>, uri: Uri, Query(query): Query<HashMap<String, String>>) -> Response {
    let mut s = script.lock().unwrap();
    let path = uri.path().to_owned();
    let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
    s.asked.push(format!("{path}?{}", uri.query().unwrap_or_default()));
    if s.forbidden {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": "pods is forbidden"});
        return (StatusCode::FORBIDDEN, axum::Json(status)).into_response();
    }
    if path == "/apis/discovery.k8s.io/v1" {
        if s.old_slices {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                "reason": "NotFound", "message": "not found"});
            return (StatusCode::NOT_FOUND, axum::Json(status)).into_response();
        }
        let slices = json!({"name": "endpointslices", "singularName": "", "namespaced": true, "kind": "EndpointSlice",
            "verbs": ["list", "watch"]});
        return axum::Json(json!({"kind": "APIResourceList", "groupVersion": "discovery.k8s.io/v1",
            "resources": [slices]}))
        .into_response();
    }
    if query.contains_key("watch") {
        let (tx, mut rx) = mpsc::unbounded_channel();
        s.watches.insert(plural, tx);
        return Body::from_stream(futures_util::stream::poll_fn(move |cx| rx.poll_recv(cx))).into_response();
    }
    let all = s.objects.get(plural.as_str()).cloned().unwrap_or_default();
    // Two objects a page, whatever was asked for: pages are followed.
    let from: usize = query.get("continue").and_then(|c| c.parse().ok()).unwrap_or(0);
    let page: Vec<Value> = all.iter().skip(from).take(2).cloned().collect();
    let more = (from + 2 < all.len()).then(|| (from + 2).to_string());
    axum::Json(json!({"kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": "100", "continue": more}, "items": page}))
    .into_response()
}

async fn serve(port: u16, script: Shared) -> (u16, Running) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Router::new().fallback(handle).with_state(script);
    (port, Running::new(async move { drop(axum::serve(listener, app).await) }))
}

fn pod(n: u8, labels: &Value) -> Value {
    json!({
        "metadata": {"name": format!("web-{n}"), "namespace": "shop", "uid": format!("uid-{n}"), "labels": labels,
            "resourceVersion": "7", "creationTimestamp": "2026-11-21T10:00:00Z",
            "managedFields": [{"manager": "x", "operation": "Update"}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "i"}], "serviceAccountName": "s"},
        "status": {"phase": "Running", "podIP": format!("10.0.0.{n}"), "podIPs": [{"ip": format!("10.0.0.{n}")}],
            "containerStatuses": [{"name": "web", "containerID": format!("containerd://{}", "a".repeat(64)),
                "ready": true, "restartCount": 0, "image": "i", "imageID": "i"}]},
    })
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

struct Lab {
    script: Shared,
    port: u16,
    server: Option<Running>,
    told: mpsc::Receiver<Told>,
}

async fn lab(script: Script, places: &[Place], config: KubernetesConfig) -> Lab {
    let script = Arc::new(Mutex::new(script));
    let (port, server) = serve(0, script.clone()).await;
    let (out, told) = mpsc::channel(256);
    let teller = |n| Teller { id: SourceId(n), out: out.clone(), poke: Arc::new(Notify::new()) };
    let tellers = places.iter().enumerate().map(|(n, p)| (*p, teller(n))).collect();
    let url: axum::http::Uri = format!("http://127.0.0.1:{port}").parse().unwrap();
    let client = Client::try_from(Config::new(url)).unwrap();
    let rules = Rules { node: node_name(&config).unwrap(), config, labels: ContainersConfig::default().labels };
    tokio::spawn(watch_with(client, rules, tellers));
    Lab { script, port, server: Some(server), told }
}

fn node() -> KubernetesConfig {
    KubernetesConfig { node: Some("n1".into()), ..KubernetesConfig::default() }
}

impl Lab {
    async fn next(&mut self) -> Fact {
        tokio::time::timeout(Duration::from_secs(30), self.told.recv()).await.unwrap().unwrap().1
    }

    async fn until(&mut self, f: impl Fn(&Fact) -> bool) -> Fact {
        loop {
            let fact = self.next().await;
            if f(&fact) {
                return fact;
            }
        }
    }

    async fn pod(&mut self) -> PodFact {
        match self.next().await {
            Fact::Pod(p) => p,
            other => panic!("no pod: {other:?}"),
        }
    }

    /// Says something on an open watch, once there is one.
    async fn say(&self, plural: &str, line: String) {
        for _ in 0..2000 {
            if let Some(tx) = self.script.lock().unwrap().watches.get(plural)
                && tx.send(Ok(line.clone())).is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody watches {plural}");
    }

    fn hang_up(&self) {
        self.script.lock().unwrap().watches.clear();
    }

    fn asked(&self, what: &str) -> usize {
        self.script.lock().unwrap().asked.iter().filter(|a| a.contains(what)).count()
    }
}

fn synced(f: &Fact) -> bool {
    matches!(f, Fact::State(SourceState::Synced))
}

fn stale(f: &Fact) -> bool {
    matches!(f, Fact::State(SourceState::Stale(_)))
}

#[tokio::test]
async fn pages_watches_resumes_and_lists_again_on_410() {
    let objects = (1..=5).map(|n| pod(n, &json!({"tenant": "acme"}))).collect();
    let script = Script { objects: HashMap::from([("pods", objects)]), ..Script::default() };
    let mut lab = lab(script, &[Place::Pods], node()).await;
    let first = lab.pod().await;
    assert_eq!((first.uid.as_str(), first.namespace.as_str(), first.name.as_str()), ("uid-1", "shop", "web-1"));
    assert_eq!(first.tenants.first().map(|r| r.tenant.as_str()), Some("acme"));
    assert_eq!((first.addresses.len(), first.containers.len()), (1, 1));
    assert!(matches!(lab.until(|f| matches!(f, Fact::All(_))).await, Fact::All(ids) if ids.len() == 5));
    assert!(synced(&lab.next().await));
    assert!(lab.asked("fieldSelector=spec.nodeName%3Dn1") >= 3, "every page and the watch ask for this node's pods");

    // A change, a bookmark, an end; then the watch is resumed from the bookmark.
    lab.say("pods", event("MODIFIED", &pod(1, &json!({"tenant": "globex"})))).await;
    assert_eq!(lab.pod().await.tenants.first().map(|r| r.tenant.as_str()), Some("globex"));
    let bookmark = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "4711"}});
    lab.say("pods", event("BOOKMARK", &bookmark)).await;
    lab.say("pods", event("DELETED", &pod(2, &json!({})))).await;
    assert!(matches!(lab.next().await, Fact::PodGone(uid) if uid == "uid-2"));
    let mut last = pod(3, &json!({"tenant": "acme"}));
    last["metadata"]["resourceVersion"] = json!("4712");
    last["status"]["phase"] = json!("Succeeded");
    lab.say("pods", event("MODIFIED", &last)).await;
    assert_eq!(lab.pod().await.addresses.len(), 0, "a pod that has ended has no address");
    let lists = lab.asked("/api/v1/pods?&limit") + lab.asked("/api/v1/pods?limit");
    lab.hang_up();
    lab.say("pods", event("ADDED", &pod(6, &json!({})))).await;
    assert_eq!(lab.pod().await.name, "web-6");
    assert!(lab.asked("resourceVersion=4712") >= 1, "{:?}", lab.script.lock().unwrap().asked);
    assert_eq!(lab.asked("/api/v1/pods?&limit") + lab.asked("/api/v1/pods?limit"), lists, "resumed without a list");

    // The server has forgotten that version: everything is listed again, and who is missing is gone.
    lab.script.lock().unwrap().objects.insert("pods", vec![pod(6, &json!({}))]);
    let expired = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version"});
    lab.say("pods", event("ERROR", &expired)).await;
    assert!(matches!(lab.until(|f| matches!(f, Fact::All(_))).await, Fact::All(ids) if ids.len() == 1));
    assert!(synced(&lab.next().await));
}

#[tokio::test]
async fn an_absent_server_leaves_what_was_known_and_comes_back() {
    let script = Script { objects: HashMap::from([("pods", vec![pod(1, &json!({}))])]), ..Script::default() };
    let mut lab = lab(script, &[Place::Pods], node()).await;
    lab.until(synced).await;
    lab.server.take().unwrap().stop().await;
    assert!(stale(&lab.until(|f| !synced(f)).await), "nothing is said to be gone");
    // The same port answers again; nothing has changed, so that the resumed watch says nothing.
    let script = lab.script.clone();
    let port = lab.port;
    let (_, _server) = serve(port, script).await;
    assert!(synced(&lab.until(|f| !stale(f)).await));
}

#[tokio::test]
async fn a_refusal_is_told_in_words() {
    let mut lab = lab(Script { forbidden: true, ..Script::default() }, &[Place::Namespaces], node()).await;
    let Fact::State(SourceState::Stale(why)) = lab.until(stale).await else { unreachable!() };
    assert!(why.contains("forbidden"), "{why}");
    // Rights are given while it runs.
    lab.script.lock().unwrap().forbidden = false;
    lab.until(synced).await;
}

#[tokio::test]
async fn namespaces_services_and_old_slices() {
    let namespace = json!({"metadata": {"name": "shop", "labels": {"capsule.clastix.io/tenant": "oil"}}});
    let service = json!({"metadata": {"name": "db", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ports": [{"port": 5432, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let headless = json!({"metadata": {"name": "db-all", "namespace": "shop"},
        "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}});
    let slice = json!({"metadata": {"name": "db-x1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "db"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.5"], "conditions": {"ready": true}}, {"addresses": ["no address"]}],
        "ports": [{"name": "", "port": 5433, "protocol": "TCP"}]});
    let objects = HashMap::from([
        ("namespaces", vec![namespace]),
        ("services", vec![service, headless]),
        ("endpointslices", vec![slice]),
    ]);
    let places = [Place::Namespaces, Place::Services, Place::EndpointSlices];
    let script = Script { objects, old_slices: true, ..Script::default() };
    let mut lab = lab(script, &places, node()).await;
    let mut facts = Vec::new();
    let mut n_synced = 0;
    while n_synced < 3 {
        match lab.next().await {
            Fact::Namespace(name, n) => facts.push(format!("{name} {:?}", n.tenant.map(|r| r.tenant))),
            Fact::Service(s) => facts.push(format!("{} {} {:?}", s.key, s.name, s.addresses)),
            f => n_synced += usize::from(synced(&f)),
        }
    }
    facts.sort();
    assert_eq!(
        facts,
        [
            "shop Some(\"oil\")",
            "shop/db shop/db [10.96.0.7:5432]",
            "shop/db-all shop/db-all []",
            "shop/db-x1 shop/db [10.0.0.5:5433]",
        ]
    );
    assert!(lab.asked("/apis/discovery.k8s.io/v1beta1/endpointslices") >= 1);
}

#[test]
fn what_objects_lack_is_no_error() {
    let rules = Rules { config: node(), labels: ContainersConfig::default().labels, node: "n1".into() };
    let read = |v: Value| serde_json::from_value::<Pod>(v).unwrap();
    assert!(translate::pod(read(json!({})), &rules).is_none());
    let bare = read(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}}));
    assert!(matches!(translate::pod(bare, &rules), Some((_, Fact::Pod(p))) if p.addresses.is_empty()));
    let host = read(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u",
            "annotations": {"kubernetes.io/config.hash": "h", "leasewarden.io/tenant": "acme"}},
        "spec": {"hostNetwork": true}, "status": {"podIP": "192.168.0.2"}}));
    let Some((_, Fact::Pod(p))) = translate::pod(host, &rules) else { panic!("no pod") };
    assert_eq!((p.addresses.len(), p.cgroup_uid.as_deref()), (0, Some("h")), "the node's address is not the pod's");
    assert_eq!(p.tenants.first().map(|r| r.tenant.as_str()), Some("acme"));
}

#[test]
fn owners_come_from_controllers_and_roles_from_namespaces() {
    let mut rules = Rules { config: node(), labels: ContainersConfig::default().labels, node: "n1".into() };
    let labels = json!({"pod-template-hash": "5d9c7f", "leasewarden.io/role": "shared"});
    let object = |owner: Value| {
        let meta = json!({"name": "web-5d9c7f-x2b4z", "namespace": "shop", "uid": "u", "labels": labels,
            "creationTimestamp": "2026-11-21T00:00:00Z", "ownerReferences": owner});
        serde_json::from_value::<Pod>(json!({"metadata": meta, "spec": {"nodeName": "n1"}})).unwrap()
    };
    let set = |controller: bool| {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c7f", "uid": "r",
            "controller": controller}])
    };
    let read = |object: Pod, rules: &Rules| match translate::pod(object, rules) {
        Some((_, Fact::Pod(p))) => (p.owner.0, p.owner.1, p.role),
        _ => panic!("no pod"),
    };
    let (kind, name, role) = read(object(set(true)), &rules);
    assert_eq!((kind.as_str(), name.as_str(), role), ("Deployment", "web", None));
    // No controller: a label that somebody wrote makes nobody's replica of a pod.
    for none in [set(false), json!([]), Value::Null] {
        let (kind, name, _) = read(object(none), &rules);
        assert_eq!((kind.as_str(), name.as_str()), ("Pod", "web-5d9c7f-x2b4z"));
    }
    rules.labels.pod_roles = true;
    assert_eq!(read(object(set(true)), &rules).2, Some(monitor_core::model::ServiceRole::Shared));
    let namespace = json!({"metadata": {"name": "shop", "labels": {"leasewarden.io/role": "shared"}}});
    let namespace = serde_json::from_value::<Namespace>(namespace).unwrap();
    let Some((_, Fact::Namespace(_, n))) = translate::namespace(namespace, &rules) else { panic!("no namespace") };
    assert_eq!((n.tenant, n.role), (None, Some(monitor_core::model::ServiceRole::Shared)));
}
