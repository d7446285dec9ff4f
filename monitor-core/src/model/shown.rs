//! What of the wire's text may be shown. Every name that a decoder has heard (a path, a key, a subject, a table, a tool,
//! a setting …) passes through [`Shown::render`] before it leaves the core; there is no other way out.
//!
//! A list of what looks like a secret will never be complete, so it is the other way round: a part of a name is shown
//! only if there is a reason to.
//!
//! - It matches what the operator wrote into the configuration (`export.show`).
//! - It is made of the words by which the core itself recognises that a tenant is spoken of (`tenant_id`).
//! - It is a short plain word that many requests share ([`super::words`]).
//!
//! Everything else is `{id:1f3a9c}`, with a keyed fingerprint by which equal ones can be recognised; `{id}` alone stands
//! for what no decoder has kept. See `docs/decisions/0023-what-may-be-shown.md`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;
use smallvec::SmallVec;

use super::claim::Salt;
use super::settings::Show;
use super::words::{Part, Words};
use super::{Ids, Protocol};

/// What stands for an id that no decoder has kept.
pub const ID: &str = "{id}";
/// Most parts of a name that are shown one by one.
const MAX_PARTS: usize = 8;
/// Longest word, in bytes.
const MAX_WORD: usize = 20;

/// What stands between the parts of a name. Anything else belongs to a part.
const SEPARATORS: &[char] = &[
    '/', ':', '.', '|', '{', '}', '?', '&', '=', ',', ';', '<', '>', '(', ')', '[', ']', '*', '#', '$', '"', ' ', '…',
];

/// Words by which the core recognises that a tenant or a caller is spoken of, and those that usually go with them.
const VOCABULARY: &[&str] = &[
    "account",
    "app",
    "authorization",
    "claims",
    "current",
    "customer",
    "id",
    "jwt",
    "name",
    "org",
    "organisation",
    "organization",
    "orgid",
    "path",
    "request",
    "role",
    "search",
    "session",
    "tenant",
    "user",
];

/// What may be shown: by configuration, and as learned so far.
#[derive(Debug, Default)]
pub struct Shown {
    salt: Salt,
    /// Routes and keys of the configuration, cut into pieces.
    patterns: Vec<Vec<String>>,
    /// Names of the configuration, with `*`.
    names: Vec<String>,
    pub(super) words: Words,
}

impl Shown {
    /// With the operator's decisions. `salt` keys the fingerprints.
    pub fn new(show: &Show, salt: Salt) -> Self {
        let cut = |text: &String| pieces(text).map(|p| p.text().into_owned()).collect();
        let patterns = show.routes.iter().chain(&show.keys).map(cut).collect();
        Self { salt, patterns, names: show.names.clone(), words: Words::default() }
    }

    /// `name` as it may be shown now, and its parts, to be noted when it is used ([`Words::note`]). `heard_in` tells
    /// words of one protocol from those of another.
    pub fn render(&self, name: &str, heard_in: Protocol) -> (String, SmallVec<[Part; 4]>) {
        let mut parts = SmallVec::new();
        if self.names.iter().any(|pattern| globs(pattern, name)) {
            return (name.to_owned(), parts);
        }
        let literal = self.literals(name);
        // Tables, tools and settings are named by programs; at a place in a path or key, data may stand.
        let structured =
            heard_in.is_sql() || heard_in == Protocol::Mcp && pieces(name).all(|p| matches!(p, Piece::Word(_)));
        let mut place = SipHasher24::new_with_keys(self.salt.0, self.salt.1);
        place.write(heard_in.name().as_bytes());
        let mut out = String::with_capacity(name.len());
        let mut n_words = 0;
        for (i, piece) in pieces(name).enumerate() {
            let word = match piece {
                Piece::Separator(c) => {
                    out.push(c);
                    place.write_u32(u32::from(c));
                    continue;
                }
                Piece::Id => None,
                Piece::Word(word) => Some(word),
            };
            n_words += 1;
            if n_words > MAX_PARTS {
                out.push('…');
                break;
            }
            let here = place.finish();
            let shown = word.filter(|word| {
                if literal.get(i).copied().unwrap_or(false) || is_vocabulary(word) {
                    return true;
                }
                let mut key = place;
                key.write(word.as_bytes());
                let part = Part { word: is_plain(word).then(|| key.finish()), place: (!structured).then_some(here) };
                parts.push(part);
                self.words.is_shared(&part)
            });
            match (shown, word) {
                (Some(word), _) => {
                    out.push_str(word);
                    place.write(word.as_bytes());
                }
                (None, Some(word)) => self.fingerprint(word, &mut out),
                (None, None) => {
                    out.push_str(ID);
                    parts.push(Part { word: None, place: Some(here) });
                }
            }
            // An end, so that no word runs into what follows; and all that is hidden is one.
            place.write_u8(0xff);
        }
        (out, parts)
    }

    /// A name that the operator has asked for as such, to compare it with what was approved (tools and their servers): a
    /// word of a program is shown though nobody shares it.
    pub fn listed(&self, name: &str) -> String {
        let mut out = String::with_capacity(name.len());
        for piece in pieces(name) {
            match piece {
                Piece::Separator(c) => out.push(c),
                Piece::Id => out.push_str(ID),
                Piece::Word(word) if is_name_or_number(word) => out.push_str(word),
                Piece::Word(word) => self.fingerprint(word, &mut out),
            }
        }
        out
    }

    fn fingerprint(&self, word: &str, out: &mut String) {
        write_id(fingerprint(self.salt, word), out);
    }

    /// Which pieces of `name` the first matching pattern of the configuration writes out.
    fn literals(&self, name: &str) -> SmallVec<[bool; 16]> {
        let matching = self.patterns.iter().find_map(|pattern| {
            let mut literal = SmallVec::new();
            let mut wanted = pattern.iter();
            for piece in pieces(name) {
                match wanted.next().map(String::as_str) {
                    Some("**") => return Some(literal),
                    Some("*") => literal.push(false),
                    Some(text) if text == piece.text() => literal.push(true),
                    _ => return None,
                }
            }
            wanted.next().is_none_or(|rest| rest == "**").then_some(literal)
        });
        matching.unwrap_or_default()
    }
}

/// What a part of a name that is not shown is recognised by: 24 bits, enough to see that two are equal, too few to be worth
/// guessing at.
pub fn fingerprint(salt: Salt, word: &str) -> u32 {
    let mut h = SipHasher24::new_with_keys(salt.0, salt.1);
    h.write(b"shown\0");
    h.write(word.as_bytes());
    // Cut to what is shown.
    (h.finish() & 0xff_ffff) as u32
}

fn write_id(print: u32, out: &mut String) {
    let _ = write!(out, "{{id:{print:06x}}}");
}

/// A shown name with its `{id}`s told apart.
pub fn with_ids(name: &str, ids: Ids) -> Cow<'_, str> {
    let mut ids = ids.iter().peekable();
    if ids.peek().is_none() || !name.contains(ID) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 24);
    let mut rest = name;
    while let Some((before, after)) = rest.split_once(ID) {
        out.push_str(before);
        match ids.next() {
            Some(print) => write_id(print, &mut out),
            None => out.push_str(ID),
        }
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A piece of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'n> {
    Separator(char),
    /// An id of which a decoder has kept nothing.
    Id,
    Word(&'n str),
}

impl Piece<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Separator(c) => c.to_string().into(),
            Self::Id => ID.into(),
            Self::Word(word) => (*word).into(),
        }
    }
}

/// The pieces of a name, in order. `*` and `**` in patterns are pieces of their own.
fn pieces(name: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = name;
    std::iter::from_fn(move || {
        if let Some(after) = rest.strip_prefix(ID) {
            rest = after;
            return Some(Piece::Id);
        }
        for star in ["**", "*"] {
            if let Some(after) = rest.strip_prefix(star) {
                let (this, _) = rest.split_at(star.len());
                rest = after;
                return Some(Piece::Word(this));
            }
        }
        let first = rest.chars().next()?;
        if SEPARATORS.contains(&first) {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            return Some(Piece::Separator(first));
        }
        let end = rest.find(SEPARATORS).unwrap_or(rest.len());
        let (mut word, mut after) = rest.split_at(end);
        // An address of a mailbox is one thing, dots and all: up to the next slash, colon or the like.
        let segment_end = rest.find(|c| c != '.' && SEPARATORS.contains(&c)).unwrap_or(rest.len());
        if rest.get(..segment_end).is_some_and(|segment| segment.contains('@')) {
            (word, after) = rest.split_at(segment_end);
        }
        rest = after;
        Some(Piece::Word(word))
    })
}

/// Whether every word that `part` is made of is one of the core's own.
fn is_vocabulary(part: &str) -> bool {
    matches!(part, "*" | "**") || part.split(['_', '-']).all(|w| VOCABULARY.iter().any(|v| v.eq_ignore_ascii_case(w)))
}

/// Whether `part` has the form of a word of a program: letters, with `-` or `_` between, and not as if drawn by lot; or
/// a version such as `v1`.
fn is_plain(part: &str) -> bool {
    let version = part.strip_prefix(['v', 'V']).unwrap_or_default();
    if (1..=2).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_digit()) {
        return true;
    }
    let between = |c: u8| matches!(c, b'-' | b'_');
    part.len() <= MAX_WORD
        && part.bytes().all(|b| b.is_ascii_alphabetic() || between(b))
        && part.bytes().next().is_some_and(|b| !between(b))
        && !is_drawn_by_lot(part)
}

/// Whether letters follow each other as they do in no word: many changes from small to capital ones, long runs without a
/// vowel, or none at all.
fn is_drawn_by_lot(part: &str) -> bool {
    let humps =
        part.as_bytes().windows(2).filter(|w| matches!(w, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    let vowel = |b: u8| b"aeiouyAEIOUY".contains(&b);
    let runs = part.as_bytes().split(|b| vowel(*b) || matches!(b, b'-' | b'_'));
    let longest = runs.map(<[u8]>::len).max().unwrap_or(0);
    humps.count() > 3 || longest > 5
}

/// Whether `part` is what programs and their makers call things: plain words with short numbers between.
fn is_name_or_number(part: &str) -> bool {
    // Groups of a card's number are short numbers, too.
    let n_digits = part.bytes().filter(u8::is_ascii_digit).count();
    part.len() <= 64
        && n_digits <= 6
        && part.split(['_', '-']).all(|w| {
            let letters = w.trim_end_matches(|c: char| c.is_ascii_digit());
            w.len() - letters.len() <= 4 && (letters.is_empty() || is_plain(letters))
        })
}

/// Whether `pattern`, with `*` for anything, is the whole of `name`.
pub(super) fn globs(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part).and_then(|at| rest.get(at + part.len()..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TenantId;

    fn shown(show: &Show) -> Shown {
        Shown::new(show, Salt(1, 2))
    }

    fn patterns(routes: &[&str], keys: &[&str], names: &[&str]) -> Show {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Show { routes: own(routes), keys: own(keys), names: own(names) }
    }

    /// `name` is used in `times` requests by each of `tenants`, each on a connection of its own.
    fn used(shown: &mut Shown, name: &str, tenants: &[u32], times: usize) {
        for _ in 0..times {
            for &t in tenants {
                let (_, parts) = shown.render(name, Protocol::Http);
                for part in &parts {
                    shown.words.note(part, Some(TenantId(t)), u64::from(t), true);
                }
            }
        }
    }

    fn text(shown: &Shown, name: &str) -> String {
        shown.render(name, Protocol::Http).0
    }

    #[test]
    fn nothing_is_shown_that_nobody_shares() {
        let shown = shown(&Show::default());
        for name in ["/orders", "/users/alice/orders", "/a.b@example.com/x", "/+491701234567", "/4111-1111-1111-1111"] {
            let out = text(&shown, name);
            let words: Vec<&str> =
                pieces(name).filter_map(|p| if let Piece::Word(w) = p { Some(w) } else { None }).collect();
            assert!(words.iter().all(|w| !out.contains(w)), "{name}: {out}");
        }
        assert_eq!(text(&shown, "/alice"), text(&shown, "/alice"));
        assert_ne!(text(&shown, "/alice"), text(&shown, "/bob"));
        assert_eq!(text(&shown, "/tenant_id/{id}/"), "/tenant_id/{id}/");
        let other = Shown::new(&Show::default(), Salt(3, 4));
        assert_ne!(text(&shown, "/alice"), text(&other, "/alice"), "the fingerprint is keyed");
        assert!(text(&shown, "/a.b@example.com").matches("{id:").count() == 1, "one address, one id");
    }

    #[test]
    fn a_word_that_many_requests_of_several_tenants_share_is_shown() {
        let mut shown = shown(&Show::default());
        used(&mut shown, "/api/orders/{id}/items", &[1, 2], 40);
        assert_eq!(text(&shown, "/api/orders/{id}/items"), "/api/orders/{id}/items");
        let mut shown = self::shown(&Show::default());
        used(&mut shown, "/api/orders", &[1], 1000);
        assert!(!text(&shown, "/api/orders").contains("api"), "one tenant alone shares nothing");
        let mut shown = self::shown(&Show::default());
        used(&mut shown, "/V1StGXR8_Z5jdHi6B-myT/orders", &[1, 2], 100);
        assert!(!text(&shown, "/V1StGXR8_Z5jdHi6B-myT/orders").contains("V1St"), "it is no word, whoever shares it");
    }

    #[test]
    fn a_popular_name_among_others_is_not_shown() {
        let mut shown = shown(&Show::default());
        used(&mut shown, "/users/alice", &[1, 2], 500);
        used(&mut shown, "/users/bob", &[1], 3);
        used(&mut shown, "/users/carol", &[2], 3);
        let out = text(&shown, "/users/alice");
        assert!(out.starts_with("/users/{id:"), "{out}");
        // What is learned too early is taken back.
        let mut shown = self::shown(&Show::default());
        used(&mut shown, "/users/{id}/orders", &[1, 2], 100);
        used(&mut shown, "/users/alice/orders", &[1, 2], 20);
        let out = text(&shown, "/users/alice/orders");
        assert!(out.starts_with("/users/{id:") && out.ends_with("/orders"), "{out}");
    }

    #[test]
    fn what_the_operator_writes_out_is_shown() {
        let show = patterns(&["/hooks/*/v2beta", "/api/**"], &["cart:*"], &["acme_*", "s3"]);
        let shown = shown(&show);
        let out = text(&shown, "/hooks/kZ81/v2beta");
        assert!(out.starts_with("/hooks/{id:") && out.ends_with("}/v2beta"), "{out}");
        let out = text(&shown, "/api/alice");
        assert!(out.starts_with("/api/{id:"), "{out}");
        assert!(text(&shown, "cart:alice").starts_with("cart:{id:"));
        assert!(text(&shown, "/hooks/kZ81").starts_with("/{id:"), "only the whole of a pattern counts");
        assert_eq!((text(&shown, "acme_9f"), text(&shown, "s3")), ("acme_9f".to_owned(), "s3".to_owned()));
        assert_eq!(text(&self::shown(&patterns(&[], &[], &["*"])), "/x@y/z"), "/x@y/z");
    }

    #[test]
    fn words_have_a_form() {
        for word in ["orders", "get-user", "line_items", "getUserOrders", "v1", "v12", "a", "strengths", "rhythm"] {
            assert!(is_plain(word), "{word}");
        }
        for word in
            ["", "_x", "v123", "s3", "order2", "xkqzvbnm", "kXqZpLmRtWvB", "aBcDeFgHiJ", "alice@example", "größe"]
        {
            assert!(!is_plain(word), "{word}");
        }
        assert!(!is_plain(&"ab".repeat(11)));
    }

    #[test]
    fn names_that_an_operator_asks_for_are_those_of_programs() {
        let shown = shown(&Show::default());
        for name in ["send_email", "get_order_v2", "orders-server", "1.10.0", "acme.orders/search"] {
            assert_eq!(shown.listed(name), name);
        }
        for name in
            ["alice@example.com", "V1StGXR8_Z5jdHi6B-myT", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "4111-1111-1111-1112"]
        {
            assert!(shown.listed(name).starts_with("{id:"), "{name}: {}", shown.listed(name));
        }
    }

    #[test]
    fn ids_that_were_folded_are_told_apart() {
        let print = |word: &str| fingerprint(Salt(1, 2), word);
        let (mut ids, mut other) = (Ids::default(), Ids::default());
        [print("4711"), print("4712")].into_iter().for_each(|p| ids.push(p));
        other.push(print("4711"));
        let (text, again) = (with_ids("/a/{id}/b/{id}/{id}", ids), with_ids("/c/{id}", other));
        assert!(text.starts_with("/a/{id:") && text.ends_with("}/{id}") && text.matches("{id:").count() == 2, "{text}");
        assert_eq!(text.get(3..14), again.get(3..14), "equal ids are recognised wherever they stand");
        assert_eq!(with_ids("/a/{id}", Ids::default()), "/a/{id}");
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(globs("*", "") && globs("a*", "ab") && globs("*b", "ab") && globs("a*c*e", "abcde") && globs("a", "a"));
        assert!(!globs("a", "ab") && !globs("a*c", "ab") && !globs("a*c*e", "abde") && !globs("", "a"));
    }
}
