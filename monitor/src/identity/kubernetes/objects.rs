//! Kubernetes' objects, with the fields that count: what is not named here is not kept when a page of them is read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};

/// What counts of `ObjectMeta`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slim {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// Reads metadata without `managedFields`: who owns which field is most of an object, and many small pieces of memory.
fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let s = Slim::deserialize(from)?;
    Ok(ObjectMeta {
        name: s.name,
        namespace: s.namespace,
        uid: s.uid,
        labels: s.labels,
        annotations: s.annotations,
        resource_version: s.resource_version,
        creation_timestamp: s.creation_timestamp,
        owner_references: s.owner_references,
        ..ObjectMeta::default()
    })
}

/// `Pod` (core/v1).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    #[serde(default, deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) host_network: bool,
    #[serde(default)]
    pub(super) node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    #[serde(default)]
    pub(super) phase: Option<String>,
    #[serde(default, rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(default, rename = "podIPs")]
    pub(super) pod_ips: Option<Vec<PodIp>>,
    #[serde(default)]
    pub(super) container_statuses: Option<Vec<ContainerStatus>>,
    #[serde(default)]
    pub(super) init_container_statuses: Option<Vec<ContainerStatus>>,
    #[serde(default)]
    pub(super) ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodIp {
    #[serde(default)]
    pub(super) ip: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ContainerStatus {
    #[serde(default, rename = "containerID")]
    pub(super) container_id: Option<String>,
}

/// `Namespace` (core/v1).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Namespace {
    #[serde(default, deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
}

/// `Service` (core/v1).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Service {
    #[serde(default, deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(default, rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    #[serde(default, rename = "clusterIPs")]
    pub(super) cluster_ips: Option<Vec<String>>,
    #[serde(default)]
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Port {
    #[serde(default)]
    pub(super) port: Option<i32>,
    #[serde(default)]
    pub(super) protocol: Option<String>,
}

/// `EndpointSlice` (discovery.k8s.io, v1 and v1beta1: alike in these fields).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct EndpointSlice {
    #[serde(default, deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Endpoint {
    #[serde(default)]
    pub(super) addresses: Vec<String>,
}

/// The version of EndpointSlices that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SliceVersion(pub(super) &'static str);

impl Default for SliceVersion {
    fn default() -> Self {
        Self("v1")
    }
}

/// Name and labels of an object.
pub(super) fn labels(meta: &ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    meta.labels.as_ref().unwrap_or(&NONE)
}

macro_rules! resource {
    ($type:ident, $dynamic:ty, $plural:literal, $group:literal, |$dt:ident| $version:expr) => {
        impl Resource for $type {
            type DynamicType = $dynamic;
            // Namespaces are of no namespace; as they are only ever listed over the whole cluster, nobody can tell.
            type Scope = NamespaceResourceScope;

            fn kind(_: &Self::DynamicType) -> Cow<'_, str> {
                stringify!($type).into()
            }

            fn group(_: &Self::DynamicType) -> Cow<'_, str> {
                $group.into()
            }

            fn version($dt: &Self::DynamicType) -> Cow<'_, str> {
                $version.into()
            }

            fn plural(_: &Self::DynamicType) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Pod, (), "pods", "", |_dt| "v1");
resource!(Namespace, (), "namespaces", "", |_dt| "v1");
resource!(Service, (), "services", "", |_dt| "v1");
resource!(EndpointSlice, SliceVersion, "endpointslices", "discovery.k8s.io", |dt| dt.0);
