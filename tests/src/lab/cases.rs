//! The matrix of shared services: what runs, how it is used, and what the agent must and may say of it. The scenario
//! tests and `cargo xtask accuracy` read the same list.

mod list;

use super::agent::Finding;
use super::service::Program;

pub use list::{CASES, ENCRYPTED};

/// Whether the work is done right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// A mistake that must be found.
    Violating,
    /// The same work done right, to be met with silence.
    Clean,
}

impl Twin {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Violating => "violating",
            Self::Clean => "clean",
        }
    }
}

/// How the tenants' clients behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They ask and wait.
    Ask,
    /// The cache stalls, acme's clients give up waiting, and globex' clients come next.
    GiveUp,
}

/// A finding that must be made.
#[derive(Clone, Copy, Debug)]
pub struct Must {
    /// The rule.
    pub rule: &'static str,
    /// Its severity with one request in flight at a time; with more, at least medium is demanded.
    pub alone: &'static str,
    /// `tenant.use`.
    pub used: &'static str,
    /// `tenant.bound`.
    pub bound: &'static str,
}

/// A finding that is true as well, and need not be made.
#[derive(Clone, Copy, Debug)]
pub struct May {
    /// The rule.
    pub rule: &'static str,
    /// `tenant.use`, where only this one is true.
    pub used: Option<&'static str>,
    /// `tenant.bound`, where only this one is true.
    pub bound: Option<&'static str>,
}

/// One scenario and one of its twins.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, used for files too.
    pub name: &'static str,
    /// The scenario's number in the list of proofs: 1 sync threads, 2 asyncio, 3 redis-py, 4 Redis AUTH and prefixes,
    /// 5 Node.js and tokio, 6 HTTP keep-alive, 7 HTTP/2, 8 MariaDB, 9 memcached.
    pub scenario: u8,
    /// Whether the work is done right.
    pub twin: Twin,
    /// What the service is made of.
    pub program: Program,
    /// How it binds.
    pub mode: &'static str,
    /// Its background job.
    pub job: Option<&'static str>,
    /// Requests carry a trace context and the service passes it on.
    pub traced: bool,
    /// How the clients behave.
    pub flow: Flow,
    /// acme's requests.
    pub acme: &'static [&'static str],
    /// globex' requests.
    pub globex: &'static [&'static str],
    /// Whom the mistake really shows rows of somebody else's.
    pub leaks_to: Option<&'static str>,
    /// What must be found.
    pub must: &'static [Must],
    /// What is true as well.
    pub may: &'static [May],
    /// Nothing tells these requests apart when several are in flight: what is not found then is shown, not demanded.
    pub blind_together: bool,
}

/// Severities, least first.
const SEVERITIES: [&str; 5] = ["info", "low", "medium", "high", "critical"];

fn rank(severity: &str) -> usize {
    SEVERITIES.iter().position(|s| *s == severity).unwrap_or(0)
}

/// What a case's findings are worth.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Demanded and made.
    pub n_found: usize,
    /// Demanded and not made, for people.
    pub missed: Vec<String>,
    /// Made and not true: severity and the whole finding.
    pub false_positives: Vec<(String, String)>,
}

impl Case {
    /// The case called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().chain(ENCRYPTED).find(|case| case.name == name)
    }

    /// Compares what was found with what is true.
    #[must_use]
    pub fn judge(&self, concurrency: u32, findings: &[Finding]) -> Judged {
        let is = |f: &Finding, used: Option<&str>, bound: Option<&str>| {
            (used.is_none() || f.used_for.as_deref() == used) && (bound.is_none() || f.bound.as_deref() == bound)
        };
        let of = |f: &Finding, m: &Must| f.rule == m.rule && is(f, Some(m.used), Some(m.bound));
        let mut judged = Judged::default();
        for m in self.must {
            let least = if concurrency == 1 { m.alone } else { "medium" };
            if findings.iter().any(|f| of(f, m) && rank(&f.severity) >= rank(least)) {
                judged.n_found += 1;
            } else {
                judged.missed.push(format!("{} use={} bound={} ≥ {least}", m.rule, m.used, m.bound));
            }
        }
        for f in findings {
            let true_one = self.must.iter().any(|m| of(f, m))
                || self.may.iter().any(|m| f.rule == m.rule && is(f, m.used, m.bound));
            if !true_one {
                judged.false_positives.push((f.severity.clone(), f.line.clone()));
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: &str = "pool-stale-binding";

    fn finding(rule: &str, severity: &str, used: &str, bound: &str) -> Finding {
        Finding {
            rule: rule.into(),
            severity: severity.into(),
            class: "endpoint".into(),
            used_for: Some(used.into()),
            bound: Some(bound.into()),
            workload: None,
            line: String::new(),
        }
    }

    #[test]
    fn names_are_unique_and_clean_twins_expect_nothing() {
        for (i, case) in CASES.iter().enumerate() {
            assert!(CASES.iter().skip(i + 1).all(|other| other.name != case.name), "{} is there twice", case.name);
            assert_eq!(case.twin == Twin::Clean, case.must.is_empty(), "{}", case.name);
            assert!(case.twin == Twin::Violating || case.may.is_empty(), "{}", case.name);
        }
        for scenario in CASES.iter().map(|case| case.scenario) {
            for twin in [Twin::Violating, Twin::Clean] {
                assert!(CASES.iter().any(|c| c.scenario == scenario && c.twin == twin), "{scenario} {twin:?}");
            }
        }
    }

    #[test]
    fn judging_tells_true_from_false_and_demands_severity_when_alone() {
        let case = Case::named("threads-session-set").unwrap();
        let weak = [finding(STALE, "medium", "globex", "acme")];
        assert_eq!(case.judge(16, &weak).n_found, 1);
        assert_eq!(case.judge(1, &weak).missed.len(), 1);
        let wrong = [finding(STALE, "critical", "acme", "globex")];
        let judged = case.judge(1, &wrong);
        assert_eq!((judged.n_found, judged.missed.len(), judged.false_positives.len()), (0, 1, 1));
        assert!(Case::named("threads-per-transaction").unwrap().judge(16, &weak).false_positives.len() == 1);
    }
}
