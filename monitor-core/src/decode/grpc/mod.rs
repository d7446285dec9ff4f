//! gRPC, read on top of HTTP/2 (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): a call is a request whose
//! path is its service and method, and whose outcome stands behind the answer's body.
//!
//! Metadata are header fields: who asks is read by the HTTP decoder as of any other request. A call whose messages go both
//! ways for long (a stream) is one operation: it has said once who asks. Its texts are offered to attribution.
//!
//! Memory: [`messages::MAX_MESSAGE`] for each direction of a call, [`MAX_HELD`] for all calls of a connection.

pub mod fuzz;
mod messages;

use rustc_hash::FxHashMap;

use super::body::{BodyReader, RequestHead, ResponseHead, header};
use super::values::values;
use super::wire::protobuf;
use super::{Mark, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, OpKind, Operation, Outcome, Protocol, Side, Sides};
use messages::{Encoding, Messages};

/// Most bytes held for the calls of one connection.
const MAX_HELD: usize = 1 << 20;
/// Most bytes of one direction of a call that are looked through.
const BUDGET: usize = 64 << 10;
/// Longest name of a service or method.
const MAX_NAME: usize = 256;

/// The type of a call's bodies.
const TYPE: &str = "application/grpc";

/// Status codes of a call (`grpc-status`).
const OK: u32 = 0;
const CANCELLED: u32 = 1;
const DEADLINE_EXCEEDED: u32 = 4;

/// One direction of a call.
#[derive(Debug, Default)]
struct Direction {
    messages: Messages,
    encoding: Encoding,
    /// Its texts are of use: so many bytes of them.
    budget: usize,
}

/// A call that is not over.
#[derive(Debug)]
struct Call {
    /// As far as the path is known.
    service: String,
    method: String,
    says: Sides<Direction>,
    status: Option<u32>,
}

/// Reads the calls of one connection.
#[derive(Debug)]
pub struct Reader {
    salt: Salt,
    calls: FxHashMap<u64, Call>,
    held: usize,
    /// It was said that this is gRPC.
    spoke: bool,
}

impl Reader {
    /// A reader for one connection.
    pub fn new(salt: Salt) -> Self {
        Self { salt, calls: FxHashMap::default(), held: 0, spoke: false }
    }
}

/// Whether a body of this type holds messages: `application/grpc`, `application/grpc+proto`; not what is made for browsers.
fn is_grpc(content_type: &str) -> bool {
    let Some((kind, rest)) = content_type.split_at_checked(TYPE.len()) else { return false };
    kind.eq_ignore_ascii_case(TYPE) && (rest.is_empty() || rest.starts_with(['+', ';', ' ']))
}

/// Service and method of a path.
fn name(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    let fits = |name: &str| !name.is_empty() && name.len() <= MAX_NAME;
    (fits(service) && fits(method)).then_some((service, method))
}

/// Services by which nobody's data is touched: health, reflection, load balancing, channelz.
fn is_control(service: &str) -> bool {
    ["grpc.health.", "grpc.reflection.", "grpc.lb.", "grpc.channelz."].iter().any(|of| service.starts_with(of))
}

impl BodyReader for Reader {
    fn request(&mut self, request: u64, head: &RequestHead<'_>, _: Nanos, sink: &mut dyn Sink) -> bool {
        if !head.header("content-type").is_some_and(is_grpc) || !matches!(head.method, "POST" | "") {
            return false;
        }
        let (service, method) = name(head.target).unwrap_or_default();
        let mut says = Sides::of(|side| Direction {
            budget: if sink.wants_values(side) { BUDGET } else { 0 },
            ..Direction::default()
        });
        says.client.encoding = Encoding::of(head.header("grpc-encoding"));
        let call = Call { service: service.to_owned(), method: method.to_owned(), says, status: None };
        self.calls.insert(request, call);
        true
    }

    fn response(&mut self, request: u64, head: &ResponseHead<'_>, _: Nanos, sink: &mut dyn Sink) {
        let Some(call) = self.calls.get_mut(&request) else { return };
        if !head.header("content-type").is_some_and(is_grpc) && !head.partial {
            // A proxy has answered.
            call.says.server.messages.leave();
            return;
        }
        call.says.server.encoding = Encoding::of(head.header("grpc-encoding"));
        if !std::mem::replace(&mut self.spoke, true) {
            sink.speaks(Protocol::Grpc);
        }
    }

    fn bytes(&mut self, request: u64, from: Side, bytes: &[u8], _: Nanos, sink: &mut dyn Sink) {
        let (salt, others) = (self.salt, &mut self.held);
        let call = self.calls.get_mut(&request);
        let Some(Direction { messages, encoding, budget }) = call.map(|c| &mut c.says[from]) else { return };
        if *budget == 0 {
            return;
        }
        let before = messages.memory();
        let room = MAX_HELD.saturating_sub(*others - before.min(*others));
        messages.feed(bytes, room, &mut |compressed, message| {
            let unpacked = compressed.then(|| encoding.unpack(message));
            let message = match &unpacked {
                None => message,
                Some(Some(plain)) => plain,
                Some(None) => return,
            };
            let part = message.get(..(*budget).min(message.len())).unwrap_or_default();
            *budget -= part.len();
            protobuf::texts(part, &mut |text| {
                values(salt, text.as_bytes(), &mut |v| sink.mark(request, from, Mark::Value(v)));
            });
        });
        if *budget == 0 {
            messages.leave();
        }
        *others = others.saturating_sub(before) + messages.memory();
    }

    fn missing(&mut self, request: u64, from: Side, n: u64, _: Nanos, _: &mut dyn Sink) {
        if let Some(call) = self.calls.get_mut(&request) {
            let messages = &mut call.says[from].messages;
            self.held = self.held.saturating_sub(messages.memory());
            messages.miss(n);
        }
    }

    fn unread(&mut self, request: u64, from: Side) {
        if let Some(call) = self.calls.get_mut(&request) {
            let messages = &mut call.says[from].messages;
            self.held = self.held.saturating_sub(messages.memory());
            messages.leave();
        }
    }

    fn trailers(&mut self, request: u64, from: Side, headers: &[httparse::Header<'_>], _: Nanos, _: &mut dyn Sink) {
        if let Some(call) = self.calls.get_mut(&request).filter(|_| from == Side::Server) {
            call.status = header(headers, "grpc-status").and_then(|status| status.parse().ok()).or(call.status);
        }
    }

    fn end(&mut self, _: u64, _: Side, _: Nanos, _: &mut dyn Sink) {}

    fn done(&mut self, request: u64, op: Operation, sink: &mut dyn Sink) {
        let Some(call) = self.calls.remove(&request) else { return sink.done(&op) };
        self.held = self.held.saturating_sub(call.says.iter().map(|d| d.messages.memory()).sum());
        let outcome = match (op.outcome, call.status) {
            (Outcome::Error, _) => Outcome::Error,
            (outcome, Some(OK)) => outcome,
            // How far the server has got is not known to whoever asked.
            (_, None | Some(CANCELLED | DEADLINE_EXCEEDED)) => Outcome::Unknown,
            (_, Some(_)) => Outcome::Error,
        };
        if call.method.is_empty() {
            return sink.done(&Operation { outcome, ..op });
        }
        let kind = if is_control(&call.service) { OpKind::Control } else { op.kind };
        let (verb, target) = (sink.intern(&call.method), sink.intern(&call.service));
        sink.done(&Operation { kind, verb, target, outcome, ..op });
    }

    fn upgraded(&mut self, _: u64, _: &ResponseHead<'_>) -> bool {
        false
    }

    fn wants(&self, request: u64, from: Side) -> bool {
        self.calls.get(&request).is_some_and(|call| call.says[from].budget > 0)
    }

    fn memory(&self) -> usize {
        let names: usize = self.calls.values().map(|c| c.service.capacity() + c.method.capacity()).sum();
        self.held + names + self.calls.capacity() * size_of::<(u64, Call)>()
    }
}

#[cfg(test)]
mod tests;
