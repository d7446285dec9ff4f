//! JSON-RPC 2.0 messages, and the buffer they are collected in.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::scan::{Scanner, Sketch};
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Longest message that is held whole, in bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// Most bytes held by all connections of one engine; more are only scanned.
const MAX_HELD: usize = 64 << 20;
/// Most messages of a batch that are read.
const MAX_BATCH: usize = 64;

/// A request's id, of which only equality matters. A number and a text are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) Fingerprint);

impl Id {
    pub(super) fn of(value: &Value, salt: Salt) -> Option<Self> {
        match value {
            Value::Number(n) => Some(Self(salt.fingerprint(format!("n{n}").as_bytes()))),
            Value::String(s) => Some(Self(salt.fingerprint(format!("s{s}").as_bytes()))),
            _ => None,
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// A request, or a notification (no id).
    Request { id: Option<Id>, method: String, params: Value },
    /// The answer to a request.
    Result { id: Option<Id>, result: Value },
    /// It was refused or failed. No id: the server could not tell which.
    Error { id: Option<Id>, code: i64 },
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) body: Body,
    /// Not all of it was read: only what [`Sketch`] keeps is there.
    pub(super) cut: bool,
}

impl Message {
    fn whole(value: Value, salt: Salt) -> Option<Self> {
        let Value::Object(mut all) = value else { return None };
        if all.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return None;
        }
        let id = all.get("id").and_then(|v| Id::of(v, salt));
        let body = if let Some(Value::String(method)) = all.remove("method") {
            Body::Request { id, method, params: all.remove("params").unwrap_or_default() }
        } else if let Some(result) = all.remove("result") {
            Body::Result { id, result }
        } else {
            let code = all.get("error")?.get("code").and_then(Value::as_i64).unwrap_or_default();
            Body::Error { id, code }
        };
        Some(Self { body, cut: false })
    }

    fn sketched(sketch: Sketch, salt: Salt) -> Option<Self> {
        let id = sketch.id.as_ref().and_then(|v| Id::of(v, salt));
        let body = if let Some(method) = sketch.method {
            let mut params = Map::new();
            if let Some((key, value)) = sketch.named {
                params.insert(key.to_owned(), value.into());
            }
            // Where the message says that it is JSON-RPC may have been missed: its method speaks for itself.
            if !sketch.is_rpc && super::method::of(&method).is_none() {
                return None;
            }
            Body::Request { id, method, params: params.into() }
        } else if sketch.has_result && sketch.is_rpc {
            let mut result = Map::new();
            if sketch.is_error {
                result.insert("isError".to_owned(), true.into());
            }
            Body::Result { id, result: result.into() }
        } else if sketch.has_error && sketch.is_rpc {
            Body::Error { id, code: sketch.code.unwrap_or_default() }
        } else {
            return None;
        };
        Some(Self { body, cut: true })
    }
}

/// The messages of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Messages {
    pub(super) list: Vec<Message>,
    /// Not everything could be read.
    pub(super) cut: bool,
    /// Bytes that were looked at.
    pub(super) bytes: u64,
}

impl Messages {
    fn scanned(scanner: Scanner, salt: Salt) -> Self {
        let list = scanner.finish().into_iter().filter_map(|s| Message::sketched(s, salt)).collect();
        Self { list, cut: true, bytes: 0 }
    }

    pub(super) fn parse(text: &[u8], salt: Salt) -> Self {
        // Most JSON is none of this; names may be written with escapes.
        let may_be = |what: &[u8]| memchr::memmem::find(text, what).is_some();
        if !may_be(b"jsonrpc") && !may_be(b"\\u00") {
            return Self::default();
        }
        let bytes = text.len() as u64;
        match serde_json::from_slice::<Value>(text) {
            Ok(Value::Array(all)) => {
                let cut = all.len() > MAX_BATCH;
                let list = all.into_iter().take(MAX_BATCH).filter_map(|v| Message::whole(v, salt)).collect();
                Self { list, cut, bytes }
            }
            Ok(value) => Self { list: Message::whole(value, salt).into_iter().collect(), cut: false, bytes },
            // Too deep for the parser, or no JSON: then little will be found.
            Err(_) => {
                let mut scanner = Scanner::new();
                scanner.feed(text);
                Self::scanned(scanner, salt)
            }
        }
    }
}

/// What the connections of one engine may hold together.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Rc<Cell<usize>>);

/// Collects a message that comes in pieces.
#[derive(Debug)]
pub(super) struct Collector {
    held: Vec<u8>,
    /// Bytes of the budget that are taken.
    taken: usize,
    limit: usize,
    budget: Budget,
    scanner: Option<Box<Scanner>>,
    /// Something is missing: what comes after it says nothing.
    missed: bool,
}

impl Collector {
    pub(super) fn new(budget: &Budget, limit: usize) -> Self {
        Self { held: Vec::new(), taken: 0, limit, budget: budget.clone(), scanner: None, missed: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.missed {
            return;
        }
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(bytes);
            return;
        }
        let used = self.budget.0.get();
        if self.held.len() + bytes.len() > self.limit || used + bytes.len() > MAX_HELD {
            self.scan().feed(bytes);
            return;
        }
        self.held.extend_from_slice(bytes);
        self.taken += bytes.len();
        self.budget.0.set(used + bytes.len());
    }

    /// Something is missing here.
    pub(super) fn miss(&mut self) {
        if !self.missed {
            self.scan();
            self.missed = true;
        }
    }

    fn scan(&mut self) -> &mut Scanner {
        let held = std::mem::take(&mut self.held);
        self.give_back();
        self.scanner.get_or_insert_with(|| {
            let mut scanner = Box::new(Scanner::new());
            scanner.feed(&held);
            scanner
        })
    }

    fn give_back(&mut self) {
        self.budget.0.set(self.budget.0.get().saturating_sub(std::mem::take(&mut self.taken)));
    }

    /// The messages, and the beginning of a new text.
    pub(super) fn finish(&mut self, salt: Salt) -> Messages {
        let held = std::mem::take(&mut self.held);
        self.give_back();
        self.missed = false;
        match self.scanner.take() {
            Some(scanner) => Messages::scanned(*scanner, salt),
            None => Messages::parse(&held, salt),
        }
    }

    /// The text itself, if it was whole, and the beginning of a new one.
    pub(super) fn text(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        self.give_back();
        let whole = self.is_whole();
        (self.scanner, self.missed) = (None, false);
        String::from_utf8(held).ok().filter(|_| whole)
    }

    pub(super) fn clear(&mut self) {
        self.held = Vec::new();
        self.give_back();
        (self.scanner, self.missed) = (None, false);
    }

    /// Its beginning, as far as it is held.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// All of it so far is held.
    pub(super) fn is_whole(&self) -> bool {
        self.scanner.is_none() && !self.missed
    }

    pub(super) fn memory(&self) -> usize {
        self.held.capacity() + self.scanner.as_ref().map_or(0, |s| s.memory())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(1, 2);

    fn all(text: &str) -> Messages {
        Messages::parse(text.as_bytes(), SALT)
    }

    #[test]
    fn requests_notifications_results_and_errors() {
        let got = all(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#);
        let Body::Request { id, method, params } = &got.list[0].body else { panic!("a request") };
        assert_eq!((id.is_some(), method.as_str(), params["name"].as_str()), (true, "tools/call", Some("x")));
        let got = all(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert!(matches!(&got.list[0].body, Body::Request { id: None, .. }));
        let got =
            all(r#"[{"jsonrpc":"2.0","id":"1","result":{}},{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}]"#);
        assert!(matches!(&got.list[0].body, Body::Result { id: Some(_), .. }));
        assert!(matches!(&got.list[1].body, Body::Error { id: None, code: -32700 }));
        assert_eq!(all(r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#).list, []);
        assert_eq!(all(r#"{"id":1,"method":"x"}"#).list, []);
        assert_eq!(all("jsonrpc").list, []);
        assert_eq!(all(r#"{"\u006asonrpc":"2.0","method":"x"}"#).list.len(), 1, "escapes hide nothing");
    }

    #[test]
    fn a_number_is_not_a_text() {
        assert_ne!(Id::of(&Value::from(1), SALT), Id::of(&Value::from("1"), SALT));
        assert_eq!(Id::of(&Value::Null, SALT), None);
    }

    #[test]
    fn what_is_too_large_too_deep_or_not_whole_is_sketched_and_said_so() {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","arguments":{}1{}}}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        let budget = Budget::default();
        let large = format!(
            r#"{{"method":"tools/call","params":{{"name":"x","a":"{}"}},"jsonrpc":"2.0","id":1}}"#,
            "y".repeat(2 << 20)
        );
        let mut c = Collector::new(&budget, MAX_MESSAGE);
        for part in large.as_bytes().chunks(1000) {
            c.push(part);
            assert!(c.memory() <= 2 * MAX_MESSAGE);
        }
        assert_eq!(budget.0.get(), 0, "what is not held is given back");
        for got in [all(&deep), c.finish(SALT)] {
            assert!(got.cut && got.list[0].cut);
            let Body::Request { id: Some(_), method, params } = &got.list[0].body else { panic!("a request") };
            assert_eq!((method.as_str(), params["name"].as_str()), ("tools/call", Some("x")));
        }
        c.push(br#"{"method":"tools/call","params":{"name":"x","#);
        c.miss();
        c.push(br#""jsonrpc":"1.0"}"#);
        let got = c.finish(SALT);
        assert!(got.cut && matches!(&got.list[0].body, Body::Request { method, .. } if method == "tools/call"));
        c.push(br#"{"jsonrpc":"2.0","method":"x"}"#);
        assert!(budget.0.get() > 0);
        drop(c);
        assert_eq!(budget.0.get(), 0);
    }
}
