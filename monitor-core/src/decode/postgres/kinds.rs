//! The first bytes of messages, as the PostgreSQL manual names them (chapter "Message Formats").

/// What a client sends.
pub(super) mod client {
    pub(in crate::decode::postgres) const QUERY: u8 = b'Q';
    pub(in crate::decode::postgres) const PARSE: u8 = b'P';
    pub(in crate::decode::postgres) const BIND: u8 = b'B';
    pub(in crate::decode::postgres) const EXECUTE: u8 = b'E';
    pub(in crate::decode::postgres) const DESCRIBE: u8 = b'D';
    pub(in crate::decode::postgres) const CLOSE: u8 = b'C';
    pub(in crate::decode::postgres) const FUNCTION_CALL: u8 = b'F';
    pub(in crate::decode::postgres) const SYNC: u8 = b'S';
    pub(in crate::decode::postgres) const FLUSH: u8 = b'H';
    pub(in crate::decode::postgres) const TERMINATE: u8 = b'X';
    pub(in crate::decode::postgres) const COPY_DONE: u8 = b'c';
    pub(in crate::decode::postgres) const COPY_DATA: u8 = b'd';
    pub(in crate::decode::postgres) const COPY_FAIL: u8 = b'f';
    pub(in crate::decode::postgres) const PASSWORD: u8 = b'p';
}

/// What a server sends.
pub(super) mod server {
    pub(in crate::decode::postgres) const DATA_ROW: u8 = b'D';
    pub(in crate::decode::postgres) const COPY_DATA: u8 = b'd';
    pub(in crate::decode::postgres) const COMMAND_COMPLETE: u8 = b'C';
    pub(in crate::decode::postgres) const ERROR_RESPONSE: u8 = b'E';
    pub(in crate::decode::postgres) const NOTICE_RESPONSE: u8 = b'N';
    pub(in crate::decode::postgres) const READY_FOR_QUERY: u8 = b'Z';
    pub(in crate::decode::postgres) const AUTHENTICATION: u8 = b'R';
    pub(in crate::decode::postgres) const PARAMETER_STATUS: u8 = b'S';
    pub(in crate::decode::postgres) const BACKEND_KEY_DATA: u8 = b'K';
    pub(in crate::decode::postgres) const PARSE_COMPLETE: u8 = b'1';
    pub(in crate::decode::postgres) const BIND_COMPLETE: u8 = b'2';
    pub(in crate::decode::postgres) const CLOSE_COMPLETE: u8 = b'3';
    pub(in crate::decode::postgres) const NO_DATA: u8 = b'n';
    pub(in crate::decode::postgres) const PORTAL_SUSPENDED: u8 = b's';
    pub(in crate::decode::postgres) const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub(in crate::decode::postgres) const COPY_DONE: u8 = b'c';
    pub(in crate::decode::postgres) const ROW_DESCRIPTION: u8 = b'T';
    pub(in crate::decode::postgres) const PARAMETER_DESCRIPTION: u8 = b't';
    pub(in crate::decode::postgres) const COPY_IN_RESPONSE: u8 = b'G';
    pub(in crate::decode::postgres) const COPY_OUT_RESPONSE: u8 = b'H';
    pub(in crate::decode::postgres) const COPY_BOTH_RESPONSE: u8 = b'W';
    pub(in crate::decode::postgres) const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub(in crate::decode::postgres) const NOTIFICATION_RESPONSE: u8 = b'A';
    pub(in crate::decode::postgres) const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
}
