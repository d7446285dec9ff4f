//! Heads of requests and answers, made of header fields (RFC 9113 §8.3).

use httparse::Header;
use smallvec::SmallVec;

use super::hpack::Fields;
use crate::decode::body::{RequestHead, ResponseHead};

type Headers<'a> = SmallVec<[Header<'a>; 32]>;

/// What pseudo-header fields say.
#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a str>,
    path: Option<&'a str>,
    authority: Option<&'a str>,
    scheme: Option<&'a str>,
    status: Option<&'a str>,
    /// Another protocol inside of a stream (RFC 8441).
    protocol: Option<&'a str>,
    /// Something is not as it should be: one that is not known, comes twice or comes too late, or a name that is none.
    irregular: bool,
}

impl<'a> Pseudo<'a> {
    fn read(fields: &'a Fields, headers: &mut Headers<'a>) -> Self {
        let mut out = Self::default();
        for (name, value) in fields.iter() {
            let Ok(name) = std::str::from_utf8(name) else {
                out.irregular = true;
                continue;
            };
            if !name.starts_with(':') {
                out.irregular |= name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase());
                headers.push(Header { name, value });
                continue;
            }
            let place = match name {
                ":method" => &mut out.method,
                ":path" => &mut out.path,
                ":authority" => &mut out.authority,
                ":scheme" => &mut out.scheme,
                ":status" => &mut out.status,
                ":protocol" => &mut out.protocol,
                _ => {
                    out.irregular = true;
                    continue;
                }
            };
            let value = std::str::from_utf8(value).ok();
            out.irregular |= place.is_some() || value.is_none() || !headers.is_empty();
            *place = place.or(value);
        }
        out
    }
}

/// Gives `f` the head of a request, and whether its stream carries another protocol if it is accepted.
pub(super) fn request<R>(fields: &Fields, f: impl FnOnce(&RequestHead<'_>, bool) -> R) -> R {
    let mut headers = Headers::new();
    let pseudo = Pseudo::read(fields, &mut headers);
    let connect = pseudo.method == Some("CONNECT");
    if let Some(authority) = pseudo.authority {
        // What `Host` is in HTTP/1.1 (RFC 9113 §8.3.1).
        headers.insert(0, Header { name: "host", value: authority.as_bytes() });
    }
    let tunnel = connect && pseudo.protocol.is_none();
    let target = if tunnel { pseudo.authority } else { pseudo.path };
    let partial = fields.is_partial();
    let complete = pseudo.method.is_some() && target.is_some() && (tunnel || pseudo.scheme.is_some());
    let head = RequestHead {
        method: pseudo.method.unwrap_or_default(),
        target: target.unwrap_or_default(),
        headers: &headers,
        irregular: pseudo.irregular || pseudo.status.is_some() || (!complete && !partial),
        partial,
    };
    f(&head, connect)
}

/// Gives `f` the head of an answer.
pub(super) fn response<R>(fields: &Fields, f: impl FnOnce(&ResponseHead<'_>) -> R) -> R {
    let mut headers = Headers::new();
    let pseudo = Pseudo::read(fields, &mut headers);
    let status = pseudo.status.and_then(|s| s.parse().ok()).filter(|s| (100..1000).contains(s));
    f(&ResponseHead { status: status.unwrap_or(0), partial: fields.is_partial(), headers: &headers })
}

/// Gives `f` the fields behind a body.
pub(super) fn trailers<R>(fields: &Fields, f: impl FnOnce(&[Header<'_>]) -> R) -> R {
    let mut headers = Headers::new();
    Pseudo::read(fields, &mut headers);
    f(&headers)
}
