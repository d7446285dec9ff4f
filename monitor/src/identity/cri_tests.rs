//! A scripted runtime: gRPC over a Unix socket, of either version of the service, going and coming back.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc as ServerGrpc, NamedService, UnaryService};

use super::super::facts::{SourceId, SourceState};
use super::super::scripted::Running;
use super::super::settings::ContainersConfig;
use super::super::sources::Told;
use super::*;

type Shared = Arc<Mutex<(Sandboxes, Containers)>>;

macro_rules! runtime {
    ($name:ident, $service:literal) => {
        #[derive(Clone)]
        struct $name(Shared);

        impl NamedService for $name {
            const NAME: &'static str = $service;
        }

        impl Service<http::Request<Body>> for $name {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = BoxFuture<Self::Response, Infallible>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                answer(self.0.clone(), request)
            }
        }
    };
}

runtime!(V1, "runtime.v1.RuntimeService");
runtime!(V1Alpha2, "runtime.v1alpha2.RuntimeService");

struct Give<T>(T);

impl<T: Clone + Send + prost::Message + 'static> UnaryService<ListRequest> for Give<T> {
    type Response = T;
    type Future = BoxFuture<tonic::Response<T>, Status>;

    fn call(&mut self, _: Request<ListRequest>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move { Ok(tonic::Response::new(answer)) })
    }
}

fn answer(state: Shared, request: http::Request<Body>) -> BoxFuture<http::Response<Body>, Infallible> {
    Box::pin(async move {
        let (sandboxes, containers) = state.lock().unwrap().clone();
        Ok(if request.uri().path().ends_with("ListPodSandbox") {
            ServerGrpc::new(ProstCodec::<Sandboxes, ListRequest>::default()).unary(Give(sandboxes), request).await
        } else {
            ServerGrpc::new(ProstCodec::<Containers, ListRequest>::default()).unary(Give(containers), request).await
        })
    })
}

fn serve(path: &Path, state: Shared, old: bool) -> Running {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let incoming = futures_util::stream::poll_fn(move |cx| listener.poll_accept(cx).map(|r| Some(r.map(|(s, _)| s))));
    let mut server = tonic::transport::Server::builder();
    let router = if old { server.add_service(V1Alpha2(state)) } else { server.add_service(V1(state)) };
    Running::new(async move { drop(router.serve_with_incoming(incoming).await) })
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn state() -> Shared {
    let sandbox = Sandbox {
        id: "5".repeat(64),
        metadata: Some(SandboxMetadata { name: "web".into(), namespace: "shop".into() }),
        created_at: 1_795_219_200_000_000_000,
        labels: map(&[("tenant", "acme")]),
        annotations: map(&[("leasewarden.io/role", "shared")]),
    };
    let container = Container {
        id: "c".repeat(64),
        pod_sandbox_id: sandbox.id.clone(),
        metadata: Some(ContainerMetadata { name: "nginx".into() }),
        ..Container::default()
    };
    let alone = Container {
        id: "d".repeat(64),
        metadata: Some(ContainerMetadata { name: "al\u{1b}one".into() }),
        labels: map(&[("leasewarden.io/tenant", "globex")]),
        ..Container::default()
    };
    Arc::new(Mutex::new((Sandboxes { items: vec![sandbox] }, Containers { containers: vec![container, alone] })))
}

struct Lab {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    told: mpsc::Receiver<Told>,
    poke: Arc<Notify>,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cri.sock");
    let (out, told) = mpsc::channel(64);
    let poke = Arc::new(Notify::new());
    let teller = Teller { id: SourceId(0), out, poke: poke.clone() };
    tokio::spawn(watch(socket.clone(), ContainersConfig::default().labels, teller));
    Lab { _dir: dir, socket, told, poke }
}

impl Lab {
    /// Containers told up to the next state: id's first digit, name, tenant.
    async fn round(&mut self) -> (Vec<String>, SourceState) {
        let mut containers = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_secs(20), self.told.recv()).await.unwrap().unwrap().1 {
                Fact::Container(c) => {
                    let tenant = c.tenant.unwrap_or_default();
                    containers.push(format!("{} {} {tenant} {:?}", &c.id[..1], c.name, c.role));
                }
                Fact::State(state) => return (containers, state),
                _ => {}
            }
        }
    }
}

const LISTED: [&str; 3] = ["5 shop/web acme None", "c shop/web acme None", "d al\u{fffd}one globex None"];

#[test]
fn a_pod_says_its_role_where_it_may_and_what_it_is_one_of() {
    let of = |pod_roles, labels: &[(&str, &str)], name: &str| {
        let (mut sandboxes, containers) = state().lock().unwrap().clone();
        let sandbox = &mut sandboxes.items[0];
        sandbox.labels.extend(map(labels));
        sandbox.metadata = Some(SandboxMetadata { name: name.into(), namespace: "shop".into() });
        let labels = LabelRules { pod_roles, ..ContainersConfig::default().labels };
        let fact = facts(sandboxes, containers, &labels).remove(1);
        let owner = fact.owner.unwrap();
        (fact.role, format!("{} {}/{}", owner.kind, owner.namespace, owner.name))
    };
    assert_eq!(of(false, &[], "web"), (None, "Pod shop/web".into()));
    let hash = [("pod-template-hash", "5d9c7f")];
    let shared = Some(monitor_core::model::ServiceRole::Shared);
    assert_eq!(of(true, &hash, "web-5d9c7f-x2b4z"), (shared, "Deployment shop/web".into()));
}

#[tokio::test]
async fn lists_at_the_start_and_when_somebody_waits() {
    let mut lab = lab();
    assert!(matches!(lab.round().await.1, SourceState::Stale(_)), "nobody there yet");
    let state = state();
    let server = serve(&lab.socket, state.clone(), false);
    let (containers, synced) = loop {
        let round = lab.round().await;
        if round.1 == SourceState::Synced {
            break round;
        }
    };
    assert_eq!((containers, synced), (LISTED.map(str::to_owned).to_vec(), SourceState::Synced));
    state.lock().unwrap().1.containers.truncate(1);
    lab.poke.notify_one();
    assert_eq!(lab.round().await.0, LISTED[..2]);
    // The runtime goes.
    server.stop().await;
    std::fs::remove_file(&lab.socket).unwrap();
    lab.poke.notify_one();
    assert!(matches!(lab.round().await.1, SourceState::Stale(_)));
}

#[tokio::test]
async fn an_old_runtime_is_asked_by_its_own_version() {
    let mut lab = lab();
    lab.round().await;
    let _server = serve(&lab.socket, state(), true);
    loop {
        let (containers, state) = lab.round().await;
        if state == SourceState::Synced {
            assert_eq!(containers, LISTED);
            break;
        }
    }
}
