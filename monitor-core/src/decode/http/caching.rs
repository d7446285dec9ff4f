//! What the head of an answer says of caches (RFC 9110 §12.5.5, RFC 9111).

use httparse::Header;

use crate::model::claim::Salt;
use crate::model::http::{Caching, HeaderName, Sharing};

/// Most headers of one `Vary` that are told apart.
const MAX_VARIES: usize = 16;

/// A header's name.
pub(super) fn header_name(salt: Salt, name: &str) -> HeaderName {
    HeaderName(salt.fingerprint(format!("header\0{}", name.to_ascii_lowercase()).as_bytes()))
}

/// What these headers say.
pub(super) fn caching(headers: &[Header<'_>], salt: Salt) -> Caching {
    let mut out = Caching::default();
    for h in headers {
        let Ok(value) = std::str::from_utf8(h.value) else { continue };
        match h.name.to_ascii_lowercase().as_str() {
            "cache-control" => value.split(',').for_each(|d| directive(d.trim(), &mut out)),
            "set-cookie" => out.sharing = Sharing::Private,
            "vary" => {
                for name in value.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                    if name == "*" || out.varies.headers.len() >= MAX_VARIES {
                        out.varies.unknown = true;
                    } else {
                        out.varies.headers.push(header_name(salt, name));
                    }
                }
            }
            "age" => out.hit |= value.trim().parse::<u32>().is_ok_and(|seconds| seconds > 0),
            "x-cache" | "x-cache-status" | "cf-cache-status" | "x-proxy-cache" | "x-cache-hits" | "cache-status" => {
                let lower = value.to_ascii_lowercase();
                out.hit |= lower.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "hit");
            }
            "content-type" => out.asset = is_asset(value),
            _ => {}
        }
    }
    out
}

fn directive(directive: &str, out: &mut Caching) {
    let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "private" | "no-store" | "no-cache" => out.sharing = Sharing::Private,
        "public" | "s-maxage" if out.sharing == Sharing::Unsaid => out.sharing = Sharing::Public,
        _ => {}
    }
}

fn is_asset(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    ["image/", "font/", "audio/", "video/"].iter().any(|of| kind.starts_with(of))
        || ["javascript", "ecmascript", "font-woff", "wasm"].iter().any(|word| kind.contains(word))
        || kind == "text/css"
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(1, 2);

    fn of(headers: &[(&'static str, &'static str)]) -> Caching {
        let headers: Vec<_> = headers.iter().map(|(name, v)| Header { name, value: v.as_bytes() }).collect();
        caching(&headers, SALT)
    }

    #[test]
    fn what_caches_may_do() {
        let sharing = |control| of(&[("Cache-Control", control)]).sharing;
        assert_eq!(sharing("max-age=60"), Sharing::Unsaid);
        assert_eq!(sharing("Public, max-age=60"), Sharing::Public);
        assert_eq!(sharing("max-age=1, s-maxage=60"), Sharing::Public);
        assert_eq!(sharing("no-store"), Sharing::Private);
        assert_eq!(sharing("public, private=\"x\""), Sharing::Private);
        assert_eq!(of(&[("Set-Cookie", "a=b"), ("Cache-Control", "public")]).sharing, Sharing::Private);
    }

    #[test]
    fn by_what_it_differs_and_where_it_came_from() {
        let varies = of(&[("vary", "Accept-Encoding, AUTHORIZATION"), ("Vary", "Cookie")]).varies;
        let named = ["accept-encoding", "authorization", "cookie"].map(|n| header_name(SALT, n));
        assert_eq!((varies.headers.as_slice(), varies.unknown), (&named[..], false));
        assert!(of(&[("Vary", "*")]).varies.unknown);
        assert!(of(&[("Age", "3")]).hit && !of(&[("Age", "0")]).hit && !of(&[("X-Cache", "MISS")]).hit);
        assert!(of(&[("X-Cache-Status", "HIT")]).hit && of(&[("Cache-Status", "edge; hit; ttl=3")]).hit);
        for (kind, asset) in [("text/css; charset=x", true), ("image/png", true), ("application/json", false)] {
            assert_eq!(of(&[("Content-Type", kind)]).asset, asset, "{kind}");
        }
    }
}
