//! Something secret is to be read, or everything.

use super::sentence::{Word, after, before, is_any, is_not};

const READ: &[&str] = &[
    "read",
    "open",
    "load",
    "fetch",
    "retrieve",
    "get",
    "cat",
    "access",
    "collect",
    "gather",
    "copy",
    "extract",
    "dump",
    "export",
    "grab",
    "obtain",
    "find",
    "include",
    "append",
    "attach",
    "send",
    "post",
    "upload",
    "forward",
    "transmit",
    "email",
    "leak",
    "submit",
    "exfiltrate",
    "take",
    "capture",
    "encode",
    "print",
    "pass",
    "provide",
    "put",
    "share",
    "deliver",
    "paste",
    "embed",
];
const FILES: &[&str] = &[
    ".ssh",
    "id_rsa",
    "id_ed25519",
    "mcp.json",
    "claude_desktop_config",
    "/etc/passwd",
    "/etc/shadow",
    ".aws/credentials",
    ".netrc",
    ".git-credentials",
    ".bash_history",
    "wallet.dat",
    "/.env",
    ".kube/config",
    ".docker/config",
];
const KINDS: &[(&str, &[&str])] = &[
    ("private", &["key", "keys"]),
    ("ssh", &["key", "keys"]),
    ("environment", &["variables"]),
    ("chat", &["history"]),
    ("conversation", &["history"]),
    ("message", &["history"]),
    ("full", &["conversation", "transcript"]),
    ("entire", &["conversation", "transcript"]),
    ("whole", &["conversation", "transcript"]),
    ("system", &["prompt", "message"]),
    ("previous", &["messages", "conversation"]),
    ("seed", &["phrase"]),
    ("session", &["cookies", "cookie"]),
    ("browser", &["cookies"]),
];
const SECRETS: &[&str] =
    &["password", "passwords", "credentials", "secrets", "tokens", "keys", "cookies", "key", "token"];

fn is_file(word: &str) -> bool {
    word == ".env" || FILES.iter().any(|f| word.contains(f))
}

/// Whether a file of secrets is to be read, or something else that is secret.
pub(super) fn reads(words: &[Word<'_>]) -> (bool, bool) {
    let (mut verb, mut file, mut other) = (None, false, false);
    for (i, w) in words.iter().enumerate() {
        if is_any(w.text, READ) && !w.quoted && !before(words, i, 3).iter().any(|w| is_not(w.text)) {
            verb = Some(i);
        }
        if verb.is_none_or(|v| i - v > 14) {
            continue;
        }
        file |= is_file(w.text);
        let next = after(words, i, 1).first().map_or("", |w| w.text);
        other |= KINDS.iter().any(|(a, b)| *a == w.text && is_any(next, b));
        let of_others =
            |w: &Word<'_>| is_any(w.text, &["all", "any", "every", "user's", "users'", "stored", "their", "available"]);
        other |= is_any(w.text, SECRETS) && before(words, i, 3).iter().any(of_others);
    }
    (file, file || other)
}

/// Everything of a kind is to be sent.
pub(super) fn bulk(words: &[Word<'_>]) -> bool {
    words.iter().enumerate().any(|(i, w)| {
        is_any(w.text, &["all", "every", "entire", "whole", "complete"])
            && after(words, i, 3).iter().any(|w| {
                is_any(
                    w.text,
                    &[
                        "emails",
                        "email",
                        "mails",
                        "messages",
                        "files",
                        "documents",
                        "records",
                        "contacts",
                        "chats",
                        "database",
                        "inbox",
                        "mailbox",
                        "repositories",
                        "invoices",
                        "data",
                    ],
                )
            })
    })
}
