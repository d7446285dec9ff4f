//! Checks of `identity`.

use monitor_core::model::ServiceRole;

use super::super::file::{self, RoleName};
use super::super::located::Located;
use super::Check;
use crate::identity::{AddressMatch, CgroupGlob, StaticMatcher, StaticRule, TenantPattern};

impl Check<'_> {
    pub(super) fn identity(&mut self, identity: file::Identity) {
        for (i, entry) in identity.statics.into_iter().enumerate() {
            self.static_rule(&format!("identity.static[{i}]"), &entry);
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
