//! Reads numbers and strings from the front of some bytes. Every wire format is read through this one cursor.

/// What is left to read. Every method takes from the front, or gives `None` when there is too little; numbers are in
/// network order (the highest byte first) unless the method says otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// Why a number of variable length was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Long {
    /// The bytes end inside it.
    Short,
    /// It goes on beyond the most bytes that it may have.
    Over,
}

impl<'a> Reader<'a> {
    /// At the front of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Bytes that are not read yet.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of it is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Two bytes, the lowest first.
    pub(crate) fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, the lowest first.
    pub(crate) fn u32_le(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, the lowest first.
    pub(crate) fn u64_le(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// One byte with a sign.
    pub(crate) fn i8(&mut self) -> Option<i8> {
        self.array().map(i8::from_be_bytes)
    }

    /// Two bytes with a sign.
    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// Four bytes with a sign.
    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes with a sign.
    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Seven bits to the byte, the lowest first, in at most `most` bytes (LEB128).
    pub(crate) fn leb128(&mut self, most: u32) -> Result<u64, Long> {
        let mut value = 0;
        for place in 0..most {
            let byte = self.u8().ok_or(Long::Short)?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Long::Over)
    }

    /// Bytes behind their number in one byte.
    pub(crate) fn u8_bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u8()?;
        self.take(usize::from(n))
    }

    /// Bytes behind their number in two bytes.
    pub(crate) fn u16_bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u16()?;
        self.take(usize::from(n))
    }

    /// Bytes behind their number in four bytes.
    pub(crate) fn u32_bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()?;
        self.take(usize::try_from(n).ok()?)
    }

    /// Bytes up to a zero, which is passed over.
    pub(crate) fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let taken = self.take(end)?;
        self.take(1)?;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_in_order_and_nothing_beyond_the_end() {
        let bytes = b"\x01\x02\x03\xff\xff\xff\xfe\x02hi\x00\x01x\x00\x00\x00\x01ytext\x00rest";
        let mut r = Reader::new(bytes);
        assert_eq!((r.u8(), r.u16(), r.i32()), (Some(1), Some(0x0203), Some(-2)));
        assert_eq!((r.u8_bytes(), r.u16_bytes(), r.u32_bytes()), (Some(&b"hi"[..]), Some(&b"x"[..]), Some(&b"y"[..])));
        assert_eq!((r.cstr(), r.take(2)), (Some(&b"text"[..]), Some(&b"re"[..])));
        assert_eq!((r.rest(), r.len(), r.u32(), r.take(3), r.cstr()), (&b"st"[..], 2, None, None, None));
        assert_eq!((r.i16(), r.is_empty(), r.u8()), (Some(0x7374), true, None));
        assert_eq!(Reader::new(&[0x80; 8]).i64(), Some(i64::from_be_bytes([0x80; 8])));
        assert_eq!(Reader::new(&[0xff; 8]).u64(), Some(u64::MAX));
        assert_eq!(Reader::new(&[0xff]).i8(), Some(-1));
        let mut low = Reader::new(b"\x01\x02\x01\x02\x03\x04\x01\x00\x00\x00\x00\x00\x00\x80\x01");
        assert_eq!((low.u16_le(), low.u32_le()), (Some(0x0201), Some(0x0403_0201)));
        assert_eq!((low.u64_le(), low.u16_le()), (Some(0x8000_0000_0000_0001), None));
    }

    #[test]
    fn numbers_of_variable_length_are_short_or_too_long() {
        let read = |bytes, most| Reader::new(bytes).leb128(most);
        assert_eq!((read(b"\x00", 4), read(b"\x7f", 4), read(b"\x80\x01", 4)), (Ok(0), Ok(127), Ok(128)));
        assert_eq!(read(b"\xff\xff\xff\x7f", 4), Ok(268_435_455));
        assert_eq!((read(b"\x80", 4), read(b"\x80\x80\x80\x80\x01", 4)), (Err(Long::Short), Err(Long::Over)));
        assert_eq!(read(&[0xff; 11], 10), Err(Long::Over));
    }
}
