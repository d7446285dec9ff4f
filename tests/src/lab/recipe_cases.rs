//! The matrix of recipes: released frameworks and libraries, each used for several tenants as its own documentation or a
//! public bug report has it, with a faulty twin, and what the agent must and may say of it. The scenario tests and
//! `cargo xtask accuracy` read the same list.

use super::agent::Finding;
use super::cases::{Judged, Twin};
use super::service::{Behind, Recipe};

const STALE: &str = "pool-stale-binding";
const REUSE: &str = "pool-reuse-unrevalidated";
const UNSCOPED: &str = "cache-key-unscoped";
const CACHED_FOR_ANOTHER: &str = "http-cache-shared";
const UNPARTITIONED: &str = "shared-service-unpartitioned";

/// What a connection was used for without a binding for it.
const UNBOUND: &[&str] = &[STALE, REUSE];

/// A recipe and one of its twins.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, used for files too.
    pub name: &'static str,
    /// The framework.
    pub recipe: Recipe,
    /// How it is used, in the program's words.
    pub way: &'static str,
    /// Whether the work is done right.
    pub twin: Twin,
    /// Requests in flight.
    pub in_flight: &'static [u32],
    /// acme's requests.
    pub acme: &'static [&'static str],
    /// globex' requests.
    pub globex: &'static [&'static str],
    /// Whose a request is stands in the cookie of a session, not in a token of its own.
    pub cookie: bool,
    /// Somebody really gets rows of somebody else's.
    pub leaks: bool,
    /// One of these rules must speak, at medium or above, of this tenant's use; none: nothing at medium or above.
    pub must: &'static [&'static str],
    /// For whom the connection was used; either tenant where it is none.
    pub used: Option<&'static str>,
    /// What is true as well.
    pub may: &'static [&'static str],
    /// With several requests in flight nothing tells these apart: what is not found then is shown, not demanded.
    pub blind_together: bool,
}

const ORDERS: &[&str] = &["GET /orders/{new}"];
/// The forgotten path right after the other tenant and right before it, and the right one, which shows what is usual.
const PEEK: &[&str] = &["GET /peek/{new}", "GET /orders/{new}", "GET /peek/{new}"];

/// The same, where a faulty use is the exception that it would be.
const RARE: &[&str] = &[
    "GET /peek/{new}",
    "GET /orders/{new}",
    "GET /orders/{new}",
    "GET /orders/{new}",
    "GET /orders/{new}",
    "GET /orders/{new}",
];

const fn python(name: &'static str, script: &'static str) -> Recipe {
    Recipe { name, script, behind: Behind::Postgres }
}

const fn redis(name: &'static str, script: &'static str) -> Recipe {
    Recipe { name, script, behind: Behind::Redis }
}

const DJANGO: Recipe = python("Django", "pg_django.py");
const DJANGO_TENANTS: Recipe = python("django-tenants", "pg_django.py");
const FLASK: Recipe = python("Flask, SQLAlchemy, psycopg", "pg_flask.py");
const ALCHEMY_ASYNCPG: Recipe = python("FastAPI, SQLAlchemy, asyncpg", "pg_asyncio.py");
const ALCHEMY_PSYCOPG: Recipe = python("FastAPI, SQLAlchemy, psycopg", "pg_asyncio.py");
const ASYNCPG: Recipe = python("FastAPI, asyncpg", "pg_asyncio.py");
const TORTOISE: Recipe = python("FastAPI, Tortoise ORM", "pg_asyncio.py");
const SQLMODEL: Recipe = python("FastAPI, SQLModel", "pg_asyncio.py");
const PEEWEE: Recipe = python("peewee", "pg_peewee.py");
const PSYCOPG: Recipe = python("psycopg_pool", "pg_peewee.py");
const PG: Recipe = python("Express, node-postgres", "pg_node.js");
const POSTGRES_JS: Recipe = python("Express, postgres.js", "pg_node.js");
const KNEX: Recipe = python("Express, Knex", "pg_orm.js");
const OBJECTION: Recipe = python("Express, Objection", "pg_orm.js");
const KYSELY: Recipe = python("Express, Kysely", "pg_orm.js");
const SEQUELIZE: Recipe = python("Express, Sequelize", "pg_orm.js");
const TYPEORM: Recipe = python("Express, TypeORM", "pg_orm.js");
const DRIZZLE: Recipe = python("Express, Drizzle", "pg_orm.js");
const EVENTS: Recipe = python("SQLAlchemy's events", "pg_events.py");
const POOLS: Recipe = python("psycopg_pool", "pg_events.py");
const PRISMA: Recipe = python("Express, Prisma", "further/pg_mappers.js");
const MIKRO: Recipe = python("Express, MikroORM", "further/pg_mappers.js");
const PG_PROMISE: Recipe = python("Express, pg-promise", "further/pg_mappers.js");
const PICCOLO: Recipe = python("FastAPI, Piccolo", "further/pg_python.py");
const PONY: Recipe = python("Pony ORM", "further/pg_python.py");
const DJANGO_CACHE: Recipe = redis("Django's cache, django-redis", "further/redis_caches.py");
const FLASK_CACHING: Recipe = redis("Flask-Caching", "further/redis_caches.py");
const IOREDIS: Recipe = redis("Express, ioredis", "redis_node.js");
const REDLOCK: Recipe = redis("Express, redlock", "redis_node.js");
const LIMITER: Recipe = redis("Express, rate-limiter-flexible", "redis_node.js");
const FLASK_REDIS: Recipe = redis("Flask, redis-py", "redis_flask.py");
const FLASK_SESSION: Recipe = redis("Flask-Session", "redis_flask.py");
const FLASK_LIMITER: Recipe = redis("Flask-Limiter", "redis_flask.py");

/// HAProxy, its connections shared by all clients.
pub const HAPROXY: Recipe = Recipe { name: "HAProxy", script: "http_haproxy.py", behind: Behind::Http };
const ENVOY: Recipe = Recipe { name: "Envoy", script: "http_envoy.py", behind: Behind::Http2 };
const CACHED: Recipe = Recipe { name: "requests-cache", script: "further/http_cached.py", behind: Behind::Http };
const HTTPX: Recipe = Recipe { name: "aiohttp, httpx", script: "http_jar.py", behind: Behind::Http };

const fn clean(name: &'static str, recipe: Recipe, way: &'static str) -> Case {
    Case {
        name,
        recipe,
        way,
        twin: Twin::Clean,
        in_flight: &[1, 16],
        acme: ORDERS,
        globex: ORDERS,
        cookie: false,
        leaks: false,
        must: &[],
        used: None,
        may: &[],
        blind_together: false,
    }
}

/// globex' forgotten path is used among the right ones.
const fn faulty(name: &'static str, recipe: Recipe, way: &'static str) -> Case {
    Case {
        twin: Twin::Violating,
        globex: PEEK,
        leaks: true,
        must: UNBOUND,
        used: Some("globex"),
        may: &[UNPARTITIONED],
        ..clean(name, recipe, way)
    }
}

/// The same, by one statement that names the schema itself: with many in flight, two guesses must agree against it.
const fn stated(name: &'static str, recipe: Recipe, way: &'static str) -> Case {
    Case { blind_together: true, ..faulty(name, recipe, way) }
}

/// Every recipe, violating before clean.
pub const CASES: &[Case] = &[
    faulty("recipe-django-tenants-skipped", DJANGO_TENANTS, "tenants"),
    clean("recipe-django-tenants", DJANGO_TENANTS, "tenants"),
    clean("recipe-django-rls-atomic", DJANGO, "rls-atomic"),
    faulty("recipe-django-rls-session-skipped", DJANGO, "rls-session"),
    clean("recipe-django-rls-session", DJANGO, "rls-session"),
    clean("recipe-django-rls-pool", DJANGO, "rls-pool"),
    faulty("recipe-django-sessions-skipped", DJANGO, "sessions"),
    clean("recipe-django-sessions", DJANGO, "sessions"),
    faulty("recipe-django-column-forgotten", DJANGO, "column"),
    clean("recipe-django-column", DJANGO, "column"),
    clean("recipe-flask-key", FLASK, "key"),
    faulty("recipe-flask-key-left-behind", FLASK, "per-connection"),
    clean("recipe-flask-session", FLASK, "session"),
    faulty("recipe-sqlalchemy-translate-others", FLASK, "translate"),
    clean("recipe-sqlalchemy-translate", FLASK, "translate"),
    Case { globex: RARE, ..faulty("recipe-sqlalchemy-translate-number-others", FLASK, "translate-number") },
    clean("recipe-sqlalchemy-translate-number", FLASK, "translate-number"),
    faulty("recipe-sqlalchemy-checkout-forgotten", FLASK, "checkout"),
    clean("recipe-sqlalchemy-checkout", FLASK, "checkout"),
    clean("recipe-sqlalchemy-role", FLASK, "role"),
    faulty("recipe-sqlalchemy-column-forgotten", FLASK, "column"),
    clean("recipe-sqlalchemy-column", FLASK, "column"),
    clean("recipe-sqlalchemy-asyncpg", ALCHEMY_ASYNCPG, "sqlalchemy-asyncpg"),
    clean("recipe-sqlalchemy-psycopg", ALCHEMY_PSYCOPG, "sqlalchemy-psycopg"),
    faulty("recipe-asyncpg-setup-forgotten", ASYNCPG, "asyncpg-setup"),
    clean("recipe-asyncpg-setup", ASYNCPG, "asyncpg-setup"),
    clean("recipe-asyncpg-reset", ASYNCPG, "asyncpg-reset"),
    clean("recipe-tortoise", TORTOISE, "tortoise"),
    faulty("recipe-sqlmodel-column-forgotten", SQLMODEL, "sqlmodel"),
    clean("recipe-sqlmodel-column", SQLMODEL, "sqlmodel"),
    faulty("recipe-peewee-path-forgotten", PEEWEE, "peewee"),
    clean("recipe-peewee-path", PEEWEE, "peewee"),
    faulty("recipe-psycopg-reset-forgotten", PSYCOPG, "psycopg-reset"),
    clean("recipe-psycopg-reset", PSYCOPG, "psycopg-reset"),
    faulty("recipe-psycopg-discard-forgotten", PSYCOPG, "psycopg-discard"),
    clean("recipe-psycopg-discard", PSYCOPG, "psycopg-discard"),
    faulty("recipe-node-set-local-forgotten", PG, "set-local"),
    clean("recipe-node-set-local", PG, "set-local"),
    Case {
        acme: &["GET /orders/{new}", "GET /fails/{new}"],
        globex: &["GET /peek/{new}"],
        ..faulty("recipe-node-no-rollback", PG, "no-rollback")
    },
    Case { acme: &["GET /orders/{new}", "GET /fails/{new}"], ..clean("recipe-node-rollback", PG, "rollback") },
    faulty("recipe-postgres-js-forgotten", POSTGRES_JS, "postgres"),
    clean("recipe-postgres-js", POSTGRES_JS, "postgres"),
    faulty("recipe-knex-schema-others", KNEX, "knex-schema"),
    clean("recipe-knex-schema", KNEX, "knex-schema"),
    faulty("recipe-knex-local-forgotten", KNEX, "knex-local"),
    clean("recipe-knex-local", KNEX, "knex-local"),
    stated("recipe-objection-schema-others", OBJECTION, "objection-schema"),
    clean("recipe-objection-schema", OBJECTION, "objection-schema"),
    Case { globex: RARE, ..faulty("recipe-kysely-schema-others", KYSELY, "kysely-schema") },
    clean("recipe-kysely-schema", KYSELY, "kysely-schema"),
    stated("recipe-sequelize-schema-others", SEQUELIZE, "sequelize-schema"),
    clean("recipe-sequelize-schema", SEQUELIZE, "sequelize-schema"),
    faulty("recipe-sequelize-scope-forgotten", SEQUELIZE, "sequelize-scope"),
    clean("recipe-sequelize-scope", SEQUELIZE, "sequelize-scope"),
    faulty("recipe-typeorm-path-forgotten", TYPEORM, "typeorm-path"),
    clean("recipe-typeorm-path", TYPEORM, "typeorm-path"),
    faulty("recipe-typeorm-local-forgotten", TYPEORM, "typeorm-local"),
    clean("recipe-typeorm-local", TYPEORM, "typeorm-local"),
    faulty("recipe-drizzle-forgotten", DRIZZLE, "drizzle-rls"),
    clean("recipe-drizzle", DRIZZLE, "drizzle-rls"),
    faulty("recipe-sqlalchemy-begin-forgotten", EVENTS, "after-begin"),
    clean("recipe-sqlalchemy-begin", EVENTS, "after-begin"),
    faulty("recipe-sqlalchemy-criteria-forgotten", EVENTS, "criteria"),
    clean("recipe-sqlalchemy-criteria", EVENTS, "criteria"),
    faulty("recipe-sqlalchemy-reset-forgotten", EVENTS, "reset-event"),
    clean("recipe-sqlalchemy-reset", EVENTS, "reset-event"),
    faulty("recipe-psycopg-check-forgotten", POOLS, "pool-check"),
    clean("recipe-psycopg-check", POOLS, "pool-check"),
    faulty("recipe-pool-per-tenant-others", POOLS, "pool-per-tenant"),
    clean("recipe-pool-per-tenant", POOLS, "pool-per-tenant"),
    faulty("recipe-prisma-rls-forgotten", PRISMA, "prisma-rls"),
    clean("recipe-prisma-rls", PRISMA, "prisma-rls"),
    faulty("recipe-prisma-column-forgotten", PRISMA, "prisma-column"),
    clean("recipe-prisma-column", PRISMA, "prisma-column"),
    stated("recipe-mikro-schema-others", MIKRO, "mikro-schema"),
    clean("recipe-mikro-schema", MIKRO, "mikro-schema"),
    faulty("recipe-mikro-filter-off", MIKRO, "mikro-filter"),
    clean("recipe-mikro-filter", MIKRO, "mikro-filter"),
    faulty("recipe-pg-promise-forgotten", PG_PROMISE, "pg-promise"),
    clean("recipe-pg-promise", PG_PROMISE, "pg-promise"),
    faulty("recipe-piccolo-forgotten", PICCOLO, "piccolo-rls"),
    clean("recipe-piccolo", PICCOLO, "piccolo-rls"),
    stated("recipe-piccolo-schema-others", PICCOLO, "piccolo-schema"),
    clean("recipe-piccolo-schema", PICCOLO, "piccolo-schema"),
    faulty("recipe-pony-forgotten", PONY, "pony-rls"),
    clean("recipe-pony", PONY, "pony-rls"),
    // Redis.
    clean("recipe-redlock", REDLOCK, "redlock"),
    clean("recipe-limiter", LIMITER, "limiter"),
    // The database that another left selected, or what was read of another's in it.
    Case { must: &[STALE, REUSE, UNSCOPED], ..faulty("recipe-databases-forgotten", IOREDIS, "databases") },
    clean("recipe-databases", IOREDIS, "databases"),
    Case {
        acme: &["GET /default/{new}"],
        globex: &["GET /default/{new}"],
        must: &[UNSCOPED],
        used: None,
        ..faulty("recipe-chat-default-key", IOREDIS, "chat")
    },
    clean("recipe-chat", IOREDIS, "chat"),
    clean("recipe-flask-session-redis", FLASK_SESSION, "sessions"),
    clean("recipe-flask-lock", FLASK_REDIS, "lock"),
    clean("recipe-flask-limiter", FLASK_LIMITER, "limiter"),
    Case {
        acme: &["GET /peek/{new}"],
        must: &[UNSCOPED],
        // Whoever comes first when it has expired keeps it; who reads it then tells nobody apart.
        used: None,
        blind_together: true,
        ..faulty("recipe-flask-cache-one-key", FLASK_REDIS, "cache")
    },
    clean("recipe-flask-cache", FLASK_REDIS, "cache"),
    Case {
        acme: &["GET /peek/{new}"],
        must: &[UNSCOPED],
        used: None,
        ..faulty("recipe-flask-history-default-key", FLASK_REDIS, "history")
    },
    clean("recipe-flask-history", FLASK_REDIS, "history"),
    Case {
        acme: &["GET /peek/{new}"],
        must: &[UNSCOPED],
        used: None,
        blind_together: true,
        ..faulty("recipe-django-cache-one-key", DJANGO_CACHE, "django")
    },
    clean("recipe-django-cache", DJANGO_CACHE, "django"),
    Case {
        acme: &["GET /peek/{new}"],
        must: &[UNSCOPED],
        used: None,
        blind_together: true,
        ..faulty("recipe-flask-caching-one-key", FLASK_CACHING, "flask")
    },
    clean("recipe-flask-caching", FLASK_CACHING, "flask"),
    // HTTP.
    Case {
        acme: &["GET /orders/{few}"],
        globex: &["GET /orders/{few}"],
        must: &[CACHED_FOR_ANOTHER],
        used: None,
        ..faulty("recipe-requests-cache-by-address", CACHED, "by-address")
    },
    Case {
        acme: &["GET /orders/{few}"],
        globex: &["GET /orders/{few}"],
        ..clean("recipe-requests-cache-by-credential", CACHED, "by-credential")
    },
    // Everybody's is the session of the first token: globex'.
    Case {
        globex: ORDERS,
        cookie: true,
        used: Some("acme"),
        ..faulty("recipe-haproxy-one-cookie", HAPROXY, "one-cookie")
    },
    Case { cookie: true, ..clean("recipe-haproxy-cookies", HAPROXY, "cookies") },
    Case { globex: ORDERS, used: None, ..faulty("recipe-envoy-one-token", ENVOY, "one-token") },
    clean("recipe-envoy-tokens", ENVOY, "tokens"),
    Case { globex: ORDERS, used: None, ..faulty("recipe-httpx-one-jar", HTTPX, "one-jar") },
    clean("recipe-httpx-own-jar", HTTPX, "own-jar"),
];

/// Whether a finding counts: what is below medium is a hint.
fn counts(finding: &Finding) -> bool {
    !matches!(finding.severity.as_str(), "info" | "low")
}

impl Case {
    /// The case called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Compares what was found with what is true. What is below medium is not judged.
    #[must_use]
    pub fn judge(&self, findings: &[Finding]) -> Judged {
        let must = |f: &Finding| {
            self.must.contains(&f.rule.as_str()) && (self.used.is_none() || f.used_for.as_deref() == self.used)
        };
        let mut judged = Judged::default();
        if !self.must.is_empty() {
            match findings.iter().filter(|f| counts(f)).find(|f| must(f)) {
                Some(_) => judged.n_found = 1,
                None => judged.missed.push(format!("{} use={:?}", self.must.join(" or "), self.used)),
            }
        }
        for f in findings.iter().filter(|f| counts(f)) {
            if !must(f) && !self.may.contains(&f.rule.as_str()) {
                judged.false_positives.push((f.severity.clone(), f.line.clone()));
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_framework_has_a_clean_twin() {
        for (i, case) in CASES.iter().enumerate() {
            assert!(CASES.iter().skip(i + 1).all(|other| other.name != case.name), "{} is there twice", case.name);
            assert_eq!(case.twin == Twin::Clean, case.must.is_empty(), "{}", case.name);
            assert!(CASES.iter().any(|c| c.recipe == case.recipe && c.twin == Twin::Clean), "{}", case.name);
        }
    }

    #[test]
    fn what_is_below_medium_is_not_judged() {
        let finding = |severity: &str, used: &str| Finding {
            rule: REUSE.into(),
            severity: severity.into(),
            class: "endpoint".into(),
            used_for: Some(used.into()),
            bound: Some("acme".into()),
            workload: None,
            line: String::new(),
        };
        let case = Case::named("recipe-knex-local-forgotten").unwrap();
        assert_eq!(case.judge(&[finding("medium", "globex")]).n_found, 1);
        assert_eq!(case.judge(&[finding("low", "globex")]).missed.len(), 1);
        assert_eq!(case.judge(&[finding("high", "acme")]).false_positives.len(), 1);
        let clean = Case::named("recipe-knex-local").unwrap();
        assert!(clean.judge(&[finding("low", "acme")]).false_positives.is_empty());
    }
}
