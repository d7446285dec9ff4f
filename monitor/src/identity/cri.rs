//! Containers by the Container Runtime Interface: gRPC over a Unix socket (containerd, CRI-O, cri-dockerd).
//!
//! Sandboxes and containers are listed: at the start, now and then, and when a cgroup of an unknown container turns up.
//! A runtime knows a container before it makes its cgroup, so the list that follows has it. Events
//! (`GetContainerEvents`) came with containerd 1.7 and tell nothing sooner.
//!
//! The messages are the fields that count of `runtime.v1` (`cri-api/pkg/apis/runtime/v1/api.proto`), written out:
//! crates with all of them call `protoc` when they are built. What is not named here is skipped by the decoder.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::facts::{ContainerFact, Fact, printable};
use super::owner::{self, PodNames};
use super::settings::LabelRules;
use super::sources::{Backoff, Teller};

/// Largest answer read.
const MAX_ANSWER: usize = 64 << 20;
/// Longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often everything is listed while nobody waits.
const RELIST: Duration = Duration::from_secs(30);
/// Shortest time between lists that somebody waits for.
const POKED: Duration = Duration::from_millis(100);

/// A list of everything: filters are left out.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListRequest {}

/// `ListContainersResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<Container>,
}

/// `Container`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<ContainerMetadata>,
    #[prost(map = "string, string", tag = "8")]
    pub(super) labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "9")]
    pub(super) annotations: HashMap<String, String>,
}

/// `ContainerMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Sandbox>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sandbox {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<SandboxMetadata>,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "4")]
    pub(super) created_at: i64,
    #[prost(map = "string, string", tag = "5")]
    pub(super) labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "6")]
    pub(super) annotations: HashMap<String, String>,
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

/// The service's versions, newest first: the messages are alike. containerd has `v1` from 1.6 on.
const VERSIONS: [[&str; 2]; 2] = [
    ["/runtime.v1.RuntimeService/ListPodSandbox", "/runtime.v1.RuntimeService/ListContainers"],
    ["/runtime.v1alpha2.RuntimeService/ListPodSandbox", "/runtime.v1alpha2.RuntimeService/ListContainers"],
];

/// Follows the containers of the runtime behind `socket`.
pub(super) async fn watch(socket: PathBuf, labels: LabelRules, teller: Teller) {
    let address = format!("unix:{}", socket.display());
    let mut backoff = Backoff::new();
    let mut version = 0;
    let mut channel: Option<Channel> = None;
    loop {
        let listed = async {
            let channel = match &channel {
                Some(channel) => channel.clone(),
                None => connect(&address).await?,
            };
            Ok::<_, Status>((list(&channel, &mut version).await?, channel))
        };
        match tokio::time::timeout(PATIENCE, listed).await {
            Ok(Ok((listed, connected))) => {
                channel = Some(connected);
                backoff = Backoff::new();
                if !tell(listed, &labels, &teller).await {
                    return;
                }
                tokio::select! {
                    () = teller.poke.notified() => tokio::time::sleep(POKED / 4).await,
                    () = tokio::time::sleep(RELIST) => {}
                }
            }
            failed => {
                channel = None;
                let why = match failed {
                    Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
                    _ => format!("no answer within {} s", PATIENCE.as_secs()),
                };
                if !teller.stale(why).await {
                    return;
                }
                tokio::time::sleep(backoff.next().unwrap_or(POKED)).await;
            }
        }
    }
}

async fn connect(address: &str) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|e| Status::internal(e.to_string()))?;
    endpoint.connect().await.map_err(|e| {
        // The cause says what is wrong with the socket; the error itself only "transport error".
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        Status::unavailable(cause)
    })
}

async fn list(channel: &Channel, version: &mut usize) -> Result<(Sandboxes, Containers), Status> {
    loop {
        let [sandboxes, containers] = VERSIONS.get(*version).copied().unwrap_or(VERSIONS[0]);
        match call::<Sandboxes>(channel, sandboxes).await {
            Ok(found) => return Ok((found, call::<Containers>(channel, containers).await?)),
            Err(status) if status.code() == Code::Unimplemented && *version + 1 < VERSIONS.len() => *version += 1,
            Err(status) => {
                *version = 0;
                return Err(status);
            }
        }
    }
}

async fn call<T: prost::Message + Default + 'static>(channel: &Channel, path: &'static str) -> Result<T, Status> {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec: ProstCodec<ListRequest, T> = ProstCodec::default();
    let answer = client.unary(Request::new(ListRequest {}), PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

async fn tell((sandboxes, containers): (Sandboxes, Containers), labels: &LabelRules, teller: &Teller) -> bool {
    let mut ids = HashSet::new();
    for fact in facts(sandboxes, containers, labels) {
        ids.insert(fact.id.clone());
        if !teller.tell(Fact::Container(fact)).await {
            return false;
        }
    }
    teller.tell(Fact::All(ids)).await && teller.synced().await
}

/// What a pod's labels say, all its containers say; their own labels and annotations come first. What a pod says of its
/// own role counts only where pods may say that: all of these are pods'.
fn facts(sandboxes: Sandboxes, containers: Containers, labels: &LabelRules) -> Vec<ContainerFact> {
    let by_id: HashMap<&str, &Sandbox> = sandboxes.items.iter().map(|s| (s.id.as_str(), s)).collect();
    let name = |s: &Sandbox| s.metadata.as_ref().map(|m| printable(&format!("{}/{}", m.namespace, m.name)));
    let of_sandbox = |s: &Sandbox, key: &str| s.labels.get(key).or_else(|| s.annotations.get(key)).cloned();
    let owner = |s: &Sandbox| {
        let m = s.metadata.as_ref()?;
        let (namespace, name) = (printable(&m.namespace), printable(&m.name));
        let created = s.created_at / 1_000_000_000;
        let pod = PodNames { namespace: &namespace, name: &name, created, node: None };
        Some(owner::of_pod(pod, None, |key| s.labels.get(key)))
    };
    let mut facts = Vec::with_capacity(sandboxes.items.len() + containers.containers.len());
    for s in &sandboxes.items {
        let (tenant, role) = labels.read(|key| of_sandbox(s, key));
        let role = role.filter(|_| labels.pod_roles);
        let name = name(s).unwrap_or_default();
        facts.push(ContainerFact { id: s.id.clone(), name, tenant, role, owner: owner(s) });
    }
    for c in containers.containers {
        let sandbox = by_id.get(c.pod_sandbox_id.as_str()).copied();
        let (tenant, role) = labels.read(|key| {
            let own = c.labels.get(key).or_else(|| c.annotations.get(key)).cloned();
            own.or_else(|| sandbox.and_then(|s| of_sandbox(s, key)))
        });
        let role = role.filter(|_| labels.pod_roles);
        let own = || c.metadata.as_ref().map_or_else(|| c.id.clone(), |m| printable(&m.name));
        let name = sandbox.and_then(name).unwrap_or_else(own);
        facts.push(ContainerFact { id: c.id.clone(), name, tenant, role, owner: sandbox.and_then(owner) });
    }
    facts
}

#[cfg(test)]
#[path = "cri_tests.rs"]
mod tests;
