//! Handshake messages (RFC 8446 §4), which may share records and go over several. Most are only counted off.

/// Longest message that is kept: hellos with post-quantum shares have about 1.8 KiB.
const MAX_KEPT: usize = 16 << 10;

/// What a message is, as far as anybody here cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ClientHello,
    ServerHello,
    EncryptedExtensions,
    Finished,
    KeyUpdate,
    Other,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            1 => Self::ClientHello,
            2 => Self::ServerHello,
            8 => Self::EncryptedExtensions,
            20 => Self::Finished,
            24 => Self::KeyUpdate,
            _ => Self::Other,
        }
    }

    fn is_kept(self) -> bool {
        matches!(self, Self::ClientHello | Self::ServerHello | Self::EncryptedExtensions)
    }
}

/// The messages of one direction.
#[derive(Debug, Default)]
pub(super) struct Messages {
    head: Vec<u8>,
    /// Bytes of the current message's body that have not come.
    left: usize,
    /// The current message's body, where it is kept.
    body: Vec<u8>,
    /// What came before is not known: nothing is a message's beginning for sure.
    astray: bool,
}

impl Messages {
    /// Takes the next message that ends in `input` off it. `None`: `input` is used up. The body is given of those that
    /// are kept, unless they are too long.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<(Kind, Vec<u8>)> {
        if self.astray {
            *input = &[];
        }
        while !input.is_empty() {
            if self.head.len() < 4 {
                let (head, rest) = input.split_at_checked(4 - self.head.len()).unwrap_or((input, &[]));
                self.head.extend_from_slice(head);
                *input = rest;
                let [_, a, b, c] = self.head.as_slice() else { return None };
                self.left = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                self.body.clear();
            }
            let kind = self.head.first().map_or(Kind::Other, |b| Kind::of(*b));
            let (now, rest) = input.split_at_checked(self.left).unwrap_or((input, &[]));
            *input = rest;
            self.left -= now.len();
            if kind.is_kept() && self.body.len() + now.len() <= MAX_KEPT {
                self.body.extend_from_slice(now);
            }
            if self.left == 0 {
                self.head.clear();
                return Some((kind, std::mem::take(&mut self.body)));
            }
        }
        None
    }

    /// Something is missing.
    pub(super) fn lose(&mut self) {
        *self = Self { astray: true, ..Self::default() };
    }

    pub(super) fn is_astray(&self) -> bool {
        self.astray
    }

    pub(super) fn memory(&self) -> usize {
        self.head.capacity() + self.body.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let all = b"\x01\0\0\x02ab\x0b\0\0\x03xyz\x14\0\0\0\x18\0\0\x01\0";
        let want = [
            (Kind::ClientHello, b"ab".to_vec()),
            (Kind::Other, vec![]),
            (Kind::Finished, vec![]),
            (Kind::KeyUpdate, vec![]),
        ];
        for cut in 0..all.len() {
            let (mut messages, mut found) = (Messages::default(), Vec::new());
            for mut piece in [&all[..cut], &all[cut..]] {
                while let Some(message) = messages.next(&mut piece) {
                    found.push(message);
                }
            }
            assert_eq!(found, want, "cut at {cut}");
        }
        let mut messages = Messages::default();
        messages.lose();
        assert_eq!(messages.next(&mut &all[..]), None);
    }

    #[test]
    fn a_message_too_long_is_not_kept() {
        let mut messages = Messages::default();
        let mut head = &b"\x01\x01\0\0"[..];
        assert_eq!(messages.next(&mut head), None);
        for _ in 0..63 {
            assert_eq!(messages.next(&mut &[7; 1024][..]), None);
            assert!(messages.memory() <= 2 * MAX_KEPT);
        }
        let (kind, body) = messages.next(&mut &[7; 1024][..]).unwrap();
        assert!(kind == Kind::ClientHello && body.len() < 65_536);
    }
}
