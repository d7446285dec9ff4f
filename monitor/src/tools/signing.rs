//! Signatures of locks: Ed25519 (RFC 8032), keys as PEM files (PKCS#8 and SubjectPublicKeyInfo, RFC 8410).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signer, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The only algorithm.
const ALGORITHM: &str = "ed25519";

/// A signature as it stands in a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// `ed25519`.
    pub algorithm: String,
    /// Which key made it: `sha256:` and the hash of the public key's 32 bytes, in hexadecimal.
    pub key: String,
    /// The signature's 64 bytes in base64.
    pub value: String,
}

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// There is none.
    Unsigned,
    /// None of the keys is the one that it says it was made with.
    NoKey,
    /// It is not this content's.
    Bad,
    /// It is.
    Good,
}

/// A key that signs. Neither shown nor printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SigningKey {
    /// The key of 32 random bytes.
    pub fn of(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads a private key.
    ///
    /// # Errors
    /// In words, without anything of the text.
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text);
        key.map(Self)
            .map_err(|_| "expected an Ed25519 private key in PEM (PKCS#8), such as `leasewarden tools keygen` writes")
    }

    /// The private key as a PEM file's content.
    pub fn to_pem(&self) -> Option<String> {
        // Without the public key, which other programs do not all accept in here.
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        bytes.to_pkcs8_pem(LineEnding::LF).ok().map(|pem| pem.as_str().to_owned())
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, content: &[u8]) -> Signature {
        Signature {
            algorithm: ALGORITHM.to_owned(),
            key: self.public().id(),
            value: STANDARD.encode(self.0.sign(content).to_bytes()),
        }
    }
}

impl PublicKey {
    /// Reads a public key.
    ///
    /// # Errors
    /// In words.
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        if text.contains("PRIVATE KEY-----") {
            return Err("a private key; only whoever signs needs it, and here its public key is expected");
        }
        let key = VerifyingKey::from_public_key_pem(text.trim());
        key.map(Self).map_err(|_| "expected an Ed25519 public key in PEM, such as `leasewarden tools keygen` writes")
    }

    /// The key as a PEM file's content.
    pub fn to_pem(&self) -> Option<String> {
        self.0.to_public_key_pem(LineEnding::LF).ok()
    }

    /// How signatures name it.
    pub fn id(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().fold("sha256:".to_owned(), |mut out, byte| {
            // Writing to a string does not fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
    }
}

/// What a signature says of `content`.
pub(super) fn check(signature: Option<&Signature>, content: &[u8], keys: &[PublicKey]) -> Worth {
    let Some(signature) = signature else { return Worth::Unsigned };
    let Some(key) = keys.iter().find(|k| k.id() == signature.key) else { return Worth::NoKey };
    let value = STANDARD.decode(&signature.value).ok().and_then(|v| ed25519_dalek::Signature::from_slice(&v).ok());
    match value {
        Some(value) if signature.algorithm == ALGORITHM && key.0.verify_strict(content, &value).is_ok() => Worth::Good,
        _ => Worth::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_through_files() {
        let key = SigningKey::of([42; 32]);
        let (private, public) = (key.to_pem().unwrap(), key.public().to_pem().unwrap());
        assert!(
            private.starts_with("-----BEGIN PRIVATE KEY-----\n") && private.ends_with("-----END PRIVATE KEY-----\n")
        );
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
        assert_eq!(SigningKey::from_pem(&private).unwrap().public(), key.public());
        assert_eq!(PublicKey::from_pem(&public).unwrap(), key.public());
        assert!(PublicKey::from_pem(&private).unwrap_err().contains("private key"));
        for wrong in ["", "nothing", &public, &private.replace('M', "!")] {
            assert!(SigningKey::from_pem(wrong).is_err());
        }
        assert!(PublicKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_err());
        assert_eq!(format!("{key:?}"), "SigningKey");
    }

    /// RFC 8410 §10.3: a private key as OpenSSL writes it.
    #[test]
    fn the_example_of_the_rfc_is_read() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = SigningKey::from_pem(pem).unwrap();
        assert_eq!(key.public(), PublicKey::from_pem(public).unwrap());
        assert_eq!(key.to_pem().unwrap(), pem);
    }
}
