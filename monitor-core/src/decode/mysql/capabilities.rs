//! What client and server have agreed on. Source: `mysql_com.h`, "Capabilities Flags"; MariaDB, "Connection", for those
//! from bit 32 on.

/// The old password; in MariaDB: no capabilities beyond 32 bits follow.
pub(super) const LONG_PASSWORD: u64 = 1;
pub(super) const CONNECT_WITH_DB: u64 = 1 << 3;
pub(super) const COMPRESS: u64 = 1 << 5;
pub(super) const PROTOCOL_41: u64 = 1 << 9;
pub(super) const SSL: u64 = 1 << 11;
pub(super) const SECURE_CONNECTION: u64 = 1 << 15;
pub(super) const PLUGIN_AUTH_LENENC: u64 = 1 << 21;
const SESSION_TRACK: u64 = 1 << 23;
const DEPRECATE_EOF: u64 = 1 << 24;
pub(super) const ZSTD: u64 = 1 << 26;
const QUERY_ATTRIBUTES: u64 = 1 << 27;

/// The capabilities of a connection; `None`: not seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capabilities {
    pub(super) server: Option<u64>,
    pub(super) client: Option<u64>,
}

impl Capabilities {
    /// Whether both have it; `None`: not known.
    fn have(self, flag: u64) -> Option<bool> {
        let has = |flags: Option<u64>| flags.map(|f| f & flag != 0);
        match (has(self.client), has(self.server)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    /// Results end with an OK packet, and no EOF packet comes between columns and rows.
    pub(super) fn deprecate_eof(self) -> Option<bool> {
        self.have(DEPRECATE_EOF)
    }

    /// An OK packet may tell what has changed in the session.
    pub(super) fn session_track(self) -> Option<bool> {
        self.have(SESSION_TRACK)
    }

    /// Queries have attributes before their text.
    pub(super) fn query_attributes(self) -> Option<bool> {
        self.have(QUERY_ATTRIBUTES)
    }

    /// Whether what follows the authentication is compressed, and how.
    pub(super) fn compression(self) -> Option<Compression> {
        if self.have(COMPRESS) == Some(true) {
            Some(Compression::Zlib)
        } else {
            (self.have(ZSTD) == Some(true)).then_some(Compression::Zstd)
        }
    }
}

/// How packets are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Zlib,
    Zstd,
}
