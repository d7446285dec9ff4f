//! Whether a use that is not bound breaks its client's habit ([`super::habits`]).

use super::on_conn::OnConn;
use super::units::Pending;
use crate::ledger::{Certainty, View};
use crate::model::{Attribution, Basis, Nanos, Outcome, Sym, Verdict};

impl OnConn<'_> {
    /// Something of this connection was missed.
    pub(super) fn doubt_habits(&mut self) {
        if let Some(client) = self.state.facts.client_of_habits() {
            self.parts.learned.habits.missed(client);
        }
    }

    /// Learns from a data operation, and tells how often its client has bound the use of the same table when this one,
    /// on a connection that is new, is not bound.
    pub(super) fn habit(
        &mut self,
        pending: &Pending,
        view: &View,
        whom: Option<Attribution>,
        verdict: Verdict,
    ) -> Option<u64> {
        let table = pending.op.target;
        let client = self.state.facts.client_of_habits().filter(|_| table != Sym::EMPTY)?;
        // A forwarded operation is judged on the connection where it entered the relay.
        if self.state.attribution_of(pending.unit).is_some() {
            return None;
        }
        let whole = view.certainty == Certainty::Whole && pending.op.outcome == Outcome::Ok;
        match (view.live.is_empty(), whom) {
            (false, Some(a)) if whole && verdict == Verdict::Revalidated => {
                self.parts.learned.habits.bound(client, table, a.tenant);
                return None;
            }
            // The use was bound, so the habit is not broken, whichever tenant it was bound for.
            (false, _) if whole => return None,
            _ => {}
        }
        if whole && self.state.history.first_data == Some(pending.unit) {
            return self
                .parts
                .learned
                .habits
                .holds(client, table)
                .filter(|_| verdict == Verdict::SingleTenant && self.went_unbound(pending, whom));
        }
        self.parts.learned.habits.broken(client, table);
        None
    }

    /// Nothing was bound on the connection before those were answered whom the operation was for.
    fn went_unbound(&self, pending: &Pending, whom: Option<Attribution>) -> bool {
        let known = whom.is_some_and(|a| a.basis != Basis::ForwardedContent);
        if !known || self.state.facts.mid_stream || self.state.disturbed {
            return false;
        }
        let process = self.state.facts.leaves.and_then(|r| self.parts.attributor.processes.get(&r));
        let (Some(process), Some(through)) = (process, self.state.units.through_of(pending.unit)) else { return false };
        let ended =
            |over: Option<Nanos>| over.is_some_and(|at| self.state.history.first_bind.is_none_or(|bind| at < bind));
        !through.requests.is_empty()
            && through.requests.iter().all(|key| ended(process.request(*key).and_then(|r| r.ended)))
    }
}
