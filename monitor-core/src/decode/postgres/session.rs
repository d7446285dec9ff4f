//! The beginning of a session: who it is, and what its start-up packet binds.

use super::commands::SLOTS;
use super::machine::Out;
use super::startup::Session;
use crate::decode::sql::plan::{can_name_tenant, slot_of};
use crate::decode::{SessionStart, word_of};
use crate::model::claim::Salt;
use crate::model::{Claim, Operation, Slot, Strength};

/// Says that the session was accepted and what it began with. Start-up values are what every reset returns to.
pub(super) fn begin(session: &Session, salt: Salt, out: &mut Out<'_>) {
    out.sink.started(SessionStart {
        at: out.at,
        user: salt.fingerprint(session.user.as_bytes()),
        database: salt.fingerprint(session.database.as_bytes()),
    });
    // The server verified the user; the rest are selectors.
    bind(Slot::User, "user", &session.user, Strength::V3, out);
    bind(Slot::Database, "database", &session.database, Strength::V2, out);
    for (name, value) in &session.settings {
        let binds = out.sink.setting_binds(name);
        if matches!(name.as_str(), "role" | "session_authorization" | "search_path") || can_name_tenant(name, binds) {
            let (slot, _) = slot_of(out.sink, name);
            bind(slot, name, value, Strength::V2, out);
        }
    }
}

fn bind(slot: Slot, name: &str, value: &str, strength: Strength, out: &mut Out<'_>) {
    let claim = out.sink.claim(slot, if matches!(slot, Slot::Setting(_)) { name } else { "" }, value);
    // Which database it is, the start of the session says already.
    if claim == Claim::Neutral || slot == Slot::Database && matches!(claim, Claim::Chosen(_)) {
        return;
    }
    let (verb, target) = (out.sink.word("StartupMessage"), word_of(name, SLOTS, out.sink));
    out.sink.done(&Operation::startup(out.at, verb, target, slot, claim, strength));
}
