//! What the client sends: it authenticates, and commands begin.

use std::hash::Hasher;
use std::rc::Rc;

use smallvec::SmallVec;

use super::{Does, Entry, Lost, MAX_PENDING, Machine, Next, Out, Phase, Stage};
use crate::decode::Sink;
use crate::decode::mysql::capabilities::Capabilities;
use crate::decode::mysql::greeting::{Response, change_user, response};
use crate::decode::mysql::kinds;
use crate::decode::mysql::packet::Packet;
use crate::decode::mysql::query;
use crate::decode::mysql::statements::{Execution, LAST};
use crate::decode::sql::noted::{MAX_MARKS, Noted};
use crate::decode::sql::{Plan, Prepared};
use crate::decode::wire::Reader;
use crate::model::{Claim, Fingerprint, Side, Slot};

impl Machine {
    /// A payload from the client.
    pub(in crate::decode::mysql) fn client(&mut self, p: &Packet<'_>, out: &mut Out<'_>) -> Result<Next, Lost> {
        match &self.phase {
            Phase::Greeting | Phase::Response => return self.respond(p, out),
            // Passwords and proofs: not looked at.
            Phase::Login(_) => return Ok(Next::Packets),
            Phase::Commands => {}
        }
        if p.number != 0 {
            return self.goes_on(p);
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Lost::Overflow);
        }
        let Some((&command, body)) = p.body.split_first() else { return Err(Lost::Body) };
        match command {
            kinds::QUIT => return Ok(Next::Packets),
            kinds::QUERY => self.query(body, p.cut, out),
            kinds::STMT_PREPARE => self.prepare(body, p.cut, out),
            kinds::STMT_EXECUTE | kinds::STMT_BULK_EXECUTE => self.execute(command, body, p.cut, out)?,
            kinds::STMT_FETCH => self.fetch(body, out)?,
            kinds::STMT_SEND_LONG_DATA => self.statements.long_data(number(body)?, true),
            kinds::STMT_CLOSE => self.statements.close(number(body)?),
            _ if kinds::replicates(command) => return Ok(Next::Leave(Some("replication"))),
            _ => self.command(command, body, p.cut, out)?,
        }
        Ok(Next::Packets)
    }

    /// What the client answers the greeting. Where the greeting was not seen, encryption was asked for before.
    fn respond(&mut self, p: &Packet<'_>, out: &mut Out<'_>) -> Result<Next, Lost> {
        // The server's greeting has the number 0; a request for encryption takes one more.
        if p.number == 0 || p.cut {
            return Err(Lost::Kind);
        }
        match response(p.body).ok_or(Lost::Body)? {
            Response::Encrypt => Ok(Next::Leave(Some("tls"))),
            Response::Old => Ok(Next::Leave(Some("old_protocol"))),
            Response::Login { flags, user, database } => {
                self.capabilities = Capabilities { client: Some(flags), ..self.capabilities };
                self.phase = Phase::Login(self.login(user, database, out));
                Ok(Next::Packets)
            }
        }
    }

    /// A packet that goes on with a command: a proof of who it is, or a piece of a file.
    fn goes_on(&mut self, p: &Packet<'_>) -> Result<Next, Lost> {
        match (self.stage, self.pending.front()) {
            (Stage::File, _) => {
                // An empty one ends the file.
                if p.len == 0 {
                    self.stage = Stage::Start;
                }
                Ok(Next::Packets)
            }
            (_, Some(Entry::Command { does: Does::Becomes(_), .. })) => Ok(Next::Packets),
            _ => Err(Lost::Kind),
        }
    }

    fn begin(&mut self, print: Option<u64>, out: &mut Out<'_>) -> u64 {
        self.n_requests += 1;
        out.sink.begun(self.n_requests, out.at, print.map(Fingerprint));
        self.n_requests
    }

    fn print(&self, text: &[u8], cut: bool) -> Option<u64> {
        (!cut).then(|| self.salt.fingerprint(text).0)
    }

    fn query(&mut self, body: &[u8], cut: bool, out: &mut Out<'_>) {
        let mut noted = Noted::default();
        let salt = self.salt;
        let attributes = self.capabilities.query_attributes();
        let sink = &mut *out.sink;
        let text = query::text(body, attributes, &mut |name, value| noted.said(salt, name, value, sink));
        let print = text.and_then(|text| self.print(text, cut));
        let request = self.begin(print, out);
        let mut plans = SmallVec::new();
        // Attributes that cannot be read hide the text.
        let hidden = text.is_none();
        let more =
            self.read(text.unwrap_or_default(), cut || hidden, &mut noted, out.sink, &mut |plan| plans.push(plan));
        noted.tell(request, &mut { MAX_MARKS }, out.sink);
        let marker = noted.marker;
        self.pending.push_back(Entry::Query { request, begun: out.at, plans, next: 0, more, marker });
    }

    /// Reads the statements of a text. Where it is not known whether a backslash escapes, a text with one is read as far
    /// as that.
    fn read(&self, text: &[u8], cut: bool, noted: &mut Noted, sink: &mut dyn Sink, each: &mut dyn FnMut(Plan)) -> bool {
        let sure = if self.backslash.is_some() { None } else { memchr::memchr(b'\\', text) };
        let text = text.get(..sure.unwrap_or(text.len())).unwrap_or_default();
        noted.comments(self.salt, text, sink);
        let wanted = sink.wants_values(Side::Client);
        let literal = &mut |text: &[u8]| {
            if wanted {
                noted.text(self.salt, text);
            }
        };
        let backslash = self.backslash.unwrap_or(true);
        self.shapes.borrow_mut().read(text, cut || sure.is_some(), backslash, literal, each)
    }

    fn prepare(&mut self, text: &[u8], cut: bool, out: &mut Out<'_>) {
        let (mut first, mut n, mut noted) = (None, 0, Noted::default());
        let more = self.read(text, cut, &mut noted, out.sink, &mut |plan| {
            n += 1;
            first.get_or_insert(plan);
        });
        // The server refuses several statements; what is left of a cut one says so by itself.
        let plan = first.filter(|p| n == 1 && (!more || p.template.unknown));
        let statement = Rc::new(Prepared { plan, print: self.print(text, cut), noted });
        self.pending.push_back(Entry::Prepare { statement });
    }

    fn execute(&mut self, command: u8, body: &[u8], cut: bool, out: &mut Out<'_>) -> Result<(), Lost> {
        let id = number(body)?;
        let mut execution = if command == kinds::STMT_BULK_EXECUTE {
            // Each of its rows has parameters of its own.
            let prepared = self.statements.prepared(id);
            let print = prepared.as_ref().and_then(|p| p.print).filter(|_| !cut).map(|print| {
                let mut h = self.salt.hasher();
                h.write_u64(print);
                h.write(body.get(4..).unwrap_or_default());
                h.finish()
            });
            Execution { prepared, print, ..Execution::default() }
        } else {
            let attributes = self.capabilities.query_attributes();
            self.statements.execution(body, cut, attributes, self.salt, out.sink).ok_or(Lost::Body)?
        };
        if id == LAST {
            // The one that is being prepared, if it is not answered yet.
            let coming = self.pending.iter().rev().find_map(|e| match e {
                Entry::Prepare { statement } => Some(statement.clone()),
                _ => None,
            });
            if let Some(prepared) = coming {
                execution = Execution { prepared: Some(prepared), ..Execution::default() };
            }
        }
        let request = self.begin(execution.print, out);
        // The ids in its comments come first: of those there are few.
        let mut room = MAX_MARKS;
        if let Some(prepared) = &execution.prepared {
            prepared.noted.tell(request, &mut room, out.sink);
        }
        execution.noted.tell(request, &mut room, out.sink);
        let (statement, params) = (execution.prepared, execution.params);
        self.pending.push_back(Entry::Execute { request, begun: out.at, statement, params, fetches: false });
        Ok(())
    }

    fn fetch(&mut self, body: &[u8], out: &mut Out<'_>) -> Result<(), Lost> {
        let statement = self.statements.prepared(number(body)?);
        let request = self.begin(None, out);
        let params = SmallVec::new();
        self.pending.push_back(Entry::Execute { request, begun: out.at, statement, params, fetches: true });
        Ok(())
    }

    fn command(&mut self, command: u8, body: &[u8], cut: bool, out: &mut Out<'_>) -> Result<(), Lost> {
        let verb = kinds::name(command).ok_or(Lost::Kind)?;
        let does = match command {
            kinds::INIT_DB => {
                let name = String::from_utf8_lossy(body);
                Does::Uses(if cut { Claim::Unreadable } else { out.sink.claim(Slot::SearchPath, "", &name) })
            }
            kinds::CHANGE_USER => {
                let (user, database) =
                    change_user(body).filter(|_| !cut).ok_or(if cut { Lost::Gap } else { Lost::Body })?;
                Does::Becomes(Box::new(self.login(user, database, out)))
            }
            kinds::RESET_CONNECTION => Does::Resets,
            kinds::STATISTICS => Does::SaysText,
            kinds::FIELD_LIST => Does::Lists,
            kinds::STMT_RESET => {
                self.statements.long_data(number(body)?, false);
                Does::Nothing
            }
            _ => Does::Nothing,
        };
        // A proof of who it is differs from one connection to the next.
        let says = if matches!(does, Does::Uses(_)) { body } else { &[] };
        let print = self.print(&[&[command], says].concat(), cut);
        let request = self.begin(print, out);
        self.pending.push_back(Entry::Command { request, begun: out.at, verb, does });
        Ok(())
    }
}

/// A statement's number.
fn number(body: &[u8]) -> Result<u32, Lost> {
    Reader::new(body).u32_le().ok_or(Lost::Body)
}
