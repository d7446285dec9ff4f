//! Event streams (`text/event-stream`, WHATWG HTML §9.2): events out of bytes, however they are cut.

use super::rpc::{Budget, Collector, MAX_MESSAGE};

/// Longest event type or id that is kept.
const MAX_FIELD: usize = 512;

/// Which field a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    Id,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A field's name, or the end of an event.
    Name,
    /// What follows the colon; one blank belongs to neither.
    Colon(Field),
    Value(Field),
}

/// The parser. Holds at most one event.
#[derive(Debug)]
pub(super) struct Events {
    at: At,
    name: Vec<u8>,
    /// The last byte was CR: an LF after it belongs to it.
    cr: bool,
    kind: Vec<u8>,
    id: Vec<u8>,
    /// The event's data.
    pub(super) data: Collector,
    /// It has any.
    pub(super) has_data: bool,
    /// This event has an id.
    has_id: bool,
    /// Something is missing: what follows, up to the end of an event, is of no use.
    lost: bool,
}

impl Events {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            at: At::Name,
            name: Vec::new(),
            cr: false,
            kind: Vec::new(),
            id: Vec::new(),
            data: Collector::new(budget, MAX_MESSAGE),
            has_data: false,
            has_id: false,
            lost: false,
        }
    }

    /// Reads up to the end of the next event that has data or an id. Whether there is one: then [`Self::kind`] and `data` are its.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some((&b, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.cr) && b == b'\n' {
                *bytes = rest;
                continue;
            }
            if let At::Value(field) = self.at {
                let n = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
                if n > 0 {
                    self.value(field, bytes.get(..n).unwrap_or_default());
                    *bytes = bytes.get(n..).unwrap_or_default();
                    continue;
                }
            }
            *bytes = rest;
            if matches!(b, b'\r' | b'\n') {
                self.cr = b == b'\r';
                if self.line() {
                    return true;
                }
                continue;
            }
            match self.at {
                At::Name if b == b':' => {
                    let field = self.field();
                    self.begin(field);
                    self.at = At::Colon(field);
                }
                At::Name => {
                    if self.name.len() < 16 {
                        self.name.push(b);
                    }
                    // A byte order mark.
                    if self.name == b"\xef\xbb\xbf" {
                        self.name.clear();
                    }
                }
                At::Colon(field) => {
                    self.at = At::Value(field);
                    if b != b' ' {
                        self.value(field, &[b]);
                    }
                }
                At::Value(_) => {}
            }
        }
        false
    }

    fn field(&mut self) -> Field {
        let name = std::mem::take(&mut self.name);
        match name.as_slice() {
            b"data" => Field::Data,
            b"event" => Field::Event,
            b"id" => Field::Id,
            _ => Field::Other,
        }
    }

    fn begin(&mut self, field: Field) {
        match field {
            Field::Data => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b"\n");
                }
            }
            Field::Event => self.kind.clear(),
            Field::Id => {
                self.id.clear();
                self.has_id = true;
            }
            Field::Other => {}
        }
    }

    fn value(&mut self, field: Field, part: &[u8]) {
        let short = match field {
            Field::Data => return self.data.push(part),
            Field::Event => &mut self.kind,
            Field::Id => &mut self.id,
            Field::Other => return,
        };
        let room = MAX_FIELD.saturating_sub(short.len());
        short.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
    }

    /// A line has ended. Whether an event has.
    fn line(&mut self) -> bool {
        let empty = self.at == At::Name && self.name.is_empty();
        if self.at == At::Name && !empty {
            // A field without a value.
            let field = self.field();
            self.begin(field);
        }
        self.at = At::Name;
        self.name.clear();
        if !empty {
            return false;
        }
        let usable = (self.has_data || self.has_id) && !self.lost;
        self.lost = false;
        if !usable {
            self.over();
        }
        usable
    }

    /// The type of the event that has ended; empty: `message`.
    pub(super) fn kind(&self) -> &[u8] {
        &self.kind
    }

    /// The id of the event that has ended: with it the stream may be taken up behind it. Empty: it has none.
    pub(super) fn id(&self) -> &[u8] {
        if self.has_id && self.id.len() < MAX_FIELD { &self.id } else { &[] }
    }

    /// Goes on behind the event that has ended.
    pub(super) fn over(&mut self) {
        self.kind.clear();
        self.data.clear();
        self.id.clear();
        (self.has_data, self.has_id) = (false, false);
    }

    /// Something is missing here.
    pub(super) fn miss(&mut self) {
        self.over();
        (self.at, self.cr, self.lost) = (At::Value(Field::Other), false, true);
        self.name.clear();
    }

    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.name.capacity() + self.kind.capacity() + self.id.capacity() + self.data.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(events: &mut Events, mut bytes: &[u8], out: &mut Vec<(String, String)>) {
        while events.next(&mut bytes) {
            let kind = String::from_utf8_lossy(events.kind()).into_owned();
            out.push((kind, events.data.text().unwrap_or_default()));
            events.over();
        }
    }

    fn all(text: &str) -> Vec<(String, String)> {
        let (mut events, mut out) = (Events::new(&Budget::default()), Vec::new());
        read(&mut events, text.as_bytes(), &mut out);
        out
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    const TEXT: &str = "\u{feff}: hello\r\nevent: endpoint\r\ndata: /m?s=1\r\n\r\ndata:a\ndata:  b\nid: 7\nretry: 10\n\ndata\r\revent: x\n\ndata: tail";

    #[test]
    fn events_of_every_line_end() {
        assert_eq!(all(TEXT), [pair("endpoint", "/m?s=1"), pair("", "a\n b"), pair("", "")]);
    }

    #[test]
    fn any_cut_gives_the_same() {
        let want = all(TEXT);
        for cut in 0..TEXT.len() {
            let (mut events, mut out) = (Events::new(&Budget::default()), Vec::new());
            read(&mut events, &TEXT.as_bytes()[..cut], &mut out);
            read(&mut events, &TEXT.as_bytes()[cut..], &mut out);
            assert_eq!(out, want, "cut at {cut}");
        }
    }

    #[test]
    fn after_a_hole_the_next_event_is_read() {
        let (mut events, mut out) = (Events::new(&Budget::default()), Vec::new());
        read(&mut events, b"data: {\"a\"", &mut out);
        events.miss();
        read(&mut events, b":1}\n\ndata: next\n\n", &mut out);
        assert_eq!(out, [pair("", "next")]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut events = Events::new(&Budget::default());
        let mut bytes: &[u8] = b"event:";
        assert!(!events.next(&mut bytes));
        for _ in 0..100 {
            let mut bytes: &[u8] = &[b'x'; 1000];
            assert!(!events.next(&mut bytes));
        }
        assert!(events.memory() < 4096);
    }
}
