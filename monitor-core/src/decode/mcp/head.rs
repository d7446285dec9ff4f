//! What the head of an HTTP request says of the MCP message in its body. Secrets stay here until they are fingerprints.

use httparse::Header;
use smallvec::SmallVec;

use super::names;
use crate::decode::base64::base64;
use crate::decode::body::RequestHead;
use crate::model::Fingerprint;
use crate::model::claim::Salt;
use crate::model::mcp::{Revision, Transport};

/// Longest credential that is passed on.
const MAX_CREDENTIAL: usize = 16 << 10;
/// Longest value of a mirrored header.
const MAX_VALUE: usize = 2048;
/// Most mirrored headers that are compared.
const MAX_MIRRORED: usize = 32;

/// What a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// POST: it may carry messages.
    Post,
    /// GET for an event stream.
    Stream,
    /// DELETE: it ends a session.
    End,
    /// An upgrade to WebSocket.
    Socket,
}

/// The head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// Host and path: equal for the requests to one server.
    pub(super) address: Fingerprint,
    pub(super) transport: Transport,
    pub(super) revision: Revision,
    pub(super) session: Option<Fingerprint>,
    /// The session that the target names (HTTP+SSE), or else the target itself.
    pub(super) target: Fingerprint,
    /// The target names a session.
    pub(super) target_names: bool,
    /// The headers alone show that this is MCP.
    pub(super) evident: bool,
    /// The head is not as it should be: what the server has read may be something else.
    pub(super) irregular: bool,
    pub(super) authorization: Option<String>,
    pub(super) idempotency: Option<Fingerprint>,
    /// A stream is to go on behind an event (`Last-Event-ID`).
    pub(super) resumes: bool,
    /// The event, where that is one and no other ([`event`]).
    pub(super) after: Option<Fingerprint>,
    /// `Mcp-…` headers that repeat the body, names in lower case.
    pub(super) mirrored: SmallVec<[(String, String); 2]>,
}

/// The session that an HTTP+SSE endpoint names, or else stands for; whether it names one.
pub(super) fn session_of(target: &str, salt: Salt) -> (Fingerprint, bool) {
    let path =
        target.split_once("://").map_or(target, |(_, rest)| rest.find('/').and_then(|i| rest.get(i..)).unwrap_or(""));
    let query = path.split_once('?').map_or("", |(_, q)| q);
    let named = query.split('&').filter_map(|p| p.split_once('=')).find(|(name, value)| {
        !value.is_empty()
            && matches!(name.to_ascii_lowercase().as_str(), "session_id" | "sessionid" | "session" | "sid")
    });
    match named {
        Some((_, value)) => (session(value, salt), true),
        None => (session(path, salt), false),
    }
}

/// A session's fingerprint.
pub(super) fn session(id: &str, salt: Salt) -> Fingerprint {
    salt.fingerprint(format!("session\0{id}").as_bytes())
}

/// The fingerprint of an event's id, where no two events have the same: of any server, or else of one session, within
/// which a number is enough (2025-11-25, transports, "Resumability and Redelivery"). Without a session a number may be
/// that of any stream.
pub(super) fn event(id: &str, session: Option<Fingerprint>, salt: Salt) -> Option<Fingerprint> {
    match session {
        _ if id.is_empty() => None,
        _ if names::is_unique(id) => Some(salt.fingerprint(format!("event\0{id}").as_bytes())),
        Some(session) => Some(salt.fingerprint(format!("event of\0{:x}\0{id}", session.0).as_bytes())),
        None => None,
    }
}

/// The revision of this date.
pub(super) fn revision(date: &str) -> Revision {
    match date {
        "2024-11-05" => Revision::V2024_11_05,
        "2025-03-26" => Revision::V2025_03_26,
        "2025-06-18" => Revision::V2025_06_18,
        "2025-11-25" => Revision::V2025_11_25,
        "2026-07-28" => Revision::V2026_07_28,
        _ => Revision::Unknown,
    }
}

/// A header's value as it was before it was made fit for a header (SEP-2243).
pub(super) fn decoded(value: &str) -> String {
    let inner = value.strip_prefix("=?base64?").and_then(|v| v.strip_suffix("?="));
    let plain = inner.and_then(base64).and_then(|bytes| String::from_utf8(bytes).ok());
    plain.unwrap_or_else(|| value.to_owned())
}

fn text<'h>(h: &Header<'h>) -> Option<&'h str> {
    std::str::from_utf8(h.value).ok().map(str::trim)
}

impl Head {
    /// `None`: nothing of MCP's looks so.
    pub(super) fn of(head: &RequestHead<'_>, salt: Salt) -> Option<Self> {
        let has = |name: &str, what: &str| head.header(name).is_some_and(|v| v.to_ascii_lowercase().contains(what));
        let kind = match head.method {
            "POST" if head.header("content-type").is_none() || has("content-type", "json") => Kind::Post,
            "GET" if has("upgrade", "websocket") => Kind::Socket,
            "GET" if has("accept", "text/event-stream") => Kind::Stream,
            "DELETE" if head.header("mcp-session-id").is_some() => Kind::End,
            _ => return None,
        };
        let path = head.target.split('?').next().unwrap_or_default();
        let host = head.header("host").unwrap_or_default().to_ascii_lowercase();
        let (target, target_names) = session_of(head.target, salt);
        let mut out = Self {
            kind,
            address: salt.fingerprint(format!("{host}\0{path}").as_bytes()),
            transport: if kind == Kind::Socket { Transport::WebSocket } else { Transport::StreamableHttp },
            revision: Revision::Unknown,
            session: None,
            target,
            target_names,
            evident: kind == Kind::Socket && has("sec-websocket-protocol", "mcp"),
            irregular: head.irregular || head.partial,
            authorization: None,
            idempotency: None,
            resumes: false,
            after: None,
            mirrored: SmallVec::new(),
        };
        let mut after = "";
        for h in head.headers {
            let Some(value) = text(h) else { continue };
            match h.name.to_ascii_lowercase().as_str() {
                "mcp-session-id" => {
                    out.session = Some(session(value, salt));
                    out.evident = true;
                }
                "mcp-protocol-version" => {
                    out.revision = revision(value);
                    out.evident = true;
                    out.mirror("mcp-protocol-version", value);
                }
                "authorization" if value.len() <= MAX_CREDENTIAL => out.authorization = Some(value.to_owned()),
                "last-event-id" => after = value,
                "idempotency-key" => out.idempotency = Some(salt.fingerprint(value.as_bytes())),
                name if name.starts_with("mcp-") => {
                    out.evident = true;
                    out.mirror(name, value);
                }
                _ => {}
            }
        }
        (out.resumes, out.after) = (!after.is_empty(), event(after, out.session, salt));
        Some(out)
    }

    fn mirror(&mut self, name: &str, value: &str) {
        if self.mirrored.len() < MAX_MIRRORED && value.len() <= MAX_VALUE {
            self.mirrored.push((name.to_owned(), decoded(value)));
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.authorization.as_ref().map_or(0, String::capacity)
            + self.mirrored.iter().map(|(a, b)| a.capacity() + b.capacity() + 48).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(1, 2);

    fn of(method: &str, headers: &[(&str, &str)]) -> Option<Head> {
        let all: Vec<_> = headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        Head::of(&RequestHead { method, target: "/mcp?x=1", headers: &all, irregular: false, partial: false }, SALT)
    }

    #[test]
    fn what_may_be_mcp() {
        assert!(
            of("POST", &[("Content-Type", "application/json")]).is_some_and(|h| !h.evident && h.kind == Kind::Post)
        );
        assert!(of("POST", &[("Content-Type", "image/png")]).is_none());
        assert!(of("GET", &[("Accept", "text/html")]).is_none());
        assert!(of("GET", &[("accept", "text/event-stream")]).is_some_and(|h| h.kind == Kind::Stream));
        assert!(of("DELETE", &[]).is_none());
        let h = of("POST", &[("mcp-session-id", "s1"), ("MCP-Protocol-Version", "2025-06-18")]).unwrap();
        assert!(h.evident && h.session == Some(session("s1", SALT)) && h.revision == Revision::V2025_06_18);
    }

    #[test]
    fn sessions_of_endpoints_are_the_same_in_every_form() {
        let a = session_of("/messages/?session_id=abc", SALT);
        assert_eq!(a, session_of("http://x:1/messages/?y=1&sessionId=abc", SALT));
        assert!(a.1);
        assert_eq!(session_of("http://x/m/abc", SALT), session_of("/m/abc", SALT));
    }

    #[test]
    fn an_event_is_one_and_no_other_by_chance_or_within_a_session() {
        let of = |id, session: Option<u64>| event(id, session.map(Fingerprint), SALT);
        let long = "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11";
        assert!(of(long, None).is_some() && of(long, None) == of(long, Some(1)));
        assert_eq!((of("7", None), of("", Some(1))), (None, None));
        assert!(of("7", Some(1)).is_some() && of("7", Some(1)) == of("7", Some(1)));
        assert!(of("7", Some(1)) != of("7", Some(2)) && of("7", Some(1)) != of("8", Some(1)));
        let h = of_get(&[("last-event-id", "7"), ("mcp-session-id", "s1")]);
        assert!(h.resumes && h.after.is_some() && h.after == event("7", Some(session("s1", SALT)), SALT));
        let h = of_get(&[("last-event-id", "7")]);
        assert!(h.resumes && h.after.is_none());
        assert!(!of_get(&[]).resumes);
    }

    fn of_get(headers: &[(&str, &str)]) -> Head {
        of("GET", &[&[("accept", "text/event-stream")], headers].concat()).unwrap()
    }

    #[test]
    fn header_values_are_decoded() {
        assert_eq!(decoded("=?base64?SGVsbG8=?="), "Hello");
        assert_eq!(decoded("plain"), "plain");
        assert_eq!(decoded("=?base64?%%?="), "=?base64?%%?=");
    }
}
