//! Prepared statements of one connection, by the numbers that the server gives them, and what their executions carry.
//! Source: MySQL internals, "COM_STMT_EXECUTE".

use std::hash::Hasher;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::query::{MAX_PARAMETERS, types};
use super::wire::{Binary, NULL, binary, bit, lenenc};
use crate::decode::Sink;
use crate::decode::sql::Prepared;
use crate::decode::sql::noted::Noted;
use crate::decode::sql::plan::Param;
use crate::decode::sql::value::Read;
use crate::decode::wire::Reader;
use crate::model::claim::Salt;

/// Most statements remembered; beyond that all are forgotten, and what runs them is not known.
const MAX_STATEMENTS: usize = 1024;
/// Most parameters of which a type is remembered, over all statements of a connection.
const MAX_TYPES: usize = 16_384;
/// Longest parameter that is looked through for values, in bytes.
const MAX_NOTED: usize = 4096;
/// A statement's number that means the one prepared last (MariaDB).
pub(super) const LAST: u32 = u32::MAX;
/// In an execution's flags: the number of parameters is sent (with query attributes).
const COUNTED: u8 = 8;

/// A statement that the server has accepted.
#[derive(Debug)]
struct Statement {
    prepared: Rc<Prepared>,
    n_params: u16,
    /// As the last execution that told has told them.
    types: Vec<u16>,
    /// Some of its parameters were sent ahead of the next execution.
    long: bool,
}

/// The statements of one connection.
#[derive(Debug, Default)]
pub(super) struct Statements {
    all: FxHashMap<u32, Statement>,
    n_types: usize,
    last: Option<u32>,
}

/// What an execution says.
#[derive(Debug, Default)]
pub(super) struct Execution {
    /// The statement, if it is known.
    pub(super) prepared: Option<Rc<Prepared>>,
    /// The parameters that its plan needs.
    pub(super) params: SmallVec<[Param; 1]>,
    /// Hash of statement and parameters; `None`: not all of it was seen.
    pub(super) print: Option<u64>,
    /// What its parameters carry besides.
    pub(super) noted: Noted,
}

impl Statements {
    /// The server has accepted a statement.
    pub(super) fn insert(&mut self, id: u32, n_params: u16, prepared: Rc<Prepared>) {
        if self.all.len() >= MAX_STATEMENTS {
            self.clear();
        }
        self.close(id);
        self.all.insert(id, Statement { prepared, n_params, types: Vec::new(), long: false });
        self.last = Some(id);
    }

    /// The statement is gone.
    pub(super) fn close(&mut self, id: u32) {
        if let Some(gone) = self.all.remove(&id) {
            self.n_types -= gone.types.len();
        }
    }

    /// All are gone, or not known any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Data for one of its parameters comes ahead (`true`), or does not count any more.
    pub(super) fn long_data(&mut self, id: u32, long: bool) {
        if let Some(statement) = self.all.get_mut(&id) {
            statement.long = long;
        }
    }

    /// What a statement does.
    pub(super) fn prepared(&self, id: u32) -> Option<Rc<Prepared>> {
        let id = if id == LAST { self.last? } else { id };
        self.all.get(&id).map(|s| s.prepared.clone())
    }

    /// Bytes held, without what statements share.
    pub(super) fn memory(&self) -> usize {
        self.all.capacity() * (size_of::<(u32, Statement)>() + 1)
            + self.all.values().map(|s| size_of::<Prepared>() + s.prepared.memory()).sum::<usize>()
            + self.n_types * 2
    }

    /// Reads an execution's body (without the first byte). `attributes`: its parameters may have names.
    pub(super) fn execution(
        &mut self,
        body: &[u8],
        cut: bool,
        attributes: Option<bool>,
        salt: Salt,
        sink: &mut dyn Sink,
    ) -> Option<Execution> {
        let mut r = Reader::new(body);
        let (id, flags) = (r.u32_le()?, r.u8()?);
        r.u32_le()?;
        let mut out = Execution { prepared: self.prepared(id), ..Execution::default() };
        let id = if id == LAST { self.last.unwrap_or(LAST) } else { id };
        let Some(statement) = self.all.get_mut(&id) else { return Some(out) };
        let long = std::mem::take(&mut statement.long);
        let counted = attributes != Some(false) && flags & COUNTED != 0;
        let room = MAX_TYPES.saturating_sub(self.n_types) + statement.types.len();
        let before = statement.types.len();
        let whole = parameters(&mut r, statement, &Sent { counted, long, room }, salt, &mut out, sink);
        self.n_types = (self.n_types + statement.types.len()).saturating_sub(before);
        if whole.is_none() || cut {
            out.print = None;
        }
        Some(out)
    }
}

/// How parameters are sent.
struct Sent {
    /// Their number stands before them.
    counted: bool,
    /// Some of their data was sent ahead.
    long: bool,
    /// How many types may be remembered.
    room: usize,
}

/// Reads the parameters. `None`: not all of them.
fn parameters(
    r: &mut Reader<'_>,
    statement: &mut Statement,
    sent: &Sent,
    salt: Salt,
    out: &mut Execution,
    sink: &mut dyn Sink,
) -> Option<()> {
    let Sent { counted, long, room } = *sent;
    let wanted = sink.wants_values(crate::model::Side::Client);
    let own = usize::from(statement.n_params);
    let n =
        if counted { lenenc(r).filter(|n| *n <= MAX_PARAMETERS).and_then(|n| usize::try_from(n).ok())? } else { own };
    let mut hasher = salt.hasher();
    hasher.write_u64(statement.prepared.print?);
    if n == 0 {
        out.print = Some(hasher.finish());
        return Some(());
    }
    let nulls = r.take(n.div_ceil(8))?;
    let mut names: Vec<&[u8]> = Vec::new();
    if r.u8()? == 1 {
        let all = types(r, n, counted)?;
        statement.types.clear();
        statement.types.extend(all.iter().map(|(kind, _)| *kind).take(room));
        names = all.into_iter().map(|(_, name)| name).collect();
    }
    hasher.write(nulls);
    hasher.write(r.rest());
    // Data sent ahead is missing here, and for which parameter is not remembered.
    if long || statement.types.len() != n {
        return None;
    }
    for (i, kind) in statement.types.iter().enumerate() {
        let [number, _] = kind.to_le_bytes();
        let value = if bit(nulls, i) || number == NULL { None } else { Some(binary(r, *kind)?) };
        if i >= own {
            // An attribute, which has a name.
            if let (Some(Binary::Text(value)), Some(name)) = (value, names.get(i))
                && let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value))
            {
                out.noted.said(salt, name, value, sink);
            }
            continue;
        }
        match value {
            Some(Binary::Text(text)) if wanted && text.len() <= MAX_NOTED => out.noted.text(salt, text),
            Some(Binary::Integer(n)) if wanted => out.noted.text(salt, n.to_string().as_bytes()),
            _ => {}
        }
        let needed = statement.prepared.plan.as_ref().map_or(&[][..], |p| &p.template.params);
        if let Some((place, _)) = needed.iter().find(|(place, _)| usize::from(*place) == i + 1) {
            out.params.push((*place, value.map_or(Read::Null, Binary::read)));
        }
    }
    out.print = Some(hasher.finish());
    Some(())
}
