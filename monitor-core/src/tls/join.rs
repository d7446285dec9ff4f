//! Secrets and the connections whose they may be: who is asked which secret. What fits is decided by
//! [`Tls::offer`](super::Tls::offer) alone.
//!
//! A secret that names its `ClientHello`'s random bytes is asked of connections that began so; one that does not, of those
//! whose process is in its cgroup and which are in a handshake. It may come before the records that it opens, and before
//! the connection is known: it is kept for [`PATIENCE`] of event time.
//!
//! Memory: [`MAX_SECRETS`] secrets of about 200 bytes and their places, the fingerprints of [`MAX_CLAIMED`], and the
//! connections that are in a handshake, each in at most five places.

use std::collections::VecDeque;
use std::hash::Hasher;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::steps::walk;
use crate::model::{CgroupId, ConnId, HandshakeSecret, Nanos, Salt, Secret, SecretLabel, WorkloadId};

/// How long a secret is kept for records that it opens, and records for their secret.
pub const PATIENCE: Nanos = Nanos::secs(5);
/// Most secrets kept.
const MAX_SECRETS: usize = 8_192;
/// Most secrets, and most connections in a handshake, of one speaker that are tried on each other.
const MAX_TRIED: usize = 64;
/// Most secrets that are remembered as having been of use: both ends of a connection may tell them.
const MAX_CLAIMED: usize = 4_096;
/// Most secrets that name the same random bytes: one of each kind, and as many that claim to be.
const MAX_OF_RANDOM: usize = 2 * SecretLabel::ALL.len();
/// Most secrets of a key log.
const MAX_LEARNT: usize = 1 << 20;
/// Most connections with the same random bytes: the two sockets of one, where they could not be joined.
const MAX_ALIKE: usize = 4;

/// Who speaks TLS: a workload, or a cgroup of which nobody knows whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// A workload.
    Workload(WorkloadId),
    /// A cgroup.
    Cgroup(CgroupId),
}

/// The two speakers of a connection, as far as they are known, and their cgroups: a secret may be told before it is known
/// whose its cgroup is.
pub type Speakers = SmallVec<[Speaker; 4]>;
/// Connections that a secret is tried on.
pub type Candidates = SmallVec<[ConnId; 2]>;

/// A connection in its handshake, as it is found by secrets.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The `ClientHello`'s random bytes.
    pub random: [u8; 32],
    /// The random bytes that a secret names may be others.
    pub hides_random: bool,
    /// Who speaks.
    pub speakers: Speakers,
}

#[derive(Debug)]
struct Kept {
    label: SecretLabel,
    secret: Secret,
    client_random: Option<[u8; 32]>,
    speaker: Option<Speaker>,
}

/// How the two were joined, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Secrets that were told.
    pub told: u64,
    /// Those that opened something.
    pub joined: u64,
    /// Those that were told before.
    pub repeated: u64,
    /// Those that were dropped to make room before their time.
    pub dropped: u64,
}

/// Secrets and connections in a handshake.
#[derive(Debug, Default)]
pub struct Join {
    salt: Salt,
    secrets: FxHashMap<u64, Kept>,
    /// The same, oldest first.
    order: VecDeque<(Nanos, u64)>,
    next: u64,
    by_random: FxHashMap<[u8; 32], SmallVec<[u64; 5]>>,
    by_party: FxHashMap<Speaker, VecDeque<u64>>,
    claimed: FxHashMap<u64, ()>,
    claimed_order: VecDeque<u64>,
    conns: FxHashMap<ConnId, Handshake>,
    conns_by_random: FxHashMap<[u8; 32], SmallVec<[ConnId; 1]>>,
    conns_by_party: FxHashMap<Speaker, VecDeque<ConnId>>,
    /// Connections on which something waits, and until when.
    waiting: VecDeque<(Nanos, ConnId)>,
    counts: Counts,
}

impl Join {
    /// Nothing yet; `salt` keys the fingerprints.
    pub fn new(salt: Salt) -> Self {
        Self { salt, ..Self::default() }
    }

    /// How secrets and connections found each other, so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Secrets kept, and most.
    pub fn level(&self) -> (usize, usize) {
        (self.secrets.len(), MAX_SECRETS)
    }

    /// Bytes held, about.
    pub fn memory(&self) -> usize {
        self.secrets.len() * (size_of::<Kept>() + 128)
            + self.claimed.len() * 40
            + self.conns.len() * (2 * size_of::<Handshake>() + 96)
            + self.waiting.len() * 24
    }

    /// Keeps a secret, and gives the connections on which it is to be tried.
    pub fn tell(&mut self, told: &HandshakeSecret, speaker: Option<Speaker>) -> Candidates {
        self.counts.told += 1;
        let mut candidates = Candidates::new();
        let print = self.print(told.label, &told.secret);
        if let Some(random) = &told.client_random {
            candidates.extend(self.conns_by_random.get(random).into_iter().flatten().copied());
            if self.is_told(random, told) {
                self.counts.repeated += 1;
                return candidates;
            }
        } else if self.claimed.contains_key(&print) {
            self.counts.repeated += 1;
            return candidates;
        }
        let unknown = candidates.is_empty();
        if unknown && let Some(conns) = speaker.and_then(|p| self.conns_by_party.get(&p)) {
            let named = told.client_random.is_some();
            let may_be = |id: &&ConnId| !named || self.conns.get(id).is_some_and(|h| h.hides_random);
            candidates.extend(walk(conns.iter().rev()).take(MAX_TRIED).filter(may_be).copied());
        }
        self.keep(told, speaker.filter(|_| unknown));
        candidates
    }

    /// Keeps a secret of a key log for good: `told.client_random` is what it is found by. `false`: there is no room.
    pub fn learn(&mut self, told: &HandshakeSecret) -> bool {
        let Some(random) = told.client_random else { return false };
        let of_random = self.by_random.entry(random).or_default();
        if self.secrets.len() >= MAX_LEARNT || of_random.len() >= MAX_OF_RANDOM {
            return false;
        }
        self.next += 1;
        of_random.push(self.next);
        let kept = Kept { label: told.label, secret: told.secret.clone(), client_random: Some(random), speaker: None };
        self.secrets.insert(self.next, kept);
        true
    }

    fn print(&self, label: SecretLabel, secret: &Secret) -> u64 {
        let mut h = self.salt.hasher();
        h.write_u8(label as u8);
        h.write(secret.bytes());
        h.finish()
    }

    fn is_told(&self, random: &[u8; 32], told: &HandshakeSecret) -> bool {
        let same = |n: &u64| self.secrets.get(n).is_some_and(|k| k.label == told.label && k.secret == told.secret);
        self.by_random.get(random).is_some_and(|all| all.iter().any(same))
    }

    fn keep(&mut self, told: &HandshakeSecret, speaker: Option<Speaker>) {
        if self.order.len() >= MAX_SECRETS {
            self.counts.dropped += 1;
            self.drop_oldest();
        }
        self.next += 1;
        let n = self.next;
        if let Some(random) = told.client_random {
            let of_random = self.by_random.entry(random).or_default();
            if of_random.len() >= MAX_OF_RANDOM {
                self.counts.dropped += 1;
                return;
            }
            of_random.push(n);
        }
        if let Some(speaker) = speaker {
            let of_party = self.by_party.entry(speaker).or_default();
            if of_party.len() >= MAX_TRIED {
                of_party.pop_front();
            }
            of_party.push_back(n);
        }
        if told.client_random.is_none() && speaker.is_none() {
            return;
        }
        let kept = Kept { label: told.label, secret: told.secret.clone(), client_random: told.client_random, speaker };
        self.secrets.insert(n, kept);
        self.order.push_back((told.at, n));
    }

    fn drop_oldest(&mut self) {
        while let Some((_, n)) = self.order.pop_front() {
            if self.secrets.contains_key(&n) {
                self.forget(n);
                return;
            }
        }
    }

    fn forget(&mut self, n: u64) {
        let Some(kept) = self.secrets.remove(&n) else { return };
        if let Some(random) = kept.client_random
            && let Some(of_random) = self.by_random.get_mut(&random)
        {
            of_random.retain(|m| *m != n);
            if of_random.is_empty() {
                self.by_random.remove(&random);
            }
        }
        if let Some(speaker) = kept.speaker {
            self.forget_of(speaker, n);
        }
    }

    fn forget_of(&mut self, speaker: Speaker, n: u64) {
        if let Some(of_party) = self.by_party.get_mut(&speaker) {
            of_party.retain(|m| *m != n);
            if of_party.is_empty() {
                self.by_party.remove(&speaker);
            }
        }
    }

    /// The secrets of a kind that are to be tried on a connection, those first that name it.
    pub fn find(&self, label: SecretLabel, handshake: &Handshake) -> SmallVec<[u64; 4]> {
        let is = |n: &&u64| self.secrets.get(n).is_some_and(|k| k.label == label);
        let mut found: SmallVec<[u64; 4]> =
            self.by_random.get(&handshake.random).into_iter().flatten().filter(is).copied().collect();
        let may_be = |n: &&u64| {
            self.secrets.get(n).is_some_and(|k| {
                k.label == label && k.client_random.is_none_or(|r| handshake.hides_random && r != handshake.random)
            })
        };
        for speaker in &handshake.speakers {
            found.extend(walk(self.by_party.get(speaker).into_iter().flatten()).filter(may_be).copied());
        }
        found
    }

    /// A secret that [`Self::find`] gave.
    pub fn secret(&self, n: u64) -> Option<&Secret> {
        self.secrets.get(&n).map(|k| &k.secret)
    }

    /// This secret has opened something: it is nobody else's.
    pub fn opened(&mut self, label: SecretLabel, secret: &Secret) {
        self.counts.joined += 1;
        let print = self.print(label, secret);
        if self.claimed.insert(print, ()).is_none() {
            self.claimed_order.push_back(print);
            if self.claimed_order.len() > MAX_CLAIMED
                && let Some(oldest) = self.claimed_order.pop_front()
            {
                self.claimed.remove(&oldest);
            }
        }
    }

    /// The same of one that [`Self::find`] gave.
    pub fn claim(&mut self, n: u64) {
        let Some(kept) = self.secrets.get(&n) else { return };
        let (label, secret, speaker) = (kept.label, kept.secret.clone(), kept.speaker);
        self.opened(label, &secret);
        if kept_is_unnamed(self.secrets.get(&n)) {
            self.forget(n);
        } else if let Some(speaker) = speaker {
            self.forget_of(speaker, n);
        }
    }

    /// A connection has begun a handshake.
    pub fn begins(&mut self, id: ConnId, handshake: Handshake) {
        let alike = self.conns_by_random.entry(handshake.random).or_default();
        if alike.len() < MAX_ALIKE && !alike.contains(&id) {
            alike.push(id);
        }
        for speaker in &handshake.speakers {
            let of_party = self.conns_by_party.entry(*speaker).or_default();
            if of_party.len() >= MAX_TRIED {
                of_party.pop_front();
            }
            if !of_party.contains(&id) {
                of_party.push_back(id);
            }
        }
        self.conns.insert(id, handshake);
    }

    /// The connection as it is found by secrets, while it is in its handshake.
    pub fn handshake(&self, id: ConnId) -> Option<&Handshake> {
        self.conns.get(&id)
    }

    /// A connection needs no more secrets, or will not get them.
    pub fn ends(&mut self, id: ConnId) {
        let Some(handshake) = self.conns.remove(&id) else { return };
        if let Some(alike) = self.conns_by_random.get_mut(&handshake.random) {
            alike.retain(|c| *c != id);
            if alike.is_empty() {
                self.conns_by_random.remove(&handshake.random);
            }
        }
        for speaker in &handshake.speakers {
            if let Some(of_party) = self.conns_by_party.get_mut(speaker) {
                of_party.retain(|c| *c != id);
                if of_party.is_empty() {
                    self.conns_by_party.remove(speaker);
                }
            }
        }
    }

    /// Something on this connection waits since `at`.
    pub fn waits(&mut self, id: ConnId, at: Nanos) {
        self.waiting.push_back((at + PATIENCE, id));
    }

    /// The next connection that has waited for too long, if it still does.
    pub fn overdue(&mut self, now: Nanos) -> Option<ConnId> {
        self.waiting.pop_front_if(|(until, _)| *until <= now).map(|(_, id)| id)
    }

    /// Forgets secrets that nobody had use for.
    pub fn age(&mut self, now: Nanos) {
        while let Some((_, n)) = self.order.pop_front_if(|(at, _)| now.since(*at) >= PATIENCE) {
            self.forget(n);
        }
    }
}

fn kept_is_unnamed(kept: Option<&Kept>) -> bool {
    kept.is_some_and(|k| k.client_random.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Speaker = Speaker::Cgroup(CgroupId(7));

    fn told(at: u64, random: Option<u8>, byte: u8) -> HandshakeSecret {
        HandshakeSecret {
            at: Nanos::secs(at),
            cgroup: Some(CgroupId(7)),
            process: None,
            label: SecretLabel::ClientTraffic,
            client_random: random.map(|r| [r; 32]),
            secret: Secret::new(&[byte; 32]).unwrap(),
        }
    }

    fn handshake(random: u8, hides_random: bool) -> Handshake {
        Handshake { random: [random; 32], hides_random, speakers: Speakers::from_elem(P, 1) }
    }

    #[test]
    fn a_random_leads_to_its_connection_and_to_no_other() {
        let mut join = Join::new(Salt(1, 2));
        for n in 1..=3 {
            join.begins(ConnId(n), handshake(n as u8, n == 3));
        }
        assert_eq!(join.tell(&told(1, Some(2), 9), Some(P)).as_slice(), [ConnId(2)]);
        assert_eq!(join.tell(&told(1, Some(2), 9), None).as_slice(), [ConnId(2)], "told twice");
        assert_eq!(join.counts().repeated, 1);
        // No connection showed this random, because its hello is encrypted.
        assert_eq!(join.tell(&told(1, Some(8), 7), Some(P)).as_slice(), [ConnId(3)]);
        // Without, it may be anybody's in that cgroup.
        assert_eq!(join.tell(&told(1, None, 5), Some(P)).len(), 3);
        assert!(join.tell(&told(1, None, 6), None).is_empty());
        assert!(join.tell(&told(1, None, 6), Some(Speaker::Workload(WorkloadId(7)))).is_empty());
    }

    #[test]
    fn what_came_early_is_found_and_what_was_of_use_is_nobody_elses() {
        let mut join = Join::new(Salt(1, 2));
        join.tell(&told(1, Some(2), 9), Some(P));
        join.tell(&told(1, None, 5), Some(P));
        join.tell(&told(1, Some(8), 7), Some(P));
        let bytes = |join: &Join, h: &Handshake| {
            let found = join.find(SecretLabel::ClientTraffic, h);
            found.iter().map(|n| join.secret(*n).unwrap().bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(bytes(&join, &handshake(2, false)), [9, 5]);
        assert_eq!(bytes(&join, &handshake(3, true)), [9, 5, 7]);
        assert!(join.find(SecretLabel::ServerTraffic, &handshake(2, false)).is_empty());
        let n = join.find(SecretLabel::ClientTraffic, &handshake(3, false))[0];
        join.claim(n);
        assert!(join.find(SecretLabel::ClientTraffic, &handshake(3, false)).is_empty());
        assert!(join.tell(&told(2, None, 5), Some(P)).is_empty() && join.counts().repeated == 1, "from the other end");
        join.age(Nanos::secs(3));
        assert_eq!(join.level().0, 2);
        join.age(Nanos::secs(6));
        assert_eq!(join.level().0, 0);
    }

    #[test]
    fn everything_is_bounded_and_given_back() {
        let mut join = Join::new(Salt(1, 2));
        for n in 0..100_000u32 {
            let mut secret = told(1, None, 1);
            secret.client_random = (n % 2 == 0).then(|| {
                let mut random = [0; 32];
                random[..4].copy_from_slice(&n.to_le_bytes());
                random
            });
            secret.secret = Secret::new(&n.to_le_bytes()).unwrap();
            join.tell(&secret, Some(P));
            join.opened(SecretLabel::ClientTraffic, &secret.secret);
            assert!(join.level().0 <= MAX_SECRETS && join.claimed.len() <= MAX_CLAIMED + 1);
        }
        assert!(join.by_party.get(&P).is_some_and(|all| all.len() <= MAX_TRIED));
        for n in 0..1_000 {
            join.begins(ConnId(n), handshake((n % 200) as u8, false));
        }
        for n in 0..1_000 {
            join.ends(ConnId(n));
        }
        join.age(Nanos::secs(100));
        assert!(join.conns.is_empty() && join.conns_by_random.is_empty() && join.conns_by_party.is_empty());
        assert!(join.secrets.is_empty() && join.by_random.is_empty() && join.by_party.is_empty());
    }
}
