//! Secrets and the records that they open.

use super::direction::{Epoch, first};
use super::hello::Version;
use super::hunt::Hunt;
use super::keys::Key;
use super::{Tls, What};
use crate::model::{Secret, SecretLabel};

/// Most records of one direction, those that have waited longest, on which a secret is tried: before the first one that
/// it opens may stand early data.
const MAX_FIRST: usize = 16;

/// The direction (0: the client's) and epoch that a TLS 1.3 secret is for.
fn place(label: SecretLabel) -> Option<(usize, Epoch)> {
    match label {
        SecretLabel::Master => None,
        SecretLabel::ClientHandshake => Some((0, Epoch::Handshake)),
        SecretLabel::ServerHandshake => Some((1, Epoch::Handshake)),
        SecretLabel::ClientTraffic => Some((0, Epoch::Data)),
        SecretLabel::ServerTraffic => Some((1, Epoch::Data)),
    }
}

/// The directions that a secret is for.
fn roles(label: SecretLabel) -> std::ops::Range<usize> {
    place(label).map_or(0..2, |(role, _)| role..role + 1)
}

impl Tls {
    /// Whether something waits that a secret of this kind may open, and on which those that were told before were not
    /// tried.
    pub fn wants(&self, label: SecretLabel) -> bool {
        let tried = self.tried.get(label as usize).copied().unwrap_or(usize::MAX);
        roles(label).any(|role| {
            self.takes(label, role)
                && match self.hunted(role) {
                    Some(hunt) => !hunt.was_asked(label),
                    None => tried < self.n_waiting_of(role),
                }
        })
    }

    /// No secret of this kind that was told until now opens what waits.
    pub fn none_fits(&mut self, label: SecretLabel) {
        for role in roles(label) {
            if let Some(tried) = self.tried.get(label as usize) {
                let n = self.n_waiting_of(role).max(*tried);
                self.tried.get_mut(label as usize).into_iter().for_each(|tried| *tried = n);
            }
            if self.hunted(role).is_none() {
                continue;
            }
            let others: Vec<SecretLabel> = SecretLabel::ALL
                .into_iter()
                .filter(|l| *l != label && roles(*l).any(|r| r == role) && self.takes(*l, role))
                .collect();
            let Some(hunt) = &mut self.direction(role).hunt else { continue };
            hunt.asks(label);
            if others.iter().all(|l| hunt.was_asked(*l)) {
                // No record begins there, or nobody will tell its secret: on to the next place.
                hunt.pass();
            }
        }
    }

    /// How many records of a direction wait, as far as secrets are tried on them.
    fn n_waiting_of(&self, role: usize) -> usize {
        self.waiting.iter().filter(|w| w.came.role == role).take(MAX_FIRST).count()
    }

    /// What is looked at behind a hole, where a secret may help.
    fn hunted(&self, role: usize) -> Option<&Hunt> {
        let direction = self.directions.get(role).filter(|d| d.may_turn())?;
        direction.hunt.as_ref().filter(|hunt| hunt.next().is_some())
    }

    /// Whether a secret of this kind may be of use for a direction.
    fn takes(&self, label: SecretLabel, role: usize) -> bool {
        let Some(direction) = self.directions.get(role) else { return false };
        let lacks = direction.key.is_none();
        match (self.version(), place(label)) {
            (Some(Version::Tls12), None) => lacks,
            (Some(Version::Tls13), Some((of, epoch))) => {
                let now = direction.epoch;
                // Without the handshake's secret, the session's opens what comes behind it; and behind a hole it may.
                of == role
                    && (Epoch::Handshake..=epoch).contains(&now)
                    && (lacks || epoch > now && self.hunted(role).is_some())
            }
            _ => false,
        }
    }

    /// Tries a secret on what waits. `true`: it opens it, beyond doubt; [`Self::advance`] then does. `is_new`: it was not
    /// tried before on anything that waits.
    pub fn offer(&mut self, label: SecretLabel, secret: &Secret, is_new: bool) -> bool {
        let skip = if is_new { 0 } else { self.tried.get(label as usize).copied().unwrap_or(0) };
        let fits = self.fits(label, secret, skip);
        if fits {
            self.tried = [0; 5];
        }
        fits
    }

    fn fits(&mut self, label: SecretLabel, secret: &Secret, skip: usize) -> bool {
        let Some((suite, version)) = self.suite.filter(|_| roles(label).any(|role| self.takes(label, role))) else {
            return false;
        };
        match (version, place(label)) {
            (Version::Tls12, None) => {
                let Some(client_random) = self.random() else { return false };
                let Some(keys) = suite.session(secret, client_random, &self.server_random) else { return false };
                let fits = (0..2).zip(&keys).any(|(role, key)| self.opens(role, key, 0).is_some());
                if fits {
                    for (direction, key) in self.directions.iter_mut().zip(keys) {
                        direction.key = Some(key);
                    }
                }
                fits
            }
            (Version::Tls13, Some((role, epoch))) => {
                let Some(key) = suite.traffic(secret) else { return false };
                let Some((before, seq)) = self.opens(role, &key, skip) else { return false };
                let stand_before = self.waiting.iter_mut().filter(|w| w.came.role == role).take(before);
                for w in stand_before {
                    w.what = match std::mem::replace(&mut w.what, What::Passed) {
                        What::Record(body) => {
                            self.n_waiting = self.n_waiting.saturating_sub(body.len());
                            What::Passed
                        }
                        What::Damaged(missing) => What::Lost(missing),
                        other => other,
                    };
                }
                let direction = self.direction(role);
                direction.turn(epoch, Some(key), Some(secret.clone()));
                direction.found(seq, false);
                true
            }
            _ => false,
        }
    }

    /// The first of the records of a direction that wait, the first `skip` left out, which `key` opens: how many stand
    /// before it, and its number.
    fn opens(&self, role: usize, key: &Key, skip: usize) -> Option<(usize, u64)> {
        let mut most = self.directions.get(role)?.most_lost();
        let mut body = Vec::new();
        if let Some((hunt, (at, header))) = self.hunted(role).and_then(|hunt| hunt.next().map(|next| (hunt, next))) {
            let sealed = hunt.body(at, &header)?;
            body.resize(sealed.len(), 0);
            return first(key, 0..=most, &header, sealed, &mut body).map(|(seq, _)| (0, seq));
        }
        for (before, w) in self.waiting.iter().filter(|w| w.came.role == role).take(MAX_FIRST).enumerate() {
            match &w.what {
                What::Damaged(_) => most += 1,
                What::Lost(_) | What::Passed => {}
                What::Record(_) if before < skip => {}
                What::Record(sealed) => {
                    body.resize(sealed.len(), 0);
                    if let Some((seq, _)) = first(key, 0..=most, &w.header, sealed, &mut body) {
                        return Some((before, seq));
                    }
                }
            }
        }
        None
    }
}
