//! Something is to be sent to an address, or passed on as an argument.

use super::sentence::{Word, after, before, has, is_any};

pub(super) const SEND: &[&str] = &[
    "send",
    "post",
    "upload",
    "forward",
    "transmit",
    "email",
    "mail",
    "submit",
    "deliver",
    "exfiltrate",
    "push",
    "leak",
    "publish",
    "copy",
    "bcc",
    "cc",
    "relay",
    "ship",
    "pass",
    "append",
    "share",
    "put",
    "curl",
    "write",
    "attach",
];

fn is_address(word: &str) -> bool {
    word.contains("://")
        || word.starts_with("www.")
        || word.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
}

/// An address that something is to go to.
pub(super) fn literal_target(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        let number = w.text.bytes().filter(u8::is_ascii_digit).count() >= 7 && !w.text.contains('-');
        (is_address(w.text) || is_address(w.raw) || number)
            && has(before(words, i, 5), &["to", "at", "via", "into", "bcc", "cc", "recipient", "through", "address"])
    })
}

/// "…and pass its content as 'sidenote'".
pub(super) fn passes(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        !w.quoted
            && is_any(
                w.text,
                &[
                    "pass", "provide", "supply", "put", "place", "include", "insert", "send", "submit", "add",
                    "append", "attach", "embed", "store", "paste", "encode", "give",
                ],
            )
            && after(words, i, 14).iter().enumerate().any(|(n, w)| {
                is_any(w.text, &["as", "in", "into", "through", "via", "inside", "within", "using"])
                    && after(words, i + 1 + n, 5).iter().any(|w| {
                        is_any(
                            w.text,
                            &[
                                "parameter",
                                "argument",
                                "param",
                                "field",
                                "property",
                                "sidenote",
                                "note",
                                "notes",
                                "input",
                                "context",
                            ],
                        ) || w.quoted
                            || w.raw.starts_with(['\'', '`'])
                    })
            })
    })
}

pub(super) fn says_result(words: &[Word<'_>]) -> bool {
    words.iter().any(|w| is_any(w.text, &["result", "results", "them", "it", "everything", "output", "data", "list"]))
}
