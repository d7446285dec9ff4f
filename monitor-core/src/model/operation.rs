//! Operations: what decoders make of requests and replies, in one vocabulary for all protocols.

use super::{Claim, Nanos, Sym, TenantId};

/// The application protocols the core can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Protocol {
    /// Not yet known.
    Unknown,
    /// Readable by nobody here: TLS, or no known protocol.
    Opaque,
    /// PostgreSQL frontend/backend protocol, version 3.
    Postgres,
    /// Redis serialization protocol, versions 2 and 3.
    Redis,
    /// HTTP/1.0 and HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
    /// Model Context Protocol, over HTTP or WebSocket.
    Mcp,
    /// AMQP 0-9-1.
    Amqp,
    /// NATS client protocol, JetStream included.
    Nats,
    /// Apache Kafka's protocol.
    Kafka,
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// MySQL's and MariaDB's client protocol.
    MySql,
    /// memcached's text protocol, classic and meta commands.
    Memcached,
}

impl Protocol {
    /// The name in findings, metrics and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Opaque => "opaque",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Mcp => "mcp",
            Self::Amqp => "amqp",
            Self::Nats => "nats",
            Self::Kafka => "kafka",
            Self::Mqtt => "mqtt",
            Self::MySql => "mysql",
            Self::Memcached => "memcached",
        }
    }

    /// Whether it is a store's that is asked by key.
    pub fn is_by_key(self) -> bool {
        matches!(self, Self::Redis | Self::Memcached)
    }

    /// Whether it carries SQL to a database that keeps sessions.
    pub fn is_sql(self) -> bool {
        matches!(self, Self::Postgres | Self::MySql)
    }

    /// As what a proxy passes it on: the versions of HTTP are one, since proxies translate between them.
    pub fn passed_on_as(self) -> Self {
        match self {
            Self::Http2 | Self::Grpc => Self::Http,
            other => other,
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that connected.
    Client,
    /// The end that accepted.
    Server,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The name in operations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What an operation does, whatever its protocol calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// Names a tenant, or tries to.
    Bind,
    /// Takes a binding back to the start-up state.
    Reset,
    /// Touches tenant data.
    Data,
    /// Neither: transaction control, settings, health checks.
    Control,
    /// Lists what there is.
    Discover,
    /// Hands a message to a queue.
    Publish,
    /// Receives a message from a queue.
    Deliver,
    /// Confirms one.
    Ack,
}

impl OpKind {
    /// The name in operations and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Reset => "reset",
            Self::Data => "data",
            Self::Control => "control",
            Self::Discover => "discover",
            Self::Publish => "publish",
            Self::Deliver => "deliver",
            Self::Ack => "ack",
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The server said so.
    Ok,
    /// The server refused or failed.
    Error,
    /// The reply was not seen, or not whole.
    Unknown,
}

impl Outcome {
    /// The name in operations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

/// How strong a binding is (`docs/domain.md#strength-of-a-binding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strength {
    /// A bare label.
    V1,
    /// A selector that the server enforces.
    V2,
    /// A credential that the server verifies.
    V3,
}

/// How long a binding lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// To the transaction's end.
    Transaction,
    /// Until changed or reset.
    Session,
    /// The value the connection was opened with: what a reset returns to.
    Startup,
}

/// What is bound: the thing that carries the tenant. Each slot holds its own value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// A named setting (`app.tenant_id`); the name in lower case.
    Setting(Sym),
    /// `SET ROLE`.
    Role,
    /// `SET SESSION AUTHORIZATION`.
    SessionUser,
    /// The user the connection authenticated as.
    User,
    /// The database or schema chosen at connect.
    Database,
    /// `search_path`.
    SearchPath,
    /// A credential that authenticates the connection, not the request (HTTP Negotiate, NTLM).
    ConnectionAuth,
    /// A credential in the request itself.
    Credential,
    /// A declared marker in the request itself: key prefix, header, predicate, comment.
    Marker,
    /// The schema that a statement puts before the name of a table.
    Schema,
}

/// Where a declared marker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MarkerPlace {
    /// The beginning of a key or topic.
    KeyPrefix,
    /// A header or metadata entry.
    Header,
    /// A comparison in a query.
    Predicate,
    /// A comment with keys and values.
    Comment,
}

/// What a reset takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetScope {
    /// One slot, to its start-up value.
    Slot(Slot),
    /// Every setting, but not role or session user (PostgreSQL `RESET ALL`, GUC_NO_RESET_ALL).
    Settings,
    /// Every setting, but not role, user or the database in use (MySQL `COM_RESET_CONNECTION`).
    Variables,
    /// Everything, role and session user included (PostgreSQL `DISCARD ALL`).
    Everything,
}

/// What an operation changes in what its connection has proved. Applied only when the operation succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A slot takes a value.
    Bind {
        /// The slot.
        slot: Slot,
        /// Whom the value names.
        claim: Claim,
        /// How long it lasts.
        scope: Scope,
        /// How strong it is.
        strength: Strength,
    },
    /// Values return to start-up values. A reset is never a re-validation.
    Reset {
        /// Which.
        what: ResetScope,
        /// `SET LOCAL x TO DEFAULT` and its like end with the transaction.
        scope: Scope,
    },
    /// The server was asked whether somebody may do something (a policy decision, token introspection): nothing
    /// changes here, but whoever asks has checked.
    Check,
    /// An explicit transaction begins.
    Begin,
    /// It ends and what it set stays.
    Commit,
    /// It ends and what it set is undone.
    Rollback,
    /// A savepoint with this name is set.
    Savepoint(Sym),
    /// What was set since that savepoint is undone; the savepoint stays.
    RollbackTo(Sym),
    /// The savepoint is forgotten, what was set since stays.
    Release(Sym),
    /// It may have bound or reset something that could not be read (a truncated statement, an unknown prepared
    /// statement, a procedure): nothing is known until the next acknowledged binding.
    Unknown,
}

/// Salted hash of bytes or of a value: equal content, equal fingerprint. Never the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

/// Transaction status after a unit of work's part (PostgreSQL ReadyForQuery).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxStatus {
    /// No transaction is open: the connection may change hands.
    Idle,
    /// Inside a transaction.
    Open,
    /// Inside a transaction that has failed.
    Failed,
}

/// One request and its reply. A request with several statements gives one operation each.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Number of the request on its connection, counted from 1. Matches [`Operation`]s to their `begun` call.
    pub request: u64,
    /// When the request's last byte was seen.
    pub begun: Nanos,
    /// When the reply that ended it was seen.
    pub ended: Nanos,
    /// Who began it.
    pub from: Side,
    /// What it does.
    pub kind: OpKind,
    /// As the protocol names it (`SELECT`, `SET ROLE`). Interned, never a literal.
    pub verb: Sym,
    /// What it is about: table, setting, key prefix. [`Sym::EMPTY`] when there is none.
    pub target: Sym,
    /// What it changes in the ledger when it succeeds.
    pub effect: Effect,
    /// How it ended.
    pub outcome: Outcome,
    /// The server said that a transaction-scoped setting has no effect outside a transaction (SQLSTATE 25P01).
    pub warned_ineffective: bool,
    /// Whom a declared marker in it names: evidence of strength V1. [`Claim::Neutral`]: none.
    pub marker: Claim,
    /// The credential it carries itself, if any.
    pub credential: Option<Fingerprint>,
    /// Whom a credential in it names that was verified here (a token, against a configured key).
    pub proved: Option<TenantId>,
    /// The tables that a statement names; `None` where there are none, or its text could not be read.
    pub tables: Option<Tables>,
    /// Tenants that its parts name where they do not agree (the keys of one command): whoever it is for, another's part in
    /// it is another's.
    pub named: [Option<TenantId>; 2],
    /// What the ids in its target are recognised by, where its decoder tells.
    pub ids: Ids,
}

impl Operation {
    /// A request that touches nobody's data and changes nothing. What there is more to an operation is put over it:
    /// `Operation { kind, target, ..Operation::control(…) }`.
    pub fn control(request: u64, begun: Nanos, ended: Nanos, verb: Sym, outcome: Outcome) -> Self {
        Self {
            request,
            begun,
            ended,
            from: Side::Client,
            kind: OpKind::Control,
            verb,
            target: Sym::EMPTY,
            effect: Effect::None,
            outcome,
            warned_ineffective: false,
            marker: Claim::Neutral,
            credential: None,
            proved: None,
            tables: None,
            named: [None; 2],
            ids: Ids::default(),
        }
    }

    /// A value that the connection was opened with. It belongs to no request.
    pub fn startup(at: Nanos, verb: Sym, target: Sym, slot: Slot, claim: Claim, strength: Strength) -> Self {
        Self {
            kind: OpKind::Bind,
            target,
            effect: Effect::Bind { slot, claim, scope: Scope::Startup, strength },
            ..Self::control(0, at, at, verb, Outcome::Ok)
        }
    }
}

/// Keyed fingerprints of the first ids in a target, in the order of their `{id}`s. Each of 24 bits, as it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids([Option<u32>; 3]);

impl Ids {
    /// The next id; more than there is room for are not told apart.
    pub fn push(&mut self, print: u32) {
        if let Some(free) = self.0.iter_mut().find(|id| id.is_none()) {
            *free = Some(print);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flatten().copied()
    }
}

/// The tables of one statement, and what their names say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Those besides the operation's target; [`Sym::EMPTY`] in unused places.
    pub also: [Sym; 3],
    /// There are more, or it calls code that may use others.
    pub more: bool,
    /// It changes rows, or may.
    pub writes: bool,
    /// One of them is named without its schema: `search_path` decides which table that is.
    pub unqualified: bool,
    /// Whom the schemas before the names speak of; [`Claim::Neutral`] in unused places.
    pub schemas: [Claim; 2],
    /// The operation's marker is what all its rows have in common (a predicate), which the server enforces.
    pub held: bool,
}
