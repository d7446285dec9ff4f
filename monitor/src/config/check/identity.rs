//! Checks of `identity`.

use std::path::PathBuf;
use std::time::Duration;

use monitor_core::model::{Nanos, ServiceRole};

use super::super::file::{self, RoleName};
use super::super::located::Located;
use super::super::problem::Problem;
use super::Check;
use crate::identity::{
    AddressMatch, CgroupGlob, KubernetesConfig, Sockets, StaticMatcher, StaticRule, Switch, TenantPattern, TenantSource,
};

/// Longest wait for a label: all events wait behind the one that does.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Whoever asks for what this build cannot do must not believe that it is done.
const NOT_BUILT_IN: &str = "this build can ask neither CRI runtimes nor Kubernetes (the feature `kubernetes` is off)";

impl Check<'_> {
    pub(super) fn identity(&mut self, identity: file::Identity) {
        for (i, entry) in identity.statics.into_iter().enumerate() {
            self.static_rule(&format!("identity.static[{i}]"), &entry);
        }
        if let Some(containers) = identity.containers {
            self.containers(containers);
        }
        if let Some(kubernetes) = identity.kubernetes {
            self.kubernetes(kubernetes);
        }
        if let Some(wait) = identity.wait {
            self.wait(&wait);
        }
        let Some(patterns) = identity.patterns else { return };
        self.config.identity.patterns.clear();
        for (i, text) in patterns.iter().enumerate() {
            match TenantPattern::new(text) {
                Ok(pattern) => self.config.identity.patterns.push(pattern),
                Err(why) => self.problem(text.at, format!("identity.patterns[{i}]"), why),
            }
        }
    }

    fn containers(&mut self, c: file::Containers) {
        let path = "identity.containers";
        if let Some(docker) = &c.docker {
            self.config.identity.containers.docker = self.sockets(docker, &format!("{path}.docker"));
        }
        if let Some(cri) = &c.cri {
            let sockets = self.sockets(cri, &format!("{path}.cri"));
            if cfg!(not(feature = "kubernetes")) && matches!(sockets, Sockets::These(_)) {
                self.problem(cri.at, format!("{path}.cri"), NOT_BUILT_IN);
            }
            self.config.identity.containers.cri = sockets;
        }
        for (labels, key) in [(&c.tenant_labels, "tenant_labels"), (&c.role_labels, "role_labels")] {
            for (i, label) in labels.iter().flatten().enumerate() {
                self.label(label, &format!("{path}.{key}[{i}]"));
            }
        }
        let rules = &mut self.config.identity.containers.labels;
        let values = |labels: Vec<Located<String>>| labels.into_iter().map(|l| l.value).collect();
        if let Some(labels) = c.tenant_labels {
            rules.tenant = values(labels);
        }
        if let Some(labels) = c.role_labels {
            rules.role = values(labels);
        }
    }

    fn sockets(&mut self, names: &Located<file::SocketNames>, path: &str) -> Sockets {
        let many = match &names.value {
            file::SocketNames::One(one) if one.eq_ignore_ascii_case("auto") => return Sockets::Auto,
            file::SocketNames::One(one) if one.eq_ignore_ascii_case("off") => return Sockets::Off,
            file::SocketNames::One(one) => std::slice::from_ref(one),
            file::SocketNames::Many(many) => many.as_slice(),
        };
        for name in many {
            // What tools write before the path is no part of it.
            if !name.starts_with('/') {
                let help = name.strip_prefix("unix://").map(|p| format!("write `{p}`"));
                let message =
                    format!("expected `auto`, `off`, or the path of a socket beginning with `/`, found `{name}`");
                self.problems.push(Problem { at: names.at, path: path.to_owned(), message, help });
            }
        }
        Sockets::These(many.iter().map(PathBuf::from).collect())
    }

    fn label(&mut self, label: &Located<String>, path: &str) {
        if label.trim().is_empty() || label.chars().count() > 320 || label.chars().any(char::is_control) {
            self.problem(label.at, path, "expected the key of a label, of at most 320 characters");
        }
    }

    fn kubernetes(&mut self, k: file::Kubernetes) {
        let path = "identity.kubernetes";
        let mut tenant = Vec::new();
        for (i, from) in k.tenant.iter().flatten().enumerate() {
            let path = format!("{path}.tenant[{i}]");
            let f = &from.value;
            match [&f.pod_label, &f.pod_annotation, &f.namespace_label, &f.namespace_pattern] {
                [Some(key), None, None, None] => {
                    self.label(key, &format!("{path}.pod_label"));
                    tenant.push(TenantSource::PodLabel(key.value.clone()));
                }
                [None, Some(key), None, None] => {
                    self.label(key, &format!("{path}.pod_annotation"));
                    tenant.push(TenantSource::PodAnnotation(key.value.clone()));
                }
                [None, None, Some(key), None] => {
                    self.label(key, &format!("{path}.namespace_label"));
                    if key.matches('*').count() > 1 {
                        self.problem(key.at, format!("{path}.namespace_label"), "expected at most one `*`");
                    }
                    tenant.push(TenantSource::NamespaceLabel(key.value.clone()));
                }
                [None, None, None, Some(text)] => match TenantPattern::new(text) {
                    Ok(pattern) => tenant.push(TenantSource::NamespacePattern(pattern)),
                    Err(why) => self.problem(text.at, format!("{path}.namespace_pattern"), why),
                },
                _ => {
                    let message = "expected exactly one of `pod_label`, `pod_annotation`, `namespace_label`, \
                                   `namespace_pattern`";
                    // A key that was wrong in itself has been told, and taken out.
                    if self.whole {
                        self.problem(from.at, path, message);
                    }
                }
            }
        }
        self.config.identity.containers.labels.pod_roles = k.pod_roles;
        let enabled = match &k.enabled {
            None => Switch::Auto,
            Some(switch) => match switch.value {
                file::SwitchName::Auto => Switch::Auto,
                file::SwitchName::On => Switch::On,
                file::SwitchName::Off => Switch::Off,
            },
        };
        if let Some(switch) = k.enabled.filter(|_| cfg!(not(feature = "kubernetes")) && enabled == Switch::On) {
            self.problem(switch.at, format!("{path}.enabled"), NOT_BUILT_IN);
        }
        let text = |t: Option<Located<String>>| t.map(|t| t.value).filter(|t| !t.is_empty());
        let default = KubernetesConfig::default();
        self.config.identity.kubernetes = KubernetesConfig {
            enabled,
            node: text(k.node),
            kubeconfig: text(k.kubeconfig).map(PathBuf::from),
            remote_pods: k.remote_pods,
            services: k.services,
            tenant: if k.tenant.is_some() { tenant } else { default.tenant },
        };
    }

    fn wait(&mut self, wait: &file::Wait) {
        if let Some(text) = &wait.at_most {
            match humantime::parse_duration(text) {
                Ok(d) if d <= LONGEST_WAIT => {
                    self.config.identity.wait.at_most = Nanos(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
                }
                _ => self.problem(
                    text.at,
                    "identity.wait.at_most",
                    format!("expected a duration of at most 30s, such as `2s`, found `{}`", text.value),
                ),
            }
        }
        if let Some(bytes) = &wait.bytes {
            if bytes.value > 1 << 30 {
                let message = format!("expected a whole number from 0 to {}, found {}", 1 << 30, bytes.value);
                self.problem(bytes.at, "identity.wait.bytes", message);
            }
            self.config.identity.wait.bytes = usize::try_from(bytes.value).unwrap_or(usize::MAX);
        }
    }

    fn static_rule(&mut self, path: &str, entry: &file::Static) {
        for (name, key) in [(&entry.tenant, "tenant"), (&entry.workload, "workload")] {
            if let Some(name) = name {
                self.name(name, format!("{path}.{key}"));
            }
        }
        let matches = &entry.matches.value;
        if self.whole && entry.tenant.is_none() && entry.workload.is_none() && entry.role.is_none() {
            self.problem(
                entry.matches.at,
                path,
                "says nothing; expected `tenant`, `workload` or `role` beside `match`",
            );
        }
        let matcher = match (&matches.cgroup, &matches.ip) {
            (Some(glob), None) => {
                if let Some(port) = &matches.port {
                    self.problem(port.at, format!("{path}.match.port"), "`port` goes with `ip`, not with `cgroup`");
                }
                match CgroupGlob::new(glob) {
                    Ok(glob) => Some(StaticMatcher::Cgroup(glob)),
                    Err(why) => {
                        self.problem(glob.at, format!("{path}.match.cgroup"), why);
                        None
                    }
                }
            }
            (None, Some(ip)) => self.network(ip, &format!("{path}.match.ip")).map(|(net, prefix)| {
                let port = matches.port.as_ref().map(|p| p.value);
                StaticMatcher::Address(AddressMatch { net, prefix, port })
            }),
            (Some(_), Some(ip)) => {
                self.problem(
                    ip.at,
                    format!("{path}.match"),
                    "expected `cgroup` or `ip`, found both; write two entries",
                );
                None
            }
            (None, None) => {
                if self.whole {
                    self.problem(entry.matches.at, format!("{path}.match"), "expected `cgroup` or `ip`");
                }
                None
            }
        };
        let Some(matcher) = matcher else { return };
        self.config.identity.statics.push(StaticRule {
            matcher,
            tenant: entry.tenant.as_ref().map(|t| t.value.clone()),
            workload: entry.workload.as_ref().map(|w| w.value.clone()),
            role: entry.role.map(|role| match role {
                RoleName::Runtime => ServiceRole::Runtime,
                RoleName::Shared => ServiceRole::Shared,
                RoleName::Service => ServiceRole::Service,
            }),
        });
    }

    pub(super) fn network(&mut self, text: &Located<String>, path: &str) -> Option<(std::net::IpAddr, u8)> {
        if let Ok(ip) = text.parse::<std::net::IpAddr>() {
            return Some((ip, if ip.is_ipv4() { 32 } else { 128 }));
        }
        match text.parse::<ipnet::IpNet>() {
            Ok(net) => Some((net.network(), net.prefix_len())),
            Err(_) => {
                self.problem(
                    text.at,
                    path,
                    format!("expected an address or a network such as `10.1.0.0/24`, found `{}`", text.value),
                );
                None
            }
        }
    }
}
