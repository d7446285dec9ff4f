//! Who sent it: one sender, several, equal answers, and what was lost.

use super::*;

const RELAY: Relay = Relay::Workload(WorkloadId(1));
const P: Fingerprint = Fingerprint(7);
const A: Option<TenantId> = Some(TenantId(0));
const B: Option<TenantId> = Some(TenantId(1));

fn enter(f: &mut Forwarding, conn: u32, tenant: Option<TenantId>, at: u64) {
    f.enter(
        RELAY,
        P,
        Inbound { conn: ConnId(conn), request: at, tenant, service: Some(ServiceId(0)), begun: Nanos(at) },
    );
}

fn out(conn: u32, begun: u64, answered: u64, reply: u64) -> Outbound {
    Outbound {
        conn: ConnId(conn),
        unit: UnitNo(1),
        service: Some(ServiceId(1)),
        begun: Nanos(begun),
        answered: Nanos(answered),
        reply: Some(Fingerprint(reply)),
    }
}

fn leave(f: &mut Forwarding, o: Outbound) -> bool {
    let mut settled = Vec::new();
    let origins = f.leave(RELAY, P, o, &mut settled);
    assert!(settled.is_empty(), "nothing settles before an answer is passed on");
    origins.is_some_and(|o| !o.is_empty())
}

fn passed_on(f: &mut Forwarding, conn: u32, request: u64, at: u64, reply: u64) -> Vec<OriginFound> {
    let mut settled = Vec::new();
    let (conn, begun, at, reply) = (ConnId(conn), Nanos(request), Nanos(at), Some(Fingerprint(reply)));
    f.passed_on(RELAY, P, InboundAnswer { conn, request, begun, at, reply }, &mut settled);
    settled
}

fn settled(conn: u32, origin: u32, tenant: Option<TenantId>) -> OriginFound {
    OriginFound { conn: ConnId(conn), unit: UnitNo(1), tenant, origin: Some(ConnId(origin)) }
}

#[test]
fn one_sender() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    assert!(leave(&mut f, out(9, 11, 12, 5)));
    assert_eq!(passed_on(&mut f, 1, 10, 13, 5), [settled(9, 1, A)]);
}

#[test]
fn what_entered_later_or_was_answered_before_is_no_origin() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    enter(&mut f, 2, B, 20);
    passed_on(&mut f, 1, 10, 13, 5);
    assert!(!leave(&mut f, out(9, 15, 18, 5)));
    assert!(leave(&mut f, out(9, 21, 22, 5)));
    assert_eq!(passed_on(&mut f, 2, 20, 23, 5), [settled(9, 2, B)]);
}

#[test]
fn the_answer_passed_on_decides_between_two_senders() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    enter(&mut f, 2, B, 11);
    assert!(leave(&mut f, out(9, 12, 14, 5)));
    assert_eq!(passed_on(&mut f, 2, 11, 15, 5), [settled(9, 2, B)]);
}

#[test]
fn two_answers_under_way_are_told_apart_by_their_bytes() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    enter(&mut f, 2, B, 11);
    leave(&mut f, out(8, 12, 14, 5));
    leave(&mut f, out(9, 12, 14, 6));
    assert_eq!(passed_on(&mut f, 2, 11, 15, 6), [settled(9, 2, B)]);
    assert_eq!(passed_on(&mut f, 1, 10, 16, 5), [settled(8, 1, A)]);
}

#[test]
fn two_equal_answers_under_way_stay_undecided() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    enter(&mut f, 2, B, 11);
    leave(&mut f, out(8, 12, 14, 5));
    leave(&mut f, out(9, 12, 14, 5));
    assert!(passed_on(&mut f, 2, 11, 15, 5).is_empty());
    assert!(passed_on(&mut f, 1, 10, 16, 5).is_empty());
    // … and do not stand in the way of what comes next.
    enter(&mut f, 1, A, 20);
    leave(&mut f, out(8, 21, 22, 5));
    assert_eq!(passed_on(&mut f, 1, 20, 23, 5), [settled(8, 1, A)]);
}

#[test]
fn equal_answers_of_one_tenant_are_settled_together() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    enter(&mut f, 2, A, 11);
    leave(&mut f, out(8, 12, 14, 5));
    leave(&mut f, out(9, 12, 14, 5));
    assert!(passed_on(&mut f, 2, 11, 15, 5).is_empty());
    let both = passed_on(&mut f, 1, 10, 16, 5);
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|s| s.tenant == A && s.origin.is_none()));
}

#[test]
fn an_answer_that_stayed_undecided_is_not_lent_to_the_next_request() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    leave(&mut f, out(8, 11, 14, 5));
    enter(&mut f, 2, B, 12);
    leave(&mut f, out(9, 13, 14, 5));
    // Fits both requests, and it is the only one that fits the first.
    assert!(passed_on(&mut f, 1, 10, 15, 5).is_empty());
    // The second fits only the second; what is left is the first's.
    assert_eq!(passed_on(&mut f, 2, 12, 16, 5), [settled(9, 2, B), settled(8, 1, A)]);
}

#[test]
fn what_is_closed_undecided_does_not_stand_in_the_way() {
    let mut f = Forwarding::default();
    // Many wait for a connection; two answers overlap, of two tenants.
    for (conn, tenant) in [(1, A), (2, B), (3, B), (4, A)] {
        enter(&mut f, conn, tenant, 10);
    }
    leave(&mut f, out(8, 12, 14, 5));
    leave(&mut f, out(9, 12, 14, 5));
    assert!(passed_on(&mut f, 1, 10, 15, 5).is_empty());
    assert!(passed_on(&mut f, 2, 10, 16, 5).is_empty());
    // The next answer is alone.
    leave(&mut f, out(8, 17, 18, 5));
    assert_eq!(passed_on(&mut f, 3, 10, 19, 5), [settled(8, 3, B)]);
}

#[test]
fn overlapping_answers_of_one_tenant_are_its_own_whoever_else_waits() {
    let mut f = Forwarding::default();
    for (conn, tenant) in [(1, A), (2, A), (3, B)] {
        enter(&mut f, conn, tenant, 10);
    }
    leave(&mut f, out(8, 12, 14, 5));
    leave(&mut f, out(9, 12, 14, 5));
    assert!(passed_on(&mut f, 1, 10, 15, 5).is_empty());
    let both = passed_on(&mut f, 2, 10, 16, 5);
    assert_eq!(both.iter().map(|s| s.tenant).collect::<Vec<_>>(), [A, A]);
}

#[test]
fn a_lost_request_does_not_lend_its_work_to_another_sender() {
    let mut f = Forwarding::default();
    // B's request was lost. A's waits for a connection while B's goes out and is answered.
    enter(&mut f, 1, A, 10);
    leave(&mut f, out(9, 12, 14, 5));
    leave(&mut f, out(9, 15, 17, 5));
    assert!(passed_on(&mut f, 1, 10, 18, 5).is_empty());
}

#[test]
fn nothing_is_forwarded_to_where_it_came_in() {
    let mut f = Forwarding::default();
    enter(&mut f, 9, None, 10);
    let same = Outbound { service: Some(ServiceId(0)), ..out(9, 10, 12, 5) };
    assert!(!leave(&mut f, same));
}

#[test]
fn an_unknown_sender_may_be_anybody() {
    let mut f = Forwarding::default();
    enter(&mut f, 1, A, 10);
    enter(&mut f, 2, None, 11);
    leave(&mut f, out(9, 12, 14, 5));
    assert_eq!(passed_on(&mut f, 2, 11, 15, 5), [settled(9, 2, None)]);
}

#[test]
fn everything_is_forgotten_in_time() {
    let mut f = Forwarding::default();
    for i in 0..1000 {
        enter(&mut f, i, A, u64::from(i));
        passed_on(&mut f, i, u64::from(i), u64::from(i) + 1, 1);
    }
    f.age(Nanos::secs(10));
    assert!(f.is_empty());
}
