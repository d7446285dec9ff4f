//! The first bytes of commands, as `my_command.h` and MariaDB's manual name them.

pub(super) const QUIT: u8 = 0x01;
pub(super) const INIT_DB: u8 = 0x02;
pub(super) const QUERY: u8 = 0x03;
pub(super) const FIELD_LIST: u8 = 0x04;
pub(super) const STATISTICS: u8 = 0x09;
pub(super) const PROCESS_INFO: u8 = 0x0a;
pub(super) const PING: u8 = 0x0e;
pub(super) const CHANGE_USER: u8 = 0x11;
pub(super) const STMT_PREPARE: u8 = 0x16;
pub(super) const STMT_EXECUTE: u8 = 0x17;
pub(super) const STMT_SEND_LONG_DATA: u8 = 0x18;
pub(super) const STMT_CLOSE: u8 = 0x19;
pub(super) const STMT_RESET: u8 = 0x1a;
pub(super) const SET_OPTION: u8 = 0x1b;
pub(super) const STMT_FETCH: u8 = 0x1c;
pub(super) const RESET_CONNECTION: u8 = 0x1f;
/// MariaDB's: one statement, many rows of parameters.
pub(super) const STMT_BULK_EXECUTE: u8 = 0xfa;

/// What the command is called; `None`: there is none, or none whose answer is read here.
pub(super) fn name(command: u8) -> Option<&'static str> {
    Some(match command {
        INIT_DB => "COM_INIT_DB",
        FIELD_LIST => "COM_FIELD_LIST",
        0x05 => "COM_CREATE_DB",
        0x06 => "COM_DROP_DB",
        0x07 => "COM_REFRESH",
        0x08 => "COM_SHUTDOWN",
        STATISTICS => "COM_STATISTICS",
        PROCESS_INFO => "COM_PROCESS_INFO",
        0x0c => "COM_PROCESS_KILL",
        0x0d => "COM_DEBUG",
        PING => "COM_PING",
        CHANGE_USER => "COM_CHANGE_USER",
        0x15 => "COM_REGISTER_SLAVE",
        STMT_RESET => "COM_STMT_RESET",
        SET_OPTION => "COM_SET_OPTION",
        RESET_CONNECTION => "COM_RESET_CONNECTION",
        _ => return None,
    })
}

/// What a replica asks for: changes of everybody's rows, without an end.
pub(super) fn replicates(command: u8) -> bool {
    matches!(command, 0x12 | 0x13 | 0x14 | 0x1e | 0x20)
}
