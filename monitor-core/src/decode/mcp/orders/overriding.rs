//! What was said before is to be ignored.

use super::sentence::{Word, after, before, has, is_any, is_not};

const OVERRIDE: &[&str] = &[
    "ignore",
    "disregard",
    "forget",
    "override",
    "overrule",
    "bypass",
    "discard",
    "neglect",
    "supersede",
    "abandon",
    "dismiss",
    "drop",
    "skip",
    "overlook",
    "unlearn",
];
const RULES: &[&str] = &[
    "instruction",
    "instructions",
    "prompt",
    "prompts",
    "guardrail",
    "guardrails",
    "directive",
    "directives",
    "guideline",
    "guidelines",
    "guidance",
    "programming",
    "training",
    "directions",
];
/// Things of everyday software, unless they are the reader's own.
const OWN_RULES: &[&str] = &[
    "rule",
    "rules",
    "restriction",
    "restrictions",
    "constraint",
    "constraints",
    "command",
    "commands",
    "policy",
    "policies",
    "context",
    "message",
    "messages",
    "safeguards",
    "limits",
    "limitations",
    "orders",
];
const EARLIER: &[&str] = &[
    "previous",
    "prior",
    "earlier",
    "above",
    "preceding",
    "former",
    "existing",
    "original",
    "initial",
    "past",
    "foregoing",
    "system",
    "safety",
    "your",
    "you",
    "user",
    "user's",
];
const GLUE: &[&str] = &[
    "the",
    "all",
    "any",
    "of",
    "these",
    "those",
    "this",
    "other",
    "current",
    "security",
    "and",
    "or",
    "have",
    "been",
    "were",
    "was",
    "given",
    "received",
    "to",
    "every",
    "developer",
    "hidden",
    "default",
    "general",
    "core",
    "such",
    "whatever",
    "that",
    "about",
    "content",
    "ethical",
    "from",
    "single",
    "set",
    "as",
];

/// "Ignore all previous instructions", in any words.
pub(super) fn overrides(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        let prev = |n: usize| i.checked_sub(n).and_then(|at| words.get(at)).map_or("", |w| w.text);
        let verb = is_any(w.text, OVERRIDE)
            || (w.text == "aside" && is_any(prev(1), &["set", "put"]))
            || (w.text == "attention" && prev(1) == "no")
            || (is_any(w.text, &["follow", "following", "obey", "obeying"])
                && (is_any(prev(1), &["stop", "cease", "longer"])));
        if !verb
            || w.quoted
            || (w.text != "attention"
                && !is_any(prev(1), &["longer"])
                && before(words, i, 3).iter().any(|w| is_not(w.text)))
        {
            return false;
        }
        let next = after(words, i, 9);
        let Some(n) = next.iter().position(|w| is_any(w.text, RULES) || is_any(w.text, OWN_RULES)) else {
            // "everything you were told before"
            let all = after(words, i, 2)
                .iter()
                .any(|w| is_any(w.text, &["everything", "anything", "all", "what", "whatever"]));
            return all && has(next, &["told", "instructed", "learned"]) && has(next, &["you", "you've"])
                || (has(after(words, i, 1), &["everything"])
                    && has(after(words, i, 4), &["above", "before", "earlier"]));
        };
        let own = next.get(n).is_some_and(|w| is_any(w.text, OWN_RULES));
        let between = next.get(..n).unwrap_or_default();
        if !between.iter().all(|w| is_any(w.text, GLUE) || is_any(w.text, EARLIER)) {
            return false;
        }
        let behind = after(next, n, 5);
        let earlier = has(between, EARLIER)
            || has(behind, &["above", "before", "earlier", "previously", "given", "prior"])
            || (has(behind, &["you"]) && has(behind, &["were", "have", "received", "got"]));
        let every = has(between, &["all", "any"])
            && !has(
                after(next, n, 2),
                &["in", "inside", "within", "from", "found", "contained", "embedded", "that", "which"],
            );
        if own { has(between, &["your", "you", "system", "safety"]) } else { earlier || every }
    })
}
