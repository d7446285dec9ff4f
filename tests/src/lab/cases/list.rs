//! The cases, violating before clean.

use super::{Case, Flow, May, Must, Twin};
use crate::lab::service::Program;

const REUSE: &str = "pool-reuse-unrevalidated";
const STALE: &str = "pool-stale-binding";
const SESSION_SET: &str = "session-set-under-pooler";
const UNPARTITIONED: &str = "shared-service-unpartitioned";
const DESYNC: &str = "response-desync";
const UNSCOPED: &str = "cache-key-unscoped";

const fn must(rule: &'static str, alone: &'static str, used: &'static str, bound: &'static str) -> Must {
    Must { rule, alone, used, bound }
}

const fn may(rule: &'static str) -> May {
    May { rule, used: None, bound: None }
}

const ORDERS: &[&str] = &["GET /orders/{new}"];
const PEEK: &[&str] = &["GET /peek/{new}"];
const SUMMARY: &[&str] = &["GET /summary"];
const STORED: &[&str] = &["PUT /orders/{new}", "GET /orders/{last}"];
const FEW: &[&str] = &["PUT /orders/{few}", "GET /orders/{few}"];

/// Nobody binds: whoever comes after somebody else.
const NOBODY_BINDS: &[Must] = &[must(REUSE, "high", "globex", "acme"), must(REUSE, "high", "acme", "globex")];
const NOBODY_BINDS_EITHER: &[May] = &[may(UNPARTITIONED)];

/// acme binds for the session, globex on the path that forgot to.
const LEFT_BEHIND: &[Must] = &[must(STALE, "critical", "globex", "acme")];
const LEFT_BEHIND_EITHER: &[May] = &[
    May { rule: SESSION_SET, used: Some("globex"), bound: Some("acme") },
    // A connection that nobody has bound yet, or that globex had before.
    May { rule: REUSE, used: Some("globex"), bound: Some("acme") },
    may(UNPARTITIONED),
];

const CLEAN: Case = Case {
    name: "",
    scenario: 0,
    twin: Twin::Clean,
    program: Program::Threads,
    mode: "per-transaction",
    job: None,
    traced: false,
    flow: Flow::Ask,
    acme: ORDERS,
    globex: ORDERS,
    leaks_to: None,
    must: &[],
    may: &[],
    blind_together: false,
};

const UNBOUND: Case = Case {
    twin: Twin::Violating,
    mode: "unbound",
    leaks_to: Some("globex"),
    must: NOBODY_BINDS,
    may: NOBODY_BINDS_EITHER,
    ..CLEAN
};

const SESSION: Case = Case {
    twin: Twin::Violating,
    mode: "session-set",
    globex: PEEK,
    leaks_to: Some("globex"),
    must: LEFT_BEHIND,
    may: LEFT_BEHIND_EITHER,
    ..CLEAN
};

const STORE: Case = Case { program: Program::Redis521, mode: "prefix", acme: STORED, globex: STORED, ..CLEAN };

/// Few keys, each used by both tenants: every one says whose it is.
const KEY_SCOPED: Case = Case { acme: FEW, globex: FEW, ..STORE };

/// None does.
const KEY_UNSCOPED: Case = Case {
    twin: Twin::Violating,
    mode: "unscoped",
    acme: FEW,
    globex: &["GET /orders/{few}"],
    leaks_to: Some("globex"),
    must: &[must(UNSCOPED, "high", "globex", "acme")],
    may: &[may(UNSCOPED), may(REUSE), may(UNPARTITIONED)],
    blind_together: true,
    ..STORE
};

/// Every scenario of a shared service, violating before clean.
pub const CASES: &[Case] = &[
    // 1: sync threads.
    Case { name: "threads-unbound", scenario: 1, ..UNBOUND },
    Case { name: "threads-session-set", scenario: 1, ..SESSION },
    Case { name: "threads-per-transaction", scenario: 1, ..CLEAN },
    Case {
        name: "threads-summary-unbound",
        scenario: 1,
        acme: SUMMARY,
        globex: SUMMARY,
        // A thread per connection answers what it did itself: that basis helps where values cannot.
        ..UNBOUND
    },
    Case { name: "threads-summary-per-transaction", scenario: 1, acme: SUMMARY, globex: SUMMARY, ..CLEAN },
    Case { name: "handover-unbound", scenario: 1, program: Program::Waitress, ..UNBOUND },
    Case { name: "handover-per-transaction", scenario: 1, program: Program::Waitress, ..CLEAN },
    // 2: asyncio.
    Case { name: "asyncio-unbound", scenario: 2, program: Program::Psycopg, ..UNBOUND },
    Case { name: "asyncio-session-set", scenario: 2, program: Program::Psycopg, ..SESSION },
    Case { name: "asyncio-per-transaction", scenario: 2, program: Program::Psycopg, ..CLEAN },
    Case { name: "asyncio-traced-unbound", scenario: 2, program: Program::Psycopg, traced: true, ..UNBOUND },
    Case {
        name: "asyncio-summary-unbound",
        scenario: 2,
        program: Program::Psycopg,
        acme: SUMMARY,
        globex: SUMMARY,
        blind_together: true,
        ..UNBOUND
    },
    Case {
        name: "asyncio-summary-per-transaction",
        scenario: 2,
        program: Program::Psycopg,
        acme: SUMMARY,
        globex: SUMMARY,
        ..CLEAN
    },
    Case {
        name: "asyncpg-unbound",
        scenario: 2,
        program: Program::Asyncpg,
        // Its pool sends RESET ALL when a connection comes back: nobody is bound then, and nobody is meant to be.
        must: &[must(REUSE, "medium", "globex", "acme"), must(REUSE, "medium", "acme", "globex")],
        ..UNBOUND
    },
    Case { name: "asyncpg-per-transaction", scenario: 2, program: Program::Asyncpg, ..CLEAN },
    Case {
        name: "asyncio-job-unbound",
        scenario: 2,
        program: Program::Psycopg,
        job: Some("unbound"),
        // The job takes the bracket away: with one request in flight, inference is all there is.
        must: &[must(REUSE, "medium", "globex", "acme"), must(REUSE, "medium", "acme", "globex")],
        ..UNBOUND
    },
    Case { name: "asyncio-job-bound", scenario: 2, program: Program::Psycopg, job: Some("bound"), ..CLEAN },
    // 3: a cancelled command.
    Case {
        name: "redis-cancelled-4.5.1",
        scenario: 3,
        twin: Twin::Violating,
        program: Program::Redis451,
        flow: Flow::GiveUp,
        leaks_to: Some("globex"),
        must: &[must(DESYNC, "critical", "globex", "acme")],
        may: &[may(DESYNC), may(UNPARTITIONED)],
        ..STORE
    },
    Case { name: "redis-cancelled-5.2.1", scenario: 3, flow: Flow::GiveUp, ..STORE },
    // 4: Redis AUTH per checkout, key prefixes.
    Case {
        name: "redis-auth-failed",
        scenario: 4,
        twin: Twin::Violating,
        mode: "auth-sent",
        must: &[must(STALE, "critical", "globex", "acme")],
        may: LEFT_BEHIND_EITHER,
        ..STORE
    },
    Case { name: "redis-auth", scenario: 4, mode: "auth", ..STORE },
    Case {
        name: "redis-prefix-crossed",
        scenario: 4,
        twin: Twin::Violating,
        mode: "crossed",
        acme: FEW,
        globex: &["PUT /orders/{new}", "GET /crossed/{few}"],
        leaks_to: Some("globex"),
        must: &[must(STALE, "high", "globex", "acme")],
        may: &[may(UNPARTITIONED)],
        blind_together: true,
        ..STORE
    },
    Case { name: "redis-prefix", scenario: 4, ..KEY_SCOPED },
    Case { name: "redis-unscoped", scenario: 4, ..KEY_UNSCOPED },
    Case {
        name: "ioredis-auth-failed",
        scenario: 4,
        twin: Twin::Violating,
        program: Program::IoRedis,
        mode: "auth-sent",
        must: &[must(STALE, "critical", "globex", "acme")],
        may: LEFT_BEHIND_EITHER,
        ..STORE
    },
    Case { name: "ioredis-auth", scenario: 4, program: Program::IoRedis, mode: "auth", ..STORE },
    Case { name: "ioredis-prefix", scenario: 4, program: Program::IoRedis, ..KEY_SCOPED },
    // 5: Node.js, and work stealing.
    Case { name: "node-unbound", scenario: 5, program: Program::Node, ..UNBOUND },
    Case { name: "node-session-set", scenario: 5, program: Program::Node, ..SESSION },
    Case { name: "node-per-transaction", scenario: 5, program: Program::Node, ..CLEAN },
    Case { name: "tokio-unbound", scenario: 5, program: Program::Tokio, ..UNBOUND },
    Case { name: "tokio-session-set", scenario: 5, program: Program::Tokio, ..SESSION },
    Case { name: "tokio-per-transaction", scenario: 5, program: Program::Tokio, ..CLEAN },
    // 6: HTTP keep-alive.
    Case { name: "gateway-static-token", scenario: 6, program: Program::Gateway, mode: "static", ..UNBOUND },
    Case {
        name: "gateway-static-token-traced",
        scenario: 6,
        program: Program::Gateway,
        mode: "static",
        traced: true,
        ..UNBOUND
    },
    Case { name: "gateway-exchanged-token", scenario: 6, program: Program::Gateway, mode: "exchange", ..CLEAN },
    Case { name: "gateway-forwarded-token", scenario: 6, program: Program::Gateway, mode: "forward", ..CLEAN },
    // 7: one connection for all, its requests side by side.
    Case { name: "http2-static-token", scenario: 7, program: Program::Http2, mode: "static", ..UNBOUND },
    Case { name: "http2-forwarded-token", scenario: 7, program: Program::Http2, mode: "forward", ..CLEAN },
    Case { name: "grpc-static-token", scenario: 7, program: Program::Grpc, mode: "static", ..UNBOUND },
    Case { name: "grpc-exchanged-token", scenario: 7, program: Program::Grpc, mode: "exchange", ..CLEAN },
    Case { name: "grpc-js-static-token", scenario: 7, program: Program::GrpcJs, mode: "static", ..UNBOUND },
    Case { name: "grpc-js-exchanged-token", scenario: 7, program: Program::GrpcJs, mode: "exchange", ..CLEAN },
    // 8: MariaDB.
    Case { name: "mysql-unbound", scenario: 8, program: Program::SqlAlchemy, ..UNBOUND },
    Case { name: "mysql-session-set", scenario: 8, program: Program::SqlAlchemy, ..SESSION },
    Case {
        name: "mysql-reset",
        scenario: 8,
        program: Program::Connector,
        // Its pool sends COM_RESET_CONNECTION when a connection comes back: nothing of acme's is left, so nothing leaks,
        // and globex has proved nothing.
        leaks_to: None,
        must: &[must(REUSE, "medium", "globex", "acme")],
        may: &[may(UNPARTITIONED)],
        ..SESSION
    },
    Case { name: "mysql-per-checkout", scenario: 8, program: Program::SqlAlchemy, mode: "per-checkout", ..CLEAN },
    Case { name: "mysql-predicate", scenario: 8, program: Program::SqlAlchemy, mode: "predicate", ..CLEAN },
    Case { name: "mysql-change-user", scenario: 8, program: Program::Connector, mode: "change-user", ..CLEAN },
    Case { name: "asyncmy-unbound", scenario: 8, program: Program::Asyncmy, ..UNBOUND },
    Case { name: "asyncmy-session-set", scenario: 8, program: Program::Asyncmy, ..SESSION },
    Case { name: "asyncmy-per-checkout", scenario: 8, program: Program::Asyncmy, mode: "per-checkout", ..CLEAN },
    // 9: memcached.
    Case {
        name: "memcached-unscoped",
        scenario: 9,
        program: Program::Pymemcache,
        // It is over before the process is surely known to be quiet when nobody asks: inference may be all there is.
        must: &[must(UNSCOPED, "medium", "globex", "acme")],
        ..KEY_UNSCOPED
    },
    Case { name: "memcached-prefix", scenario: 9, program: Program::Pymemcache, ..KEY_SCOPED },
];

/// Services that differ from others by their TLS alone, which are played encrypted.
pub const ENCRYPTED: &[Case] = &[
    Case { name: "gateway-go-static-token", scenario: 6, program: Program::GoGateway, mode: "static", ..UNBOUND },
    Case { name: "gateway-go-exchanged-token", scenario: 6, program: Program::GoGateway, mode: "exchange", ..CLEAN },
    Case { name: "gateway-bun-static-token", scenario: 6, program: Program::BunGateway, mode: "static", ..UNBOUND },
    Case { name: "gateway-bun-exchanged-token", scenario: 6, program: Program::BunGateway, mode: "exchange", ..CLEAN },
];
