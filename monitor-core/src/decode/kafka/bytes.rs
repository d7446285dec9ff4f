//! Numbers, strings and arrays as Kafka writes them (Apache Kafka, "Protocol Primitive Types"; KIP-482 for the compact
//! ones).

use crate::decode::DecodeError;
use crate::decode::wire::{Long, Reader};

/// Why reading has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes so far end here.
    Short,
    /// They cannot be that.
    Bad(DecodeError),
}

/// What reading gives.
pub(super) type Read<T> = Result<T, Stop>;

/// A topic, as a request or response names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// By its name.
    Name(&'a [u8]),
    /// By its id.
    Id([u8; 16]),
}

/// Reads Kafka's values from the front of some bytes, and knows how far it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    reader: Reader<'a>,
    all: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), all: bytes.len() }
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> usize {
        self.all - self.reader.len()
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    pub(super) fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        self.reader.take(n).ok_or(Stop::Short)
    }

    pub(super) fn i8(&mut self) -> Read<i8> {
        self.reader.i8().ok_or(Stop::Short)
    }

    pub(super) fn i16(&mut self) -> Read<i16> {
        self.reader.i16().ok_or(Stop::Short)
    }

    pub(super) fn i32(&mut self) -> Read<i32> {
        self.reader.i32().ok_or(Stop::Short)
    }

    pub(super) fn i64(&mut self) -> Read<i64> {
        self.reader.i64().ok_or(Stop::Short)
    }

    pub(super) fn uuid(&mut self) -> Read<[u8; 16]> {
        self.reader.array().ok_or(Stop::Short)
    }

    /// Seven bits to the byte, the lowest first.
    pub(super) fn unsigned(&mut self) -> Read<u64> {
        self.reader.leb128(10).map_err(|why| match why {
            Long::Short => Stop::Short,
            Long::Over => Stop::Bad(DecodeError::LongNumber),
        })
    }

    /// The same with the sign in the lowest bit.
    pub(super) fn signed(&mut self) -> Read<i64> {
        let n = self.unsigned()?;
        Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
    }

    /// A length of which -1 says that there is nothing (`None`), of `bytes` and arrays, compact or not.
    pub(super) fn length(&mut self, compact: bool) -> Read<Option<usize>> {
        let n = if compact {
            match self.unsigned()?.checked_sub(1) {
                None => return Ok(None),
                Some(n) => i64::try_from(n).map_err(|_| Stop::Bad(DecodeError::Length))?,
            }
        } else {
            i64::from(self.i32()?)
        };
        length(n)
    }

    /// The number of an array's elements.
    pub(super) fn count(&mut self, compact: bool) -> Read<usize> {
        self.length(compact).map(Option::unwrap_or_default)
    }

    /// A string, `None` if it says that there is none.
    pub(super) fn string(&mut self, compact: bool) -> Read<Option<&'a [u8]>> {
        let n = if compact { self.length(true)? } else { length(i64::from(self.i16()?))? };
        n.map(|n| self.take(n)).transpose()
    }

    /// Bytes, none as empty.
    pub(super) fn bytes(&mut self, compact: bool) -> Read<&'a [u8]> {
        match self.length(compact)? {
            Some(n) => self.take(n),
            None => Ok(&[]),
        }
    }

    /// Bytes behind a length as records have it.
    pub(super) fn record_bytes(&mut self) -> Read<Option<&'a [u8]>> {
        let n = self.signed()?;
        length(n)?.map(|n| self.take(n)).transpose()
    }

    /// A topic by its name or, in `ids`, by its id.
    pub(super) fn topic(&mut self, ids: bool, compact: bool) -> Read<Named<'a>> {
        if ids {
            return self.uuid().map(Named::Id);
        }
        Ok(Named::Name(self.string(compact)?.unwrap_or_default()))
    }

    /// Passes over tagged fields, which `compact` layouts have at the end of every structure.
    pub(super) fn tags(&mut self, compact: bool) -> Read<()> {
        if compact {
            for _ in 0..self.unsigned()? {
                self.unsigned()?;
                let n = self.unsigned()?;
                self.take(usize::try_from(n).map_err(|_| Stop::Bad(DecodeError::Length))?)?;
            }
        }
        Ok(())
    }
}

fn length(n: i64) -> Read<Option<usize>> {
    match n {
        -1 => Ok(None),
        n => usize::try_from(n).map(Some).map_err(|_| Stop::Bad(DecodeError::Length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let signed = |bytes: &[u8]| Cursor::new(bytes).signed();
        assert_eq!((signed(&[0]), signed(&[1]), signed(&[2]), signed(&[0xac, 2])), (Ok(0), Ok(-1), Ok(1), Ok(150)));
        assert_eq!(signed(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(i64::MIN));
        assert_eq!(signed(&[0x80]), Err(Stop::Short));
        assert_eq!(signed(&[0x80; 11]), Err(Stop::Bad(DecodeError::LongNumber)));
    }

    #[test]
    fn strings_have_two_layouts() {
        assert_eq!(Cursor::new(b"\0\x02ab").string(false), Ok(Some(&b"ab"[..])));
        assert_eq!(Cursor::new(b"\x03ab").string(true), Ok(Some(&b"ab"[..])));
        assert_eq!(Cursor::new(b"\0").string(true), Ok(None));
        assert_eq!(Cursor::new(b"\xff\xff").string(false), Ok(None));
        assert_eq!(Cursor::new(b"\xff\xfe").string(false), Err(Stop::Bad(DecodeError::Length)));
        assert_eq!(Cursor::new(b"\0\x03ab").string(false), Err(Stop::Short));
    }

    #[test]
    fn tagged_fields_are_passed_over() {
        let mut c = Cursor::new(b"\x02\0\x01a\x05\0rest");
        assert_eq!(c.tags(true), Ok(()));
        assert_eq!(c.rest(), b"rest");
        assert_eq!(Cursor::new(b"\x01\0\x09a").tags(true), Err(Stop::Short));
    }
}
