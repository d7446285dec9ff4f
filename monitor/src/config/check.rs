//! What the types cannot say: references, ranges, patterns, dates.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use monitor_core::model::settings::{Limits, RuleSpec, ServiceSpec, Suppression, TenantSpec};
use monitor_core::model::{BindPolicy, Nanos, Protocol, ServiceRole, Severity, Strength};

use super::catalogue::{self, Known};
use super::file::{self, File, ProtocolName, RoleName, SeverityName, StrengthName};
use super::located::Located;
use super::problem::{Pos, Problem, did_you_mean};
use super::Config;
use crate::identity::{AddressMatch, CgroupGlob, StaticMatcher, StaticRule, TenantPattern};

/// A configuration, usable only if there are no problems.
pub(super) struct Checked {
    pub(super) config: Config,
    pub(super) problems: Vec<Problem>,
}

/// Checks what a file means. `whole`: nothing was taken out of it, so that what is missing is really missing.
pub(super) fn check(file: File, now: Nanos, whole: bool) -> Checked {
    let mut this = Check { problems: Vec::new(), config: Config::default(), now, whole };
    if file.version.value != 1 {
        this.problem(file.version.at, "version", format!("version {} is not known; expected 1", file.version.value));
    }
    if let Some(identity) = file.identity {
        this.identity(identity);
    }
    this.tenants(file.tenants);
    this.services(file.services);
    this.rules(file.rules.0);
    this.suppress(file.suppress);
    if let Some(limits) = file.limits {
        this.limits(&limits);
    }
    if let Some(export) = file.export {
        this.export(export);
    }
    Checked { config: this.config, problems: this.problems }
}

struct Check {
    problems: Vec<Problem>,
    config: Config,
    now: Nanos,
    whole: bool,
}

impl Check {
    fn problem(&mut self, at: Pos, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { at, path: path.into(), message: message.into(), help: None });
    }

    fn warn(&mut self, at: Pos, path: impl Into<String>, message: impl Into<String>) {
        self.config.warnings.push(Problem { at, path: path.into(), message: message.into(), help: None });
    }

    /// A name that may appear in findings and metric labels.
    fn name(&mut self, name: &Located<String>, path: impl Into<String>) {
        if name.trim().is_empty() {
            self.problem(name.at, path, "expected a name, found empty text");
        } else if name.chars().count() > 128 || name.chars().any(char::is_control) {
            self.problem(name.at, path, "expected a name of at most 128 characters, without control characters");
        }
    }

    fn identity(&mut self, identity: file::Identity) {
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
            self.problem(entry.matches.at, path, "says nothing; expected `tenant`, `workload` or `role` beside `match`");
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
                self.problem(ip.at, format!("{path}.match"), "expected `cgroup` or `ip`, found both; write two entries");
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

    fn network(&mut self, text: &Located<String>, path: &str) -> Option<(std::net::IpAddr, u8)> {
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

    fn tenants(&mut self, tenants: Vec<file::Tenant>) {
        let mut spellings: HashMap<String, (String, Pos)> = HashMap::new();
        for (i, tenant) in tenants.into_iter().enumerate() {
            let path = format!("tenants[{i}]");
            self.name(&tenant.name, format!("{path}.name"));
            let all = std::iter::once((&tenant.name, format!("{path}.name"))).chain(
                tenant.aliases.iter().enumerate().map(|(j, alias)| (alias, format!("{path}.aliases[{j}]"))),
            );
            for (spelling, path) in all {
                if spelling.trim().is_empty() {
                    if path.ends_with(']') {
                        self.problem(spelling.at, path, "expected an alias, found empty text");
                    }
                    continue;
                }
                let known = spellings.get(&spelling.to_lowercase()).cloned();
                match known {
                    Some((owner, at)) if owner == tenant.name.value && path.ends_with(']') => self.warn(
                        spelling.at,
                        path,
                        format!("`{}` is given twice (first in line {}); case does not matter", spelling.value, at.line),
                    ),
                    Some((owner, at)) => self.problem(
                        spelling.at,
                        path,
                        format!("`{}` already names tenant `{owner}` (line {})", spelling.value, at.line),
                    ),
                    None => {
                        spellings.insert(spelling.to_lowercase(), (tenant.name.value.clone(), spelling.at));
                    }
                }
            }
            self.config.settings.tenants.push(TenantSpec {
                name: tenant.name.value,
                aliases: tenant.aliases.into_iter().map(|a| a.value).collect(),
            });
        }
    }

    fn services(&mut self, services: Vec<file::Service>) {
        for (i, service) in services.into_iter().enumerate() {
            let path = format!("services[{i}]");
            self.name(&service.name, format!("{path}.name"));
            let matches = &service.matches.value;
            let net = matches.ip.as_ref().and_then(|ip| self.network(ip, &format!("{path}.match.ip")));
            if self.whole && matches.port.is_none() && matches.ip.is_none() {
                self.problem(service.matches.at, format!("{path}.match"), "expected `port`, `ip` or both");
            }
            if let Some(port) = matches.port.as_ref().filter(|p| p.value == 0) {
                self.problem(port.at, format!("{path}.match.port"), "expected a port from 1 to 65535, found 0");
            }
            let (minimum, policy) = match service.revalidation {
                Some(r) => self.revalidation(r, &format!("{path}.revalidation")),
                None => (None, BindPolicy::default()),
            };
            self.config.settings.services.push(ServiceSpec {
                name: service.name.value,
                port: matches.port.as_ref().map(|p| p.value),
                net,
                protocol: service.protocol.map(|p| match p {
                    ProtocolName::Postgres => Protocol::Postgres,
                }),
                minimum,
                policy,
            });
        }
    }

    fn revalidation(&mut self, r: file::Revalidation, path: &str) -> (Option<Strength>, BindPolicy) {
        for (key, patterns) in [("roles", &r.roles), ("users", &r.users)] {
            for (i, pattern) in patterns.iter().flatten().enumerate() {
                if pattern.matches("{tenant}").count() != 1 {
                    let path = format!("{path}.{key}[{i}]");
                    self.problem(pattern.at, path, "expected a pattern with `{tenant}` once, such as `tenant_{tenant}`");
                }
            }
        }
        for (i, guc) in r.gucs.iter().flatten().enumerate() {
            if guc.trim().is_empty() {
                self.problem(guc.at, format!("{path}.gucs[{i}]"), "expected the name of a setting, found empty text");
            }
        }
        let plain = |list: Option<Vec<Located<String>>>| list.map(|l| l.into_iter().map(|s| s.value).collect::<Vec<_>>());
        let minimum = r.minimum.map(|m| match m {
            StrengthName::V1 => Strength::V1,
            StrengthName::V2 => Strength::V2,
            StrengthName::V3 => Strength::V3,
        });
        let gucs = plain(r.gucs).map(|l| l.into_iter().map(|g| g.to_lowercase()).collect());
        (minimum, BindPolicy { gucs, roles: plain(r.roles), users: plain(r.users) })
    }

    /// Whether this build has the rule; a problem or a warning if not.
    fn rule_id(&mut self, id: &str, at: Pos, path: &str) -> bool {
        match catalogue::known(id) {
            Known::Here => true,
            Known::Elsewhere => {
                self.warn(at, path, format!("this version has no rule `{id}`; the entry has no effect"));
                false
            }
            Known::No => {
                self.problems.push(Problem {
                    at,
                    path: path.to_owned(),
                    message: format!("there is no rule `{id}`"),
                    help: did_you_mean(id, catalogue::all())
                        .or_else(|| Some("`leasewarden rules` lists them".to_owned())),
                });
                false
            }
        }
    }

    fn rules(&mut self, rules: Vec<(Located<String>, file::Rule)>) {
        for (id, rule) in rules {
            if self.rule_id(&id, id.at, "rules") {
                self.config.settings.rules.push(RuleSpec {
                    rule: id.value,
                    enabled: rule.enabled,
                    severity: rule.severity.map(severity),
                });
            }
        }
    }

    fn suppress(&mut self, list: Vec<file::Suppress>) {
        for (i, entry) in list.into_iter().enumerate() {
            let path = format!("suppress[{i}]");
            let here = self.rule_id(&entry.rule, entry.rule.at, &format!("{path}.rule"));
            if entry.reason.trim().is_empty() {
                self.problem(entry.reason.at, format!("{path}.reason"), "expected a reason, found empty text");
            }
            let Some(until) = self.until(&entry.until, &format!("{path}.until")) else { continue };
            if until <= self.now {
                self.warn(
                    entry.until.at,
                    format!("{path}.until"),
                    format!(
                        "this suppression of `{}` ended on {}: its findings come again; renew it or take it out",
                        entry.rule.value, entry.until.value
                    ),
                );
            }
            if here {
                self.config.settings.suppress.push(Suppression {
                    rule: entry.rule.value,
                    service: entry.service.map(|s| s.value),
                    tenant: entry.tenant.map(|s| s.value),
                    finding: entry.finding.map(|s| s.value),
                    reason: entry.reason.value,
                    until,
                });
            }
        }
    }

    /// The first moment after the day.
    fn until(&mut self, text: &Located<String>, path: &str) -> Option<Nanos> {
        let end = text
            .parse::<Date>()
            .and_then(Date::tomorrow)
            .and_then(|day| day.to_zoned(TimeZone::UTC))
            .ok()
            .and_then(|day| u64::try_from(day.timestamp().as_nanosecond()).ok());
        match end {
            Some(end) if text.len() == "2027-06-30".len() => Some(Nanos(end)),
            _ => {
                self.problem(text.at, path, format!("expected a day such as `2027-06-30`, found `{}`", text.value));
                None
            }
        }
    }

    fn limits(&mut self, limits: &file::Limits) {
        let default = Limits::default();
        let mut bounded = |value: &Option<Located<u32>>, key: &str, min: u32, max: u32| -> Option<usize> {
            let value = value.as_ref()?;
            if !(min..=max).contains(&value.value) {
                let message = format!("expected a whole number from {min} to {max}, found {}", value.value);
                self.problem(value.at, format!("limits.{key}"), message);
            }
            usize::try_from(value.value).ok()
        };
        let flows = bounded(&limits.flows, "flows", 16, 10_000_000);
        let memory = bounded(&limits.memory_mb, "memory_mb", 16, 1_048_576).and_then(|mb| mb.checked_mul(1 << 20));
        let tenants = bounded(&limits.tenants, "tenants", 1, 10_000);
        let services = bounded(&limits.services, "services", 1, 10_000);
        let ring = bounded(&limits.ring_kb, "ring_kb", 4, 1_048_576);
        if let Some(kb) = limits.ring_kb.as_ref().filter(|kb| ring.is_some() && !kb.value.is_power_of_two()) {
            let near = kb.value.checked_next_power_of_two().unwrap_or(1 << 20);
            self.problem(kb.at, "limits.ring_kb", format!("expected a power of two, found {}; {near} is the next", kb.value));
        }
        self.config.ring_kb = limits.ring_kb.as_ref().map(|kb| kb.value);
        self.config.settings.limits = Limits {
            flows: flows.unwrap_or(default.flows),
            memory: memory.unwrap_or(default.memory),
            tenants: tenants.unwrap_or(default.tenants),
            services: services.unwrap_or(default.services),
        };
    }

    fn export(&mut self, export: file::Export) {
        if let Some(listen) = export.listen {
            if listen.eq_ignore_ascii_case("off") {
                self.config.listen = None;
            } else {
                match listen.parse() {
                    Ok(address) => self.config.listen = Some(address),
                    Err(_) => self.problem(
                        listen.at,
                        "export.listen",
                        format!("expected an address with a port such as `127.0.0.1:9464`, or `off`, found `{}`", listen.value),
                    ),
                }
            }
        }
        if let Some(findings) = export.findings {
            if findings.is_empty() {
                self.problem(findings.at, "export.findings", "expected the path of a file, found empty text");
            }
            self.config.findings = Some(PathBuf::from(findings.value));
        }
    }
}

fn severity(name: SeverityName) -> Severity {
    match name {
        SeverityName::Info => Severity::Info,
        SeverityName::Low => Severity::Low,
        SeverityName::Medium => Severity::Medium,
        SeverityName::High => Severity::High,
        SeverityName::Critical => Severity::Critical,
    }
}
