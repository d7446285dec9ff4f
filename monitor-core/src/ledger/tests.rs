//! The facts of `docs/domain.md#postgresql`, as the ledger must tell them.

use super::*;
use crate::model::{Attribution, Basis, OpaqueId, OtherUse, Slot, TenantId, Verdict};

const A: TenantId = TenantId(0);
const B: TenantId = TenantId(1);
const GUC: Slot = Slot::Setting(Sym(7));

fn bind(ledger: &mut Ledger, slot: Slot, claim: Claim, scope: Scope, unit: u32) {
    ledger.apply(&Effect::Bind { slot, claim, scope, strength: Strength::V2 }, Nanos(1), UnitNo(unit));
}

fn set(ledger: &mut Ledger, tenant: TenantId, scope: Scope, unit: u32) {
    bind(ledger, GUC, Claim::Tenant(tenant), scope, unit);
}

/// Judges a data operation by B in unit `unit`, A having used the connection before at `order` 1.
fn verdict_for_b(ledger: &mut Ledger, unit: u32) -> Verdict {
    let view = ledger.view(Strength::V2);
    judge(&Question {
        view: &view,
        unit: UnitNo(unit),
        tenant: B,
        author: &|u| (u == UnitNo(1)).then_some(A),
        alias: &|_| None,
        credential: &|_| CredentialOwner::Unknown,
        governs: &|b| b.slot != Slot::Database,
        standing: &|b| match b.claim {
            Claim::Chosen(OpaqueId(n)) if n < 2 => Standing::Of(TenantId(n as u32)),
            Claim::Chosen(OpaqueId(2)) => Standing::Unsure,
            _ => Standing::Nobody,
        },
        common: false,
        minimum: Strength::V2,
        other: Some(OtherUse {
            by: Attribution::new(A, Basis::OwnContainer),
            order: 1,
            at: Nanos(1),
            verb: Sym(0),
            target: Sym(0),
        }),
        binds_sessions: false,
    })
    .verdict
}

fn used_by_a() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.view(Strength::V2);
    ledger.status(TxStatus::Idle);
    ledger
}

#[test]
fn nothing_bound_is_unbound() {
    assert_eq!(verdict_for_b(&mut used_by_a(), 2), Verdict::Unbound);
}

#[test]
fn a_session_binding_stays_and_is_stale_for_the_next() {
    let mut l = used_by_a();
    set(&mut l, A, Scope::Session, 1);
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound);
}

#[test]
fn a_local_binding_ends_with_its_transaction() {
    let mut l = used_by_a();
    l.apply(&Effect::Begin, Nanos(1), UnitNo(2));
    set(&mut l, B, Scope::Transaction, 2);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Revalidated);
    l.apply(&Effect::Commit, Nanos(1), UnitNo(2));
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::Unbound);
}

#[test]
fn set_local_outside_a_transaction_is_gone_at_the_status() {
    let mut l = used_by_a();
    set(&mut l, B, Scope::Transaction, 2);
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::Unbound);
}

#[test]
fn rollback_undoes_set() {
    let mut l = used_by_a();
    l.apply(&Effect::Begin, Nanos(1), UnitNo(2));
    set(&mut l, B, Scope::Session, 2);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Revalidated);
    l.apply(&Effect::Rollback, Nanos(1), UnitNo(2));
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::Unbound);
}

#[test]
fn a_failed_transaction_leaves_the_earlier_session_binding_live() {
    let mut l = used_by_a();
    set(&mut l, A, Scope::Session, 1);
    l.status(TxStatus::Idle);
    l.apply(&Effect::Begin, Nanos(1), UnitNo(2));
    set(&mut l, B, Scope::Session, 2);
    l.failed();
    l.status(TxStatus::Failed);
    l.apply(&Effect::Rollback, Nanos(1), UnitNo(2));
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::StaleBound);
}

#[test]
fn a_failed_implicit_transaction_is_undone_too() {
    let mut l = used_by_a();
    set(&mut l, B, Scope::Session, 2);
    l.failed();
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::Unbound);
}

#[test]
fn rollback_to_savepoint_undoes_what_came_after_it() {
    let mut l = used_by_a();
    l.apply(&Effect::Begin, Nanos(1), UnitNo(2));
    set(&mut l, B, Scope::Transaction, 2);
    l.apply(&Effect::Savepoint(Sym(3)), Nanos(1), UnitNo(2));
    set(&mut l, A, Scope::Transaction, 2);
    l.apply(&Effect::RollbackTo(Sym(3)), Nanos(1), UnitNo(2));
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Revalidated);
    l.apply(&Effect::RollbackTo(Sym(99)), Nanos(1), UnitNo(2));
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
}

#[test]
fn reset_is_not_revalidation() {
    let mut l = used_by_a();
    set(&mut l, A, Scope::Session, 1);
    l.apply(&Effect::Reset { what: ResetScope::Everything, scope: Scope::Session }, Nanos(1), UnitNo(1));
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::ResetOnly);
}

#[test]
fn reset_all_leaves_the_role() {
    let mut l = used_by_a();
    bind(&mut l, Slot::Role, Claim::Tenant(A), Scope::Session, 1);
    set(&mut l, A, Scope::Session, 1);
    l.apply(&Effect::Reset { what: ResetScope::Settings, scope: Scope::Session }, Nanos(1), UnitNo(1));
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound);
}

#[test]
fn start_up_values_come_back_after_discard_all() {
    let mut l = Ledger::new();
    set(&mut l, A, Scope::Startup, 0);
    set(&mut l, B, Scope::Session, 1);
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Revalidated);
    l.apply(&Effect::Reset { what: ResetScope::Everything, scope: Scope::Session }, Nanos(1), UnitNo(2));
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::StaleBound);
}

#[test]
fn one_stale_slot_outweighs_a_fresh_one() {
    let mut l = used_by_a();
    bind(&mut l, Slot::Role, Claim::Tenant(A), Scope::Session, 1);
    set(&mut l, B, Scope::Session, 2);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound);
}

#[test]
fn an_opaque_value_speaks_for_the_unit_that_set_it() {
    let mut l = used_by_a();
    bind(&mut l, GUC, Claim::Opaque(OpaqueId(5)), Scope::Session, 1);
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound);
    bind(&mut l, GUC, Claim::Opaque(OpaqueId(6)), Scope::Session, 2);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Revalidated);
    // Set by a unit nobody could attribute: not known.
    bind(&mut l, GUC, Claim::Opaque(OpaqueId(7)), Scope::Session, 9);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
}

#[test]
fn after_a_disturbance_nothing_is_known_until_a_binding() {
    let mut l = used_by_a();
    set(&mut l, A, Scope::Session, 1);
    l.disturb(false);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
    l.apply(&Effect::Reset { what: ResetScope::Everything, scope: Scope::Session }, Nanos(1), UnitNo(1));
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
    set(&mut l, A, Scope::Session, 1);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound);
}

#[test]
fn a_binding_that_was_rolled_back_proves_nothing_after_a_gap() {
    let mut l = used_by_a();
    l.disturb(false);
    l.apply(&Effect::Begin, Nanos(1), UnitNo(2));
    set(&mut l, A, Scope::Session, 2);
    l.apply(&Effect::Rollback, Nanos(1), UnitNo(2));
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 3), Verdict::Indeterminate);
}

#[test]
fn mid_stream_a_reset_returns_to_what_was_never_seen() {
    let mut l = Ledger::new();
    l.disturb(true);
    l.view(Strength::V2);
    set(&mut l, A, Scope::Session, 1);
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound);
    l.apply(&Effect::Reset { what: ResetScope::Slot(GUC), scope: Scope::Session }, Nanos(1), UnitNo(1));
    l.status(TxStatus::Idle);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
}

#[test]
fn an_unreadable_binding_makes_it_indeterminate() {
    let mut l = used_by_a();
    bind(&mut l, GUC, Claim::Unreadable, Scope::Session, 2);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
}

#[test]
fn a_value_that_names_nobody_proves_nothing() {
    let mut l = used_by_a();
    l.disturb(false);
    for claim in [Claim::Neutral, Claim::Cleared] {
        bind(&mut l, GUC, claim, Scope::Session, 2);
        assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate);
    }
}

#[test]
fn a_label_is_weaker_than_the_minimum() {
    let mut l = used_by_a();
    let effect = Effect::Bind { slot: GUC, claim: Claim::Tenant(B), scope: Scope::Session, strength: Strength::V1 };
    l.apply(&effect, Nanos(1), UnitNo(2));
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Unbound);
}

#[test]
fn a_value_that_names_nobody_is_a_reset_where_it_takes_a_name_away() {
    for claim in [Claim::Neutral, Claim::Cleared, Claim::Chosen(OpaqueId(9))] {
        let mut l = used_by_a();
        bind(&mut l, Slot::SearchPath, Claim::Tenant(A), Scope::Session, 1);
        bind(&mut l, Slot::SearchPath, claim, Scope::Session, 2);
        assert_eq!(verdict_for_b(&mut l, 2), Verdict::ResetOnly, "{claim:?}");
        // It takes nothing away where nothing was.
        let mut l = used_by_a();
        bind(&mut l, Slot::SearchPath, claim, Scope::Session, 2);
        assert_eq!(verdict_for_b(&mut l, 2), Verdict::Unbound, "{claim:?}");
    }
}

#[test]
fn a_binding_judges_only_what_it_governs() {
    let mut l = used_by_a();
    bind(&mut l, Slot::Database, Claim::Tenant(A), Scope::Session, 1);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Indeterminate, "it decides nothing here");
    set(&mut l, A, Scope::Session, 1);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::StaleBound, "and this one does");
    set(&mut l, B, Scope::Session, 2);
    assert_eq!(verdict_for_b(&mut l, 2), Verdict::Revalidated);
}

#[test]
fn a_chosen_value_speaks_for_whom_it_goes_with() {
    let verdict = |n: u64| {
        let mut l = used_by_a();
        bind(&mut l, Slot::SearchPath, Claim::Chosen(OpaqueId(n)), Scope::Session, 1);
        verdict_for_b(&mut l, 2)
    };
    assert_eq!(verdict(0), Verdict::StaleBound);
    assert_eq!(verdict(1), Verdict::Revalidated);
    assert_eq!(verdict(2), Verdict::Indeterminate);
    assert_eq!(verdict(3), Verdict::Unbound);
}

#[test]
fn a_chosen_value_proves_nothing_after_a_gap_unless_it_is_somebodys() {
    for (n, want) in
        [(0, Verdict::StaleBound), (1, Verdict::Revalidated), (2, Verdict::Indeterminate), (3, Verdict::Indeterminate)]
    {
        let mut l = used_by_a();
        l.disturb(false);
        bind(&mut l, Slot::SearchPath, Claim::Chosen(OpaqueId(n)), Scope::Session, 1);
        assert_eq!(verdict_for_b(&mut l, 2), want);
    }
}
