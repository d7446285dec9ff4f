//! `pgwire` over the recordings of PostgreSQL.

use bytes::BytesMut;
use monitor_core::decode::WireEvent;
use monitor_core::model::{Effect, Operation, Outcome, Side, TxStatus};
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage as Back, PgWireFrontendMessage as Front, ProtocolVersion,
    SslNegotiationMetaMessage as Negotiation,
};

use crate::common::suites::POSTGRES as SUITE;
use crate::common::{SALT, Segments};
use crate::{Frames, Unreadable, every, frames};

const UNREADABLE: &[Unreadable] = &[("raw", "InvalidMessageType(70)", "pgwire knows no FunctionCall")];

enum Message {
    Front(Front),
    Back(Back),
}

fn read(segments: &Segments) -> Frames<Message> {
    let mut client = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    let mut server = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    frames(segments, |from, bytes: &mut BytesMut| {
        if from == Side::Server {
            let message = Back::decode(bytes, &server).map_err(|e| format!("{e:?}"))?;
            server.awaiting_backend_ssl_response &= message.is_none();
            server.awaiting_backend_gss_response &= message.is_none();
            return Ok(message.map(Message::Back));
        }
        loop {
            let message = Front::decode(bytes, &client).map_err(|e| format!("{e:?}"))?;
            match &message {
                Some(Front::SslNegotiation(Negotiation::PostgresSsl(_))) => server.awaiting_backend_ssl_response = true,
                Some(Front::SslNegotiation(Negotiation::PostgresGss(_))) => server.awaiting_backend_gss_response = true,
                // That was no negotiation; the message is still there.
                Some(Front::SslNegotiation(Negotiation::None)) => {
                    client.awaiting_frontend_ssl = false;
                    continue;
                }
                Some(Front::Startup(_) | Front::CancelRequest(_)) => client.awaiting_frontend_startup = false,
                _ => {}
            }
            return Ok(message.map(Message::Front));
        }
    })
}

/// What is told between two points at which the server is ready.
#[derive(Default)]
struct Round {
    /// First words of the commands that were done.
    done: Vec<String>,
    failed: bool,
    ineffective: bool,
    status: Option<TxStatus>,
}

fn rounds_of(messages: &[(Side, Message)]) -> Vec<Round> {
    let (mut all, mut round) = (Vec::new(), Round::default());
    for (_, message) in messages {
        match message {
            Message::Back(Back::CommandComplete(m)) => round.done.push(first_word(&m.tag)),
            // The first rows of a SELECT, and more to come.
            Message::Back(Back::PortalSuspended(_)) => round.done.push("SELECT".to_owned()),
            Message::Back(Back::EmptyQueryResponse(_)) => round.done.push("EMPTY".to_owned()),
            Message::Back(Back::ErrorResponse(_)) => round.failed = true,
            Message::Back(Back::NoticeResponse(m)) => {
                round.ineffective |= m.fields.iter().any(|(kind, text)| *kind == b'C' && text == "25P01")
                    && m.fields.iter().any(|(kind, text)| *kind == b'M' && text.starts_with("SET"));
            }
            Message::Back(Back::ReadyForQuery(m)) => {
                round.status = Some(match m.status {
                    TransactionStatus::Idle => TxStatus::Idle,
                    TransactionStatus::Transaction => TxStatus::Open,
                    TransactionStatus::Error => TxStatus::Failed,
                });
                all.push(std::mem::take(&mut round));
            }
            _ => {}
        }
    }
    all
}

fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn commands_and_states_are_what_pgwire_reads() {
    every(&SUITE, UNREADABLE, read, |name, messages, told| {
        let statements =
            messages.iter().filter(|(_, m)| matches!(m, Message::Front(Front::Query(_) | Front::Execute(_))));
        assert_eq!(told.n_begun(), statements.count(), "{name}: each query and each execution is a request");
        let user = messages.iter().find_map(|(_, m)| match m {
            Message::Front(Front::Startup(m)) => m.parameters.get("user"),
            _ => None,
        });
        let started =
            told.events().find_map(|e| if let WireEvent::Started(start) = e { Some(start.user) } else { None });
        // Who is refused after the password was right is never told that the server is ready.
        let accepted = messages.iter().any(|(_, m)| matches!(m, Message::Back(Back::ReadyForQuery(_))));
        let user = user.filter(|_| accepted).map(|u| SALT.fingerprint(u.as_bytes()));
        assert_eq!(started, user, "{name}: who it is");
        let want = rounds_of(&messages);
        let mut ours = told.events().filter(|e| matches!(e, WireEvent::Done(_) | WireEvent::Status { .. }));
        for (n, round) in want.iter().enumerate() {
            let mut operations = Vec::new();
            let status = loop {
                match ours.next() {
                    Some(WireEvent::Done(op)) => operations.push(op),
                    Some(WireEvent::Status { status, .. }) => break Some(*status),
                    _ => break None,
                }
            };
            let what = format!("{name}: round {n}");
            assert_eq!(status, round.status, "{what}");
            let verb = |op: &Operation| first_word(told.name(op.verb));
            // A COMMIT of a failed transaction is answered with ROLLBACK, which is no error to PostgreSQL.
            let failed = |op: &&&Operation| op.outcome == Outcome::Error && !is_rolled_back(round, &verb(op));
            assert_eq!(operations.iter().any(|op| failed(&op)), round.failed, "{what}: an error");
            assert_eq!(operations.iter().any(|op| op.warned_ineffective), round.ineffective, "{what}: a warning");
            // What AND CHAIN begins is the same command.
            let chained = |op: &&&Operation| op.effect == Effect::Begin && verb(op) != "BEGIN";
            let verbs: Vec<String> = operations
                .iter()
                .filter(|op| op.outcome == Outcome::Ok && verb(op) != "StartupMessage" && !chained(op))
                .map(|op| verb(op))
                .collect();
            assert!(agree(&verbs, &round.done), "{what}: done was {verbs:?}, by pgwire {:?}", round.done);
        }
        assert!(!ours.any(|e| matches!(e, WireEvent::Status { .. })), "{name}: the server is not ready once more");
    });
}

/// Whether these operations are of commands with those tags. What one command does may be several operations, all under
/// its name.
fn agree(verbs: &[String], tags: &[String]) -> bool {
    let mut tags = tags.iter().peekable();
    let each_has_one = verbs.chunk_by(|a, b| a == b).all(|of_one_name| {
        let mut n = 0;
        while n < of_one_name.len() && tags.next_if(|tag| may_be_tagged(&of_one_name[0], tag)).is_some() {
            n += 1;
        }
        n > 0
    });
    each_has_one && tags.next().is_none()
}

/// Whether a command of this name is confirmed with that tag.
fn may_be_tagged(verb: &str, tag: &str) -> bool {
    match verb {
        // Its tag is that of what it executes.
        "EXECUTE" => true,
        "TABLE" | "VALUES" => tag == "SELECT",
        // Of CREATE TABLE AS.
        "CREATE" => tag == verb || tag == "SELECT",
        _ => verb == tag,
    }
}

fn is_rolled_back(round: &Round, verb: &str) -> bool {
    ["COMMIT", "PREPARE", "END"].contains(&verb) && round.done.iter().any(|done| done == "ROLLBACK")
}
