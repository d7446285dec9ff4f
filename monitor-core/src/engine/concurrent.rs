//! Connections on which several requests are on their way at the same time, each for somebody else (HTTP/2): each request is
//! a unit of work of its own, from its head to its answer.
//!
//! While something happens to a request, its unit is the current one, and the others are put aside. So nothing else needs to
//! know that there are several.

use rustc_hash::FxHashMap;

use super::on_conn::OnConn;
use super::units::Unit;
use crate::attribute::through::Borrow;
use crate::model::steps::walk;
use crate::model::{Nanos, UnitNo};

/// Units that are open beside the current one, by their request.
#[derive(Debug, Default)]
pub(super) struct Beside {
    open: FxHashMap<u64, (Unit, Option<Borrow>)>,
    /// The unit that began last.
    newest: UnitNo,
}

impl Beside {
    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        self.open.capacity() * size_of::<(u64, (Unit, Option<Borrow>))>()
    }
}

impl OnConn<'_> {
    /// From here on each request is a unit of work of its own.
    pub(super) fn begin_concurrent(&mut self) {
        // The request that is open, if one is, goes on: it has asked for an upgrade, and is answered after it.
        self.state.units.beside.get_or_insert_default();
    }

    /// What comes next is of `request`; 0: of none, but the server's own.
    pub(super) fn turn_to(&mut self, request: u64) {
        let units = &mut self.state.units;
        let Some(beside) = units.beside.as_mut().filter(|_| request != 0) else { return };
        beside.newest = beside.newest.max(units.current.no);
        if units.current.open && units.current.first == request {
            return;
        }
        if units.current.open {
            beside.open.insert(units.current.first, (units.current, units.borrow.take()));
        }
        let found = beside.open.remove(&request);
        (units.current, units.borrow) = found.unwrap_or_else(|| (Unit { no: beside.newest, ..Unit::default() }, None));
    }

    /// The current request has been answered.
    pub(super) fn end_turn(&mut self, at: Nanos) {
        if self.state.units.beside.is_some() {
            self.end_unit(at);
        }
    }

    /// Something was missed: of each unit that is open.
    pub(super) fn tear_beside(&mut self) {
        let Some(mut beside) = self.state.units.beside.take() else { return };
        for (unit, borrow) in walk(beside.open.values_mut()) {
            if let Some(known) = self.state.units.known_unit(unit.no) {
                known.contradicted = true;
            }
            if let Some(borrow) = borrow {
                borrow.torn = true;
            }
        }
        self.state.units.beside = Some(beside);
    }
}
