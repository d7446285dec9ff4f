//! Cookies of requests and answers: which of them may be sessions, by the form of name and value. Values stop here.
//!
//! What holds a client to one server, counts visits, guards forms or keeps choices is set like a session, and is none: it
//! is known by the names that products fix. Sources: RFC 6265bis; the manuals of HAProxy, nginx, ingress-nginx, AWS ALB,
//! Google Cloud Load Balancing, Azure App Service and Application Gateway, F5 BIG-IP, NetScaler, Cloudflare, Akamai,
//! Imperva and DataDome; the cookie policies of Google Analytics, Matomo, Hotjar, Segment, Amplitude and PostHog.

use httparse::Header;

use super::identity::fingerprint;
use crate::model::claim::Salt;
use crate::model::cookies::{Cookie, Cookies, SetCookie};

/// Shortest value that nobody guesses: 64 bits in hexadecimal (OWASP, session management).
const MIN_SESSION: usize = 16;
/// Longest header value that is looked at.
const MAX_VALUE: usize = 8192;
/// Most cookies of one request, and most that one answer sets.
const MAX_COOKIES: usize = 8;
/// Longest life of what is a session by its attributes, in seconds.
const A_DAY: i64 = 24 * 60 * 60;

/// Beginnings of names (lower case) that are known for something else.
const OTHERS: &[&str] = &[
    // Affinity, and what guards servers against programs.
    "awsalb",
    "aws-waf",
    "gclb",
    "gcilb",
    "arraffinity",
    "applicationgatewayaffinity",
    "bigip",
    "ingresscookie",
    "serverid",
    "srv_id",
    "nsc_",
    "citrix_ns",
    "ts01",
    "__cf",
    "_cf",
    "cf_clearance",
    "ak_bmsc",
    "bm_",
    "_abck",
    "incap_ses",
    "visid_incap",
    "nlbi_",
    "datadome",
    "rbz",
    "reese84",
    "cookiesession1",
    "bni_",
    // Visits.
    "_ga",
    "_gid",
    "_gcl",
    "_fb",
    "_hj",
    "_pk_",
    "_dd_s",
    "_clck",
    "_clsk",
    "_hp2",
    "__utm",
    "__hs",
    "hubspotutk",
    "ajs_",
    "mp_",
    "ph_",
    "amp_",
    "amplitude",
    "optimizely",
    "intercom-",
    "utag_main",
];

/// Words within names (lower case) that say that it is something else.
const OTHER_WORDS: &[&str] = &[
    "csrf",
    "xsrf",
    "affinity",
    "sticky",
    "route",
    "backend",
    "balance",
    "analytics",
    "anonymous",
    "visit",
    "consent",
    "locale",
    "lang",
    "theme",
    "tracking",
    "experiment",
];

/// The cookies of one `Cookie` header that may be sessions.
pub(super) fn carried(salt: Salt, value: &str, out: &mut Cookies) {
    for (name, value) in value.split(';').filter_map(|c| c.split_once('=')) {
        if out.carried.len() < MAX_COOKIES
            && let Some(cookie) = cookie(salt, name.trim(), value.trim())
        {
            out.carried.push(cookie);
        }
    }
}

/// The cookies that an answer sets, those that the request has already left out.
pub(super) fn set(salt: Salt, headers: &[Header<'_>], out: &mut Cookies) {
    for h in headers.iter().filter(|h| h.name.eq_ignore_ascii_case("set-cookie")) {
        let Some(text) = std::str::from_utf8(h.value).ok().filter(|v| v.len() <= MAX_VALUE) else { continue };
        let mut parts = text.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|c| c.split_once('=')) else { continue };
        let Some(cookie) = cookie(salt, name.trim(), value.trim()) else { continue };
        let (mut http_only, mut lasts, mut max_age) = (false, false, None);
        for part in parts {
            let (name, value) = part.split_once('=').map_or((part, ""), |(n, v)| (n.trim(), v.trim()));
            http_only |= name.eq_ignore_ascii_case("httponly");
            // A date says little without a clock: it is taken for a long life, unless there is a number as well.
            lasts |= name.eq_ignore_ascii_case("expires");
            if name.eq_ignore_ascii_case("max-age") {
                max_age = value.parse::<i64>().ok();
            }
        }
        // One that ends at once is taken away.
        if max_age.is_some_and(|age| age <= 0) {
            continue;
        }
        let short = max_age.map_or(!lasts, |age| age <= A_DAY);
        if out.set.len() < MAX_COOKIES && !out.carried.contains(&cookie) {
            out.set.push(SetCookie { cookie, as_session: http_only && short });
        }
    }
}

fn cookie(salt: Salt, name: &str, value: &str) -> Option<Cookie> {
    if !is_secret(value) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix("__host-").or_else(|| lower.strip_prefix("__secure-")).unwrap_or(&lower);
    let other = OTHERS.iter().any(|o| bare.starts_with(o)) || OTHER_WORDS.iter().any(|w| bare.contains(w));
    (!other).then(|| Cookie {
        name: fingerprint(salt, "cookie", name),
        value: fingerprint(salt, &format!("cookie {name}"), value),
        named: speaks_of_session(bare),
    })
}

/// Whether a cookie's name (lower case) is that of a session. What begins with an underscore is mostly set by scripts that
/// count: it needs to be set like a session.
fn speaks_of_session(bare: &str) -> bool {
    let word = |w: &&str| bare.contains(*w);
    !bare.starts_with('_')
        && (bare == "sid" || ["sess", ".sid", "_sid", "-sid", "auth", "token", "jwt"].iter().any(word))
}

fn is_secret(value: &str) -> bool {
    let value = value.trim_matches('"');
    let mut kinds = [false; 128];
    for b in value.bytes() {
        if let Some(seen) = kinds.get_mut(usize::from(b)) {
            *seen = true;
        }
    }
    value.len() >= MIN_SESSION
        && kinds.iter().filter(|seen| **seen).count() >= 6
        && value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Words of a path behind which somebody logs in.
const LOGINS: &[&str] = &[
    "login",
    "signin",
    "logon",
    "auth",
    "authenticate",
    "session",
    "sessions",
    "token",
    "oauth",
    "oauth2",
    "oidc",
    "sso",
    "saml",
    "callback",
];

/// Whether somebody logs in at this path.
pub(super) fn logs_in(path: &str) -> bool {
    path.split('/').any(|part| {
        let bare: String = part.chars().filter(|c| !matches!(c, '-' | '_')).take(16).collect();
        LOGINS.iter().any(|l| bare.eq_ignore_ascii_case(l)) || part.eq_ignore_ascii_case("j_security_check")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(3, 4);
    const SECRET: &str = "9f86d081884c7d659a2f";

    fn given(lines: &[&str], carried_too: &str) -> Vec<(bool, bool)> {
        let headers: Vec<_> = lines.iter().map(|l| Header { name: "Set-Cookie", value: l.as_bytes() }).collect();
        let mut all = Cookies::default();
        carried(SALT, carried_too, &mut all);
        set(SALT, &headers, &mut all);
        all.set.iter().map(|s| (s.cookie.named, s.as_session)).collect()
    }

    #[test]
    fn a_session_is_set_for_no_script_and_no_long() {
        let of = |attributes: &str| given(&[&format!("_app={SECRET}; Path=/{attributes}")], "");
        assert_eq!(of("; HttpOnly; SameSite=Lax"), [(false, true)]);
        assert_eq!(of("; httponly; Max-Age=3600"), [(false, true)]);
        assert_eq!(of("; HttpOnly; Max-Age=31536000"), [(false, false)]);
        assert_eq!(of("; HttpOnly; Expires=Wed, 21 Oct 2026 07:28:00 GMT"), [(false, false)]);
        assert_eq!(of(""), [(false, false)]);
        assert_eq!(of("; HttpOnly; Max-Age=0"), [], "taken away");
        assert_eq!(given(&[&format!("sid={SECRET}")], ""), [(true, false)]);
        assert_eq!(given(&[&format!("sid={SECRET}")], &format!("sid={SECRET}")), [], "it has it already");
        assert_eq!(given(&[&format!("sid={SECRET}")], &format!("sid={SECRET}0")), [(true, false)]);
    }

    #[test]
    fn what_is_known_for_something_else_is_none() {
        for name in
            ["AWSALB", "GCLB", "__cf_bm", "__Host-csrf_token", "SERVERID", "_ga_1", "route", "lb-sticky", "locale"]
        {
            assert_eq!(given(&[&format!("{name}={SECRET}; HttpOnly")], ""), [], "{name}");
        }
        assert_eq!(given(&["app=node-1; HttpOnly", "app=; HttpOnly", "; HttpOnly"], ""), [], "no secret");
    }

    #[test]
    fn somebody_logs_in_where_the_path_says_so() {
        for path in ["/login", "/api/v1/sign-in", "/j_security_check", "/oauth2/callback", "/sessions"] {
            assert!(logs_in(path), "{path}");
        }
        for path in ["/", "/orders/1", "/authors", "/tokens-of-appreciation"] {
            assert!(!logs_in(path), "{path}");
        }
    }
}
