//! What each value of a reply is, by where it stands.

use super::{Expects, Role, Taking};

impl Taking {
    /// What the value is that begins at this depth below the base.
    pub(super) fn role(&self, depth: usize) -> Role {
        let Some(expects) = &self.expects else { return Role::Skip };
        match (expects, depth) {
            (Expects::EntryId(_) | Expects::JobId(_), 0) => Role::Id,
            (Expects::Elements { .. }, 0 | 1) | (Expects::Body { .. }, 0) => Role::Content,
            (Expects::Named, 1) if self.at(1) == 0 => Role::Key,
            (Expects::Named, 1 | 2) if self.at(1) == 1 => Role::Content,
            (Expects::Streams { .. }, _) => {
                // An array of pairs, or a map: the same one level less deep.
                let deep = usize::from(!self.map);
                let part = if self.map { self.at(1) % 2 } else { self.at(2) };
                match depth.checked_sub(deep) {
                    Some(1) if part == 0 => Role::Key,
                    Some(3) if part == 1 && self.at(deep + 3) == 0 => Role::Id,
                    Some(4) if part == 1 => self.field(deep + 4),
                    _ => Role::Skip,
                }
            }
            (Expects::Claimed { auto, .. }, _) => {
                let deep = usize::from(*auto);
                if *auto && self.at(1) != 1 {
                    return Role::Skip;
                }
                match depth.checked_sub(deep) {
                    Some(2) if self.at(deep + 2) == 0 => Role::Id,
                    Some(3) => self.field(deep + 3),
                    _ => Role::Skip,
                }
            }
            (Expects::Message, 1) => match (self.at(1), self.word) {
                (0, _) => Role::Word,
                (1, "message" | "smessage") | (2, "pmessage") => Role::Key,
                (2, "message" | "smessage") | (3, "pmessage") => Role::Content,
                _ => Role::Skip,
            },
            (Expects::Job(_), 1) if self.at(1) == 1 => Role::Id,
            (Expects::Job(_), 2) if self.at(1) == 0 => {
                if self.at(2).is_multiple_of(2) {
                    Role::JobName
                } else {
                    Role::JobValue
                }
            }
            _ => Role::Skip,
        }
    }

    fn field(&self, depth: usize) -> Role {
        if self.at(depth).is_multiple_of(2) { Role::Name } else { Role::Value }
    }
}
