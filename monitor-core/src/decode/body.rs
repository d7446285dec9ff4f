//! Messages inside HTTP bodies: what a protocol on top of HTTP sees, and what it may say instead of HTTP.

use super::Sink;
use crate::model::{Fingerprint, Nanos, Operation, Side};

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// As sent: `POST`.
    pub method: &'a str,
    /// Path and query, as sent.
    pub target: &'a str,
    /// Names and values, as sent.
    pub headers: &'a [httparse::Header<'a>],
    /// It is not as the standard has it: what the server has read may be something else.
    pub irregular: bool,
    /// Not all of its fields are known: what is not there may have been said.
    pub partial: bool,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Its status code; 0: it is not known.
    pub status: u16,
    /// Not all of its fields are known.
    pub partial: bool,
    /// Names and values, as sent.
    pub headers: &'a [httparse::Header<'a>],
}

/// The first header of this name, if it is text.
pub(super) fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(found.value).ok().map(str::trim)
}

impl<'a> RequestHead<'a> {
    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        header(self.headers, name)
    }
}

impl<'a> ResponseHead<'a> {
    /// The first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        header(self.headers, name)
    }
}

/// Reads the messages of one connection's bodies. Every call names the request it belongs to; pieces come in order,
/// however they were cut on the wire.
pub trait BodyReader {
    /// A request's head. Whether its body and its answer are of interest.
    fn request(&mut self, request: u64, head: &RequestHead<'_>, at: Nanos, sink: &mut dyn Sink) -> bool;

    /// The credential that this request's head carries, told after the head itself.
    fn carries(&mut self, request: u64, credential: Option<Fingerprint>) {
        let _ = (request, credential);
    }

    /// The head of the answer, if the request was of interest.
    fn response(&mut self, request: u64, head: &ResponseHead<'_>, at: Nanos, sink: &mut dyn Sink);

    /// A piece of a body, its encodings undone.
    fn bytes(&mut self, request: u64, from: Side, bytes: &[u8], at: Nanos, sink: &mut dyn Sink);

    /// `n` bytes of a body are missing here.
    fn missing(&mut self, request: u64, from: Side, n: u64, at: Nanos, sink: &mut dyn Sink);

    /// What is left of a body cannot be read, though it is there: it is packed in a way that nobody here can take back, or
    /// into too little.
    fn unread(&mut self, request: u64, from: Side) {
        let _ = (request, from);
    }

    /// Fields that came behind a body, or with the head where there is no body. A body's `end` follows.
    fn trailers(&mut self, request: u64, from: Side, headers: &[httparse::Header<'_>], at: Nanos, sink: &mut dyn Sink) {
        let _ = (request, from, headers, at, sink);
    }

    /// A body has ended.
    fn end(&mut self, request: u64, from: Side, at: Nanos, sink: &mut dyn Sink);

    /// The request has been answered, or never will be. `op` is what HTTP would say of it; gives `op` to the sink,
    /// or operations of its own instead, and whatever else it has to say.
    fn done(&mut self, request: u64, op: Operation, sink: &mut dyn Sink);

    /// The server has accepted an upgrade (status 101) that this request asked for: whether what follows is read by
    /// [`BodyReader::bytes`] as one endless body in each direction, which [`BodyReader::end`] ends with the connection.
    /// The request itself is answered then: its `done` follows at once. Requests that the reader tells on its own are
    /// numbered on from this one.
    fn upgraded(&mut self, request: u64, head: &ResponseHead<'_>) -> bool;

    /// Whether the rest of this body is of use. If not, not all of it may be copied.
    fn wants(&self, request: u64, from: Side) -> bool {
        let _ = (request, from);
        true
    }

    /// Bytes held now.
    fn memory(&self) -> usize;
}
