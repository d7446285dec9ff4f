//! What the server answers, packet by packet.

use std::hash::Hasher;

use super::{Does, Entry, Lost, Machine, Next, Out, Phase, Stage};
use crate::decode::Mark;
use crate::decode::mysql::answer::{self, Done, PROGRESS, is_eof};
use crate::decode::mysql::capabilities::{Capabilities, Compression};
use crate::decode::mysql::greeting::greeting;
use crate::decode::mysql::packet::Packet;
use crate::decode::mysql::wire::lenenc;
use crate::decode::wire::Reader;
use crate::model::Side;

/// First bytes of packets.
const OK: u8 = 0;
const FILE: u8 = 0xfb;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;
/// A payload of so many bytes that begins like an end of rows is a row.
const LONG_ROW: u64 = 0xff_ffff;

impl Machine {
    /// A payload from the server.
    pub(in crate::decode::mysql) fn server(&mut self, p: &Packet<'_>, out: &mut Out<'_>) -> Result<Next, Lost> {
        let first = p.body.first().copied();
        match &self.phase {
            Phase::Greeting => return self.greet(p),
            Phase::Response if first == Some(ERR) => return Ok(Next::Leave(None)),
            Phase::Response => return Err(Lost::Kind),
            Phase::Login(_) => return self.authenticate(p, out),
            Phase::Commands => {}
        }
        match (self.pending.front(), first) {
            // The server ends the connection by itself, for a reason of its own.
            (None, Some(ERR)) => return Ok(Next::Packets),
            // What ends definitions that nobody knew would have an end.
            (None, Some(EOF)) if self.capabilities.deprecate_eof().is_none() && is_eof(p.body, p.len) => {
                return Ok(Next::Packets);
            }
            (None, _) => return Err(Lost::UnexpectedReply),
            // A row may be nothing but missing bytes.
            (Some(_), None) if !(p.cut && matches!(self.stage, Stage::Rows(_))) => {
                return Err(if p.cut { Lost::Gap } else { Lost::Body });
            }
            _ => {}
        }
        // Its numbers go on from those of the command, which is one packet; not so where MariaDB packs them.
        if std::mem::replace(&mut self.fresh, false) && p.number != 1 && !self.packed {
            return Err(Lost::UnexpectedReply);
        }
        let first = first.unwrap_or(OK);
        if first == ERR && !matches!(self.stage, Stage::Rows(_) if p.cut) {
            return self.failed(p, out).map(|()| Next::Packets);
        }
        match self.stage {
            Stage::Start => self.start(first, p, out)?,
            Stage::Columns(left) => {
                if p.cut && p.body.is_empty() {
                    return Err(Lost::Gap);
                }
                if out.sink.wants_values(Side::Server) {
                    self.rows.column(p.body);
                }
                self.stage = match left.checked_sub(1) {
                    Some(0) | None => self.after_columns(),
                    Some(left) => Stage::Columns(left),
                };
            }
            Stage::AfterColumns if is_eof(p.body, p.len) => {
                let done = answer::eof(p.body).ok_or(Lost::Gap)?;
                if self.has_cursor(&done) { self.end(&done, None, out)? } else { self.stage = Stage::Rows(0) }
            }
            // Not known whether it would come, and it did not.
            Stage::AfterColumns if self.capabilities.deprecate_eof().is_none() => self.row(first, 0, p, out)?,
            Stage::AfterColumns => return Err(if p.cut { Lost::Gap } else { Lost::Body }),
            Stage::Rows(n) => self.row(first, n, p, out)?,
            Stage::Definitions { left, ends } => self.definition(left, ends, p)?,
            Stage::File => return Err(Lost::UnexpectedReply),
        }
        Ok(Next::Packets)
    }

    fn greet(&mut self, p: &Packet<'_>) -> Result<Next, Lost> {
        match p.body.first() {
            // Too many connections, a host that is blocked.
            Some(&ERR) => Ok(Next::Leave(None)),
            Some(9) => Ok(Next::Leave(Some("old_protocol"))),
            _ if p.number == 0 && !p.cut => {
                let flags = greeting(p.body).ok_or(Lost::Body)?;
                self.capabilities = Capabilities { server: Some(flags), ..self.capabilities };
                self.phase = Phase::Response;
                Ok(Next::Packets)
            }
            _ => Err(Lost::Kind),
        }
    }

    /// OK lets the user in, ERR does not; everything else goes on with the proof.
    fn authenticate(&mut self, p: &Packet<'_>, out: &mut Out<'_>) -> Result<Next, Lost> {
        let Some(first) = p.body.first() else { return Err(if p.cut { Lost::Gap } else { Lost::Body }) };
        match *first {
            OK => {
                let done = answer::ok(p.body, self.capabilities.session_track()).ok_or(Lost::Gap)?;
                if let Phase::Login(login) = std::mem::replace(&mut self.phase, Phase::Commands) {
                    self.begin_session(&login, out);
                }
                self.tell_status(&done, out);
                Ok(match self.capabilities.compression() {
                    None => Next::Packets,
                    Some(Compression::Zlib) => Next::Unpack,
                    Some(Compression::Zstd) => Next::Leave(Some("zstd")),
                })
            }
            ERR => Ok(Next::Leave(None)),
            _ => Ok(Next::Packets),
        }
    }

    /// The first packet of an answer, or of its next result.
    fn start(&mut self, first: u8, p: &Packet<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        match self.pending.front() {
            Some(Entry::Prepare { .. }) => return self.prepared(first, p),
            Some(Entry::Command { does: Does::SaysText, .. }) => return self.end(&Done::default(), None, out),
            Some(Entry::Command { does: Does::Becomes(_), .. }) if first != OK => return Ok(()),
            Some(Entry::Execute { fetches: true, .. } | Entry::Command { does: Does::Lists, .. }) => {
                return self.row(first, 0, p, out);
            }
            _ => {}
        }
        match first {
            OK => {
                let done = answer::ok(p.body, self.capabilities.session_track());
                let done = done.ok_or(if p.cut { Lost::Gap } else { Lost::Body })?;
                self.mix(done.rows);
                self.end(&done, Some(done.rows), out)
            }
            EOF if is_eof(p.body, p.len) => {
                let done = answer::eof(p.body).ok_or(Lost::Gap)?;
                self.end(&done, None, out)
            }
            FILE if matches!(self.pending.front(), Some(Entry::Query { .. })) => {
                self.stage = Stage::File;
                Ok(())
            }
            _ => {
                let short = if p.cut { Lost::Gap } else { Lost::Body };
                let mut r = Reader::new(p.body);
                let n = lenenc(&mut r).filter(|n| *n > 0).ok_or(short)?;
                // One byte more says whether the definitions follow that the client has already.
                let follow = r.u8().is_none_or(|b| b != 0);
                self.rows.columns();
                self.stage = if follow { Stage::Columns(n) } else { self.after_columns() };
                self.mix(n);
                Ok(())
            }
        }
    }

    fn after_columns(&self) -> Stage {
        if self.capabilities.deprecate_eof() == Some(true) { Stage::Rows(0) } else { Stage::AfterColumns }
    }

    /// A row, or the end of them.
    fn row(&mut self, first: u8, n: u64, p: &Packet<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let ends = first == EOF && p.len < LONG_ROW;
        let done = match self.capabilities.deprecate_eof() {
            _ if !ends => None,
            Some(true) => Some(answer::ok(p.body, self.capabilities.session_track()).ok_or(Lost::Gap)?),
            Some(false) if p.len >= 9 => None,
            None if !is_eof(p.body, p.len) => Some(answer::ok(p.body, None).ok_or(Lost::Gap)?),
            _ => Some(answer::eof(p.body).ok_or(Lost::Gap)?),
        };
        if let Some(done) = done {
            return self.end(&done, Some(n), out);
        }
        match p.print {
            Some(print) => self.mix(print),
            None => self.reply = None,
        }
        let request = match self.pending.front() {
            Some(Entry::Query { request, .. } | Entry::Execute { request, .. }) => Some(*request),
            _ => None,
        };
        if let Some(request) = request
            && out.sink.wants_values(Side::Server)
        {
            let as_binary = matches!(self.pending.front(), Some(Entry::Execute { .. }));
            let each = &mut |value| out.sink.mark(request, Side::Server, Mark::Value(value));
            self.rows.row(p.body, as_binary, each);
        }
        self.stage = Stage::Rows(n.saturating_add(1));
        Ok(())
    }

    /// A statement was accepted: `0 number(4) columns(2) parameters(2) …`, then their definitions.
    fn prepared(&mut self, first: u8, p: &Packet<'_>) -> Result<(), Lost> {
        let short = if p.cut { Lost::Gap } else { Lost::Body };
        let mut r = Reader::new(p.body.get(1..).unwrap_or_default());
        let (id, n_columns, n_params) = (r.u32_le().ok_or(short)?, r.u16_le().ok_or(short)?, r.u16_le().ok_or(short)?);
        let Some(Entry::Prepare { statement }) = self.pending.front().filter(|_| first == OK) else {
            return Err(Lost::UnexpectedReply);
        };
        self.statements.insert(id, n_params, statement.clone());
        // One byte, the warnings, and perhaps whether the definitions follow at all.
        let follow = r.array::<4>().is_none_or(|[_, _, _, follow]| follow != 0);
        let groups = u8::from(n_params > 0) + u8::from(n_columns > 0);
        let ends = if self.capabilities.deprecate_eof() == Some(false) { groups } else { 0 };
        let left = u32::from(n_columns) + u32::from(n_params);
        self.stage = Stage::Definitions { left, ends };
        if left == 0 || !follow {
            self.settle_prepared();
        }
        Ok(())
    }

    fn definition(&mut self, left: u32, ends: u8, p: &Packet<'_>) -> Result<(), Lost> {
        let (left, ends) = if is_eof(p.body, p.len) {
            (left, ends.saturating_sub(1))
        } else {
            (left.checked_sub(1).ok_or(Lost::UnexpectedReply)?, ends)
        };
        self.stage = Stage::Definitions { left, ends };
        if (left, ends) == (0, 0) {
            self.settle_prepared();
        }
        Ok(())
    }

    fn settle_prepared(&mut self) {
        self.pending.pop_front();
        self.next_answer();
    }

    /// What the answer of the oldest command holds, for its print.
    fn mix(&mut self, what: u64) {
        if let Some(reply) = &mut self.reply {
            reply.write_u64(what);
        }
    }

    fn failed(&mut self, p: &Packet<'_>, out: &mut Out<'_>) -> Result<(), Lost> {
        let code = answer::error(p.body).ok_or(if p.cut { Lost::Gap } else { Lost::Body })?;
        if code == PROGRESS {
            return Ok(());
        }
        self.mix(u64::from(code));
        self.refuse(out);
        Ok(())
    }
}
