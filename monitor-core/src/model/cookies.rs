//! Cookies that a request carries and its answer sets, told by salted fingerprints. Whether one is a session, and whose,
//! is learned from how it was set and from its use.

use smallvec::SmallVec;

use super::{Attribution, Fingerprint, Nanos, Sym};

/// A cookie whose value cannot be guessed, and whose name is not known for something else than a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: Fingerprint,
    /// Its name and value.
    pub value: Fingerprint,
    /// Its name says that it is a session.
    pub named: bool,
}

/// A cookie that an answer sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetCookie {
    /// The cookie.
    pub cookie: Cookie,
    /// It has the attributes of a session: scripts cannot read it (`HttpOnly`), and it ends with the client's run or soon
    /// after.
    pub as_session: bool,
}

impl SetCookie {
    /// By name or attributes, it is a session.
    pub fn is_session(&self) -> bool {
        self.cookie.named || self.as_session
    }
}

/// The cookies of one request and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// Those that the request carries.
    pub carried: SmallVec<[Cookie; 2]>,
    /// Those that the answer sets, the ones that the request carries with the same value left out.
    pub set: SmallVec<[SetCookie; 2]>,
    /// The credential that the request carries besides.
    pub credential: Option<Fingerprint>,
    /// The request logs somebody in, by its path: as whom is not said by who caused it.
    pub logs_in: bool,
}

impl Cookies {
    /// Whether there is anything to tell.
    pub fn says(&self) -> bool {
        !self.carried.is_empty() || !self.set.is_empty()
    }
}

/// A request for one tenant that carries another's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// For whom the request is.
    pub used: Attribution,
    /// Whose session it is.
    pub owner: Attribution,
    /// How that is known: when, verb and target of the request whose answer set it, or that first carried it.
    pub from: (Nanos, Sym, Sym),
    /// It was set by the answer to the owner's request; else the owner alone has used it, and the other one of its own.
    pub was_set: bool,
}
