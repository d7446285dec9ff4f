//! The matrix of MCP: what runs, and what the agent must and may say of it. The scenario tests and `cargo xtask accuracy`
//! read the same list; what each case does is in `mcp_plays`.

use std::path::Path;

use anyhow::{Context, Result};

use super::agent::Finding;
use super::cases::{Judged, Twin};
use super::mcp::{Scene, Sdk};
use super::mcp_plays as plays;
use super::python::Packages;
use super::scene::Outcome;

/// A finding that must be made.
#[derive(Clone, Copy, Debug)]
pub struct Must {
    /// The rule.
    pub rule: &'static str,
    /// At least this severity.
    pub least: &'static str,
    /// `tenant.use`, where it is known.
    pub used: Option<&'static str>,
    /// `tenant.bound`, where there is one.
    pub bound: Option<&'static str>,
}

/// One scenario and one of its twins.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, used for files too.
    pub name: &'static str,
    /// Whether the work is done right.
    pub twin: Twin,
    /// What the server is made of.
    pub sdk: Sdk,
    /// What it does wrong, or otherwise, in its own words.
    pub ways: &'static str,
    /// Requests in flight.
    pub in_flight: &'static [u32],
    /// What is done. The truth of it is checked there.
    pub play: fn(&mut Stage) -> Result<()>,
    /// What must be found.
    pub must: &'static [Must],
    /// Rules that may speak as well, because what they say is true.
    pub may: &'static [&'static str],
    /// What the findings of the first rule must have in their evidence.
    pub tells: &'static [&'static str],
    /// Clean: the rules that must say nothing at all; whatever else is said must be below medium.
    pub silent: &'static [&'static str],
}

const P126: Sdk = Sdk::Python(Packages::Mcp126);
const P130: Sdk = Sdk::Python(Packages::Mcp130);
const P230: Sdk = Sdk::Python(Packages::Mcp230);
const TS_1253: Sdk = Sdk::TypeScript("1.25.3");
const TS_1260: Sdk = Sdk::TypeScript("1.26.0");

const BOTH: &[u32] = &[1, 16];

const fn must(
    rule: &'static str,
    least: &'static str,
    used: Option<&'static str>,
    bound: Option<&'static str>,
) -> Must {
    Must { rule, least, used, bound }
}

const ACME: Option<&str> = Some("acme");
const GLOBEX: Option<&str> = Some("globex");

const CLEAN: Case = Case {
    name: "",
    twin: Twin::Clean,
    sdk: P130,
    ways: "by-tenant",
    in_flight: &[1],
    play: plays::own_work,
    must: &[],
    may: &[],
    tells: &[],
    silent: &[],
};
const WRONG: Case = Case { twin: Twin::Violating, ..CLEAN };

const SESSION: &str = "mcp-session-cross-tenant";
const NO_TOKEN: &str = "mcp-call-token-missing";
const FLAT: &str = "mcp-flat-registry";
const NOT_LISTED: &str = "mcp-call-not-listed";
const CACHE: &str = "mcp-list-cache-shared";
const ARGUMENT: &str = "mcp-arg-tenant-mismatch";
const FANOUT: &str = "mcp-token-fanout";
const PASSED_ON: &str = "mcp-token-passthrough";
const WEAK: &str = "mcp-token-weak";
const DESYNC: &str = "response-desync";
const RETRY: &str = "retry-no-idempotency";
const STORM: &str = "retry-budget-exceeded";
const DRIFT: &str = "tool-manifest-drift";
const POISONED: &str = "tool-description-poisoned";
const INJECTION: &str = "tool-output-injection";
const UNSIGNED: &str = "tool-manifest-unsigned";
const REUSE: &str = "pool-reuse-unrevalidated";
const SCOPE: &str = "downstream-scope-missing";
const RESULT: &str = "result-cross-tenant";
const HANDLE: &str = "handle-cross-tenant";
const HEADER: &str = "mcp-header-mismatch";
const UNPARTITIONED: &str = "shared-service-unpartitioned";

/// Every scenario of MCP, violating before clean.
pub const CASES: &[Case] = &[
    // Sessions.
    Case {
        name: "mcp-session-of-another",
        sdk: P126,
        in_flight: BOTH,
        play: plays::session_of_another,
        must: &[must(SESSION, "critical", GLOBEX, ACME)],
        ..WRONG
    },
    Case { name: "mcp-session-refused", in_flight: BOTH, play: plays::session_of_another, silent: &[SESSION], ..CLEAN },
    // Tokens.
    Case {
        name: "mcp-token-at-initialize",
        ways: "by-tenant,at-initialize",
        in_flight: BOTH,
        play: plays::token_at_initialize,
        must: &[must(NO_TOKEN, "high", ACME, None), must(NO_TOKEN, "high", GLOBEX, None)],
        ..WRONG
    },
    Case {
        name: "mcp-token-each-call",
        in_flight: BOTH,
        silent: &[NO_TOKEN, FANOUT, ARGUMENT, FLAT, NOT_LISTED, SESSION],
        ..CLEAN
    },
    Case {
        name: "mcp-one-token",
        ways: "one-token",
        in_flight: BOTH,
        play: plays::one_token,
        must: &[must(FANOUT, "high", GLOBEX, ACME)],
        may: &[FANOUT, FLAT],
        ..WRONG
    },
    Case {
        name: "mcp-gateway-one-token",
        sdk: P126,
        ways: "by-tenant",
        play: plays::gateway_one_token,
        must: &[must(FANOUT, "high", GLOBEX, ACME)],
        may: &[FANOUT, UNPARTITIONED, REUSE],
        ..WRONG
    },
    Case {
        name: "mcp-gateway-passed-on",
        sdk: P126,
        ways: "by-tenant,pass-through",
        play: plays::gateway_passed_on,
        must: &[must(PASSED_ON, "high", None, None)],
        ..WRONG
    },
    Case {
        name: "mcp-gateway-exchanged",
        sdk: P126,
        play: plays::gateway_exchanged,
        silent: &[FANOUT, PASSED_ON],
        ..CLEAN
    },
    Case { name: "mcp-token-weak", play: plays::weak_tokens, must: &[must(WEAK, "medium", ACME, None)], ..WRONG },
    Case { name: "mcp-token-strong", play: plays::strong_tokens, silent: &[WEAK], ..CLEAN },
    // Lists.
    Case {
        name: "mcp-flat-list",
        ways: "unguarded",
        play: plays::entitled,
        must: &[must(FLAT, "high", ACME, None), must(FLAT, "high", GLOBEX, None)],
        ..WRONG
    },
    Case {
        name: "mcp-flat-list-no-entitlements",
        ways: "unguarded",
        must: &[must(FLAT, "medium", GLOBEX, ACME)],
        ..WRONG
    },
    Case { name: "mcp-list-by-tenant", play: plays::entitled, silent: &[FLAT], ..CLEAN },
    Case {
        name: "mcp-unlisted-tool-done",
        ways: "by-tenant,unguarded",
        play: plays::unlisted_tool,
        must: &[must(NOT_LISTED, "high", ACME, GLOBEX)],
        ..WRONG
    },
    Case { name: "mcp-unlisted-tool-refused", play: plays::unlisted_tool, ..CLEAN },
    Case {
        name: "mcp-list-public",
        sdk: P230,
        ways: "by-tenant,public",
        play: plays::stateless_lists,
        must: &[must(CACHE, "high", GLOBEX, ACME)],
        may: &[CACHE],
        ..WRONG
    },
    Case { name: "mcp-list-private", sdk: P230, play: plays::stateless_lists, silent: &[CACHE, HEADER], ..CLEAN },
    // Arguments.
    Case {
        name: "mcp-argument-believed",
        ways: "by-tenant,argument",
        in_flight: BOTH,
        play: plays::argument_of_another,
        must: &[must(ARGUMENT, "high", GLOBEX, ACME)],
        ..WRONG
    },
    Case {
        name: "mcp-argument-own",
        ways: "by-tenant,argument",
        in_flight: BOTH,
        play: plays::argument_own,
        silent: &[ARGUMENT],
        ..CLEAN
    },
    Case { name: "mcp-argument-refused", play: plays::argument_of_another, silent: &[ARGUMENT], ..CLEAN },
    // Crossed replies: CVE-2026-25536.
    Case {
        name: "mcp-one-transport-1.25.3",
        sdk: TS_1253,
        ways: "",
        play: plays::one_transport,
        must: &[must(DESYNC, "high", GLOBEX, ACME)],
        ..WRONG
    },
    Case {
        name: "mcp-one-transport-1.26.0",
        sdk: TS_1260,
        ways: "",
        play: plays::one_transport,
        silent: &[DESYNC],
        ..CLEAN
    },
    // Retries.
    Case {
        name: "mcp-retry-no-key",
        play: plays::retry_without_key,
        must: &[must(RETRY, "high", ACME, None)],
        ..WRONG
    },
    Case { name: "mcp-retry-key", play: plays::retry_with_key, silent: &[RETRY], ..CLEAN },
    Case {
        name: "mcp-retry-storm",
        ways: "by-tenant,crowded",
        play: plays::retry_storm,
        must: &[must(STORM, "medium", ACME, GLOBEX)],
        may: &[RETRY],
        ..WRONG
    },
    // Descriptions.
    Case { name: "mcp-silent-change", play: plays::changed, must: &[must(DRIFT, "high", None, None)], ..WRONG },
    Case { name: "mcp-announced-change", ways: "by-tenant,bumped", play: plays::changed, ..CLEAN },
    Case {
        name: "mcp-changed-since-locked",
        play: plays::changed_since_locked,
        must: &[must(DRIFT, "high", None, None)],
        ..WRONG
    },
    Case {
        name: "mcp-lock-unsigned",
        play: plays::lock_unsigned,
        must: &[must(UNSIGNED, "medium", None, None)],
        ..WRONG
    },
    Case { name: "mcp-lock-signed", play: plays::lock_signed, silent: &[UNSIGNED, DRIFT], ..CLEAN },
    Case {
        name: "mcp-poisoned-words",
        ways: "by-tenant,poisoned",
        must: &[must(POISONED, "high", None, None)],
        ..WRONG
    },
    Case {
        name: "mcp-poisoned-hidden",
        ways: "by-tenant,hidden",
        must: &[must(POISONED, "high", None, None)],
        ..WRONG
    },
    Case {
        name: "mcp-poisoned-result",
        ways: "by-tenant,injected",
        must: &[must(INJECTION, "medium", ACME, None)],
        ..WRONG
    },
    Case { name: "mcp-plain-texts", silent: &[POISONED, INJECTION, DRIFT, RESULT], ..CLEAN },
    // What is behind a tool.
    Case {
        name: "mcp-tool-unbound",
        sdk: P126,
        ways: "by-tenant,unbound",
        in_flight: BOTH,
        play: plays::tool_on_postgres,
        must: &[must(REUSE, "medium", GLOBEX, ACME), must(REUSE, "medium", ACME, GLOBEX)],
        may: &[UNPARTITIONED],
        tells: &["list_orders", "SELECT"],
        ..WRONG
    },
    Case {
        name: "mcp-tool-half-bound",
        sdk: P126,
        ways: "by-tenant,half-bound",
        play: plays::tool_on_postgres,
        must: &[must(SCOPE, "medium", None, None)],
        may: &[REUSE, UNPARTITIONED],
        tells: &["list_orders", "SELECT"],
        ..WRONG
    },
    Case {
        name: "mcp-tool-bound",
        sdk: P126,
        in_flight: BOTH,
        play: plays::tool_on_postgres,
        silent: &[REUSE, SCOPE, UNPARTITIONED],
        ..CLEAN
    },
    // Data that crossed.
    Case {
        name: "mcp-result-of-another",
        ways: "by-tenant,leaky",
        play: plays::canaries,
        must: &[must(RESULT, "critical", ACME, GLOBEX), must(RESULT, "critical", GLOBEX, ACME)],
        ..WRONG
    },
    Case { name: "mcp-result-own", play: plays::canaries, silent: &[RESULT], ..CLEAN },
    Case {
        name: "mcp-handle-of-another",
        ways: "by-tenant,any-export",
        play: plays::export_of_another,
        must: &[must(HANDLE, "high", GLOBEX, ACME)],
        ..WRONG
    },
    Case { name: "mcp-handle-refused", play: plays::export_of_another, silent: &[HANDLE], ..CLEAN },
    // Headers.
    Case {
        name: "mcp-header-believed",
        sdk: P230,
        ways: "by-tenant,lenient",
        play: plays::header_of_another_tool,
        must: &[must(HEADER, "medium", ACME, None)],
        ..WRONG
    },
    Case { name: "mcp-header-refused", sdk: P230, play: plays::header_of_another_tool, silent: &[HEADER], ..CLEAN },
];

/// A case that is being played.
#[derive(Debug)]
pub struct Stage<'b> {
    /// What runs.
    pub scene: Scene,
    /// What is played.
    pub case: &'static Case,
    /// Requests in flight.
    pub in_flight: u32,
    /// The agent.
    pub binary: &'b Path,
}

impl<'b> Stage<'b> {
    /// An empty stage. `name` is used for logs.
    ///
    /// # Errors
    /// When not root, or without cgroup v2.
    pub fn new(case: &'static Case, in_flight: u32, name: &str, binary: &'b Path) -> Result<Self> {
        Ok(Self { scene: Scene::new(name)?, case, in_flight, binary })
    }

    /// Plays it to the end; findings are not judged here.
    ///
    /// # Errors
    /// When something does not do its work, or the mistake did not happen.
    pub fn play(&mut self) -> Result<Outcome> {
        (self.case.play)(self)?;
        self.scene.outcome()
    }

    /// The mistake is to happen.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.case.twin == Twin::Violating
    }

    /// Clients of each tenant.
    #[must_use]
    pub fn workers(&self) -> u32 {
        (self.in_flight / 2).max(1)
    }
}

fn rank(severity: &str) -> usize {
    ["info", "low", "medium", "high", "critical"].iter().position(|s| *s == severity).unwrap_or(0)
}

impl Case {
    /// The case called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        CASES.iter().find(|case| case.name == name).with_context(|| format!("no case {name}"))
    }

    /// Compares what was found with what is true.
    #[must_use]
    pub fn judge(&self, findings: &[Finding]) -> Judged {
        let fits = |f: &Finding, m: &Must| {
            f.rule == m.rule
                && (m.used.is_none() || f.used_for.as_deref() == m.used)
                && (m.bound.is_none() || f.bound.as_deref() == m.bound)
        };
        let mut judged = Judged::default();
        for (i, m) in self.must.iter().enumerate() {
            let tells = |f: &Finding| i > 0 || self.tells.iter().all(|words| f.line.contains(words));
            if findings.iter().any(|f| fits(f, m) && rank(&f.severity) >= rank(m.least) && tells(f)) {
                judged.n_found += 1;
            } else {
                judged
                    .missed
                    .push(format!("{} use={:?} bound={:?} ≥ {} {:?}", m.rule, m.used, m.bound, m.least, self.tells));
            }
        }
        for f in findings {
            let is_true = self.must.iter().any(|m| m.rule == f.rule) || self.may.contains(&f.rule.as_str());
            let is_light = rank(&f.severity) < rank("medium") && !self.silent.contains(&f.rule.as_str());
            if !is_true && !is_light {
                judged.false_positives.push((f.severity.clone(), f.line.clone()));
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_clean_twins_expect_nothing() {
        for (i, case) in CASES.iter().enumerate() {
            assert!(CASES.iter().skip(i + 1).all(|other| other.name != case.name), "{} is there twice", case.name);
            assert_eq!(case.twin == Twin::Clean, case.must.is_empty(), "{}", case.name);
            assert!(case.twin == Twin::Violating || case.may.is_empty(), "{}", case.name);
        }
    }

    #[test]
    fn a_clean_twin_may_be_told_of_what_is_slight_and_of_nothing_that_it_is_about() {
        let finding = |rule: &str, severity: &str| Finding {
            rule: rule.into(),
            severity: severity.into(),
            class: "wire".into(),
            used_for: None,
            bound: None,
            workload: None,
            line: String::new(),
        };
        let case = Case::named("mcp-session-refused").unwrap();
        assert_eq!(case.judge(&[finding(NOT_LISTED, "info")]).false_positives.len(), 0);
        assert_eq!(case.judge(&[finding(NOT_LISTED, "medium")]).false_positives.len(), 1);
        assert_eq!(case.judge(&[finding(SESSION, "info")]).false_positives.len(), 1);
    }
}
