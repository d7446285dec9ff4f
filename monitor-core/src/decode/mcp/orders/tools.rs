//! What another tool is to do.

use super::sentence::{Word, after, has, is_any};

pub(super) const MODAL: &[&str] = &[
    "must",
    "always",
    "should",
    "shall",
    "never",
    "instead",
    "change",
    "set",
    "replace",
    "redirect",
    "add",
    "bcc",
    "route",
    "modify",
    "use",
    "substitute",
];

/// Another tool is named: `send_email`, "the mail tool".
pub(super) fn names_other_tool(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        let identifier = w.text.contains('_')
            && w.text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !w.text.starts_with('_');
        let other = is_any(w.text, &["tool", "tools", "function"])
            && i.checked_sub(1)
                .and_then(|at| words.get(at))
                .is_some_and(|w| !is_any(w.text, &["this", "the", "a", "that", "same", "of", "each", "any"]));
        identifier || other
    })
}

pub(super) fn speaks_of_use_before(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        is_any(w.text, &["before", "prior", "when", "whenever", "each", "every"])
            && has(after(words, i, 4), &["using", "use", "calling", "call", "invoking", "running", "run", "time"])
    })
}
