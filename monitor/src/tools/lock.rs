//! Lock files: `leasewarden.tools-lock/v1`.
//!
//! A JSON object in canonical form (RFC 8785): `schema`, `tools` (sorted; each with `server`, `version`, `tool` and
//! `hash`, which is `sha256:` and 64 hexadecimal digits), and perhaps `signature` over the canonical form of the rest.

use std::fmt::Write as _;

use monitor_core::decode::jcs;
use monitor_core::engine::ToolView;
use monitor_core::model::mcp::ManifestHash;
use monitor_core::model::settings::LockedTool;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::signing::{self, PublicKey, Signature, SigningKey};

/// What the member `schema` says.
pub const SCHEMA: &str = "leasewarden.tools-lock/v1";
/// Largest lock file that is read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;
/// Longest name in it, in bytes.
const MAX_NAME: usize = 1024;

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct LockError {
    /// Line in the file, from 1.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

/// A tool as it stands in a lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What its server calls itself; the service's name if it has not told.
    pub server: String,
    /// The server's version; empty if it has not told.
    pub version: String,
    /// Its name.
    pub tool: String,
    /// Hash of its canonical JSON.
    #[serde(with = "hex_hash")]
    pub hash: ManifestHash,
}

/// Tools as they were approved, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// The tools. A tool may stand here with several hashes, if several were approved.
    pub tools: Vec<Entry>,
    /// Who signed it.
    pub signature: Option<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
    tools: Vec<Entry>,
}

impl Lock {
    /// A lock of tools as they are now.
    pub fn of(tools: &[ToolView]) -> Self {
        let mut tools: Vec<Entry> = tools
            .iter()
            .map(|t| Entry { server: t.server.clone(), version: t.version.clone(), tool: t.tool.clone(), hash: t.hash })
            .collect();
        tools.sort();
        tools.dedup();
        Self { tools, signature: None }
    }

    /// Tools that stand in it with several hashes: servers of one name and version that differ.
    pub fn ambiguous(&self) -> impl Iterator<Item = &Entry> {
        self.tools.windows(2).filter_map(|w| match w {
            [a, b] if (&a.server, &a.version, &a.tool) == (&b.server, &b.version, &b.tool) => Some(a),
            _ => None,
        })
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// It is no lock of this version, or not well formed.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let wrong = |e: &serde_json::Error| LockError { line: (e.line() as u64).max(1), message: e.to_string() };
        // A later version may have other members: its version is said first.
        #[derive(Deserialize)]
        struct Version {
            schema: Option<String>,
        }
        let version: Version = serde_json::from_str(text).map_err(|e| wrong(&e))?;
        if version.schema.as_deref() != Some(SCHEMA) {
            let found = version.schema.map_or_else(
                || "an object without `schema`".to_owned(),
                |s| format!("`{}`", s.escape_debug().take(64).collect::<String>()),
            );
            return Err(LockError { line: 1, message: format!("expected a lock `{SCHEMA}`, found {found}") });
        }
        let Document { mut tools, signature, .. } = serde_json::from_str(text).map_err(|e| wrong(&e))?;
        let long = |e: &Entry| e.tool.is_empty() || [&e.server, &e.version, &e.tool].iter().any(|n| n.len() > MAX_NAME);
        if let Some((i, _)) = tools.iter().enumerate().find(|(_, e)| long(e)) {
            let message = format!("tools[{i}]: expected names of 1 to {MAX_NAME} bytes");
            return Err(LockError { line: 1, message });
        }
        tools.sort();
        tools.dedup();
        Ok(Self { tools, signature })
    }

    /// The file's content: canonical JSON and a line's end.
    pub fn render(&self) -> String {
        let mut text = self.canonical(self.signature.clone());
        text.push('\n');
        text
    }

    fn canonical(&self, signature: Option<Signature>) -> String {
        let document = Document { schema: SCHEMA.to_owned(), signature, tools: self.tools.clone() };
        jcs::canonical(&serde_json::to_value(document).unwrap_or(Value::Null))
    }

    /// Signs it: over the canonical form of everything but the signature.
    pub fn sign(&mut self, key: &SigningKey) {
        self.signature = Some(key.sign(self.canonical(None).as_bytes()));
    }

    /// What its signature is worth.
    pub fn check(&self, keys: &[PublicKey]) -> signing::Worth {
        signing::check(self.signature.as_ref(), self.canonical(None).as_bytes(), keys)
    }

    /// The tools for the core. `signed`: its signature was found good.
    pub fn locked(&self, signed: bool) -> impl Iterator<Item = LockedTool> {
        self.tools.iter().map(move |e| LockedTool {
            server: e.server.clone(),
            version: e.version.clone(),
            tool: e.tool.clone(),
            hash: e.hash,
            signed,
        })
    }
}

/// A hash as it is written: `sha256:` and hexadecimal digits.
pub fn hash_text(hash: &ManifestHash) -> String {
    hash.0.iter().fold("sha256:".to_owned(), |mut out, byte| {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Reads what [`hash_text`] writes.
pub fn parse_hash(text: &str) -> Option<ManifestHash> {
    let digits = text.strip_prefix("sha256:").filter(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let mut hash = [0; 32];
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(ManifestHash(hash))
}

pub(super) mod hex_hash {
    //! Hashes in JSON.

    use monitor_core::model::mcp::ManifestHash;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::tools) fn serialize<S: Serializer>(hash: &ManifestHash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::hash_text(hash))
    }

    pub(in crate::tools) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ManifestHash, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_hash(&text)
            .ok_or_else(|| de::Error::custom("expected a hash: `sha256:` and 64 hexadecimal digits"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tools::signing::Worth;

    pub(crate) fn entry(server: &str, version: &str, tool: &str, hash: u8) -> Entry {
        let own = str::to_owned;
        Entry { server: own(server), version: own(version), tool: own(tool), hash: ManifestHash([hash; 32]) }
    }

    fn views() -> Vec<ToolView> {
        [
            entry("orders", "1.2.0", "search", 0xab),
            entry("billing", "", "add", 1),
            entry("orders", "1.2.0", "search", 0xab),
        ]
        .map(|e| ToolView { server: e.server, version: e.version, service: "s".into(), tool: e.tool, hash: e.hash })
        .to_vec()
    }

    #[test]
    fn a_lock_is_sorted_canonical_and_read_back() {
        let lock = Lock::of(&views());
        let want = format!(
            "{{\"schema\":\"leasewarden.tools-lock/v1\",\"tools\":[{{\"hash\":\"sha256:{}\",\"server\":\"billing\",\
             \"tool\":\"add\",\"version\":\"\"}},{{\"hash\":\"sha256:{}\",\"server\":\"orders\",\"tool\":\"search\",\
             \"version\":\"1.2.0\"}}]}}\n",
            "01".repeat(32),
            "ab".repeat(32)
        );
        assert_eq!(lock.render(), want);
        assert_eq!(Lock::parse(&want).unwrap(), lock);
        // In another order and with other blanks it is the same lock.
        let value: Value = serde_json::from_str(&want).unwrap();
        assert_eq!(Lock::parse(&serde_json::to_string_pretty(&value).unwrap()).unwrap(), lock);
        assert_eq!(lock.ambiguous().count(), 0);
        let mut two = views();
        two.push(ToolView { hash: ManifestHash([9; 32]), ..two[0].clone() });
        assert_eq!(Lock::of(&two).ambiguous().map(|e| e.tool.as_str()).collect::<Vec<_>>(), ["search"]);
    }

    #[test]
    fn a_signature_covers_every_tool() {
        let (ours, theirs) = (SigningKey::of([7; 32]), SigningKey::of([8; 32]));
        let mut lock = Lock::of(&views());
        assert_eq!(lock.check(&[ours.public()]), Worth::Unsigned);
        lock.sign(&ours);
        let mut read = Lock::parse(&lock.render()).unwrap();
        assert_eq!(read.check(&[theirs.public(), ours.public()]), Worth::Good);
        assert_eq!(read.check(&[theirs.public()]), Worth::NoKey);
        assert_eq!(read.check(&[]), Worth::NoKey);
        read.tools[1].hash = ManifestHash([0; 32]);
        assert_eq!(read.check(&[ours.public()]), Worth::Bad);
        read = lock.clone();
        read.tools.pop();
        assert_eq!(read.check(&[ours.public()]), Worth::Bad);
        // A signature made by somebody else, who says that it is ours.
        read = lock.clone();
        read.sign(&theirs);
        read.signature.as_mut().unwrap().key = lock.signature.as_ref().unwrap().key.clone();
        assert_eq!(read.check(&[ours.public()]), Worth::Bad);
    }

    #[test]
    fn what_is_no_lock_is_refused_with_its_line() {
        let good = Lock::of(&views()).render();
        for (text, line, part) in [
            ("", 1, "EOF"),
            ("{\n\n\"schema\": 7}", 3, "invalid type"),
            ("{}", 1, "without `schema`"),
            ("[]", 1, "invalid length"),
            ("{\"schema\": \"leasewarden.tools-lock/v2\", \"new\": 1}", 1, "found `leasewarden.tools-lock/v2`"),
            (&good.replace("sha256:01", "sha256:0x"), 1, "64 hexadecimal digits"),
            (&good.replace("sha256:01", "sha1:01"), 1, "64 hexadecimal digits"),
            (&good.replace("\"tool\":\"add\"", "\"tool\":\"\""), 1, "tools[0]: expected names"),
            (&good.replace("\"tool\":\"add\"", "\"tool\":\"add\",\"x\":1"), 1, "unknown field `x`"),
        ] {
            let error = Lock::parse(text).unwrap_err();
            assert!(error.line == line && error.message.contains(part), "{text:.60}: {error}");
        }
        for end in 0..good.len() - 1 {
            assert!(Lock::parse(&good[..end]).is_err());
        }
    }
}
