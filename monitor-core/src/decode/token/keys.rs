//! Keys that tokens are verified with: JWKS documents (RFC 7517) and public keys in PEM.
//!
//! A key's own type decides which algorithms it may verify; what a token's header says only chooses among these. So an
//! RSA key is never taken for the secret of an HMAC, whatever a token claims.

use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::value::RawValue;
use spki::der::asn1::UintRef;
use spki::der::{Decode, Document, Reader, SliceReader};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::base64url;

/// Most keys that are kept.
const MAX_KEYS: usize = 256;
/// Most keys tried on one token.
const MAX_TRIED: usize = 8;
/// RFC 7518 §3.3 asks for at least 2048 bits; more than 4096 are not supported by the verifying code.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Something wrong with a document of keys. Says nothing of any value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// Which document of [`TokenPolicy::keys`](crate::model::token::TokenPolicy::keys).
    pub document: usize,
    /// Line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
    /// A shared secret.
    Secret,
}

impl Kind {
    /// Whether tokens of this algorithm can be verified with such a key.
    fn verifies(self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        matches!(
            (self, algorithm),
            (Self::Rsa, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
                | (Self::P256, ES256)
                | (Self::P384, ES384)
                | (Self::Ed25519, EdDSA)
                | (Self::Secret, HS256 | HS384 | HS512)
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rsa => "an RSA key",
            Self::P256 => "a P-256 key",
            Self::P384 => "a P-384 key",
            Self::Ed25519 => "an Ed25519 key",
            Self::Secret => "a shared secret",
        }
    }
}

struct Key {
    id: Option<String>,
    kind: Kind,
    /// The only algorithm that it is meant for.
    only: Option<Algorithm>,
    key: DecodingKey,
}

/// What became of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    Good,
    /// No key could be the one.
    NoKey,
    Bad,
}

/// All configured keys.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// Reads documents. What is wrong in one does not touch the rest.
    pub(super) fn read(documents: &[String]) -> (Self, Vec<KeyProblem>) {
        let (mut keys, mut problems) = (Self::default(), Vec::new());
        for (document, text) in documents.iter().enumerate() {
            let mut problem = |line, message| problems.push(KeyProblem { document, line, message });
            let before = keys.0.len();
            let told =
                if text.contains("-----BEGIN ") { keys.pem(text, &mut problem) } else { keys.jwks(text, &mut problem) };
            if told == 0 && keys.0.len() == before {
                problem(1, "no key in it can verify tokens".to_owned());
            }
            if keys.0.len() > MAX_KEYS {
                problem(1, format!("more than {MAX_KEYS} keys in all"));
                keys.0.truncate(MAX_KEYS);
            }
        }
        (keys, problems)
    }

    /// Reads a JWKS, or a single JWK. Gives how many problems it told.
    fn jwks(&mut self, text: &str, problem: &mut dyn FnMut(u64, String)) -> usize {
        #[derive(Deserialize)]
        struct Set<'t> {
            #[serde(borrow)]
            keys: Vec<&'t RawValue>,
        }
        let whole = match serde_json::from_str::<&RawValue>(text) {
            Ok(whole) => whole,
            Err(error) => {
                // A syntax error names no value.
                problem(error.line() as u64, format!("it is neither a JWKS document nor PEM: {error}"));
                return 1;
            }
        };
        let all = match serde_json::from_str::<Set<'_>>(text) {
            Ok(set) => set.keys,
            Err(_) if serde_json::from_str::<Jwk>(text).is_ok() => vec![whole],
            Err(_) => {
                problem(1, "it is JSON, but no JWKS document: expected an object with a list `keys`".to_owned());
                return 1;
            }
        };
        let mut told = 0;
        for (i, raw) in all.into_iter().enumerate() {
            match jwk(raw.get()) {
                Ok(key) => self.0.extend(key),
                Err(message) => {
                    problem(line_of(text, raw.get()), format!("keys[{i}]: {message}"));
                    told += 1;
                }
            }
        }
        told
    }

    /// Reads PEM blocks. Gives how many problems it told.
    fn pem(&mut self, text: &str, problem: &mut dyn FnMut(u64, String)) -> usize {
        let mut told = 0;
        let starts: Vec<usize> = text.match_indices("-----BEGIN ").map(|(at, _)| at).collect();
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(text.len());
            let block = text.get(start..end).unwrap_or_default();
            // What stands after the block (a comment) is nobody's.
            let block = match block.match_indices("-----").nth(3) {
                Some((at, dashes)) => block.get(..at + dashes.len()).unwrap_or(block),
                None => block,
            };
            match pem(block) {
                Ok(key) => self.0.push(key),
                Err(message) => {
                    problem(line_of(text, block), message);
                    told += 1;
                }
            }
        }
        told
    }

    /// Whether a key made this signature.
    pub(super) fn check(&self, algorithm: &str, id: Option<&str>, message: &str, signature: &str) -> Signature {
        let Ok(algorithm) = algorithm.parse::<Algorithm>() else {
            // `none` is a forgery; an algorithm that is not known here is one that there is no key for.
            let none = algorithm.eq_ignore_ascii_case("none");
            return if none { Signature::Bad } else { Signature::NoKey };
        };
        let by_id = id.is_some_and(|id| self.0.iter().any(|k| k.id.as_deref() == Some(id)));
        let mut tried = 0;
        for key in self.0.iter().filter(|k| match id {
            Some(_) if by_id => k.id.as_deref() == id,
            // The token's key has a name: only those whose name is not known may be it.
            Some(_) => k.id.is_none(),
            None => true,
        }) {
            if !key.kind.verifies(algorithm) || key.only.is_some_and(|only| only != algorithm) {
                continue;
            }
            if tried >= MAX_TRIED {
                return Signature::NoKey;
            }
            tried += 1;
            if crypto::verify(signature, message.as_bytes(), &key.key, algorithm).unwrap_or(false) {
                return Signature::Good;
            }
        }
        // Its own key is here and does not fit, be it by type; or, of no key's name, every possible one was tried.
        if by_id || (tried > 0 && id.is_none()) { Signature::Bad } else { Signature::NoKey }
    }
}

/// The line that `part` of `text` begins in.
fn line_of(text: &str, part: &str) -> u64 {
    let at = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    text.get(..at).map_or(1, |before| before.matches('\n').count() as u64 + 1)
}

/// Members of a JWK (RFC 7517, RFC 7518 §6, RFC 8037) that matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// Reads a key; `None`: one that is not meant for signatures, or of a type that is not known here (to be ignored,
/// RFC 7517 §5).
fn jwk(text: &str) -> Result<Option<Key>, String> {
    // The error would show what stands there.
    let jwk: Jwk = serde_json::from_str(text)
        .map_err(|_| "expected a JWK: an object with `kty`, and all members that RFC 7517 names as text".to_owned())?;
    if jwk.usage.as_deref().is_some_and(|u| u != "sig") {
        return Ok(None);
    }
    let member = |value: &Option<String>, name: &str| -> Result<Vec<u8>, String> {
        let text = value.as_deref().ok_or_else(|| format!("`{name}` is missing"))?;
        base64url(text).filter(|b| !b.is_empty()).ok_or_else(|| format!("`{name}` is not base64url without padding"))
    };
    let point = |size: usize| -> Result<DecodingKey, String> {
        let mut point = vec![4];
        for (name, value) in [("x", &jwk.x), ("y", &jwk.y)] {
            let bytes = member(value, name)?;
            if bytes.len() != size {
                return Err(format!("`{name}` must have {size} bytes, and has {}", bytes.len()));
            }
            point.extend(bytes);
        }
        Ok(DecodingKey::from_ec_der(&point))
    };
    let (kind, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (Kind::Rsa, rsa(&member(&jwk.n, "n")?, &member(&jwk.e, "e")?)?),
        ("EC", Some("P-256")) => (Kind::P256, point(32)?),
        ("EC", Some("P-384")) => (Kind::P384, point(48)?),
        ("OKP", Some("Ed25519")) => {
            let x = member(&jwk.x, "x")?;
            if x.len() != 32 {
                return Err(format!("`x` must have 32 bytes, and has {}", x.len()));
            }
            (Kind::Ed25519, DecodingKey::from_ed_der(&x))
        }
        ("EC" | "OKP", None) => return Err("`crv` is missing".to_owned()),
        ("oct", _) => (Kind::Secret, DecodingKey::from_secret(&member(&jwk.k, "k")?)),
        _ => return Ok(None),
    };
    let only = match jwk.alg.as_deref() {
        None => None,
        Some("Ed25519") => Some(Algorithm::EdDSA),
        Some(name) => match name.parse::<Algorithm>() {
            Ok(algorithm) if kind.verifies(algorithm) => Some(algorithm),
            Ok(_) => return Err(format!("`alg` does not go with {}", kind.name())),
            // For encryption, or not known here.
            Err(_) => return Ok(None),
        },
    };
    usable(Key { id: jwk.kid, kind, only, key }).map(Some)
}

/// An RSA key of modulus and exponent, big-endian.
fn rsa(n: &[u8], e: &[u8]) -> Result<DecodingKey, String> {
    let n = n.get(n.iter().take_while(|b| **b == 0).count()..).unwrap_or_default();
    let bits = n.len() * 8 - n.first().map_or(0, |b| b.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!(
            "an RSA key of {} to {} bits is needed; this has {bits}",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}

/// The modulus and the exponent of an `RSAPublicKey` (RFC 8017 §A.1.1).
fn pkcs1(der: &[u8]) -> spki::der::Result<(Vec<u8>, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    let parts =
        reader.sequence(|r| Ok((UintRef::decode(r)?.as_bytes().to_vec(), UintRef::decode(r)?.as_bytes().to_vec())))?;
    reader.finish(parts)
}

fn pem(block: &str) -> Result<Key, String> {
    let (label, document) = Document::from_pem(block).map_err(|_| "this is no well-formed PEM block")?;
    match label {
        "PUBLIC KEY" => {}
        "CERTIFICATE" => return Err("a certificate; give its public key (`openssl x509 -pubkey -noout`)".to_owned()),
        l if l.contains("PRIVATE") => {
            return Err("a private key; tokens are verified with the public one".to_owned());
        }
        _ => return Err("expected a block `PUBLIC KEY`".to_owned()),
    }
    let spki = SubjectPublicKeyInfoRef::try_from(document.as_bytes()).map_err(|_| "this is no public key")?;
    let bytes = spki.subject_public_key.raw_bytes();
    let curve = spki.algorithm.parameters_oid().ok();
    let (kind, key) = match (spki.algorithm.oid, curve) {
        (RSA, _) => {
            let (n, e) = pkcs1(bytes).map_err(|_| "an RSA key that is not well formed")?;
            (Kind::Rsa, rsa(&n, &e)?)
        }
        (EC, Some(P256)) => (Kind::P256, DecodingKey::from_ec_der(bytes)),
        (EC, Some(P384)) => (Kind::P384, DecodingKey::from_ec_der(bytes)),
        (ED25519, _) if bytes.len() == 32 => (Kind::Ed25519, DecodingKey::from_ed_der(bytes)),
        _ => return Err("a key of another type than RSA, P-256, P-384 and Ed25519".to_owned()),
    };
    usable(Key { id: None, kind, only: None, key })
}

/// Tries the key on something: a point off its curve shows only then.
fn usable(key: Key) -> Result<Key, String> {
    let algorithm = match key.kind {
        Kind::Rsa => Algorithm::RS256,
        Kind::P256 => Algorithm::ES256,
        Kind::P384 => Algorithm::ES384,
        Kind::Ed25519 => Algorithm::EdDSA,
        Kind::Secret => Algorithm::HS256,
    };
    match crypto::verify("AAAA", b"", &key.key, algorithm) {
        Ok(_) => Ok(key),
        Err(_) => Err(format!("{} that is not well formed", key.kind.name())),
    }
}
