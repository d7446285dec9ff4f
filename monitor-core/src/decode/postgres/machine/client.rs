//! What the client sends: requests begin, statements and portals are prepared ahead of their replies.

use std::hash::Hasher;
use std::rc::Rc;

use smallvec::SmallVec;

use super::{Entry, Lost, MAX_NOTED, MAX_PENDING, Machine, Out, Portal};
use crate::decode::Sink;
use crate::decode::postgres::bodies::read_parameters;
use crate::decode::postgres::frame::Message;
use crate::decode::postgres::kinds::client;
use crate::decode::sql::noted::{MAX_MARKS, Noted};
use crate::decode::sql::{Plan, Prepared};
use crate::decode::wire::Reader;
use crate::model::{Fingerprint, Outcome, Side};

impl Machine {
    /// A message from the client.
    pub(in crate::decode::postgres) fn client(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        if self.pending.len() >= MAX_PENDING {
            return Err(Lost::Overflow);
        }
        if self.pending.is_empty() {
            self.ahead.clear();
            self.ahead_portals.clear();
        }
        match m.kind {
            client::QUERY => self.query(m, out),
            client::PARSE if !self.skipping => self.parse(m, out),
            client::BIND if !self.skipping => self.bind(m, out),
            client::EXECUTE => self.execute(m, out),
            client::DESCRIBE if !self.skipping => {
                self.pending.push_back(Entry::Describe);
                Ok(())
            }
            client::CLOSE if !self.skipping => self.close(m),
            client::SYNC if !self.copying => {
                self.skipping = false;
                self.pending.push_back(Entry::Sync);
                Ok(())
            }
            client::FUNCTION_CALL => {
                let request = self.begin(out, m.print);
                self.wait(Entry::Function { request, begun: out.at, done: false }, out);
                Ok(())
            }
            client::COPY_DONE | client::COPY_FAIL => {
                self.copying = false;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, out: &mut Out<'_>, print: Option<u64>) -> u64 {
        self.n_requests += 1;
        out.sink.begun(self.n_requests, out.at, print.map(Fingerprint));
        self.n_requests
    }

    /// Remembers a request, or ends it at once if the server is skipping.
    fn wait(&mut self, entry: Entry, out: &mut Out<'_>) {
        if self.skipping {
            self.give_up(&entry, Outcome::Error, out);
        } else {
            self.pending.push_back(entry);
        }
    }

    fn query(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let text = match Reader::new(m.body).cstr() {
            Some(text) => text,
            None if m.cut => m.body,
            None => return Err(Lost::Body),
        };
        let request = self.begin(out, m.print);
        let mut plans = SmallVec::new();
        let (more, noted) = self.read(text, m.cut, out.sink, &mut |plan| plans.push(plan));
        noted.tell(request, &mut { MAX_MARKS }, out.sink);
        let marker = noted.marker;
        self.wait(Entry::Query { request, begun: out.at, plans, next: 0, more, failed: false, marker }, out);
        Ok(())
    }

    /// Reads the statements of a text. Where it is not known whether a backslash escapes, a text with one is read as far
    /// as that.
    fn read(&self, text: &[u8], cut: bool, sink: &mut dyn Sink, each: &mut dyn FnMut(Plan)) -> (bool, Noted) {
        let sure = if self.backslash.is_some() { None } else { memchr::memchr(b'\\', text) };
        let text = text.get(..sure.unwrap_or(text.len())).unwrap_or_default();
        let mut noted = Noted::default();
        noted.comments(self.salt, text, sink);
        let wanted = sink.wants_values(Side::Client);
        let literal = &mut |text: &[u8]| {
            if wanted {
                noted.text(self.salt, text);
            }
        };
        let backslash = self.backslash.unwrap_or(false);
        let more = self.shapes.borrow_mut().read(text, cut || sure.is_some(), backslash, literal, each);
        (more, noted)
    }

    fn parse(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = Reader::new(m.body);
        let Some(name) = rest.cstr() else { return if m.cut { Err(Lost::Gap) } else { Err(Lost::Body) } };
        let name = self.memory.key(name);
        let text = match rest.cstr() {
            Some(text) => text,
            None if m.cut => rest.rest(),
            None => return Err(Lost::Body),
        };
        let mut first = None;
        let mut n = 0;
        let (more, noted) = self.read(text, m.cut, out.sink, &mut |plan| {
            n += 1;
            first.get_or_insert(plan);
        });
        // The server refuses several statements in one Parse; what is left of a cut one says so by itself.
        let plan = first.filter(|p| n == 1 && (!more || p.template.unknown));
        let statement = Rc::new(Prepared { plan, print: m.print, noted });
        self.ahead.insert(name, Some(statement.clone()));
        self.pending.push_back(Entry::Parse { name, statement });
        Ok(())
    }

    fn bind(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = Reader::new(m.body);
        let short = if m.cut { Lost::Gap } else { Lost::Body };
        let name = self.memory.key(rest.cstr().ok_or(short)?);
        let statement = self.memory.key(rest.cstr().ok_or(short)?);
        let prepared = match self.ahead.get(&statement) {
            Some(changed) => changed.clone(),
            None => self.memory.prepared(statement),
        };
        let mut params = SmallVec::new();
        let mut noted = Noted::default();
        let wanted = out.sink.wants_values(Side::Client);
        let plan = prepared.as_ref().and_then(|p| p.plan.as_ref());
        if wanted || plan.is_some_and(|p| !p.template.params.is_empty()) {
            read_parameters(rest.rest(), plan, &mut params, &mut |binary, value| match binary {
                _ if !wanted || value.len() > MAX_NOTED => {}
                true => noted.binary(self.salt, value),
                false => noted.text(self.salt, value),
            });
        }
        let print = match (prepared.as_ref().and_then(|p| p.print), m.print) {
            (Some(text), Some(values)) => {
                let mut h = self.salt.hasher();
                h.write_u64(text);
                h.write_u64(values);
                Some(h.finish())
            }
            _ => None,
        };
        let portal = Rc::new(Portal { statement, prepared, params, print, noted });
        self.ahead_portals.insert(name, portal.clone());
        self.pending.push_back(Entry::Bind { name, portal });
        Ok(())
    }

    fn execute(&mut self, m: &Message<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let mut rest = Reader::new(m.body);
        let name = rest.cstr().ok_or(if m.cut { Lost::Gap } else { Lost::Body })?;
        let name = self.memory.key(name);
        let portal = self.ahead_portals.get(&name).or_else(|| self.portals.get(&name)).cloned();
        let request = self.begin(out, portal.as_ref().and_then(|p| p.print));
        if let Some(portal) = &portal {
            // The ids in its comments come first: of those there are few.
            let mut room = MAX_MARKS;
            if let Some(prepared) = &portal.prepared {
                prepared.noted.tell(request, &mut room, out.sink);
            }
            portal.noted.tell(request, &mut room, out.sink);
        }
        self.wait(Entry::Execute { request, begun: out.at, name, portal }, out);
        Ok(())
    }

    fn close(&mut self, m: &Message<'_>) -> Result<(), Lost> {
        let mut rest = Reader::new(m.body);
        let portal = match rest.u8() {
            Some(b'P') => true,
            Some(b'S') => false,
            _ if m.cut => return Err(Lost::Gap),
            _ => return Err(Lost::Body),
        };
        let name = rest.cstr().ok_or(if m.cut { Lost::Gap } else { Lost::Body })?;
        let name = self.memory.key(name);
        if !portal {
            self.ahead.insert(name, None);
        }
        self.pending.push_back(Entry::Close { portal, name });
        Ok(())
    }
}
