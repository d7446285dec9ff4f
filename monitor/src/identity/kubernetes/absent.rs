//! In place of Kubernetes, in a build without the feature `kubernetes`: no API server is asked. Who asks for one by name
//! in the configuration is refused there.

use super::settings::KubernetesConfig;

pub use super::settings::node_name;

/// Whether this configuration, here, asks an API server.
pub fn wanted(_: &KubernetesConfig) -> bool {
    false
}

/// How the agent would reach the API server, in words; for `doctor`.
///
/// # Errors
/// Always.
pub fn reach(_: &KubernetesConfig) -> Result<String, String> {
    Err("this build has no Kubernetes".to_owned())
}
