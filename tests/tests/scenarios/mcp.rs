//! MCP: servers on the official SDKs, two tenants' clients, and what the agent says of them. What runs, and what must and
//! may be found, is `tests::lab::mcp_cases`; here it is demanded.

use anyhow::{Result, bail};
use tests::lab::agent::binary;
use tests::lab::mcp_cases::{Case, Stage};

/// `NAME::with_N` for each case and number of requests in flight.
macro_rules! mcp {
    ($($module:ident: $case:literal [$($with:ident = $n:literal),+];)+) => {
        $(mod $module {
            $(#[test]
            fn $with() {
                super::perform($case, $n, false);
            })+
        })+

        #[test]
        fn every_case_is_demanded() {
            let here = [$(($case, &[$($n),+][..])),+];
            for case in tests::lab::mcp_cases::CASES {
                let found = here.iter().find(|(name, _)| *name == case.name);
                assert_eq!(found.map(|(_, n)| *n), Some(case.in_flight), "{}", case.name);
            }
        }
    };
}

mcp! {
    session_of_another: "mcp-session-of-another" [with_1 = 1, with_16 = 16];
    session_refused: "mcp-session-refused" [with_1 = 1, with_16 = 16];
    token_at_initialize: "mcp-token-at-initialize" [with_1 = 1, with_16 = 16];
    token_each_call: "mcp-token-each-call" [with_1 = 1, with_16 = 16];
    one_token: "mcp-one-token" [with_1 = 1, with_16 = 16];
    gateway_one_token: "mcp-gateway-one-token" [with_1 = 1];
    gateway_passed_on: "mcp-gateway-passed-on" [with_1 = 1];
    gateway_exchanged: "mcp-gateway-exchanged" [with_1 = 1];
    token_weak: "mcp-token-weak" [with_1 = 1];
    token_strong: "mcp-token-strong" [with_1 = 1];
    flat_list: "mcp-flat-list" [with_1 = 1];
    flat_list_no_entitlements: "mcp-flat-list-no-entitlements" [with_1 = 1];
    list_by_tenant: "mcp-list-by-tenant" [with_1 = 1];
    unlisted_tool_done: "mcp-unlisted-tool-done" [with_1 = 1];
    unlisted_tool_refused: "mcp-unlisted-tool-refused" [with_1 = 1];
    list_public: "mcp-list-public" [with_1 = 1];
    list_private: "mcp-list-private" [with_1 = 1];
    argument_believed: "mcp-argument-believed" [with_1 = 1, with_16 = 16];
    argument_own: "mcp-argument-own" [with_1 = 1, with_16 = 16];
    argument_refused: "mcp-argument-refused" [with_1 = 1];
    one_transport_1_25_3: "mcp-one-transport-1.25.3" [with_1 = 1];
    one_transport_1_26_0: "mcp-one-transport-1.26.0" [with_1 = 1];
    retry_no_key: "mcp-retry-no-key" [with_1 = 1];
    retry_key: "mcp-retry-key" [with_1 = 1];
    retry_storm: "mcp-retry-storm" [with_1 = 1];
    silent_change: "mcp-silent-change" [with_1 = 1];
    announced_change: "mcp-announced-change" [with_1 = 1];
    changed_since_locked: "mcp-changed-since-locked" [with_1 = 1];
    lock_unsigned: "mcp-lock-unsigned" [with_1 = 1];
    lock_signed: "mcp-lock-signed" [with_1 = 1];
    poisoned_words: "mcp-poisoned-words" [with_1 = 1];
    poisoned_hidden: "mcp-poisoned-hidden" [with_1 = 1];
    poisoned_result: "mcp-poisoned-result" [with_1 = 1];
    plain_texts: "mcp-plain-texts" [with_1 = 1];
    tool_unbound: "mcp-tool-unbound" [with_1 = 1, with_16 = 16];
    tool_half_bound: "mcp-tool-half-bound" [with_1 = 1];
    tool_bound: "mcp-tool-bound" [with_1 = 1, with_16 = 16];
    result_of_another: "mcp-result-of-another" [with_1 = 1];
    result_own: "mcp-result-own" [with_1 = 1];
    handle_of_another: "mcp-handle-of-another" [with_1 = 1];
    handle_refused: "mcp-handle-refused" [with_1 = 1];
    header_believed: "mcp-header-believed" [with_1 = 1];
    header_refused: "mcp-header-refused" [with_1 = 1];
}

/// The same over HTTPS, read at the server: uvicorn's, which works on buffers in memory, and Node's.
mod encrypted {
    macro_rules! encrypted {
        ($($module:ident: $case:literal [$($with:ident = $n:literal),+];)+) => {$(
            mod $module {
                $(#[test]
                fn $with() {
                    super::super::perform($case, $n, true);
                })+
            }
        )+};
    }

    encrypted! {
        session_of_another: "mcp-session-of-another" [with_1 = 1, with_16 = 16];
        session_refused: "mcp-session-refused" [with_1 = 1, with_16 = 16];
        argument_believed: "mcp-argument-believed" [with_1 = 1, with_16 = 16];
        argument_own: "mcp-argument-own" [with_1 = 1, with_16 = 16];
        tool_unbound: "mcp-tool-unbound" [with_1 = 1, with_16 = 16];
        tool_bound: "mcp-tool-bound" [with_1 = 1, with_16 = 16];
        one_transport_1_25_3: "mcp-one-transport-1.25.3" [with_1 = 1];
        one_transport_1_26_0: "mcp-one-transport-1.26.0" [with_1 = 1];
    }
}

/// Plays a case and demands what it says of itself.
fn perform(name: &str, in_flight: u32, encrypted: bool) {
    // How much slower it gets for the other tenant is what a storm is about.
    let _seat = if name.contains("storm") { crate::room::alone() } else { crate::room::enter(in_flight) };
    let mut report = String::new();
    if let Err(error) = play(name, in_flight, encrypted, &mut report) {
        panic!("{name} with {in_flight}: {error:#}\n{report}");
    }
}

fn play(name: &str, in_flight: u32, encrypted: bool, report: &mut String) -> Result<()> {
    let (case, binary) = (Case::named(name)?, binary()?);
    let mut stage = Stage::new(case, in_flight, &format!("{name}-{in_flight}{}", kind(encrypted)), &binary)?;
    if encrypted {
        stage.scene.encrypt()?;
    }
    let outcome = stage.play().inspect_err(|_| *report = stage.scene.report())?;
    let judged = case.judge(&outcome.findings);
    if !judged.false_positives.is_empty() {
        bail!("{} findings are not true\n{outcome}", judged.false_positives.len());
    }
    if !judged.missed.is_empty() {
        bail!("not found: {}\n{outcome}", judged.missed.join("; "));
    }
    Ok(())
}

fn kind(encrypted: bool) -> &'static str {
    if encrypted { "-encrypted" } else { "" }
}
