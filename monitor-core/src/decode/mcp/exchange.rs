//! From a request's parameters to the facts that rules look at.

use serde_json::Value;
use smallvec::SmallVec;

use super::arguments;
use super::head::{Head, revision};
use super::method;
use super::names;
use super::rpc::Id;
use super::shared::Shared;
use crate::decode::values::values;
use crate::decode::{Mark, Sink, jcs, shape, trace, word_of};
use crate::model::claim::Salt;
use crate::model::mcp::{Answered, Content, Exchange, Method, Revision};
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Operation, Outcome, Side, Sym};

/// Most handles that are told of one request, and of one answer.
pub(super) const MAX_HANDLES: usize = 32;
/// Parts of a resource's address that are told apart.
const MAX_PARTS: usize = 8;
/// Longest method name.
const MAX_METHOD: usize = 64;

/// Where facts come from and go.
pub(super) struct Context<'a> {
    pub(super) salt: Salt,
    pub(super) shared: &'a Shared,
    pub(super) sink: &'a mut dyn Sink,
}

impl Context<'_> {
    /// A name that programs give (methods, tools, servers): never more than so many.
    pub(super) fn name(&mut self, text: &str) -> Sym {
        if text.is_empty() { Sym::EMPTY } else { self.shared.shapes.intern(text, self.sink) }
    }

    /// A name that is one of ours, if it is.
    pub(super) fn word(&mut self, text: &str, known: &'static [&'static str]) -> Sym {
        if known.contains(&text) { word_of(text, known, self.sink) } else { self.name(text) }
    }

    /// Values of texts that JSON writes with escapes, in which they are not found as they stand.
    pub(super) fn escaped_values(&mut self, request: u64, from: Side, text: &str) {
        if text.bytes().any(|b| !(b' '..0x80).contains(&b)) && self.sink.wants_values(from) {
            values(self.salt, text.as_bytes(), &mut |v| self.sink.mark(request, from, Mark::Value(v)));
        }
    }
}

/// A request as it stands in a body.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// `None`: a notification.
    pub(super) id: Option<Id>,
    /// The method.
    pub(super) verb: &'a str,
    pub(super) params: &'a Value,
    /// Not all of it was seen.
    pub(super) cut: bool,
    /// The body holds nothing else, so that headers speak of it.
    pub(super) alone: bool,
}

/// A request that was read, until it is answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: Option<Id>,
    /// The method, as sent.
    pub(super) verb: Box<str>,
    pub(super) exchange: Exchange,
    /// The cursor of the page of a list that it asks for; `None`: the first.
    pub(super) cursor: Option<Fingerprint>,
    /// Not all of it was seen.
    pub(super) cut: bool,
    /// An answer was found.
    pub(super) is_answered: bool,
}

impl Asked {
    /// A request about which nothing more is known than its method.
    pub(super) fn plain(
        verb: &str,
        method: Method,
        head: &Head,
        request: u64,
        at: Nanos,
        cx: &mut Context<'_>,
    ) -> Self {
        let verb_sym = cx.word(verb, method::KNOWN);
        let memory = cx.shared.memory.borrow();
        let known = head.session.and_then(|s| memory.sessions.get(&s)).or_else(|| {
            // A server without sessions is known by its address.
            memory.by_address.get(&head.address).filter(|_| head.session.is_none())
        });
        let of_session = known.filter(|_| head.session.is_some()).map_or(Revision::Unknown, |k| k.revision);
        let exchange = Exchange {
            request,
            id: None,
            begun: at,
            ended: at,
            transport: head.transport,
            revision: if head.revision == Revision::Unknown { of_session } else { head.revision },
            method,
            verb: verb_sym,
            name: Sym::EMPTY,
            answered: Answered::Unknown,
            sender: None,
            token: None,
            credential: None,
            session: head.session,
            opened: None,
            opened_recurs: false,
            arguments: None,
            named: SmallVec::new(),
            idempotency: head.idempotency,
            continues: false,
            mismatch: None,
            handles_used: SmallVec::new(),
            handles_given: SmallVec::new(),
            tools: None,
            server: known.and_then(|k| k.server),
            content: Content::default(),
        };
        let end = verb.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|i| *i <= MAX_METHOD).last();
        let verb = verb.get(..end.unwrap_or_default()).unwrap_or_default();
        Self { id: None, verb: verb.into(), exchange, cursor: None, cut: false, is_answered: false }
    }

    /// A request as it stands in a body.
    pub(super) fn read(call: &Call<'_>, head: &Head, request: u64, at: Nanos, cx: &mut Context<'_>) -> Self {
        let Call { id, verb, params, cut, alone } = *call;
        // What a vendor adds may touch anything.
        let kind = if id.is_none() { Method::Control } else { method::of(verb).unwrap_or(Method::Data) };
        let mut this = Self::plain(verb, kind, head, request, at, cx);
        this.id = id;
        this.exchange.id = id.map(|id| id.0);
        this.cursor = cursor(params, "cursor", cx.salt);
        this.cut = cut;
        let x = &mut this.exchange;
        let named = method::named(verb, params);
        x.name = match named {
            Some(address) if method::names_address(verb, address) => {
                let mut text = String::with_capacity(64);
                shape::shape(address, &['/', ':', '?', '&', '='], MAX_PARTS, &mut text, &mut |_| {});
                cx.name(&text)
            }
            Some(name) => cx.name(name),
            None => Sym::EMPTY,
        };
        let meta = params.get("_meta");
        let told = meta.and_then(|m| m.get("io.modelcontextprotocol/protocolVersion")).and_then(Value::as_str);
        if x.revision == Revision::Unknown {
            let offered = params.get("protocolVersion").and_then(Value::as_str).filter(|_| kind == Method::Initialize);
            x.revision = told.or(offered).map_or(Revision::Unknown, revision);
        }
        for (name, value) in meta.and_then(Value::as_object).into_iter().flatten() {
            let Some(value) = value.as_str() else { continue };
            if names::is_idempotency(name) {
                x.idempotency = Some(cx.salt.fingerprint(value.as_bytes()));
            }
            let is_trace = matches!(name.as_str(), "traceparent" | "b3");
            if let Some(id) = trace::trace_id(name, value).filter(|_| is_trace) {
                cx.sink.mark(request, Side::Client, Mark::Trace(trace::fingerprint(cx.salt, id)));
            }
        }
        for key in ["cursor", "requestState", "taskId", "uri"] {
            if let Some(value) = params.get(key).and_then(Value::as_str) {
                handle(value, cx.salt, &mut x.handles_used);
            }
        }
        x.continues = params.get("requestState").is_some();
        if let Some(arguments) = params.get("arguments") {
            if !cut && matches!(verb, "tools/call" | "prompts/get") {
                x.arguments = Some(cx.salt.fingerprint(jcs::canonical(arguments).as_bytes()));
            }
            arguments::look(arguments, x, cx);
        }
        if alone {
            x.mismatch = mismatch(call, told, x.name, head, cx);
            arguments::mirrored(x, head, cx);
        }
        this
    }

    /// The operation that it was, made of what HTTP says of it.
    pub(super) fn operation(&self, plain: Operation) -> Operation {
        let x = &self.exchange;
        let outcome = match x.answered {
            answered if answered.is_success() => Outcome::Ok,
            Answered::ToolError | Answered::RpcError(_) | Answered::Status(_) => Outcome::Error,
            _ => Outcome::Unknown,
        };
        Operation { kind: x.method.kind(), verb: x.verb, target: x.name, outcome, ..plain }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        let tools =
            self.exchange.tools.as_ref().map_or(0, |t| t.tools.capacity() * size_of::<crate::model::mcp::Tool>());
        size_of::<Self>() + self.verb.len() + tools
    }
}

/// The cursor that a member holds, of which only equality matters.
pub(super) fn cursor(value: &Value, name: &str, salt: Salt) -> Option<Fingerprint> {
    let cursor = value.get(name).filter(|c| !c.is_null())?;
    Some(salt.fingerprint(cursor.as_str().map_or_else(|| cursor.to_string(), str::to_owned).as_bytes()))
}

/// Adds the handles that a value holds.
pub(super) fn handle<const N: usize>(value: &str, salt: Salt, out: &mut SmallVec<[Fingerprint; N]>)
where
    [Fingerprint; N]: smallvec::Array<Item = Fingerprint>,
{
    names::handles(value, &mut |h| {
        let print = salt.fingerprint(h.as_bytes());
        if out.len() < MAX_HANDLES && !out.contains(&print) {
            out.push(print);
        }
    });
}

/// Whom a member of this name names. A name that the policy does not know as a tenant's counts as `tenant`.
pub(super) fn tenant(name: &str, value: &Value, sink: &mut dyn Sink) -> Claim {
    let text = match value {
        Value::String(s) if !s.is_empty() && s.len() <= names::MAX_TENANT => s.as_str(),
        Value::Number(n) => &n.to_string(),
        _ => return Claim::Neutral,
    };
    claimed(name, text, sink)
}

/// The same of a text.
pub(super) fn claimed(name: &str, text: &str, sink: &mut dyn Sink) -> Claim {
    match sink.marker(MarkerPlace::Predicate, &name.to_ascii_lowercase(), text) {
        Claim::Neutral => sink.marker(MarkerPlace::Predicate, "tenant", text),
        claim => claim,
    }
}

/// The first header that says something else than the body (2026-07-28, SEP-2243).
fn mismatch(call: &Call<'_>, told: Option<&str>, tool: Sym, head: &Head, cx: &mut Context<'_>) -> Option<Sym> {
    let Call { verb, params, cut, .. } = *call;
    let named = method::named(verb, params)
        .or_else(|| params.get("taskId").and_then(Value::as_str).filter(|_| verb.starts_with("tasks/")));
    let memory = cx.shared.memory.clone();
    let memory = memory.borrow();
    let mirror = memory.mirrors.get(&(head.address, tool));
    for (name, value) in &head.mirrored {
        let differs = match name.as_str() {
            "mcp-method" => value != verb,
            "mcp-name" => named.is_some_and(|n| n != value),
            "mcp-protocol-version" => told.is_some_and(|t| t != value),
            _ => match name.strip_prefix("mcp-param-").filter(|_| !cut) {
                Some(param) => match argument(param, params, mirror) {
                    Found::Value(body) => !same(value, body),
                    Found::Nothing => true,
                    Found::Unknown => false,
                },
                None => false,
            },
        };
        if differs {
            return Some(cx.word(name, names::MIRRORED));
        }
    }
    None
}

/// The argument that a header repeats.
enum Found<'p> {
    Value(&'p Value),
    /// The tool's schema says which one, and it is not there.
    Nothing,
    /// Nobody knows which one.
    Unknown,
}

fn argument<'p>(param: &str, params: &'p Value, mirror: Option<&super::shared::Mirror>) -> Found<'p> {
    let Some(arguments) = params.get("arguments") else { return Found::Unknown };
    if let Some((_, path)) = mirror.and_then(|m| m.iter().find(|(name, _)| name == param)) {
        let value = path.iter().try_fold(arguments, |v, key| v.get(key));
        return value.filter(|v| !v.is_null()).map_or(Found::Nothing, Found::Value);
    }
    let plain = |name: &str| name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_ascii_lowercase();
    let wanted = plain(param);
    let member = arguments.as_object().and_then(|all| all.iter().find(|(name, _)| plain(name) == wanted));
    member.map_or(Found::Unknown, |(_, value)| Found::Value(value))
}

fn same(header: &str, body: &Value) -> bool {
    match body {
        Value::String(s) => s == header,
        Value::Bool(b) => header.eq_ignore_ascii_case(if *b { "true" } else { "false" }),
        Value::Number(n) => n.to_string() == header || (n.as_f64().is_some() && n.as_f64() == header.parse().ok()),
        // Only scalars are repeated.
        _ => true,
    }
}
