//! Which findings are asked for: `/findings?rule=&tenant=&service=&severity=&since=&limit=`, page by page.

use jiff::Timestamp;
use monitor_core::model::{Finding, Nanos, Severity};
use serde::{Deserialize, Serialize};

use crate::export::store::{Filter, MAX_FINDINGS, Silent};

/// Findings listed unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 100;

/// The query as it stands.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Exactly this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    /// At least this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_severity: Option<String>,
    /// Seen at or after: a time, or how long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Seen at or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Findings that an exception keeps silent: `false` (without them), `true` (nothing else), `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// What the link to the next page says.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// The query as it is meant.
pub(super) struct Asked {
    pub(super) filter: Filter,
    pub(super) limit: usize,
    /// Only those that stand behind this one.
    pub(super) after: Option<(Nanos, String)>,
}

impl Wanted {
    /// What it means at `now`.
    ///
    /// # Errors
    /// Which parameter is wrong, and what was expected.
    pub(super) fn read(&self, now: Nanos) -> Result<Asked, String> {
        let severity = |name: &str, value: &Option<String>| value.as_deref().map(|v| severity(name, v)).transpose();
        let time = |name: &str, value: &Option<String>| value.as_deref().map(|v| time(name, v, now)).transpose();
        Ok(Asked {
            filter: Filter {
                rule: self.rule.clone(),
                tenant: self.tenant.clone(),
                service: self.service.clone(),
                severity: severity("severity", &self.severity)?,
                min_severity: severity("min_severity", &self.min_severity)?,
                since: time("since", &self.since)?,
                until: time("until", &self.until)?,
                suppressed: silent(self.suppressed.as_deref())?,
            },
            limit: self.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_FINDINGS),
            after: self.after.as_deref().map(after).transpose()?,
        })
    }
}

fn severity(name: &str, text: &str) -> Result<Severity, String> {
    let names = Severity::ALL.map(Severity::name).join(", ");
    Severity::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| format!("{name}: expected one of {names}\n"))
}

fn silent(text: Option<&str>) -> Result<Silent, String> {
    match text {
        None | Some("false") => Ok(Silent::Without),
        Some("true") => Ok(Silent::Only),
        Some("all") => Ok(Silent::With),
        Some(_) => Err("suppressed: expected one of false, true, all\n".to_owned()),
    }
}

fn time(name: &str, text: &str, now: Nanos) -> Result<Nanos, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Nanos(now.0.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))));
    }
    // A `+` of an offset that was not escaped is a blank by now.
    match text.replace(' ', "+").parse::<Timestamp>() {
        Ok(at) => Ok(Nanos(u64::try_from(at.as_nanosecond().max(0)).unwrap_or(u64::MAX))),
        Err(_) => Err(format!("{name}: expected a time such as 2026-11-20T10:00:00Z, or how long ago, such as 2h\n")),
    }
}

fn after(text: &str) -> Result<(Nanos, String), String> {
    let parsed = text.split_once('-').and_then(|(at, id)| Some((Nanos(at.parse().ok()?), id.to_owned())));
    parsed.ok_or_else(|| "after: expected what the link to the next page says\n".to_owned())
}

/// The `Link` header that leads to what stands behind `last`.
pub(super) fn link(wanted: &Wanted, last: &Finding) -> String {
    let mut next = wanted.clone();
    next.after = Some(format!("{}-{}", last.last_seen.0, last.id));
    let query = serde_urlencoded::to_string(&next).unwrap_or_default();
    format!("</findings?{query}>; rel=\"next\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_distances() {
        let now = Nanos(1_795_219_200_000_000_000);
        assert_eq!(time("since", "1h", now), Ok(Nanos(now.0 - 3_600_000_000_000)));
        assert_eq!(time("since", "2026-11-21T00:00:00Z", now), Ok(now));
        assert_eq!(time("since", "2026-11-21T01:00:00 01:00", now), Ok(now));
        assert!(time("since", "yesterday", now).unwrap_err().starts_with("since: expected"));
        assert!(after("x").is_err() && after("1").is_err());
        assert_eq!(after("12-6c-1"), Ok((Nanos(12), "6c-1".to_owned())));
    }
}
