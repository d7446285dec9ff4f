//! Something is ordered about everybody's data.

use super::sentence::{Word, after, before, is_any};

/// Whether a sentence orders something about everybody's data. "Returns" and "a list of" describe.
pub(super) fn orders_everybody(words: &[Word<'_>]) -> bool {
    const ORDERS: &[&str] = &[
        "fetch", "read", "retrieve", "collect", "export", "send", "forward", "dump", "copy", "extract", "download",
        "include", "return", "list", "show", "get",
    ];
    words.iter().enumerate().any(|(i, w)| {
        let next = after(words, i, 2);
        let pair = |all: &[&str]| next.iter().any(|n| is_any(n.raw.trim_end_matches(['.', ',', ';', '!', ':']), all));
        let everybody = (is_any(w.text, &["all", "every", "other"]))
            && pair(&[
                "customers",
                "tenants",
                "organizations",
                "organisations",
                "accounts",
                "customer",
                "tenant",
                "customers'",
                "tenants'",
            ]);
        everybody && before(words, i, 14).iter().any(|w| is_any(w.text, ORDERS))
    })
}
