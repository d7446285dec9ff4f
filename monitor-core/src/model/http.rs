//! HTTP exchanges: what a rule about caches needs to know of one request and its answer, without their payload.

use smallvec::SmallVec;

use super::{Fingerprint, Nanos, Sym};

/// A header by which a request tells who asks (a credential, a session, a tenant's name), and what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The header.
    pub header: HeaderName,
    /// Its value, or the part of it that stays the same from request to request.
    pub value: Fingerprint,
    /// It is a session's cookie. Browsers send those with everything, with what is the same for all, too.
    pub cookie: bool,
}

/// Identities of one request.
pub type Identities = SmallVec<[Identity; 2]>;

/// The name of a header, of which only equality matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderName(pub Fingerprint);

/// What the origin lets shared caches do with an answer (RFC 9111 §3.5, §5.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// It says nothing.
    #[default]
    Unsaid,
    /// Anybody may have it (`public`, `s-maxage`).
    Public,
    /// No other may have it, or not without being asked for anew (`private`, `no-store`, `no-cache`), or it sets a cookie.
    Private,
}

/// By what an answer differs from request to request (`Vary`, RFC 9110 §12.5.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Varies {
    /// By something that no cache knows (`*`), or by more headers than are told.
    pub unknown: bool,
    /// By these headers.
    pub headers: SmallVec<[HeaderName; 2]>,
}

/// What an answer says of caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caching {
    /// What they may do with it.
    pub sharing: Sharing,
    /// By what it differs.
    pub varies: Varies,
    /// It came out of a cache, by what that cache says itself (`Age` above 0, `X-Cache`, `Cache-Status`).
    pub hit: bool,
    /// Of a kind that mostly is the same for everybody: style, script, image, font, sound, film.
    pub asset: bool,
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// When the request's head was there.
    pub begun: Nanos,
    /// When the answer was whole.
    pub ended: Nanos,
    /// The method.
    pub verb: Sym,
    /// The path, as far as it may be shown.
    pub path: Sym,
    /// It touches nobody's data: a health check, a question to a policy.
    pub control: bool,
    /// Who asks.
    pub identities: Identities,
    /// Status code; `None`: not answered, as far as was seen.
    pub status: Option<u16>,
    /// What the answer's body holds once its encodings are undone; `None`: not all of it was seen and read.
    pub body: Option<Fingerprint>,
    /// Its bytes.
    pub bytes: u64,
    /// What the answer says of caches.
    pub caching: Caching,
}
