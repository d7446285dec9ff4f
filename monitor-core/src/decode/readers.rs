//! Several protocols on top of HTTP: each request is read by the first that is interested.

use rustc_hash::FxHashMap;

use super::Sink;
use super::body::{BodyReader, RequestHead, ResponseHead};
use crate::model::{Fingerprint, Nanos, Operation, Side};

/// How many there are.
const N: usize = 2;

/// They.
pub(super) struct Readers {
    all: [Box<dyn BodyReader>; N],
    /// Whose each request is. HTTP bounds how many there are at once.
    whose: FxHashMap<u64, usize>,
    /// Whose the connection is after an upgrade.
    upgraded: Option<usize>,
}

impl Readers {
    /// In the order in which they are asked.
    pub(super) fn new(all: [Box<dyn BodyReader>; N]) -> Self {
        Self { all, whose: FxHashMap::default(), upgraded: None }
    }

    fn of(&mut self, request: u64) -> Option<&mut Box<dyn BodyReader>> {
        let index = self.upgraded.or_else(|| self.whose.get(&request).copied())?;
        self.all.get_mut(index)
    }
}

impl BodyReader for Readers {
    fn request(&mut self, request: u64, head: &RequestHead<'_>, at: Nanos, sink: &mut dyn Sink) -> bool {
        let found = self.all.iter_mut().position(|reader| reader.request(request, head, at, sink));
        if let Some(index) = found {
            self.whose.insert(request, index);
        }
        found.is_some()
    }

    fn carries(&mut self, request: u64, credential: Option<Fingerprint>) {
        if let Some(reader) = self.of(request) {
            reader.carries(request, credential);
        }
    }

    fn response(&mut self, request: u64, head: &ResponseHead<'_>, at: Nanos, sink: &mut dyn Sink) {
        if let Some(reader) = self.of(request) {
            reader.response(request, head, at, sink);
        }
    }

    fn bytes(&mut self, request: u64, from: Side, bytes: &[u8], at: Nanos, sink: &mut dyn Sink) {
        if let Some(reader) = self.of(request) {
            reader.bytes(request, from, bytes, at, sink);
        }
    }

    fn missing(&mut self, request: u64, from: Side, n: u64, at: Nanos, sink: &mut dyn Sink) {
        if let Some(reader) = self.of(request) {
            reader.missing(request, from, n, at, sink);
        }
    }

    fn unread(&mut self, request: u64, from: Side) {
        if let Some(reader) = self.of(request) {
            reader.unread(request, from);
        }
    }

    fn trailers(&mut self, request: u64, from: Side, headers: &[httparse::Header<'_>], at: Nanos, sink: &mut dyn Sink) {
        if let Some(reader) = self.of(request) {
            reader.trailers(request, from, headers, at, sink);
        }
    }

    fn end(&mut self, request: u64, from: Side, at: Nanos, sink: &mut dyn Sink) {
        if let Some(reader) = self.of(request) {
            reader.end(request, from, at, sink);
        }
    }

    fn done(&mut self, request: u64, op: Operation, sink: &mut dyn Sink) {
        match self.of(request) {
            Some(reader) => reader.done(request, op, sink),
            None => sink.done(&op),
        }
        self.whose.remove(&request);
    }

    fn upgraded(&mut self, request: u64, head: &ResponseHead<'_>) -> bool {
        let index = self.whose.get(&request).copied();
        let kept = self.of(request).is_some_and(|reader| reader.upgraded(request, head));
        self.upgraded = index.filter(|_| kept);
        kept
    }

    fn wants(&self, request: u64, from: Side) -> bool {
        let index = self.upgraded.or_else(|| self.whose.get(&request).copied());
        index.and_then(|index| self.all.get(index)).is_some_and(|reader| reader.wants(request, from))
    }

    fn memory(&self) -> usize {
        self.all.iter().map(|reader| reader.memory()).sum::<usize>() + self.whose.capacity() * size_of::<(u64, usize)>()
    }
}
