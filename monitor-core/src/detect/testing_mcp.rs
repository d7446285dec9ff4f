//! MCP exchanges for the rules' own tests.

use smallvec::smallvec;

use super::testing::*;
use super::{Hit, McpUse, Rule, RuleEvent, RuleOutcome};
use crate::model::mcp::{Exchange, ManifestHash, Method, Tool, ToolPage};
use crate::model::token::{Token, Verified};
use crate::model::{Answer, Claim, Fingerprint, Nanos, Service, ServiceId, Settings, Sym};

/// Tools and names that the rules' small world knows, in its order.
pub(crate) const SEND: Sym = Sym(5);
pub(crate) const READ: Sym = Sym(6);
pub(crate) const CALL: Sym = Sym(7);
pub(crate) const LIST: Sym = Sym(8);
pub(crate) const LIST_CHANGED: Sym = Sym(9);
pub(crate) const INITIALIZE: Sym = Sym(10);
pub(crate) const INSERT: Sym = Sym(11);

/// A tool without hints whose definition is version `n` of it.
pub(crate) fn tool(name: Sym, n: u8) -> Tool {
    Tool { name, hash: ManifestHash([n; 32]), read_only: false, idempotent: false, patterns: smallvec![] }
}

/// The exchange, begun so many seconds into the test and answered after a millisecond.
pub(crate) fn at(second: u64, e: Exchange) -> Exchange {
    let begun = Nanos::secs(second);
    Exchange { begun, ended: Nanos(begun.0 + 1_000_000), ..e }
}

/// One page of a list of tools.
pub(crate) fn page(second: u64, tools: &[Tool], first: bool, last: bool) -> Exchange {
    let cursor = Fingerprint(77);
    let (after, next) = ((!first).then_some(cursor), (!last).then_some(cursor));
    let tools = Some(ToolPage { tools: tools.to_vec(), after, next, cut: false, scope: None });
    at(second, Exchange { method: Method::ToolsList, verb: LIST, name: Sym::EMPTY, tools, ..an_exchange() })
}

/// A whole list of tools.
pub(crate) fn list(second: u64, tools: &[Tool]) -> Exchange {
    page(second, tools, true, true)
}

/// A successful call of the tool `name`.
pub(crate) fn call(second: u64, name: Sym) -> Exchange {
    at(second, Exchange { verb: CALL, name, ..an_exchange() })
}

/// A readable token with nothing wrong about it.
pub(crate) fn token(print: u64, tenant: Claim, verified: Verified) -> Token {
    Token {
        print: Fingerprint(print),
        readable: true,
        verified,
        tenant,
        audience: Some(true),
        has_audience: true,
        lifetime: Some(Nanos::secs(300)),
        has_scope: true,
    }
}

/// Shows an exchange to a rule: what it finds, with its sentence.
pub(crate) fn told(
    rule: &mut dyn Rule,
    u: &McpUse<'_>,
    services: &[Service],
    settings: Settings,
) -> (Vec<(Hit, String)>, RuleOutcome) {
    with_settings(services, settings, |world| {
        let mut hits = Vec::new();
        let outcome = rule.on_event(&RuleEvent::Mcp(u), world, &mut hits);
        assert_eq!(outcome == RuleOutcome::Found, !hits.is_empty());
        let told = hits.into_iter().map(|h| {
            let words = rule.message(&h, world);
            assert!(!words.is_empty());
            for step in &h.steps {
                assert!(!step.words(world).is_empty());
            }
            (h, words)
        });
        (told.collect(), outcome)
    })
}

/// What a rule finds in an exchange with the server of the small world.
pub(crate) fn see(rule: &mut dyn Rule, exchange: &Exchange, answer: Answer) -> Vec<Hit> {
    see_with(rule, exchange, answer, Settings::default())
}

/// The same, with the operator's decisions.
pub(crate) fn see_with(rule: &mut dyn Rule, exchange: &Exchange, answer: Answer, settings: Settings) -> Vec<Hit> {
    let u = McpUse { site: SITE, exchange, answer };
    told(rule, &u, &[shared_service()], settings).0.into_iter().map(|(hit, _)| hit).collect()
}

/// What a rule makes of an exchange.
pub(crate) fn judged(rule: &mut dyn Rule, exchange: &Exchange, answer: Answer) -> RuleOutcome {
    let u = McpUse { site: SITE, exchange, answer };
    told(rule, &u, &[shared_service()], Settings::default()).1
}

/// An exchange at service `n`.
pub(crate) fn at_service(n: u32, exchange: &Exchange, answer: Answer) -> McpUse<'_> {
    let mut site = SITE;
    site.service = Some(ServiceId(n));
    McpUse { site, exchange, answer }
}
