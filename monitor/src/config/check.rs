//! What the types cannot say: references, ranges, patterns, dates.

use std::collections::HashMap;
use std::path::Path;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use monitor_core::detect::RULES;
use monitor_core::model::settings::{Limits, RuleSpec, Suppression, TenantSpec};
use monitor_core::model::{Nanos, Severity};

use super::catalogue::{self, Known};
use super::file::{self, File, SeverityName};
use super::located::Located;
use super::problem::{Pos, Problem, did_you_mean};
use super::{Config, ReadFile};

mod attribution;
mod export;
mod identity;
#[cfg(feature = "otlp")]
mod otlp;
mod privileges;
mod services;
mod tls;
mod tokens;
mod tools;

/// A configuration, usable only if there are no problems.
pub(super) struct Checked {
    pub(super) config: Config,
    pub(super) problems: Vec<Problem>,
}

/// Checks what a file means. `whole`: nothing was taken out of it, so that what is missing is really missing.
/// `files` reads those that it names.
pub(super) fn check(file: File, now: Nanos, whole: bool, files: ReadFile<'_>) -> Checked {
    let mut this = Check { problems: Vec::new(), config: Config::default(), now, whole, files };
    if file.version.value != 1 {
        this.problem(file.version.at, "version", format!("version {} is not known; expected 1", file.version.value));
    }
    if let Some(identity) = file.identity {
        this.identity(identity);
    }
    this.tenants(file.tenants);
    this.services(file.services);
    if let Some(attribution) = file.attribution {
        this.attribution(attribution);
    }
    if let Some(tokens) = file.tokens {
        this.tokens(tokens);
    }
    this.entitlements(file.entitlements);
    this.canaries(file.canaries);
    this.locks(&file.locks, &file.lock_keys);
    this.rules(file.rules.0);
    this.suppress(file.suppress);
    if let Some(limits) = file.limits {
        this.limits(&limits);
    }
    if let Some(export) = file.export {
        this.export(export);
    }
    this.privileges(file.user.as_ref(), file.group.as_ref(), file.sandbox);
    if let Some(tls) = file.tls {
        this.reading_tls(tls);
    }
    Checked { config: this.config, problems: this.problems }
}

struct Check<'f> {
    problems: Vec<Problem>,
    config: Config,
    now: Nanos,
    whole: bool,
    files: ReadFile<'f>,
}

impl Check<'_> {
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

    /// The text of a file that the configuration names; a problem if there is none.
    fn text_of(&mut self, name: &Located<String>, path: &str, limit: u64) -> Option<String> {
        let why = match (self.files)(Path::new(&name.value), limit).map(String::from_utf8) {
            Ok(Ok(text)) => return Some(text),
            Ok(Err(_)) => "it is no text".to_owned(),
            Err(error) => error.to_string(),
        };
        self.problem(name.at, path, format!("cannot read {}: {why}", name.value));
        None
    }

    fn tenants(&mut self, tenants: Vec<file::Tenant>) {
        let mut spellings: HashMap<String, (String, Pos)> = HashMap::new();
        for (i, tenant) in tenants.into_iter().enumerate() {
            let path = format!("tenants[{i}]");
            self.name(&tenant.name, format!("{path}.name"));
            let all = std::iter::once((&tenant.name, format!("{path}.name")))
                .chain(tenant.aliases.iter().enumerate().map(|(j, alias)| (alias, format!("{path}.aliases[{j}]"))));
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
                        format!(
                            "`{}` is given twice (first in line {}); case does not matter",
                            spelling.value, at.line
                        ),
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
            for (text, key) in [(&entry.owner, "owner"), (&entry.ticket, "ticket")] {
                if let Some(text) = text {
                    self.name(text, format!("{path}.{key}"));
                }
            }
            if here && until > self.now && entry.service.is_none() && entry.tenant.is_none() && entry.finding.is_none()
            {
                self.blanket(&entry.rule, &path);
            }
            if here {
                self.config.settings.suppress.push(Suppression {
                    rule: entry.rule.value,
                    service: entry.service.map(|s| s.value),
                    tenant: entry.tenant.map(|s| s.value),
                    finding: entry.finding.map(|s| s.value),
                    reason: entry.reason.value,
                    owner: entry.owner.map(|o| o.value),
                    ticket: entry.ticket.map(|t| t.value),
                    until,
                });
            }
        }
    }

    /// An exception for a whole rule: where that may tell of isolation broken now, it should be narrower.
    fn blanket(&mut self, rule: &Located<String>, path: &str) {
        let configured = self.config.settings.rules.iter().find(|r| r.rule == rule.value);
        let own = || RULES.iter().find(|r| r.id == rule.value).map(|r| r.severity);
        if configured.and_then(|r| r.severity).or_else(own) == Some(Severity::Critical) {
            self.warn(
                rule.at,
                path,
                format!(
                    "silences every finding of the critical rule `{}`, at every service and for every tenant; say \
                     which with `service`, `tenant` or `finding`",
                    rule.value
                ),
            );
        }
    }

    /// The first moment after the day.
    fn until(&mut self, text: &Located<String>, path: &str) -> Option<Nanos> {
        let end = text
            .parse::<Date>()
            .and_then(Date::tomorrow)
            .and_then(|day| day.to_zoned(TimeZone::UTC))
            .ok()
            // Event times end in the year 2554: what lies beyond lasts as long as there are events.
            .map(|day| u64::try_from(day.timestamp().as_nanosecond().max(0)).unwrap_or(u64::MAX));
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
            self.problem(
                kb.at,
                "limits.ring_kb",
                format!("expected a power of two, found {}; {near} is the next", kb.value),
            );
        }
        self.config.ring_kb = limits.ring_kb.as_ref().map(|kb| kb.value);
        if let Some(nice) = &limits.nice {
            if (-20..=19).contains(&nice.value) {
                self.config.nice = nice.value;
            } else {
                let message = format!("expected a whole number from -20 to 19, found {}", nice.value);
                self.problem(nice.at, "limits.nice", message);
            }
        }
        self.config.settings.limits = Limits {
            flows: flows.unwrap_or(default.flows),
            memory: memory.unwrap_or(default.memory),
            tenants: tenants.unwrap_or(default.tenants),
            services: services.unwrap_or(default.services),
        };
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
