//! What the headers of a request say of its tenant. Values stop here: claims and fingerprints go on.

use std::hash::Hasher;

use httparse::Header;
use smallvec::SmallVec;

use super::caching::header_name;
use super::cookies;
use crate::decode::base64::base64;
use crate::decode::body::RequestHead;
use crate::decode::{Mark, Sink, trace};
use crate::model::claim::Salt;
use crate::model::cookies::Cookies;
use crate::model::http::{Identities, Identity};
use crate::model::token::Verified;
use crate::model::{Claim, Fingerprint, HeaderPolicy, MarkerPlace, Side, TenantId};

/// Longest header value that is looked at.
const MAX_VALUE: usize = 8192;
/// Most identities of one request.
const MAX_IDENTITIES: usize = 8;

/// What a request's headers carry.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    /// Whom its tenant headers name.
    pub(super) marker: Claim,
    /// Its own credential.
    pub(super) credential: Option<Fingerprint>,
    /// Whom that credential names, if it was verified.
    pub(super) proved: Option<TenantId>,
    /// A credential that authenticates the connection (Negotiate, NTLM).
    pub(super) connection: Option<(&'static str, Fingerprint)>,
    /// Cookies that may be sessions.
    pub(super) cookies: Option<Box<Cookies>>,
    /// Everything in it that tells who asks.
    pub(super) identities: Identities,
}

impl Carried {
    /// Nothing that could be read.
    pub(super) fn unreadable() -> Self {
        Self { marker: Claim::Unreadable, ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self {
            marker: Claim::Neutral,
            credential: None,
            proved: None,
            connection: None,
            cookies: None,
            identities: SmallVec::new(),
        }
    }
}

/// Reads the headers that the policy names. Trace ids go to the sink as marks of `request`.
pub(super) fn carried(
    head: &RequestHead<'_>,
    request: u64,
    policy: &HeaderPolicy,
    salt: Salt,
    sink: &mut dyn Sink,
) -> Carried {
    let mut out = Carried::nothing();
    for h in head.headers {
        let unpacked = binary(h);
        let h = &unpacked.as_ref().map_or(*h, |(name, value)| Header { name, value: value.as_bytes() });
        let is = |list: &[String]| list.iter().any(|n| n.eq_ignore_ascii_case(h.name));
        let Some(value) = std::str::from_utf8(h.value).ok().filter(|v| v.len() <= MAX_VALUE).map(str::trim) else {
            if is(&policy.tenant) {
                out.marker = both(out.marker, Claim::Unreadable);
            }
            continue;
        };
        if is(&policy.tenant) {
            let name = h.name.to_ascii_lowercase();
            // Several tenants at once (Loki, Mimir; headers joined by a proxy): it names none of them alone.
            let several = value.contains(['|', ',']);
            let claim = if several { Claim::Unreadable } else { sink.marker(MarkerPlace::Header, &name, value) };
            out.marker = both(out.marker, claim);
            identify(&mut out.identities, salt, h.name, fingerprint(salt, h.name, value));
        } else if is(&policy.credential) || h.name.eq_ignore_ascii_case("proxy-authorization") {
            let scheme = value.split(' ').next().unwrap_or_default();
            let print = fingerprint(salt, h.name, lasting(scheme, value));
            // What a proxy is told goes no further.
            if !h.name.eq_ignore_ascii_case("proxy-authorization") {
                identify(&mut out.identities, salt, h.name, print);
            }
            if let Some(scheme) = ["Negotiate", "NTLM"].into_iter().find(|s| scheme.eq_ignore_ascii_case(s)) {
                out.connection = Some((scheme, print));
            } else if out.credential.is_none() && !h.name.eq_ignore_ascii_case("proxy-authorization") {
                out.credential = Some(print);
                let token = value.get(scheme.len()..).unwrap_or_default().trim();
                if scheme.eq_ignore_ascii_case("bearer")
                    && let Some(token) = sink.token(scheme, token)
                    && token.verified == Verified::Yes
                    && let Claim::Tenant(tenant) = token.tenant
                {
                    out.proved = Some(tenant);
                }
            }
        } else if h.name.eq_ignore_ascii_case("cookie") {
            cookies::carried(salt, value, out.cookies.get_or_insert_default());
        } else if is(&policy.trace) {
            if let Some(id) = trace::trace_id(&h.name.to_ascii_lowercase(), value) {
                sink.mark(request, Side::Client, Mark::Trace(trace::fingerprint(salt, id)));
            }
        } else if h.name.eq_ignore_ascii_case("baggage") {
            for entry in value.split(',') {
                let Some((key, value)) = entry.split(';').next().and_then(|e| e.split_once('=')) else { continue };
                if policy.baggage.iter().any(|k| k.eq_ignore_ascii_case(key.trim())) {
                    let claim = sink.marker(MarkerPlace::Header, &key.trim().to_ascii_lowercase(), value.trim());
                    out.marker = both(out.marker, claim);
                }
            }
        }
    }
    if head.partial {
        out.marker = both(out.marker, Claim::Unreadable);
    }
    let Some(mut all) = out.cookies.take().filter(|c| c.says()) else { return out };
    // A session is as good as the credential it was opened with; one that is presented beside it comes second.
    all.credential = out.credential;
    for cookie in all.carried.iter().filter(|c| c.named) {
        identify(&mut out.identities, salt, "cookie", cookie.value);
    }
    out.credential = out.credential.or(all.carried.iter().find(|c| c.named).map(|c| c.value));
    out.cookies = Some(all);
    out
}

/// What a header holds whose value is base64 because gRPC's metadata may be bytes (`…-bin`), under the name that it would
/// have as text. The trace of OpenCensus (`grpc-trace-bin`) is a `traceparent` in bytes.
fn binary<'a>(h: &Header<'a>) -> Option<(&'a str, String)> {
    let bare = h.name.strip_suffix("-bin").filter(|_| h.value.len() <= MAX_VALUE)?;
    // Behind a zero they stand as they are, where both ends have agreed on it.
    let bytes = match h.value.split_first() {
        Some((0, raw)) => raw.to_vec(),
        _ => base64(std::str::from_utf8(h.value).ok()?.trim())?,
    };
    if bare == "grpc-trace" {
        return trace::binary(&bytes).map(|trace| ("traceparent", trace));
    }
    String::from_utf8(bytes).ok().map(|text| (bare, text))
}

/// Adds something that tells who asks.
fn identify(all: &mut Identities, salt: Salt, header: &str, value: Fingerprint) {
    if all.len() < MAX_IDENTITIES {
        let cookie = header.eq_ignore_ascii_case("cookie");
        all.push(Identity { header: header_name(salt, header), value, cookie });
    }
}

/// The part of a credential that stays the same from request to request: signatures do not.
fn lasting<'v>(scheme: &str, value: &'v str) -> &'v str {
    let until = |start: &str, end: char| {
        let rest = value.get(value.find(start)? + start.len()..)?;
        rest.split(end).next().filter(|v| !v.is_empty())
    };
    let part = if scheme.starts_with("AWS4-") {
        // Credential=KEY/date/region/…, SignedHeaders=…, Signature=…
        until("Credential=", '/')
    } else if scheme.eq_ignore_ascii_case("digest") {
        until("username=\"", '"')
    } else {
        None
    };
    part.unwrap_or(value)
}

/// Equal credentials give equal fingerprints; the header counts, so that one value in two headers is two credentials.
pub(super) fn fingerprint(salt: Salt, name: &str, value: &str) -> Fingerprint {
    let mut h = salt.hasher();
    h.write(name.to_ascii_lowercase().as_bytes());
    h.write_u8(0);
    h.write(value.as_bytes());
    Fingerprint(h.finish())
}

/// Two markers of one request: they agree, or nobody can read them.
fn both(a: Claim, b: Claim) -> Claim {
    match (a, b) {
        (Claim::Neutral, other) | (other, Claim::Neutral) => other,
        (a, b) if a == b => a,
        // An unknown id beside a tenant's name may be an alias of that tenant, so it does not contradict the name.
        (Claim::Tenant(t), Claim::Opaque(_)) | (Claim::Opaque(_), Claim::Tenant(t)) => Claim::Tenant(t),
        _ => Claim::Unreadable,
    }
}
