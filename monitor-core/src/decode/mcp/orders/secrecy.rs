//! Somebody is not to be told, or not to be asked.

use super::sentence::{Word, after, before, has, is_any, is_not};

const TELL: &[&str] = &[
    "tell",
    "inform",
    "mention",
    "reveal",
    "disclose",
    "notify",
    "alert",
    "say",
    "show",
    "explain",
    "report",
    "describe",
    "let",
    "expose",
    "display",
    "admit",
    "acknowledge",
    "discuss",
    "warn",
    "share",
    "announce",
    "bring",
    "surface",
    "telling",
];
const USER: &[&str] = &["user", "users", "human", "humans", "operator", "anyone", "anybody", "person"];
/// What only these very words can be about.
const OWN: &[&str] =
    &["this", "these", "it", "you", "your", "instruction", "instructions", "step", "steps", "sidenote", "anything"];

/// "Do not tell the user about this."
pub(super) fn keeps_secret(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        if w.quoted {
            return false;
        }
        if is_any(w.text, TELL) && before(words, i, 4).iter().any(|w| is_not(w.text)) {
            let next = after(words, i, 10);
            if has(after(words, i, 1), &["whether", "if", "which"]) {
                return false;
            }
            if let Some(n) = next.iter().position(|w| is_any(w.text, USER)) {
                let behind = next.get(n + 1..).unwrap_or_default();
                let ends = behind.is_empty() || next.get(n).is_some_and(|w| w.raw.ends_with([',', ';', ':']));
                let object = next.get(..n).unwrap_or_default();
                let conditional =
                    has(behind.get(..1).unwrap_or_default(), &["whether", "if", "which", "what", "where"]);
                return !conditional && (ends || has(object, OWN) || has(behind, OWN));
            }
            return is_any(w.text, &["mention", "acknowledge", "bring"])
                && (has(after(words, i, 2), &["this", "these", "it"])
                    || (has(after(words, i, 1), &["that"]) && has(after(words, i, 2), &["you"])));
        }
        if is_any(w.text, &["hide", "conceal", "keep", "withhold"]) {
            let next = after(words, i, 8);
            return has(after(words, i, 1), &["this", "it", "these", "that"])
                && next.iter().position(|w| w.text == "from").is_some_and(|n| has(after(next, n, 3), USER))
                && !after(words, i + 1, 1).iter().any(|w| {
                    !is_any(
                        w.text,
                        &[
                            "from",
                            "hidden",
                            "secret",
                            "confidential",
                            "private",
                            "quiet",
                            "instructions",
                            "step",
                            "steps",
                        ],
                    )
                });
        }
        // "The user must not see this."
        is_any(w.text, USER)
            && !has(before(words, i, 3), &["that", "which", "what", "if", "when", "whether"])
            && after(words, i, 2)
                .iter()
                .any(|w| is_any(w.text, &["must", "should", "shall", "may", "need", "can", "does"]))
            && after(words, i, 3).iter().any(|w| is_not(w.text))
            && after(words, i, 6)
                .iter()
                .position(|w| {
                    is_any(
                        w.text,
                        &[
                            "see", "know", "notice", "learn", "aware", "informed", "told", "notified", "suspect",
                            "realize", "realise", "find",
                        ],
                    )
                })
                .is_some_and(|n| {
                    let behind = after(words, i + 1 + n, 5);
                    behind.is_empty() || has(behind, OWN)
                })
    })
}

/// Somebody is not told, or not asked.
pub(super) fn is_quiet(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| match w.text {
        "without" | "not" | "never" | "don't" => after(words, i, 3).iter().any(|w| {
            is_any(
                w.text,
                &[
                    "ask",
                    "asking",
                    "telling",
                    "informing",
                    "notifying",
                    "alerting",
                    "confirmation",
                    "confirming",
                    "approval",
                    "permission",
                    "consent",
                    "mentioning",
                    "tell",
                    "inform",
                    "mention",
                    "reveal",
                ],
            )
        }),
        "silently" | "secretly" | "covertly" | "discreetly" | "quietly" => true,
        _ => false,
    })
}
