//! From secrets to keys, and records opened with them. All cryptography is `ring`'s.

use std::ops::Range;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use ring::hkdf::{self, HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use ring::hmac::{self, HMAC_SHA256, HMAC_SHA384};
use zeroize::Zeroizing;

use super::hello::Version;
use super::record::Header;
use crate::model::Secret;

/// Bytes of the nonce that TLS 1.2 sends with each record of AES-GCM (RFC 5288 §3).
const EXPLICIT: usize = 8;
/// Bytes of the tag of every algorithm here.
const TAG: usize = 16;
/// Bytes of a master secret (RFC 5246 §8.1).
const MASTER: usize = 48;

/// What a cipher suite uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    cipher: Cipher,
    hash: Hash,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
}

impl Suite {
    /// What IANA's number stands for. `None`: with CBC, CCM or something else that is not read here.
    pub(super) fn of(number: u16, version: Version) -> Option<Self> {
        use Cipher::{Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
        use Hash::{Sha256, Sha384};
        let (cipher, hash) = match (version, number) {
            (Version::Tls13, 0x1301) => (Aes128Gcm, Sha256),
            (Version::Tls13, 0x1302) => (Aes256Gcm, Sha384),
            (Version::Tls13, 0x1303) => (ChaCha20Poly1305, Sha256),
            // RFC 5288 and 5487: even numbers are AES-128, odd ones AES-256.
            (Version::Tls12, 0x009c..=0x00ad) if number.is_multiple_of(2) => (Aes128Gcm, Sha256),
            (Version::Tls12, 0x009c..=0x00ad) => (Aes256Gcm, Sha384),
            // RFC 5289: the other way round. RFC 8442.
            (Version::Tls12, 0xc02b | 0xc02d | 0xc02f | 0xc031 | 0xd001) => (Aes128Gcm, Sha256),
            (Version::Tls12, 0xc02c | 0xc02e | 0xc030 | 0xc032 | 0xd002) => (Aes256Gcm, Sha384),
            // RFC 7905.
            (Version::Tls12, 0xcca8..=0xccae) => (ChaCha20Poly1305, Sha256),
            _ => return None,
        };
        Some(Self { cipher, hash, version })
    }

    fn algorithm(self) -> &'static Algorithm {
        match self.cipher {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self.hash {
            Hash::Sha256 => HKDF_SHA256,
            Hash::Sha384 => HKDF_SHA384,
        }
    }

    fn secret_len(self) -> usize {
        match self.hash {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
        }
    }

    /// The keys of a TLS 1.3 traffic secret (RFC 8446 §7.3).
    pub(super) fn traffic(self, secret: &Secret) -> Option<Key> {
        let prk = self.prk(secret)?;
        let mut key = Zeroizing::new([0; 32]);
        let key = key.get_mut(..self.algorithm().key_len())?;
        expand_label(&prk, b"key", key)?;
        let mut iv = [0; NONCE_LEN];
        expand_label(&prk, b"iv", &mut iv)?;
        Key::new(self, key, iv)
    }

    /// The traffic secret that follows upon this one (RFC 8446 §7.2).
    pub(super) fn update(self, secret: &Secret) -> Option<Secret> {
        let mut next = Zeroizing::new([0; MASTER]);
        let next = next.get_mut(..self.secret_len())?;
        expand_label(&self.prk(secret)?, b"traffic upd", next)?;
        Secret::new(next)
    }

    fn prk(self, secret: &Secret) -> Option<Prk> {
        (secret.bytes().len() == self.secret_len()).then(|| Prk::new_less_safe(self.hkdf(), secret.bytes()))
    }

    /// The keys of a TLS 1.2 session (RFC 5246 §6.3): the client's, the server's.
    pub(super) fn session(self, master: &Secret, client: &[u8; 32], server: &[u8; 32]) -> Option<[Key; 2]> {
        if master.bytes().len() != MASTER {
            return None;
        }
        let key_len = self.algorithm().key_len();
        let iv_len = if self.is_explicit() { NONCE_LEN - EXPLICIT } else { NONCE_LEN };
        let mut block = Zeroizing::new([0; 2 * (32 + NONCE_LEN)]);
        self.prf(master.bytes(), &[b"key expansion", server, client], block.as_mut_slice());
        let (client_key, rest) = block.split_at_checked(key_len)?;
        let (server_key, rest) = rest.split_at_checked(key_len)?;
        let (client_iv, rest) = rest.split_at_checked(iv_len)?;
        let server_iv = rest.get(..iv_len)?;
        let iv = |part: &[u8]| {
            let mut iv = [0; NONCE_LEN];
            iv.get_mut(..iv_len)?.copy_from_slice(part);
            Some(iv)
        };
        Some([Key::new(self, client_key, iv(client_iv)?)?, Key::new(self, server_key, iv(server_iv)?)?])
    }

    /// The pseudo-random function of TLS 1.2 (RFC 5246 §5); `seed` begins with the label.
    fn prf(self, secret: &[u8], seed: &[&[u8]], out: &mut [u8]) {
        let algorithm = match self.hash {
            Hash::Sha256 => HMAC_SHA256,
            Hash::Sha384 => HMAC_SHA384,
        };
        let key = hmac::Key::new(algorithm, secret);
        let sign = |first: &[u8], seed: &[&[u8]]| {
            let mut mac = hmac::Context::with_key(&key);
            mac.update(first);
            seed.iter().for_each(|part| mac.update(part));
            mac.sign()
        };
        let mut a = sign(&[], seed);
        for chunk in out.chunks_mut(self.secret_len()) {
            let block = sign(a.as_ref(), seed);
            chunk.iter_mut().zip(block.as_ref()).for_each(|(to, from)| *to = *from);
            a = sign(a.as_ref(), &[]);
        }
    }

    /// Whether part of each nonce stands before each record.
    fn is_explicit(self) -> bool {
        self.version == Version::Tls12 && self.cipher != Cipher::ChaCha20Poly1305
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
fn expand_label(prk: &Prk, label: &[u8], out: &mut [u8]) -> Option<()> {
    let len = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_len = [u8::try_from(label.len() + 6).ok()?];
    let info: [&[u8]; 5] = [&len, &label_len, b"tls13 ", label, &[0]];
    prk.expand(&info, Len(out.len())).ok()?.fill(out).ok()
}

/// What opens the records of one direction, until its keys change.
pub(super) struct Key {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    suite: Suite,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl Key {
    fn new(suite: Suite, key: &[u8], iv: [u8; NONCE_LEN]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(suite.algorithm(), key).ok()?);
        Some(Self { key, iv, suite })
    }

    /// Opens the `seq`th record in place, and gives where in `body` it now stands in clear. `None`: the tag does not fit;
    /// what is in `body` then is of no use.
    pub(super) fn open(&self, seq: u64, header: &Header, body: &mut [u8]) -> Option<Range<usize>> {
        let sealed_len = body.len();
        let mut nonce = self.iv;
        let skip = if self.suite.is_explicit() {
            let (_, explicit) = nonce.split_last_chunk_mut::<EXPLICIT>()?;
            explicit.copy_from_slice(body.get(..EXPLICIT)?);
            EXPLICIT
        } else {
            // RFC 8446 §5.3, RFC 7905 §2.
            let (_, counter) = nonce.split_last_chunk_mut::<8>()?;
            counter.iter_mut().zip(seq.to_be_bytes()).for_each(|(to, from)| *to ^= from);
            0
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = body.get_mut(skip..)?;
        if self.suite.version == Version::Tls13 {
            let plain_len = self.key.open_in_place(nonce, Aad::from(header.bytes), sealed).ok()?.len();
            return Some(0..plain_len);
        }
        // RFC 5246 §6.2.3.3.
        let plain_len = u16::try_from(sealed_len.checked_sub(skip + TAG)?).ok()?;
        let mut aad = [0; 13];
        let (number, rest) = aad.split_first_chunk_mut::<8>()?;
        *number = seq.to_be_bytes();
        let [content, major, minor, ..] = header.bytes;
        let [high, low] = plain_len.to_be_bytes();
        rest.copy_from_slice(&[content, major, minor, high, low]);
        let plain_len = self.key.open_in_place(nonce, Aad::from(aad), sealed).ok()?.len();
        Some(skip..skip + plain_len)
    }

    /// How many bytes are in a record that could not be opened. `None`: it may be any number.
    pub(super) fn plain_len(&self, header: &Header) -> Option<u64> {
        let around = if self.suite.is_explicit() { EXPLICIT + TAG } else { TAG };
        let len = header.len().checked_sub(around)?;
        // TLS 1.3 pads, and says inside what a record is.
        (self.suite.version == Version::Tls12).then_some(len as u64)
    }

    /// Seals what [`Self::open`] opens.
    #[cfg(test)]
    pub(super) fn seal(&self, seq: u64, content: u8, plain: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        let mut body = plain.to_vec();
        let explicit = self.suite.is_explicit();
        let around = TAG + if explicit { EXPLICIT } else { 0 };
        let is_new = self.suite.version == Version::Tls13;
        if is_new {
            body.push(content);
        }
        let len = u16::try_from(body.len() + around).unwrap().to_be_bytes();
        let outer = if is_new { 23 } else { content };
        let header = [outer, 3, 3, len[0], len[1]];
        for (to, from) in nonce[4..].iter_mut().zip(seq.to_be_bytes()) {
            *to = if explicit { from } else { *to ^ from };
        }
        let n = u16::try_from(plain.len()).unwrap().to_be_bytes();
        let aad = [&seq.to_be_bytes()[..], &[content, 3, 3], &n].concat();
        let aad = if is_new { header.to_vec() } else { aad };
        let front = if explicit { nonce[4..].to_vec() } else { Vec::new() };
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body).unwrap();
        [&header[..], &front, &body].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    fn secret(text: &str) -> Secret {
        Secret::new(&hex(text)).unwrap()
    }

    #[test]
    fn keys_are_those_of_rfc_8448() {
        // §3: client_handshake_traffic_secret, and the record that it seals (the client's Finished).
        let suite = Suite::of(0x1301, Version::Tls13).unwrap();
        let handshake = secret("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21");
        let record = hex(
            "1703030035 75ec4dc238cce60b298044a71e219c56cc77b0517fe9b93c7a4bfc44d87f38f80338ac98fc46deb384bd1caeacab6867d7
             26c40546",
        );
        let (head, body) = record.split_first_chunk::<5>().unwrap();
        let header = Header::read(*head).unwrap();
        let mut body = body.to_vec();
        let plain = suite.traffic(&handshake).unwrap().open(0, &header, &mut body).unwrap();
        let plain = &body[plain];
        assert_eq!(plain[..6], *hex("140000 20a8ec"));
        assert_eq!(plain.last(), Some(&22));
        // A secret of another hash's length is none.
        assert!(Suite::of(0x1302, Version::Tls13).unwrap().traffic(&handshake).is_none());
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let (client, server) = ([1; 32], [2; 32]);
        for number in [0x1301, 0x1302, 0x1303, 0x009c, 0x009d, 0xc02f, 0xc030, 0xcca8] {
            let version = if number < 0x1400 && number > 0x1300 { Version::Tls13 } else { Version::Tls12 };
            let suite = Suite::of(number, version).unwrap();
            let key = match version {
                Version::Tls13 => suite.traffic(&Secret::new(&vec![7; suite.secret_len()]).unwrap()).unwrap(),
                Version::Tls12 => {
                    let [key, _] = suite.session(&Secret::new(&[7; 48]).unwrap(), &client, &server).unwrap();
                    key
                }
            };
            let record = key.seal(3, 23, b"hello");
            let (head, body) = record.split_first_chunk::<5>().unwrap();
            let header = Header::read(*head).unwrap();
            let open = |seq, header: &Header, body: &[u8]| {
                let mut body = body.to_vec();
                key.open(seq, header, &mut body).map(|plain| body[plain].to_vec())
            };
            let plain = open(3, &header, body).unwrap();
            assert!(plain.starts_with(b"hello"), "{number:x}");
            assert_eq!(open(4, &header, body), None, "{number:x}: another number");
            for at in 0..body.len() {
                let mut bad = body.to_vec();
                bad[at] ^= 1;
                assert_eq!(open(3, &header, &bad), None, "{number:x}: byte {at}");
                assert_eq!(open(3, &header, &body[..at]), None, "{number:x}: {at} bytes");
            }
            if version == Version::Tls12 {
                assert_eq!(key.plain_len(&header), Some(5));
            }
        }
    }

    #[test]
    fn suites_are_told_apart_by_version() {
        assert!(Suite::of(0x1301, Version::Tls12).is_none());
        assert!(Suite::of(0xc02f, Version::Tls13).is_none());
        for cbc_or_ccm in [0xc013, 0xc014, 0x002f, 0x0035, 0xc027, 0xc09c, 0xc0ac, 0x1304] {
            assert!(Suite::of(cbc_or_ccm, Version::Tls12).is_none(), "{cbc_or_ccm:x}");
            assert!(Suite::of(cbc_or_ccm, Version::Tls13).is_none(), "{cbc_or_ccm:x}");
        }
    }
}
