//! Whose session it is: as it begins, and when another user authenticates on it.

use super::{Login, Machine, Out};
use crate::decode::SessionStart;
use crate::decode::sql::plan::DATABASE;
use crate::model::operation::ResetScope;
use crate::model::{Claim, Effect, OpKind, Operation, Scope, Slot, Strength};

impl Machine {
    /// A user asks to be let in.
    pub(super) fn login(&self, user: &[u8], database: &[u8], out: &mut Out<'_>) -> Login {
        // Which database is in use may change; what a connection was opened with is not its name here.
        let start =
            SessionStart { at: out.at, user: self.salt.fingerprint(user), database: self.salt.fingerprint(b"") };
        let text = |bytes| String::from_utf8_lossy(bytes);
        let user = out.sink.claim(Slot::SessionUser, "", &text(user));
        let database = (!database.is_empty()).then(|| out.sink.claim(Slot::SearchPath, "", &text(database)));
        Login { start, user, database }
    }

    /// The server has let the first one in. These values are what the connection was opened with; that they can change is
    /// why the user's slot is that of a session's user, which is not known any more once something is missed.
    pub(super) fn begin_session(&mut self, login: &Login, out: &mut Out<'_>) {
        out.sink.started(SessionStart { at: out.at, ..login.start });
        let verb = out.sink.word("HandshakeResponse");
        if login.user != Claim::Neutral {
            let name = out.sink.word("user");
            out.sink.done(&Operation::startup(out.at, verb, name, Slot::SessionUser, login.user, Strength::V3));
        }
        if let Some(claim) = login.database.filter(|c| *c != Claim::Neutral) {
            let name = out.sink.word(DATABASE);
            out.sink.done(&Operation::startup(out.at, verb, name, Slot::SearchPath, claim, Strength::V2));
        }
    }

    /// The server has let another one in: nothing is left of the session before, and the user was verified anew.
    pub(super) fn change_user(&mut self, login: &Login, plain: &Operation, out: &mut Out<'_>) {
        out.sink.started(SessionStart { at: out.at, ..login.start });
        let all = Effect::Reset { what: ResetScope::Everything, scope: Scope::Session };
        out.sink.done(&Operation { kind: OpKind::Reset, effect: all, ..*plain });
        let bind = |slot, claim, strength| Effect::Bind { slot, claim, scope: Scope::Session, strength };
        let says = !matches!(login.user, Claim::Neutral | Claim::Chosen(_));
        let kind = if says { OpKind::Bind } else { OpKind::Control };
        let target = out.sink.word("user");
        let effect = bind(Slot::SessionUser, login.user, Strength::V3);
        out.sink.done(&Operation { kind, target, effect, ..*plain });
        // Without one, none is in use.
        self.use_database(login.database.unwrap_or(Claim::Cleared), plain, out);
        self.forget_statements();
    }

    /// Another database is in use.
    pub(super) fn use_database(&mut self, claim: Claim, plain: &Operation, out: &mut Out<'_>) {
        let says = !matches!(claim, Claim::Neutral | Claim::Chosen(_) | Claim::Cleared);
        let kind = if says { OpKind::Bind } else { OpKind::Control };
        let target = out.sink.word(DATABASE);
        let (slot, scope, strength) = (Slot::SearchPath, Scope::Session, Strength::V2);
        self.bound = true;
        out.sink.done(&Operation { kind, target, effect: Effect::Bind { slot, claim, scope, strength }, ..*plain });
    }

    /// Variables are gone, statements too; user and database stay, and nobody authenticates.
    pub(super) fn reset(&mut self, plain: &Operation, out: &mut Out<'_>) {
        let effect = Effect::Reset { what: ResetScope::Variables, scope: Scope::Session };
        out.sink.done(&Operation { kind: OpKind::Reset, effect, ..*plain });
        self.forget_statements();
    }

    fn forget_statements(&mut self) {
        self.statements.clear();
        self.memory.deallocate_all();
        self.bound = false;
    }
}
