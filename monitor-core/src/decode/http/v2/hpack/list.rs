//! The fields of one header block, as far as they are known.

/// Most fields that are kept.
pub(in crate::decode::http::v2) const MAX_FIELDS: usize = 128;
/// Most bytes of their names and values.
pub(in crate::decode::http::v2) const MAX_TEXT: usize = 64 << 10;

/// Fields in their order. One list serves all blocks of a connection.
#[derive(Debug, Default)]
pub(in crate::decode::http::v2) struct Fields {
    text: Vec<u8>,
    /// Where a name begins, where its value does, and where that ends.
    places: Vec<[usize; 3]>,
    partial: bool,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
        self.partial = false;
    }

    pub(super) fn push(&mut self, name: Option<&[u8]>, value: Option<&[u8]>) {
        let (Some(name), Some(value)) = (name, value) else {
            self.partial = true;
            return;
        };
        if self.places.len() >= MAX_FIELDS || self.text.len() + name.len() + value.len() > MAX_TEXT {
            self.partial = true;
            return;
        }
        let at = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.places.push([at, at + name.len(), self.text.len()]);
    }

    /// Some fields are not in the list: they are not known, or there are too many.
    pub(in crate::decode::http::v2) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Names and values.
    pub(in crate::decode::http::v2) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.places
            .iter()
            .filter_map(|[name, value, end]| Some((self.text.get(*name..*value)?, self.text.get(*value..*end)?)))
    }

    /// Bytes held.
    pub(in crate::decode::http::v2) fn memory(&self) -> usize {
        self.text.capacity() + self.places.capacity() * size_of::<[usize; 3]>()
    }
}
