//! What can be told of a JSON-RPC message that is too large to be held, or that is not whole: a scanner of constant size.
//!
//! It finds the members that matter at the two outermost levels and skips everything else. It does not check that the
//! rest is JSON.

use serde_json::Value;

/// Longest text that is kept: of a method, an id, a name.
const MAX_TOKEN: usize = 512;
/// Most messages of a batch that are told.
const MAX_BATCH: usize = 64;
/// Levels whose members are told apart: the batch, the message, its parameters or result.
const LEVELS: usize = 3;

/// What was found of one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sketch {
    /// It says that it is JSON-RPC.
    pub(super) is_rpc: bool,
    pub(super) id: Option<Value>,
    pub(super) method: Option<String>,
    /// A member of its parameters that names something, and its value: `name`, `uri`.
    pub(super) named: Option<(&'static str, String)>,
    pub(super) has_result: bool,
    pub(super) has_error: bool,
    /// The error's code.
    pub(super) code: Option<i64>,
    /// `isError` of its result.
    pub(super) is_error: bool,
}

/// A member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Rpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    Name,
    Uri,
    Code,
    IsError,
    Other,
}

impl Key {
    fn of(name: &[u8]) -> Self {
        match name {
            b"jsonrpc" => Self::Rpc,
            b"id" => Self::Id,
            b"method" => Self::Method,
            b"params" => Self::Params,
            b"result" => Self::Result,
            b"error" => Self::Error,
            b"name" => Self::Name,
            b"uri" => Self::Uri,
            b"code" => Self::Code,
            b"isError" => Self::IsError,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Between,
    Text {
        escaped: bool,
    },
    Scalar,
    /// The outermost container has ended.
    Over,
}

/// The scanner.
#[derive(Debug)]
pub(super) struct Scanner {
    mode: Mode,
    depth: usize,
    /// Whether the container at each level is an object.
    object: [bool; LEVELS],
    keys: [Key; LEVELS],
    expects_key: bool,
    /// The outermost container is a batch.
    batch: bool,
    token: Vec<u8>,
    /// The token is of use.
    keep: bool,
    too_long: bool,
    current: Sketch,
    found: Vec<Sketch>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Between,
            depth: 0,
            object: [false; LEVELS],
            keys: [Key::Other; LEVELS],
            expects_key: false,
            batch: false,
            token: Vec::new(),
            keep: false,
            too_long: false,
            current: Sketch::default(),
            found: Vec::new(),
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.token.capacity() + self.found.capacity() * size_of::<Sketch>()
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&b, rest)) = bytes.split_first() {
            if self.mode == Mode::Over {
                return;
            }
            if self.mode == (Mode::Text { escaped: false }) {
                // The inside of a text, up to what may end it.
                let n = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
                if n > 0 {
                    self.take(bytes.get(..n).unwrap_or_default());
                    bytes = bytes.get(n..).unwrap_or_default();
                    continue;
                }
            }
            bytes = rest;
            self.byte(b);
        }
    }

    /// What was found, with the message that is not whole.
    pub(super) fn finish(mut self) -> Vec<Sketch> {
        if self.mode == Mode::Scalar {
            self.scalar();
        }
        let known = self.current != Sketch::default();
        if known && self.found.len() < MAX_BATCH {
            self.found.push(self.current);
        }
        self.found
    }

    fn take(&mut self, part: &[u8]) {
        if !self.keep {
            return;
        }
        let room = MAX_TOKEN.saturating_sub(self.token.len());
        self.too_long |= part.len() > room;
        self.token.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
    }

    fn byte(&mut self, b: u8) {
        match self.mode {
            Mode::Text { escaped: true } => {
                self.take(&[b]);
                self.mode = Mode::Text { escaped: false };
            }
            Mode::Text { escaped: false } => match b {
                b'\\' => {
                    self.take(b"\\");
                    self.mode = Mode::Text { escaped: true };
                }
                _ => {
                    self.mode = Mode::Between;
                    self.text();
                }
            },
            Mode::Scalar if b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.') => self.take(&[b]),
            Mode::Scalar => {
                self.mode = Mode::Between;
                self.scalar();
                self.between(b);
            }
            Mode::Between => self.between(b),
            Mode::Over => {}
        }
    }

    fn between(&mut self, b: u8) {
        match b {
            b'{' | b'[' => self.open(b == b'{'),
            b'}' | b']' => self.close(),
            b',' => self.expects_key = self.in_object(),
            b':' => self.expects_key = false,
            b'"' => {
                self.begin();
                self.mode = Mode::Text { escaped: false };
            }
            b if b.is_ascii_alphanumeric() || b == b'-' => {
                self.begin();
                self.take(&[b]);
                self.mode = Mode::Scalar;
            }
            _ => {}
        }
    }

    fn begin(&mut self) {
        self.token.clear();
        self.too_long = false;
        let level = self.level();
        let wanted = matches!(
            (level, self.key(0), self.key(1)),
            (1, Key::Rpc | Key::Id | Key::Method, _)
                | (2, Key::Params, Key::Name | Key::Uri)
                | (2, Key::Error, Key::Code)
                | (2, Key::Result, Key::IsError)
        );
        self.keep = matches!(level, 1 | 2) && (self.expects_key || wanted);
    }

    /// The depth inside a message: 1 for its members, 2 for those of its parameters. 0: outside, or too deep.
    fn level(&self) -> usize {
        let level = self.depth.saturating_sub(usize::from(self.batch));
        if level < LEVELS { level } else { 0 }
    }

    /// The member that is being read at a level of the message.
    fn key(&self, level: usize) -> Key {
        self.keys.get(level + usize::from(self.batch)).copied().unwrap_or(Key::Other)
    }

    fn in_object(&self) -> bool {
        self.depth.checked_sub(1).and_then(|i| self.object.get(i)).copied().unwrap_or(false)
    }

    fn open(&mut self, object: bool) {
        if self.depth == 0 {
            self.batch = !object;
        }
        let level = self.level();
        if object && level == 1 && self.depth == 1 + usize::from(self.batch) {
            match self.key(0) {
                Key::Result => self.current.has_result = true,
                Key::Error => self.current.has_error = true,
                _ => {}
            }
        }
        if let (Some(kind), Some(key)) = (self.object.get_mut(self.depth), self.keys.get_mut(self.depth)) {
            (*kind, *key) = (object, Key::Other);
        }
        self.depth += 1;
        self.expects_key = object && self.depth <= LEVELS;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.expects_key = false;
        if self.depth == usize::from(self.batch) && self.current != Sketch::default() {
            let message = std::mem::take(&mut self.current);
            if self.found.len() < MAX_BATCH {
                self.found.push(message);
            }
        }
        if self.depth == 0 {
            self.mode = Mode::Over;
        }
    }

    fn text(&mut self) {
        if self.expects_key {
            let key = if self.keep && !self.too_long { Key::of(&self.token) } else { Key::Other };
            if let Some(slot) = self.depth.checked_sub(1).and_then(|i| self.keys.get_mut(i)) {
                *slot = key;
            }
            return;
        }
        if !self.keep || self.too_long {
            return;
        }
        let mut quoted = Vec::with_capacity(self.token.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(&self.token);
        quoted.push(b'"');
        let Ok(text) = serde_json::from_slice::<String>(&quoted) else { return };
        match (self.level(), self.key(0), self.key(1)) {
            (1, Key::Rpc, _) => self.current.is_rpc = text == "2.0",
            (1, Key::Id, _) => self.current.id = Some(Value::String(text)),
            (1, Key::Method, _) => self.current.method = Some(text),
            (2, Key::Params, Key::Name) => self.current.named = Some(("name", text)),
            (2, Key::Params, Key::Uri) => self.current.named = Some(("uri", text)),
            _ => {}
        }
    }

    fn scalar(&mut self) {
        if !self.keep || self.too_long || self.expects_key {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&self.token) else { return };
        match (self.level(), self.key(0), self.key(1)) {
            (1, Key::Id, _) => self.current.id = Some(value),
            (2, Key::Error, Key::Code) => self.current.code = value.as_i64(),
            (2, Key::Result, Key::IsError) => self.current.is_error = value == Value::Bool(true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Sketch> {
        let mut s = Scanner::new();
        s.feed(text.as_bytes());
        s.finish()
    }

    #[test]
    fn the_members_that_matter_are_found_around_anything() {
        let text = r#"{"method":"tools/call","params":{"arguments":{"name":"no","id":9,"x":["\"}",{"a":[]}]},"name":"or\u0064ers"},"jsonrpc":"2.0","id":7}"#;
        let got = of(text);
        assert_eq!(got.len(), 1);
        let m = &got[0];
        assert!(m.is_rpc && !m.has_result);
        assert_eq!((m.method.as_deref(), m.id.clone()), (Some("tools/call"), Some(Value::from(7))));
        assert_eq!(m.named, Some(("name", "orders".to_owned())));
    }

    #[test]
    fn answers_and_batches() {
        let got = of(
            r#"[{"id":"a","jsonrpc":"2.0","error":{"message":"x","code":-32602}},{"jsonrpc":"2.0","result":{"content":[{"isError":1}],"isError":true},"id":2}]"#,
        );
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].has_error, got[0].code), (true, Some(-32602)));
        assert_eq!((got[1].has_result, got[1].is_error, got[1].id.clone()), (true, true, Some(Value::from(2))));
    }

    #[test]
    fn any_cut_gives_the_same_and_any_prefix_no_more() {
        let text =
            r#"[{"id":"a","jsonrpc":"2.0","method":"tools/call","params":{"name":"x\\\"y"}}, {"id":2 ,"result":{}}]"#;
        let whole = of(text);
        for cut in 0..text.len() {
            let mut s = Scanner::new();
            s.feed(&text.as_bytes()[..cut]);
            s.feed(&text.as_bytes()[cut..]);
            assert_eq!(s.finish(), whole, "cut at {cut}");
            assert!(of(&text[..cut]).len() <= whole.len());
        }
        let mut s = Scanner::new();
        for byte in text.as_bytes().chunks(1) {
            s.feed(byte);
        }
        assert_eq!(s.finish(), whole, "byte by byte");
    }

    #[test]
    fn memory_stays_small() {
        let mut s = Scanner::new();
        s.feed(b"{\"method\":\"");
        for _ in 0..1000 {
            s.feed(&[b'x'; 1000]);
        }
        assert!(s.memory() < 4096);
        s.feed(b"\",\"id\":1}");
        assert_eq!(s.finish()[0].method, None, "longer than any method");
        let mut s = Scanner::new();
        s.feed(&[b'['; 100_000]);
        assert!(s.memory() < 4096);
    }
}
