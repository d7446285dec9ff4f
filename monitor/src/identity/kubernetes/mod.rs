//! Pods, namespaces and services by the Kubernetes API: `kube`'s watchers, which page, resume, take bookmarks and list
//! again on `410`. What they tell is kept when the API server goes; it is stale then, and said to be.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::facts::Fact;
pub use super::settings::node_name;
use super::settings::{KubernetesConfig, LabelRules, Switch};
use super::sources::{Backoff, Teller};

mod objects;
mod translate;

use objects::{EndpointSlice, Namespace, Pod, Service, SliceVersion};

/// Objects per page of a list: what is read at once is bounded by it.
const PAGE: u32 = 500;
/// The server ends a watch after so long and it is resumed; a dead connection is noticed no later.
const WATCH_SECONDS: u32 = 240;
/// How often a stale watch's server is asked whether it is back.
const PROBE: Duration = Duration::from_secs(1);
/// The service account that Kubernetes gives a pod.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Pods,
    Namespaces,
    Services,
    EndpointSlices,
}

impl Place {
    /// What this configuration asks for.
    pub(super) fn all(config: &KubernetesConfig) -> impl Iterator<Item = Self> + use<> {
        let services = config.services.then_some([Self::Services, Self::EndpointSlices]);
        [Self::Pods, Self::Namespaces].into_iter().chain(services.into_iter().flatten())
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
        }
    }
}

/// What pods and namespaces are read by.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) config: KubernetesConfig,
    pub(super) labels: LabelRules,
    /// The agent's own node.
    pub(super) node: String,
}

/// Whether this configuration, here, asks an API server.
pub fn wanted(config: &KubernetesConfig) -> bool {
    match config.enabled {
        Switch::On => true,
        Switch::Off => false,
        Switch::Auto => std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists(),
    }
}

/// Follows everything that `rules` ask for.
pub(super) async fn watch(rules: Rules, tellers: Vec<(Place, Teller)>) {
    let mut backoff = Backoff::new();
    let client = loop {
        match client(rules.config.kubeconfig.as_deref()).await {
            Ok(client) => break client,
            Err(why) => {
                for (_, teller) in &tellers {
                    if !teller.stale(why.clone()).await {
                        return;
                    }
                }
                tokio::time::sleep(backoff.next().unwrap_or(PROBE)).await;
            }
        }
    };
    watch_with(client, rules, tellers).await;
}

async fn watch_with(client: Client, rules: Rules, tellers: Vec<(Place, Teller)>) {
    let rules = &rules;
    let client = &client;
    let all = tellers.into_iter().map(|(place, teller)| async move {
        let config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
        match place {
            Place::Pods => {
                // Pods' own field selector works on every version; see the API's `Pod` field labels.
                let own = format!("spec.nodeName={}", rules.node);
                let config = if rules.config.remote_pods { config } else { config.fields(&own) };
                let api: Api<Pod> = Api::all(client.clone());
                follow(&api, config, &teller, |p| translate::pod(p, rules), Fact::PodGone).await;
            }
            Place::Namespaces => {
                let api: Api<Namespace> = Api::all(client.clone());
                follow(&api, config, &teller, |n| translate::namespace(n, rules), Fact::NamespaceGone).await;
            }
            Place::Services => {
                let api: Api<Service> = Api::all(client.clone());
                follow(&api, config, &teller, translate::service, Fact::ServiceGone).await;
            }
            Place::EndpointSlices => {
                let Some(version) = slices(client, &teller).await else { return };
                let api: Api<EndpointSlice> = Api::all_with(client.clone(), &version);
                follow(&api, config, &teller, translate::slice, Fact::ServiceGone).await;
            }
        }
    });
    futures_util::future::join_all(all).await;
}

/// The version of EndpointSlices that the server has: `v1` from 1.21 on, `v1beta1` up to 1.24.
async fn slices(client: &Client, teller: &Teller) -> Option<SliceVersion> {
    let mut backoff = Backoff::new();
    loop {
        match client.list_api_group_resources("discovery.k8s.io/v1").await {
            Ok(list) if list.resources.iter().any(|r| r.name == "endpointslices") => return Some(SliceVersion("v1")),
            Ok(_) => return Some(SliceVersion("v1beta1")),
            Err(kube::Error::Api(status)) if status.code == 404 => return Some(SliceVersion("v1beta1")),
            Err(why) => {
                if !teller.stale(describe(&why)).await {
                    return None;
                }
            }
        }
        tokio::time::sleep(backoff.next().unwrap_or(PROBE)).await;
    }
}

/// Follows one kind of objects until the agent stops. `read` gives an object's key and what it tells.
async fn follow<K>(
    api: &Api<K>,
    config: watcher::Config,
    teller: &Teller,
    read: impl Fn(K) -> Option<(String, Fact)>,
    gone: impl Fn(String) -> Fact,
) where
    K: Resource<Scope = NamespaceResourceScope> + Watched,
{
    let probe = ListParams { limit: Some(1), field_selector: config.field_selector.clone(), ..ListParams::default() };
    let mut stream = std::pin::pin!(watcher(api.clone(), config).backoff(Backoff::new()));
    let mut keep = HashSet::new();
    let mut synced = false;
    let mut failed: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            // A watch that was resumed tells nothing until something happens: whether the server is back is asked.
            () = tokio::time::sleep(PROBE), if synced && failed.is_some() => {
                let quiet = failed.is_some_and(|at| at.elapsed() > Backoff::most() + PROBE);
                if quiet && api.list(&probe).await.is_ok() {
                    failed = None;
                    if !teller.synced().await {
                        return;
                    }
                }
                continue;
            }
        };
        let going_on = match event {
            None => return,
            Some(Ok(watcher::Event::Init)) => {
                keep.clear();
                true
            }
            Some(Ok(watcher::Event::InitApply(object))) => match read(object) {
                Some((key, fact)) => {
                    keep.insert(key);
                    teller.tell(fact).await
                }
                None => true,
            },
            Some(Ok(watcher::Event::InitDone)) => {
                synced = true;
                failed = None;
                teller.tell(Fact::All(std::mem::take(&mut keep))).await && teller.synced().await
            }
            Some(Ok(watcher::Event::Apply(object))) => {
                let told = match read(object) {
                    Some((_, fact)) => teller.tell(fact).await,
                    None => true,
                };
                // Something came: the watch works.
                told && (failed.take().is_none() || !synced || teller.synced().await)
            }
            Some(Ok(watcher::Event::Delete(object))) => match read(object) {
                Some((key, _)) => teller.tell(gone(key)).await,
                None => true,
            },
            Some(Err(why)) => {
                failed = Some(Instant::now());
                teller.stale(describe(&why)).await
            }
        };
        if !going_on {
            return;
        }
    }
}

/// What `kube` asks of objects that it watches.
trait Watched: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static {}

impl<T: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static> Watched for T {}

/// An error with its causes: `kube`'s own words often end where it becomes interesting.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let more = c.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = c.source();
    }
    text
}

async fn client(kubeconfig: Option<&Path>) -> Result<Client, String> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| describe(&e))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| describe(&e))?
        }
        None if Path::new(TOKEN).exists() => Config::incluster().map_err(|e| describe(&e))?,
        None => Config::infer().await.map_err(|e| describe(&e))?,
    };
    Client::try_from(config).map_err(|e| describe(&e))
}

/// How the agent would reach the API server, in words; for `doctor`.
///
/// # Errors
/// Why it cannot, in words.
pub fn reach(config: &KubernetesConfig) -> Result<String, String> {
    let how = match &config.kubeconfig {
        Some(path) => {
            std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
            path.display().to_string()
        }
        None if Path::new(TOKEN).exists() => "the pod's service account".to_owned(),
        None => std::env::var_os("KUBECONFIG")
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|h| h.join(".kube/config")))
            .filter(|p| p.exists())
            .map(|p| p.display().to_string())
            .ok_or("neither a service account nor a kubeconfig is there")?,
    };
    let node = node_name(config).ok_or("no name for this node: set NODE_NAME")?;
    Ok(format!("by {how}, node {node}"))
}

#[cfg(test)]
mod tests;
