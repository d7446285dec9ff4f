//! Does a process answer with the reply that belongs to somebody else's command? On a connection whose replies come in
//! the order of its commands, a client that gives up waiting and leaves the reply unread hands the next borrower the
//! previous reply. The bytes on that connection look as they always do; what is wrong shows where the process answers:
//! with a value of the reply *before* its own, and none of its own.
//!
//! Needs no tenant: replies are counted, and values are matched by their salted hashes.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::quiet::Shape;
use super::rarity::Rarity;
use crate::model::steps::{step, walk};
use crate::model::{ConnId, Fingerprint, Nanos, ServiceId, SocketCookie, TenantId, WorkloadId};

/// Most connections followed per process.
const MAX_CONNS: usize = 1024;
/// Replies remembered per connection.
const MAX_REPLIES: usize = 64;
/// Within this time a second one is no accident.
const AGAIN: Nanos = Nanos::secs(60);
/// Most commands of one process kept in mind by their time.
const MAX_LATEST: usize = 16_384;
/// Most commands during one answer that are looked at: of a longer one nothing is said.
const MAX_DURING: usize = 4096;
/// How often connections that were quiet for long are looked for.
const SWEEP: Nanos = Nanos::secs(1);
/// Most values kept of one reply.
const MAX_VALUES: usize = 32;

#[derive(Clone, Debug)]
struct Reply {
    request: u64,
    shape: Option<Shape>,
    begun: Nanos,
    /// The only tenant that had a request in flight when it was asked for.
    tenant: Option<TenantId>,
    values: SmallVec<[Fingerprint; 4]>,
    /// It holds more than is remembered: what is not found in it may be in it all the same.
    cut: bool,
}

/// A connection, as findings name it: it may be closed by the time it is known to be out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// The connection.
    pub conn: ConnId,
    /// The service it leads to.
    pub service: Option<ServiceId>,
    /// The process that opened it.
    pub workload: Option<WorkloadId>,
    /// Its watched socket: cookie, own address, peer address.
    pub flow: Option<(SocketCookie, SocketAddr, SocketAddr)>,
}

/// A connection's latest replies.
#[derive(Debug)]
struct Line {
    via: Via,
    replies: VecDeque<Reply>,
    /// Answers in a row that held the previous reply.
    shifted: u32,
}

/// An answer that held the reply before its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shifted {
    /// The connection whose replies are out of step.
    pub via: Via,
    /// Such answers by now: in a row on this connection, or lately on any.
    pub times: u32,
    /// The same command as the one before, whatever its key.
    pub alike: bool,
    /// For whom the reply was asked for.
    pub owner: Option<TenantId>,
}

/// The latest replies to one process.
#[derive(Debug, Default)]
pub struct Replies {
    lines: FxHashMap<ConnId, Line>,
    /// When commands went out, and where.
    latest: VecDeque<(Nanos, ConnId)>,
    /// When connections that were quiet for long were last looked for.
    swept: Option<Nanos>,
    /// When answers held the reply before their own, on whichever connection: the latest two.
    seen: [Option<Nanos>; 2],
    common: Rarity,
}

impl Replies {
    /// A command goes out on `conn`.
    pub fn asked(&mut self, via: Via, request: u64, at: Nanos, tenant: Option<TenantId>) {
        if self.lines.len() >= MAX_CONNS && !self.lines.contains_key(&via.conn) {
            // A connection that was quiet for long is forgotten, so that connections that come and go need no room.
            if self.swept.is_none_or(|swept| at.since(swept) >= SWEEP) {
                self.swept = Some(at);
                self.lines.retain(|_, l| {
                    step();
                    l.replies.back().is_some_and(|r| at.since(r.begun) < AGAIN)
                });
            }
            if self.lines.len() >= MAX_CONNS {
                return;
            }
        }
        if self.latest.len() >= MAX_LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back((at, via.conn));
        let new = || Line { via, replies: VecDeque::new(), shifted: 0 };
        let line = self.lines.entry(via.conn).or_insert_with(new);
        if line.replies.len() >= MAX_REPLIES {
            line.replies.pop_front();
        }
        line.replies.push_back(Reply { request, shape: None, begun: at, tenant, values: SmallVec::new(), cut: false });
        self.common.text();
    }

    /// The reply to a command holds `value`.
    pub fn holds(&mut self, conn: ConnId, request: u64, value: Fingerprint) {
        let Some(reply) = self.reply(conn, request) else { return };
        if reply.values.contains(&value) {
            return;
        }
        if reply.values.len() >= MAX_VALUES {
            reply.cut = true;
            return;
        }
        reply.values.push(value);
        self.common.seen(value);
    }

    /// What kind of command it was.
    pub fn record_shape(&mut self, conn: ConnId, request: u64, shape: Shape) {
        if let Some(reply) = self.reply(conn, request) {
            reply.shape = Some(shape);
        }
    }

    fn reply(&mut self, conn: ConnId, request: u64) -> Option<&mut Reply> {
        self.lines.get_mut(&conn)?.replies.iter_mut().rev().find(|r| r.request == request)
    }

    /// Something of `conn` was missed, or it is gone.
    pub fn forget(&mut self, conn: ConnId) {
        self.lines.remove(&conn);
    }

    /// The process has answered a request that came in at `from` and was over at `to` with these `values`, those of
    /// the request itself left out.
    pub fn answered(&mut self, from: Nanos, to: Nanos, values: &[Fingerprint]) -> Option<Shifted> {
        let Self { lines, latest, common, .. } = self;
        // Commands go out in order of time: only connections that had one under way are looked at.
        let began = latest.partition_point(|(begun, _)| *begun < from);
        let ended = latest.partition_point(|(begun, _)| *begun <= to).max(began);
        let forgotten = began == 0 && latest.len() >= MAX_LATEST;
        if forgotten || ended - began > MAX_DURING {
            return None;
        }
        let mut conns: SmallVec<[ConnId; 8]> = walk(latest.range(began..ended)).map(|(_, conn)| *conn).collect();
        conns.sort_unstable();
        conns.dedup();
        // The answer may hold what the reply of any command under way held.
        // The latest are looked at first and the rest not at all.
        let during =
            |l: &Line| l.replies.iter().rev().skip_while(|r| r.begun > to).take_while(|r| r.begun >= from).count();
        let after = |l: &Line| l.replies.iter().rev().take_while(|r| r.begun > to).count();
        let mut own: SmallVec<[Fingerprint; 16]> = SmallVec::new();
        for line in conns.iter().filter_map(|conn| lines.get(conn)) {
            let mine = line.replies.iter().rev().skip_while(|r| r.begun > to).take_while(|r| r.begun >= from);
            if mine.clone().any(|r| r.cut) {
                return None;
            }
            own.extend(mine.flat_map(|r| r.values.iter().copied()));
        }
        if own.is_empty() {
            return None;
        }
        let mut found = None;
        for conn in conns {
            let Some(line) = lines.get_mut(&conn) else { continue };
            let n = during(line);
            let Some(first) = line.replies.len().checked_sub(after(line) + n).filter(|_| n > 0) else { continue };
            let Some(before) = first.checked_sub(1).and_then(|at| line.replies.get(at)) else { continue };
            let Some(mine) = line.replies.get(first) else { continue };
            // A value that both replies hold (the name of a field, say) does not tell them apart.
            let only_mine = || mine.values.iter().filter(|v| !before.values.contains(v));
            if only_mine().any(|v| values.contains(v) && !common.is_common(*v)) {
                line.shifted = 0;
                continue;
            }
            let told = before.values.iter().any(|v| values.contains(v) && !own.contains(v) && !common.is_common(*v));
            if told && only_mine().next().is_some() {
                line.shifted += 1;
                let shifted = Shifted {
                    via: line.via,
                    times: line.shifted,
                    alike: match (before.shape, mine.shape) {
                        (Some((service, verb, _)), Some(own)) => (service, verb) == (own.0, own.1),
                        _ => false,
                    },
                    owner: before.tenant,
                };
                // One connection's worth is told at a time: the one longest out of step.
                if found.is_none_or(|f: Shifted| (f.times, f.via.conn) < (shifted.times, shifted.via.conn)) {
                    found = Some(shifted);
                }
            }
        }
        if let Some(found) = &mut found {
            self.seen = [self.seen[1], Some(to)];
            // Clients that close such a connection soon leave one such answer on each.
            if self.seen[0].is_some_and(|before| to.since(before) < AGAIN) {
                found.times = found.times.max(2);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sym;

    const C: ConnId = ConnId(1);
    const VIA: Via = Via { conn: C, service: None, workload: None, flow: None };
    const GET: Shape = (ServiceId(0), Sym(10), Sym(11));

    /// `n` requests, each asking one value; what request `i` is answered with is for `with` to say.
    fn play(n: u64, with: impl Fn(u64) -> u64) -> Vec<Shifted> {
        let mut r = Replies::default();
        let mut found = Vec::new();
        for i in 1..=n {
            let at = Nanos::millis(i * 10);
            r.asked(VIA, i, at, Some(TenantId((i % 2) as u32)));
            r.record_shape(C, i, GET);
            r.holds(C, i, Fingerprint(i * 0x1_0000_1003));
            r.holds(C, i, Fingerprint(5));
            let answer = [Fingerprint(5), Fingerprint(with(i) * 0x1_0000_1003)];
            found.extend(r.answered(at, at + Nanos::millis(3), &answer));
        }
        found
    }

    #[test]
    fn answers_with_the_previous_reply_are_counted() {
        let found = play(6, |i| i - 1);
        assert_eq!(found.len(), 5);
        assert_eq!(found.last(), Some(&Shifted { via: VIA, times: 5, alike: true, owner: Some(TenantId(1)) }));
    }

    #[test]
    fn answers_with_their_own_reply_or_with_anything_else_are_not() {
        assert_eq!(play(20, |i| i), []);
        assert_eq!(play(20, |i| i + 1000), []);
        assert_eq!(play(20, |i| i.saturating_sub(2)), [], "some older value: a cache");
    }

    #[test]
    fn one_answer_in_step_ends_the_count() {
        let found = play(12, |i| if i % 3 == 0 { i } else { i - 1 });
        assert!(found.iter().all(|f| f.times <= 2), "{found:?}");
    }

    #[test]
    fn connections_that_had_nothing_under_way_are_not_looked_at() {
        crate::model::steps::tests::assert_flat("replies", 250, |n| {
            let mut r = Replies::default();
            for i in 1..=n {
                let at = Nanos::millis(i * 10);
                let via = Via { conn: ConnId(u32::try_from(i).unwrap()), ..VIA };
                r.asked(via, i, at, None);
                r.holds(via.conn, i, Fingerprint(i * 0x1_0000_1003));
                r.answered(at, at + Nanos::millis(3), &[Fingerprint(5)]);
            }
        });
    }
}
