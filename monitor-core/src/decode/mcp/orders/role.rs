//! The reader is to be somebody else.

use super::sentence::{Word, after, before, has, is_any};

/// "You are now in developer mode", "your new task is".
pub(super) fn changes_role(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        let next = after(words, i, 8);
        let is = |n: usize, all: &[&str]| next.get(n).is_some_and(|w| is_any(w.text, all));
        if w.quoted {
            return false;
        }
        match w.text {
            "you" if is(0, &["are"]) && is(1, &["now"]) => {
                has(next, &["dan", "unrestricted", "jailbroken", "unfiltered", "uncensored"])
                    || (has(next, &["developer", "god", "root"]) && has(next, &["mode"]))
            }
            "your" => {
                is(0, &["new", "real", "actual", "true", "only", "updated"])
                    && is(
                        1,
                        &[
                            "instruction",
                            "instructions",
                            "task",
                            "goal",
                            "objective",
                            "role",
                            "directive",
                            "mission",
                            "orders",
                            "priority",
                        ],
                    )
                    && (is(2, &["is", "are"]) || next.get(1).is_some_and(|w| w.raw.ends_with(':')))
            }
            "longer" => {
                is(0, &["bound", "restricted", "constrained"]) && before(words, i, 4).iter().any(|w| w.text == "you")
            }
            "pretend" | "act" => {
                has(next, &["without", "no"]) && has(next, &["restrictions", "filters", "guardrails", "limits"])
            }
            _ => false,
        }
    })
}
