//! Released frameworks, used for two tenants as their own documentation has it, and the faulty twins of some. What runs,
//! and what must and may be found, is `tests::lab::recipe_cases`; here a part of it is demanded. All of it is played by
//! `cargo xtask accuracy`.

use anyhow::{Context, Result, bail};
use tests::lab::agent::binary;
use tests::lab::recipe_cases::Case;
use tests::lab::recipes::Stage;

/// `NAME::with_N` for each case and number of requests in flight.
macro_rules! recipes {
    ($($module:ident: $case:literal [$($with:ident = $n:literal),+];)+) => {$(
        mod $module {
            $(#[test]
            fn $with() {
                super::perform($case, $n);
            })+
        }
    )+};
}

recipes! {
    django_tenants: "recipe-django-tenants" [with_1 = 1, with_16 = 16];
    django_tenants_skipped: "recipe-django-tenants-skipped" [with_1 = 1];
    django_column: "recipe-django-column" [with_1 = 1];
    django_pool: "recipe-django-rls-pool" [with_16 = 16];
    flask_session: "recipe-flask-session" [with_1 = 1, with_16 = 16];
    sqlalchemy_translate: "recipe-sqlalchemy-translate" [with_1 = 1];
    sqlalchemy_translate_number: "recipe-sqlalchemy-translate-number" [with_16 = 16];
    sqlalchemy_column: "recipe-sqlalchemy-column" [with_16 = 16];
    sqlalchemy_criteria: "recipe-sqlalchemy-criteria" [with_1 = 1];
    pool_per_tenant: "recipe-pool-per-tenant" [with_16 = 16];
    pool_per_tenant_others: "recipe-pool-per-tenant-others" [with_1 = 1];
    prisma: "recipe-prisma-rls" [with_1 = 1];
    mikro_schema_others: "recipe-mikro-schema-others" [with_1 = 1];
    piccolo: "recipe-piccolo" [with_16 = 16];
    sqlmodel_column: "recipe-sqlmodel-column" [with_1 = 1];
    asyncpg_setup_forgotten: "recipe-asyncpg-setup-forgotten" [with_1 = 1];
    node_no_rollback: "recipe-node-no-rollback" [with_1 = 1];
    node_rollback: "recipe-node-rollback" [with_16 = 16];
    sequelize_scope: "recipe-sequelize-scope" [with_1 = 1];
    kysely_schema: "recipe-kysely-schema" [with_1 = 1];
    drizzle: "recipe-drizzle" [with_16 = 16];
    redlock: "recipe-redlock" [with_1 = 1, with_16 = 16];
    limiter: "recipe-limiter" [with_1 = 1];
    databases: "recipe-databases" [with_1 = 1];
    chat_default_key: "recipe-chat-default-key" [with_1 = 1];
    flask_session_redis: "recipe-flask-session-redis" [with_1 = 1];
    flask_lock: "recipe-flask-lock" [with_16 = 16];
    haproxy_cookies: "recipe-haproxy-cookies" [with_1 = 1, with_16 = 16];
    haproxy_one_cookie: "recipe-haproxy-one-cookie" [with_1 = 1];
    envoy_tokens: "recipe-envoy-tokens" [with_1 = 1, with_16 = 16];
    envoy_one_token: "recipe-envoy-one-token" [with_1 = 1, with_16 = 16];
    httpx_one_jar: "recipe-httpx-one-jar" [with_1 = 1];
    requests_cache_by_address: "recipe-requests-cache-by-address" [with_1 = 1];
    requests_cache_by_credential: "recipe-requests-cache-by-credential" [with_1 = 1];
}

/// Plays a case and demands what it says of itself.
fn perform(name: &str, in_flight: u32) {
    let _seat = crate::room::enter(in_flight);
    let mut report = String::new();
    if let Err(error) = play(name, in_flight, &mut report) {
        panic!("{name} with {in_flight}: {error:#}\n{report}");
    }
}

fn play(name: &str, in_flight: u32, report: &mut String) -> Result<()> {
    let case = Case::named(name).with_context(|| format!("no case {name}"))?;
    let mut stage = Stage::new(case, in_flight, &format!("{name}-{in_flight}"))?;
    let (outcome, _) = stage.play(&binary()?, false).inspect_err(|_| *report = stage.scene.report())?;
    let judged = case.judge(&outcome.findings);
    if !judged.false_positives.is_empty() {
        bail!("{} findings are not true\n{outcome}", judged.false_positives.len());
    }
    let demanded = !case.blind_together || in_flight == 1;
    if demanded && !judged.missed.is_empty() {
        bail!("not found: {}\n{outcome}", judged.missed.join("; "));
    }
    Ok(())
}
