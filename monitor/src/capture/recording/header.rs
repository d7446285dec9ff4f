//! The beginning of a recording: what it is, which version, who wrote it where and when.

use std::io::{self, Read};

use monitor_core::model::Nanos;

use super::checksum::crc32;
use super::codec::Cursor;

/// The version written: since 4 with the names of Unix sockets.
pub const VERSION: u16 = 4;
/// The version written where secrets of TLS handshakes are in the file: an agent that does not know them refuses it.
pub(super) const VERSION_WITH_SECRETS: u16 = 5;
/// Versions whose files hold secrets.
const WITH_SECRETS: [u16; 2] = [3, VERSION_WITH_SECRETS];

/// Eight bytes that no text file, and no file mangled by a text-mode transfer, begins with.
pub(super) const MAGIC: [u8; 8] = *b"\x89LWR\r\n\x1a\n";

/// Most bytes of the header's body.
const MAX_BODY: usize = 4096;
/// Most bytes of each text in it.
const MAX_TEXT: usize = 256;
/// Magic, version, reserved, length of the body.
const FIXED: usize = 14;

/// Who recorded, where and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingInfo {
    /// When the recording began.
    pub started: Nanos,
    /// Version of the agent that wrote it. At most 256 bytes are kept.
    pub agent: String,
    /// Release of the kernel it ran on, as `uname -r` gives it. At most 256 bytes are kept.
    pub kernel: String,
    /// Secrets of TLS handshakes are in it.
    pub secrets: bool,
}

/// Why a recording's header cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Reading failed.
    #[error("the recording's header cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file ends within it.
    #[error("the recording ends inside its header, after {0} bytes")]
    Cut(usize),
    /// It is no recording at all.
    #[error("not a leasewarden recording")]
    Magic,
    /// A later agent wrote it.
    #[error(
        "the recording has format version {found}; this agent reads versions 1 to {VERSION_WITH_SECRETS}: use a newer one"
    )]
    Version {
        /// Its version.
        found: u16,
    },
    /// Its bytes are not what was written.
    #[error("the recording's header is damaged: {0}")]
    Damaged(&'static str),
}

impl RecordingInfo {
    pub(super) fn encode(&self) -> Vec<u8> {
        let version = if self.secrets { VERSION_WITH_SECRETS } else { VERSION };
        let mut body = Vec::new();
        body.extend_from_slice(&self.started.0.to_le_bytes());
        for text in [&self.agent, &self.kernel] {
            let text = prefix(text, MAX_TEXT);
            body.extend_from_slice(&(text.len() as u16).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(FIXED + body.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        out.extend_from_slice(&crc32(&out).to_le_bytes());
        out
    }

    /// Reads the header; gives its version and length in bytes, too.
    pub(super) fn read(reader: &mut impl Read) -> Result<(Self, u16, usize), HeaderError> {
        let mut bytes = Vec::new();
        take(reader, FIXED, &mut bytes)?;
        let mut fixed = Cursor::new(&bytes);
        if fixed.array() != Some(MAGIC) {
            return Err(HeaderError::Magic);
        }
        let (Some(version), Some(body_len)) = (fixed.u16(), fixed.u32()) else {
            return Err(HeaderError::Cut(FIXED));
        };
        // Before all else: a later version may lay out the rest in another way.
        if version == 0 || version > VERSION_WITH_SECRETS {
            return Err(HeaderError::Version { found: version });
        }
        let body_len = body_len as usize;
        if body_len > MAX_BODY {
            return Err(HeaderError::Damaged("it is longer than any header"));
        }
        take(reader, body_len + 4, &mut bytes)?;
        let (covered, sum) = bytes.split_at(FIXED + body_len);
        if sum != crc32(covered).to_le_bytes() {
            return Err(HeaderError::Damaged("its checksum does not match"));
        }
        let mut body = Cursor::new(covered.get(FIXED..).unwrap_or_default());
        let info = (|| {
            let started = Nanos(body.u64()?);
            let mut text = || {
                let n = body.u16()? as usize;
                Some(std::str::from_utf8(body.take(n)?).ok()?.to_owned())
            };
            // What may follow was added by a later agent of the same version.
            Some(Self { started, agent: text()?, kernel: text()?, secrets: WITH_SECRETS.contains(&version) })
        })();
        match info {
            Some(info) => Ok((info, version, bytes.len())),
            None => Err(HeaderError::Damaged("its fields do not fit")),
        }
    }
}

/// Appends exactly `n` bytes to `out`. `n` is bounded by the caller.
fn take(reader: &mut impl Read, n: usize, out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let before = out.len();
    reader.by_ref().take(n as u64).read_to_end(out)?;
    if out.len() - before < n { Err(HeaderError::Cut(out.len())) } else { Ok(()) }
}

/// The longest prefix of at most `max` bytes that ends where a character does.
pub(super) fn prefix(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}
