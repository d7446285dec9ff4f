//! Conversations that no recording holds: MySQL's own forms, both ways to end results, what must not be believed, caps.

use super::capabilities::{COMPRESS, CONNECT_WITH_DB, PROTOCOL_41, SECURE_CONNECTION, SSL, ZSTD};
use super::greeting::tests::{greet, log_in};
use super::*;
use crate::decode::WireEvent;
use crate::decode::testing::Told;
use crate::model::{Claim, Effect, Outcome, TenantId};

/// Knows two tenants, and the setting that names them.
fn listener() -> Told {
    let claim = |value: &str| match value {
        "acme" | "tenant_acme" => Claim::Tenant(TenantId(0)),
        "globex" => Claim::Tenant(TenantId(1)),
        _ => Claim::Neutral,
    };
    Told::default().claiming(claim).binding(|name| name == "@tenant_id")
}

fn lines(told: &Told) -> Vec<String> {
    told.lines(|event| match event {
        WireEvent::Started(_) => Some("started".to_owned()),
        WireEvent::Done(op) => {
            let mut line = told.name(op.verb).to_owned();
            match op.effect {
                Effect::None => {}
                Effect::Bind { claim, .. } => line.push_str(&format!(" = {claim:?}")),
                Effect::Reset { what, .. } => line.push_str(&format!(" {what:?}")),
                other => line.push_str(&format!(" {other:?}")),
            }
            if op.outcome != Outcome::Ok {
                line.push_str(&format!(" -> {}", op.outcome.name()));
            }
            Some(line)
        }
        WireEvent::Status { status, .. } => Some(format!("{status:?}")),
        WireEvent::Disturbed { why, .. } => Some(format!("disturbed {}", why.name())),
        WireEvent::Opaque { why, .. } => Some(format!("opaque {why}")),
        WireEvent::DecodeError(error) => Some(format!("error {}", error.name())),
        _ => None,
    })
}

const TRACK: u64 = 1 << 23;
const NO_EOF: u64 = 1 << 24;
const BASE: u64 = PROTOCOL_41 | SECURE_CONNECTION | CONNECT_WITH_DB | TRACK;
const OK: &[u8] = b"\0\0\0\x02\0\0\0";

fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_le_bytes();
    [&len[..3], &[number], body].concat()
}

/// One connection at work.
struct Talk {
    decoder: Lifecycle<MySql>,
    said: Told,
}

impl Talk {
    /// Before anything is said.
    fn begin(mid_stream: bool) -> Self {
        let salt = Salt(1, 2);
        Self { decoder: MySql::new(salt, mid_stream, &Shared::new(salt)), said: listener() }
    }

    /// After a user was let in with these capabilities.
    fn new(flags: u64) -> Self {
        let mut talk = Self::begin(false);
        talk.server(0, &greet(flags));
        talk.client(1, &log_in(flags, "app", "shop"));
        talk.server(2, OK);
        assert_eq!(talk.take(), ["started", "Idle"]);
        talk
    }

    fn say(&mut self, from: Side, bytes: &[u8]) {
        self.decoder.bytes(from, Chunk { at: Nanos(1), bytes, ends_segment: true }, &mut self.said.sink());
    }

    fn client(&mut self, number: u8, body: &[u8]) {
        self.say(Side::Client, &packet(number, body));
    }

    fn server(&mut self, number: u8, body: &[u8]) {
        self.say(Side::Server, &packet(number, body));
    }

    fn query(&mut self, text: &str) {
        self.client(0, &[b"\x03", text.as_bytes()].concat());
    }

    fn take(&mut self) -> Vec<String> {
        let said = lines(&self.said);
        self.said.events.clear();
        said
    }
}

const COLUMN: &[u8] = b"\x03def\0\x01t\x01t\x01c\x01c\x0c\x21\0\x0b\0\0\0\xfd\0\0\0\0\0";
const EOF: &[u8] = b"\xfe\0\0\x02\0";
/// An OK packet that ends rows.
const END: &[u8] = b"\xfe\0\0\x02\0\0\0";

#[test]
fn caching_sha2_lets_in_by_either_way() {
    for ways in [&[&b"\x01\x03"[..]][..], &[b"\x01\x04", b"\x01key"], &[b"\xfemysql_native_password\0salt\0"]] {
        let mut talk = Talk::begin(false);
        talk.server(0, &greet(BASE));
        talk.client(1, &log_in(BASE, "tenant_acme", "shop"));
        for (i, way) in ways.iter().enumerate() {
            talk.server(2 + 2 * i as u8, way);
            if *way != b"\x01\x03" {
                talk.client(3 + 2 * i as u8, b"proof");
            }
        }
        assert_eq!(talk.take(), [""; 0], "nobody is in yet");
        talk.server(9, OK);
        assert_eq!(talk.take(), ["started", "HandshakeResponse = Tenant(TenantId(0))", "Idle"]);
    }
}

#[test]
fn results_end_in_both_ways_and_when_it_is_not_known_in_which() {
    for flags in [Some(BASE), Some(BASE | NO_EOF), None] {
        let deprecated = flags.is_some_and(|f| f & NO_EOF != 0);
        let mut talk = match flags {
            Some(flags) => Talk::new(flags),
            None => {
                let mut talk = Talk::begin(true);
                talk.query("SELECT 0");
                talk.server(1, OK);
                talk.take();
                talk
            }
        };
        for no_eof in if flags.is_some() { vec![deprecated] } else { vec![false, true] } {
            talk.query("SELECT a FROM t; SET @tenant_id = 'acme'");
            talk.server(1, b"\x01");
            talk.server(2, COLUMN);
            if !no_eof {
                talk.server(3, EOF);
            }
            talk.server(4, b"\x01x");
            talk.server(5, b"\xfb");
            assert_eq!(talk.take(), [""; 0]);
            talk.server(6, if no_eof { b"\xfe\0\0\x0a\0\0\0" } else { b"\xfe\0\0\x0a\0" });
            assert_eq!(talk.take(), ["SELECT"]);
            talk.server(7, OK);
            assert_eq!(talk.take(), ["SET = Tenant(TenantId(0))", "Idle"]);
            // No rows at all.
            talk.query("SELECT a FROM t");
            talk.server(1, b"\x01");
            talk.server(2, COLUMN);
            if !no_eof {
                talk.server(3, EOF);
            }
            talk.server(4, if no_eof { END } else { EOF });
            assert_eq!(talk.take(), ["SELECT", "Idle"]);
        }
    }
}

#[test]
fn what_is_refused_binds_nothing_and_what_follows_it_never_ran() {
    let mut talk = Talk::new(BASE);
    talk.query("SET @tenant_id = 'acme'; SET @tenant_id = 'globex'; SELECT 1");
    talk.server(1, b"\0\0\0\x0a\0\0\0");
    talk.server(2, b"\xff\x48\x04#HY000no");
    assert_eq!(
        talk.take(),
        ["SET = Tenant(TenantId(0))", "SET = Tenant(TenantId(1)) -> error", "SELECT -> error", "Idle"]
    );
    // How far a statement is, is no error.
    talk.query("SET @tenant_id = 'acme'");
    talk.server(1, b"\xff\xff\xff\x01\x01\0\0\0\x05stage");
    assert_eq!(talk.take(), [""; 0]);
    talk.server(2, OK);
    assert_eq!(talk.take(), ["SET = Tenant(TenantId(0))", "Idle"]);
}

#[test]
fn a_rollback_keeps_what_the_session_has_set_and_autocommit_makes_a_transaction_of_it() {
    let mut talk = Talk::new(BASE);
    talk.query("SET autocommit = 0");
    talk.server(1, b"\0\0\0\0\0\0\0");
    assert_eq!(talk.take(), ["SET", "Idle"]);
    talk.query("SET @tenant_id = 'acme'");
    talk.server(1, b"\0\0\0\0\0\0\0");
    assert_eq!(talk.take(), ["SET = Tenant(TenantId(0))", "Open"]);
    talk.query("ROLLBACK");
    talk.server(1, b"\0\0\0\0\0\0\0");
    assert_eq!(talk.take(), ["ROLLBACK Commit", "Idle"]);
}

#[test]
fn a_reset_is_no_change_of_user() {
    let mut talk = Talk::new(BASE);
    talk.client(0, b"\x1f");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["COM_RESET_CONNECTION Variables", "Idle"]);
    talk.client(0, b"\x11tenant_acme\0\x00globex\0");
    talk.server(1, b"\xfecaching_sha2_password\0salt\0");
    talk.client(2, b"proof");
    talk.server(3, b"\x01\x03");
    assert_eq!(talk.take(), [""; 0]);
    talk.server(4, OK);
    let bound = ["COM_CHANGE_USER = Tenant(TenantId(0))", "COM_CHANGE_USER = Tenant(TenantId(1))"];
    assert_eq!(talk.take(), ["started", "COM_CHANGE_USER Everything", bound[0], bound[1], "Idle"]);
    talk.client(0, b"\x11tenant_acme\0\x00globex\0");
    talk.server(1, b"\xff\x15\x04#28000no");
    assert_eq!(talk.take(), ["COM_CHANGE_USER = Tenant(TenantId(0)) -> error", "Idle"]);
}

#[test]
fn the_server_tells_which_database_is_in_use() {
    let mut talk = Talk::new(BASE);
    let told = b"\0\0\0\x02\x40\0\0\0\x07\x01\x05\x04acme";
    talk.query("CALL moves()");
    talk.server(1, told);
    assert_eq!(talk.take(), ["CALL", "USE = Tenant(TenantId(0))", "Idle"]);
    talk.query("USE acme");
    talk.server(1, told);
    assert_eq!(talk.take(), ["USE = Tenant(TenantId(0))", "Idle"], "said once");
}

#[test]
fn statements_that_nobody_saw_prepared_may_do_anything() {
    let mut talk = Talk::new(BASE);
    talk.client(0, b"\x17\x07\0\0\0\0\x01\0\0\0");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["EXECUTE Unknown", "Idle"]);
    // MariaDB's clients run what they prepare without waiting.
    talk.client(0, b"\x16SET @tenant_id = 'acme'");
    talk.client(0, b"\x17\xff\xff\xff\xff\0\x01\0\0\0");
    talk.server(1, b"\0\x01\0\0\0\0\0\0\0\0\0\0");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["SET = Tenant(TenantId(0))", "Idle"]);
    // One that is refused is none.
    talk.client(0, b"\x16SET @tenant_id = 'globex'");
    talk.server(1, b"\xff\x28\x04#42000no");
    talk.client(0, b"\x19\x01\0\0\0");
    talk.client(0, b"\x17\x01\0\0\0\0\x01\0\0\0");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["EXECUTE Unknown", "Idle"]);
}

#[test]
fn bulk_rows_have_parameters_of_their_own() {
    let mut talk = Talk::new(BASE);
    talk.client(0, b"\x16SET @tenant_id = ?");
    talk.server(1, b"\0\x01\0\0\0\0\0\x01\0\0\0\0");
    talk.server(2, COLUMN);
    talk.server(3, EOF);
    talk.client(0, b"\x17\x01\0\0\0\0\x01\0\0\0\0\x01\xfd\0\x04acme");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["SET = Tenant(TenantId(0))", "Idle"]);
    talk.client(0, b"\xfa\x01\0\0\0\x80\0\xfd\0\0\x04acme\0\x06globex");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["SET = Unreadable", "Idle"]);
}

#[test]
fn statements_are_remembered_up_to_a_cap() {
    let mut talk = Talk::new(BASE);
    let prepare = |talk: &mut Talk, n: u32| {
        talk.client(0, b"\x16SET @tenant_id = 'acme'");
        talk.server(1, &[b"\0", &n.to_le_bytes()[..], b"\0\0\0\0\0\0\0"].concat());
    };
    for n in 0..1024 {
        prepare(&mut talk, n);
    }
    let run = |talk: &mut Talk| {
        talk.client(0, b"\x17\0\0\0\0\0\x01\0\0\0");
        talk.server(1, OK);
        talk.take()
    };
    assert_eq!(run(&mut talk), ["SET = Tenant(TenantId(0))", "Idle"]);
    prepare(&mut talk, 1024);
    assert_eq!(run(&mut talk), ["EXECUTE Unknown", "Idle"], "one more than is remembered");
}

#[test]
fn commands_in_flight_are_remembered_up_to_a_cap() {
    let mut talk = Talk::new(BASE);
    for _ in 0..4096 {
        talk.client(0, b"\x0e");
    }
    assert_eq!(talk.take(), [""; 0]);
    talk.client(0, b"\x0e");
    let said = talk.take();
    assert_eq!(said[..2], ["error requests_in_flight", "disturbed malformed"]);
    assert_eq!(said.iter().filter(|l| *l == "COM_PING -> unknown").count(), 4096);
}

#[test]
fn tls_begins_behind_the_request_for_it_also_in_one_segment() {
    for hello in [&b""[..], b"\x16\x03\x01\0\x05hello"] {
        let mut talk = Talk::begin(false);
        talk.server(0, &greet(BASE | SSL));
        let request = packet(1, &log_in(BASE | SSL, "", "")[..32]);
        talk.say(Side::Client, &[&request[..], hello].concat());
        assert_eq!(talk.take(), ["opaque tls"]);
        assert_eq!(talk.decoder.unread(), hello.len());
    }
    // Inside, the client goes on where it was: no greeting comes again.
    let mut talk = Talk::begin(false);
    talk.client(2, &log_in(BASE | SSL, "tenant_acme", "shop"));
    talk.server(3, OK);
    assert_eq!(talk.take(), ["started", "HandshakeResponse = Tenant(TenantId(0))", "Idle"]);
    talk.query("SELECT 1");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["SELECT", "Idle"]);
}

#[test]
fn what_cannot_be_read_is_told_and_why() {
    for (flags, why) in [(BASE | ZSTD, Some("opaque zstd")), (BASE | COMPRESS, None), (BASE | COMPRESS | ZSTD, None)] {
        let mut talk = Talk::begin(false);
        talk.server(0, &greet(flags));
        talk.client(1, &log_in(flags, "app", "shop"));
        talk.server(2, OK);
        assert_eq!(talk.take().get(2).map(String::as_str), why);
    }
    let mut talk = Talk::new(BASE);
    talk.client(0, b"\x12\x04\0\0\0\0\0\x01\0\0\0");
    assert_eq!(talk.take(), ["opaque replication"]);
    let mut talk = Talk::begin(false);
    talk.server(0, b"\xff\x10\x04Too many connections");
    talk.query("SELECT 1");
    assert_eq!(talk.take(), [""; 0]);
}

#[test]
fn what_answers_nothing_or_has_the_wrong_number_is_not_believed() {
    let mut talk = Talk::new(BASE);
    talk.server(1, OK);
    assert_eq!(talk.take(), ["error unexpected_reply", "disturbed malformed"]);
    // The next command shows the place; the first answer behind it may still be another's.
    talk.query("SET @tenant_id = 'acme'");
    talk.server(1, OK);
    assert_eq!(talk.take(), ["SET = Tenant(TenantId(0)) -> unknown", "Idle"]);
    talk.query("SET @tenant_id = 'acme'");
    talk.server(2, OK);
    assert_eq!(talk.take()[..2], ["error unexpected_reply", "disturbed malformed"]);
    // The server ends connections by itself.
    let mut talk = Talk::new(BASE);
    talk.server(0, b"\xff\xbf\x0f#HY000timeout");
    assert_eq!(talk.take(), [""; 0]);
}

#[test]
fn a_backslash_escapes_unless_the_server_says_otherwise() {
    let mut talk = Talk::new(BASE);
    talk.query("SET @other = 'x\\', @tenant_id = '; SELECT 1'");
    talk.server(1, b"\0\0\0\x02\x02\0\0");
    assert_eq!(talk.take().len(), 2, "one string and a broken one");
    talk.query("SET @other = 'x\\', @tenant_id = 'acme'");
    talk.server(1, OK);
    assert_eq!(talk.take()[1..], ["SET = Tenant(TenantId(0))", "Idle"]);
}

#[test]
fn no_prefix_and_no_flipped_bit_does_harm() {
    let pieces: [(u8, Vec<u8>); 7] = [
        (1, packet(0, &greet(BASE))),
        (0, packet(1, &log_in(BASE, "app", "shop"))),
        (1, packet(2, OK)),
        (0, packet(0, b"\x16SELECT ?")),
        (1, packet(1, b"\0\x01\0\0\0\0\0\0\0\0\0\0")),
        (0, packet(0, b"\x17\x01\0\0\0\0\x01\0\0\0")),
        (1, packet(1, OK)),
    ];
    let pieces: Vec<(u8, &[u8])> = pieces.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect();
    crate::decode::fuzzing::no_harm(&crate::decode::fuzzing::byte_by_byte(0, &pieces), fuzz_mysql);
}
