//! The matrix of shared services: what runs, how it is used, and what the agent must and may say of it. The scenario
//! tests and `cargo xtask accuracy` read the same list.

use super::agent::Finding;
use super::service::Program;

const REUSE: &str = "pool-reuse-unrevalidated";
const STALE: &str = "pool-stale-binding";
const SESSION_SET: &str = "session-set-under-pooler";
const UNPARTITIONED: &str = "shared-service-unpartitioned";
const DESYNC: &str = "response-desync";
const UNSCOPED: &str = "cache-key-unscoped";

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
    /// 5 Node.js and tokio, 6 HTTP keep-alive.
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

const fn must(rule: &'static str, alone: &'static str, used: &'static str, bound: &'static str) -> Must {
    Must { rule, alone, used, bound }
}

const fn may(rule: &'static str) -> May {
    May { rule, used: None, bound: None }
}

const ORDERS: &[&str] = &["GET /orders/{new}"];
const PEEK: &[&str] = &["GET /peek/{new}"];
const SUMMARY: &[&str] = &["GET /summary"];
const STORED: &[&str] = &["PUT /orders/{new}", "GET /orders/{last}"];

/// Nobody binds: whoever comes after somebody else.
const NOBODY_BINDS: &[Must] = &[must(REUSE, "high", "globex", "acme"), must(REUSE, "high", "acme", "globex")];
const NOBODY_BINDS_EITHER: &[May] = &[may(UNPARTITIONED)];

/// acme binds for the session, globex on the path that forgot to.
const LEFT_BEHIND: &[Must] = &[must(STALE, "critical", "globex", "acme")];
const LEFT_BEHIND_EITHER: &[May] = &[
    May { rule: SESSION_SET, used: Some("globex"), bound: Some("acme") },
    // A connection that nobody has bound yet, or that globex had before.
    May { rule: REUSE, used: Some("globex"), bound: Some("acme") },
    may(UNPARTITIONED),
];

const CLEAN: Case = Case {
    name: "",
    scenario: 0,
    twin: Twin::Clean,
    program: Program::Threads,
    mode: "per-transaction",
    job: None,
    traced: false,
    flow: Flow::Ask,
    acme: ORDERS,
    globex: ORDERS,
    leaks_to: None,
    must: &[],
    may: &[],
    blind_together: false,
};

const UNBOUND: Case = Case {
    twin: Twin::Violating,
    mode: "unbound",
    leaks_to: Some("globex"),
    must: NOBODY_BINDS,
    may: NOBODY_BINDS_EITHER,
    ..CLEAN
};

const SESSION: Case = Case {
    twin: Twin::Violating,
    mode: "session-set",
    globex: PEEK,
    leaks_to: Some("globex"),
    must: LEFT_BEHIND,
    may: LEFT_BEHIND_EITHER,
    ..CLEAN
};

const STORE: Case = Case { program: Program::Redis521, mode: "prefix", acme: STORED, globex: STORED, ..CLEAN };

/// Every scenario of a shared service, violating before clean.
pub const CASES: &[Case] = &[
    // 1: sync threads.
    Case { name: "threads-unbound", scenario: 1, ..UNBOUND },
    Case { name: "threads-session-set", scenario: 1, ..SESSION },
    Case { name: "threads-per-transaction", scenario: 1, ..CLEAN },
    Case {
        name: "threads-summary-unbound",
        scenario: 1,
        acme: SUMMARY,
        globex: SUMMARY,
        // A thread per connection answers what it did itself: that basis helps where values cannot.
        ..UNBOUND
    },
    Case { name: "threads-summary-per-transaction", scenario: 1, acme: SUMMARY, globex: SUMMARY, ..CLEAN },
    Case { name: "handover-unbound", scenario: 1, program: Program::Waitress, ..UNBOUND },
    Case { name: "handover-per-transaction", scenario: 1, program: Program::Waitress, ..CLEAN },
    // 2: asyncio.
    Case { name: "asyncio-unbound", scenario: 2, program: Program::Psycopg, ..UNBOUND },
    Case { name: "asyncio-session-set", scenario: 2, program: Program::Psycopg, ..SESSION },
    Case { name: "asyncio-per-transaction", scenario: 2, program: Program::Psycopg, ..CLEAN },
    Case { name: "asyncio-traced-unbound", scenario: 2, program: Program::Psycopg, traced: true, ..UNBOUND },
    Case {
        name: "asyncio-summary-unbound",
        scenario: 2,
        program: Program::Psycopg,
        acme: SUMMARY,
        globex: SUMMARY,
        blind_together: true,
        ..UNBOUND
    },
    Case {
        name: "asyncio-summary-per-transaction",
        scenario: 2,
        program: Program::Psycopg,
        acme: SUMMARY,
        globex: SUMMARY,
        ..CLEAN
    },
    Case {
        name: "asyncpg-unbound",
        scenario: 2,
        program: Program::Asyncpg,
        // Its pool sends RESET ALL when a connection comes back: nobody is bound then, and nobody is meant to be.
        must: &[must(REUSE, "medium", "globex", "acme"), must(REUSE, "medium", "acme", "globex")],
        ..UNBOUND
    },
    Case { name: "asyncpg-per-transaction", scenario: 2, program: Program::Asyncpg, ..CLEAN },
    Case {
        name: "asyncio-job-unbound",
        scenario: 2,
        program: Program::Psycopg,
        job: Some("unbound"),
        // The job takes the bracket away: with one request in flight, inference is all there is.
        must: &[must(REUSE, "medium", "globex", "acme"), must(REUSE, "medium", "acme", "globex")],
        ..UNBOUND
    },
    Case { name: "asyncio-job-bound", scenario: 2, program: Program::Psycopg, job: Some("bound"), ..CLEAN },
    // 3: a cancelled command.
    Case {
        name: "redis-cancelled-4.5.1",
        scenario: 3,
        twin: Twin::Violating,
        program: Program::Redis451,
        flow: Flow::GiveUp,
        leaks_to: Some("globex"),
        must: &[must(DESYNC, "critical", "globex", "acme")],
        may: &[may(DESYNC), may(UNPARTITIONED)],
        ..STORE
    },
    Case { name: "redis-cancelled-5.2.1", scenario: 3, flow: Flow::GiveUp, ..STORE },
    // 4: Redis AUTH per checkout, key prefixes.
    Case {
        name: "redis-auth-failed",
        scenario: 4,
        twin: Twin::Violating,
        mode: "auth-sent",
        must: &[must(STALE, "critical", "globex", "acme")],
        may: LEFT_BEHIND_EITHER,
        ..STORE
    },
    Case { name: "redis-auth", scenario: 4, mode: "auth", ..STORE },
    Case {
        name: "redis-prefix-crossed",
        scenario: 4,
        twin: Twin::Violating,
        mode: "crossed",
        acme: &["PUT /orders/{few}", "GET /orders/{few}"],
        globex: &["PUT /orders/{new}", "GET /crossed/{few}"],
        leaks_to: Some("globex"),
        must: &[must(STALE, "high", "globex", "acme")],
        may: &[may(UNPARTITIONED)],
        blind_together: true,
        ..STORE
    },
    Case {
        name: "redis-prefix",
        scenario: 4,
        acme: &["PUT /orders/{few}", "GET /orders/{few}"],
        globex: &["PUT /orders/{few}", "GET /orders/{few}"],
        ..STORE
    },
    Case {
        name: "redis-unscoped",
        scenario: 4,
        twin: Twin::Violating,
        mode: "unscoped",
        acme: &["PUT /orders/{few}", "GET /orders/{few}"],
        globex: &["GET /orders/{few}"],
        leaks_to: Some("globex"),
        must: &[must(UNSCOPED, "high", "globex", "acme")],
        may: &[may(UNSCOPED), may(REUSE), may(UNPARTITIONED)],
        blind_together: true,
        ..STORE
    },
    Case {
        name: "ioredis-auth-failed",
        scenario: 4,
        twin: Twin::Violating,
        program: Program::IoRedis,
        mode: "auth-sent",
        must: &[must(STALE, "critical", "globex", "acme")],
        may: LEFT_BEHIND_EITHER,
        ..STORE
    },
    Case { name: "ioredis-auth", scenario: 4, program: Program::IoRedis, mode: "auth", ..STORE },
    Case {
        name: "ioredis-prefix",
        scenario: 4,
        program: Program::IoRedis,
        acme: &["PUT /orders/{few}", "GET /orders/{few}"],
        globex: &["PUT /orders/{few}", "GET /orders/{few}"],
        ..STORE
    },
    // 5: Node.js, and work stealing.
    Case { name: "node-unbound", scenario: 5, program: Program::Node, ..UNBOUND },
    Case { name: "node-session-set", scenario: 5, program: Program::Node, ..SESSION },
    Case { name: "node-per-transaction", scenario: 5, program: Program::Node, ..CLEAN },
    Case { name: "tokio-unbound", scenario: 5, program: Program::Tokio, ..UNBOUND },
    Case { name: "tokio-session-set", scenario: 5, program: Program::Tokio, ..SESSION },
    Case { name: "tokio-per-transaction", scenario: 5, program: Program::Tokio, ..CLEAN },
    // 6: HTTP keep-alive.
    Case { name: "gateway-static-token", scenario: 6, program: Program::Gateway, mode: "static", ..UNBOUND },
    Case {
        name: "gateway-static-token-traced",
        scenario: 6,
        program: Program::Gateway,
        mode: "static",
        traced: true,
        ..UNBOUND
    },
    Case { name: "gateway-exchanged-token", scenario: 6, program: Program::Gateway, mode: "exchange", ..CLEAN },
    Case { name: "gateway-forwarded-token", scenario: 6, program: Program::Gateway, mode: "forward", ..CLEAN },
];

/// Services that differ from others by their TLS alone, which are played encrypted.
pub const ENCRYPTED: &[Case] = &[
    Case { name: "gateway-go-static-token", scenario: 6, program: Program::GoGateway, mode: "static", ..UNBOUND },
    Case { name: "gateway-go-exchanged-token", scenario: 6, program: Program::GoGateway, mode: "exchange", ..CLEAN },
    Case { name: "gateway-bun-static-token", scenario: 6, program: Program::BunGateway, mode: "static", ..UNBOUND },
    Case { name: "gateway-bun-exchanged-token", scenario: 6, program: Program::BunGateway, mode: "exchange", ..CLEAN },
];

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
        for scenario in 1..=6 {
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
