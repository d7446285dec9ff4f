//! What frameworks say on a connection that tenants share, as their documentation has it, each with a faulty twin.
//!
//! A story is a list of requests: for whom, and what the application says for it, one statement after the other on one
//! pooled connection. `c` stands for a clean twin: no finding of medium or above. `v` for a violating one, whose last
//! request is the faulty one.

use super::*;
use crate::model::Severity;

/// The statements of one request; `{t}` is the tenant, `{n}` its number, `{o}` the other tenant, `{m}` that one's number.
type Request = &'static [&'static str];

fn fill(sql: &str, tenant: usize) -> String {
    let names = ["acme", "globex"];
    let numbers = ["1842", "2077"];
    sql.replace("{t}", names[tenant])
        .replace("{o}", names[1 - tenant])
        .replace("{n}", numbers[tenant])
        .replace("{m}", numbers[1 - tenant])
}

fn tag(sql: &str) -> &'static str {
    match sql.split(' ').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "set" => "SET",
        "reset" => "RESET",
        "discard" => "DISCARD ALL",
        "begin" => "BEGIN",
        "commit" => "COMMIT",
        "rollback" => "ROLLBACK",
        "insert" => "INSERT 0 1",
        "update" => "UPDATE 1",
        _ => "SELECT 1",
    }
}

/// Requests of the two tenants in turn through a pooler with one server connection, then `last`, for the second tenant.
fn play_requests(rounds: usize, request: Request, last: Option<Request>) -> Script {
    let mut script = Script::default();
    let server = script.connect(POOLER, DATABASE, 40_000, 5432);
    let clients = [script.connect(ACME, POOLER, 40_001, 6432), script.connect(GLOBEX, POOLER, 40_002, 6432)];
    for conn in [server, clients[0], clients[1]] {
        script.start(conn, "app");
    }
    let one = |script: &mut Script, tenant: usize, request: Request| {
        let mut open = false;
        for sql in request {
            let sql = fill(sql, tenant);
            let tag = tag(&sql);
            open = match tag {
                "BEGIN" => true,
                "COMMIT" | "ROLLBACK" => false,
                _ => open,
            };
            script.query(clients[tenant], server, &sql, tag, if open { b'T' } else { b'I' });
        }
    };
    for round in 0..rounds {
        // Each tenant also follows on itself at times.
        one(&mut script, [0, 1, 1, 0][round % 4], request);
    }
    if let Some(last) = last {
        one(&mut script, 0, request);
        one(&mut script, 1, last);
        one(&mut script, 0, request);
    }
    for conn in [clients[0], clients[1], server] {
        script.close(conn);
    }
    script
}

/// The same in an application with a pool of its own: requests over HTTP, one at a time, until it is known for whom its
/// work is; then the requests in question.
fn play_in_app(request: Request, last: Option<Request>) -> Script {
    let mut script = Script::default();
    let pool = script.connect(POOLER, DATABASE, 40_000, 5432);
    let clients = [script.connect(ACME, POOLER, 41_000, 8080), script.connect(GLOBEX, POOLER, 41_001, 8080)];
    script.start(pool, "app");
    let last = last.map_or(request, |last| last);
    for i in 0..80 {
        // Both orders: the tenants in turn, and each twice.
        let tenant = if i < 60 { i % 2 } else { [0, 1, 1, 0][i % 4] };
        let get = format!("GET /orders/{i} HTTP/1.1\r\nhost: service\r\n\r\n");
        script.send(clients[tenant], 0, get.into_bytes());
        let mut open = false;
        for sql in if i == 77 { last } else { request } {
            let sql = fill(sql, tenant);
            let tag = tag(&sql);
            open = tag == "BEGIN" || open && !matches!(tag, "COMMIT" | "ROLLBACK");
            script.send(pool, 0, pg::query(&sql));
            script.send(pool, 1, pg::reply(tag, if open { b'T' } else { b'I' }));
        }
        script.send(clients[tenant], 1, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec());
        script.steps.push(Step::Wait { millis: 5 });
    }
    script.steps.push(Step::Wait { millis: 500 });
    script
}

/// Findings that count. A value that is set for the session behind a transaction pooler is worth its own finding
/// (`session-set-under-pooler`), however carefully it is set anew: these recipes are for an application's own pool.
fn bad(seen: &Seen) -> Vec<(&'static str, Severity, String)> {
    let name = |t: &Option<String>| t.clone().unwrap_or_default();
    let bad = seen.findings.iter().filter(|f| f.severity >= Severity::Medium && f.rule != "session-set-under-pooler");
    bad.map(|f| (f.rule, f.severity, name(&f.tenants.used))).collect()
}

struct Recipe {
    name: &'static str,
    /// What every request says.
    clean: Request,
    /// What the faulty one says.
    faulty: &'static [Request],
}

const fn recipe(name: &'static str, clean: Request, faulty: &'static [Request]) -> Recipe {
    Recipe { name, clean, faulty }
}

const RECIPES: &[Recipe] = &[
    recipe(
        "django-tenants",
        &[
            "SET search_path = 'public'",
            "SELECT d.id, d.tenant_id, c.schema_name FROM \"customers_domain\" d INNER JOIN \"customers_client\" c ON d.tenant_id = c.id WHERE d.domain = '{t}.example.com' LIMIT 21",
            "SET search_path = '{t}','public'",
            "SELECT o.id FROM \"shop_order\" o",
        ],
        &[
            // The middleware that sets the tenant is missing.
            &[
                "SET search_path = 'public'",
                "SELECT d.id FROM \"customers_domain\" d WHERE d.domain = '{t}.example.com' LIMIT 21",
                "SELECT o.id FROM \"shop_order\" o",
            ],
            // A signal handler reads a tenant's table before it.
            &[
                "SET search_path = 'public'",
                "SELECT o.id FROM \"shop_order\" o",
                "SET search_path = '{t}','public'",
                "SELECT o.id FROM \"shop_order\" o",
            ],
            &["SET search_path = '{o}','public'", "SELECT o.id FROM \"shop_order\" o"],
            // Nothing is set at all: the other's schema is still there.
            &["SELECT o.id FROM \"shop_order\" o"],
        ],
    ),
    recipe(
        "API key before row-level security, in one transaction",
        &[
            "BEGIN",
            "SELECT tenant_id FROM api_keys WHERE key_hash = 'k-{t}'",
            "SELECT set_config('app.tenant_id', '{t}', true)",
            "SELECT id FROM orders",
            "COMMIT",
        ],
        &[
            &["BEGIN", "SELECT tenant_id FROM api_keys WHERE key_hash = 'k'", "SELECT id FROM orders", "COMMIT"],
            &["BEGIN", "SELECT id FROM orders", "SELECT set_config('app.tenant_id', '{t}', true)", "COMMIT"],
        ],
    ),
    recipe(
        "session look-up before a binding for the session, left behind",
        &[
            "SELECT data FROM sessions WHERE id = 's-{t}'",
            "SET app.tenant_id = '{t}'",
            "SELECT id FROM orders",
            "INSERT INTO audit (what) VALUES ('x')",
        ],
        &[
            &["SELECT data FROM sessions WHERE id = 's'", "SELECT id FROM orders"],
            &["INSERT INTO audit (what) VALUES ('x')", "SET app.tenant_id = '{t}'", "SELECT id FROM orders"],
        ],
    ),
    recipe(
        "Rails Apartment",
        &[
            "SELECT \"public\".\"accounts\".* FROM \"public\".\"accounts\" WHERE \"public\".\"accounts\".\"subdomain\" = '{t}' LIMIT 1",
            "SET search_path TO \"{t}\", \"public\"",
            "SELECT \"orders\".* FROM \"orders\"",
            "SET search_path TO \"public\"",
        ],
        &[
            &["SELECT \"orders\".* FROM \"orders\""],
            &["SET search_path TO \"{o}\", \"public\"", "SELECT \"orders\".* FROM \"orders\""],
        ],
    ),
    recipe(
        "acts_as_tenant",
        &[
            "SELECT \"accounts\".* FROM \"accounts\" WHERE \"accounts\".\"subdomain\" = '{t}' LIMIT 1",
            "SELECT \"users\".* FROM \"users\" WHERE \"users\".\"tenant_id\" = '{t}'",
            "SELECT \"orders\".* FROM \"orders\" WHERE \"orders\".\"tenant_id\" = '{t}'",
            "UPDATE \"orders\" SET \"done\" = TRUE WHERE \"orders\".\"tenant_id\" = '{t}' AND \"orders\".\"id\" = 7",
        ],
        &[
            &["SELECT \"orders\".* FROM \"orders\""],
            &["SELECT \"orders\".* FROM \"orders\" WHERE \"orders\".\"tenant_id\" = '{o}'"],
        ],
    ),
    recipe(
        "acts_as_tenant with numbers",
        &["SELECT \"orders\".* FROM \"orders\" WHERE \"orders\".\"account_id\" = {n}"],
        &[&["SELECT \"orders\".* FROM \"orders\""]],
    ),
    recipe(
        "Hibernate, schema per tenant",
        &["SET search_path TO '{t}'", "select o1_0.id from orders o1_0", "SET search_path TO 'public'"],
        &[&["select o1_0.id from orders o1_0"], &["SET search_path TO '{o}'", "select o1_0.id from orders o1_0"]],
    ),
    recipe(
        "Hibernate, schema per tenant by number",
        &["SET search_path TO 'c_{n}'", "select o1_0.id from orders o1_0"],
        &[&["select o1_0.id from orders o1_0"], &["SET search_path TO 'c_{m}'", "select o1_0.id from orders o1_0"]],
    ),
    recipe(
        "Hibernate, discriminator",
        &["select o1_0.id from orders o1_0 where o1_0.tenant_id = '{t}'"],
        &[&["select o1_0.id from orders o1_0"]],
    ),
    recipe(
        "Prisma RLS",
        &[
            "BEGIN",
            "SELECT set_config('app.current_company_id', 'company-{n}', TRUE)",
            "SELECT \"public\".\"Order\".\"id\" FROM \"public\".\"Order\" WHERE 1=1 OFFSET 0",
            "COMMIT",
        ],
        &[&["SELECT \"public\".\"Order\".\"id\" FROM \"public\".\"Order\" WHERE 1=1 OFFSET 0"]],
    ),
    recipe(
        "Drizzle and Supabase RLS",
        &[
            "BEGIN",
            "SELECT set_config('request.jwt.claims', '{\"sub\":\"u-{n}\",\"app_metadata\":{\"org_id\":\"{n}\"}}', TRUE)",
            "SET LOCAL ROLE authenticated",
            "SELECT id FROM orders",
            "COMMIT",
        ],
        &[&["BEGIN", "SELECT id FROM orders", "COMMIT"]],
    ),
    recipe(
        "PostgREST",
        &[
            "BEGIN",
            "SELECT set_config('search_path', '\"api\", \"public\"', true), set_config('role', 'web_user', true), set_config('request.jwt.claims', '{\"tenant_id\":\"{t}\"}', true)",
            "WITH pgrst_source AS (SELECT \"api\".\"orders\".* FROM \"api\".\"orders\") SELECT count(_postgrest_t) FROM pgrst_source AS _postgrest_t",
            "COMMIT",
        ],
        &[&[
            "BEGIN",
            "WITH pgrst_source AS (SELECT \"api\".\"orders\".* FROM \"api\".\"orders\") SELECT count(_postgrest_t) FROM pgrst_source AS _postgrest_t",
            "COMMIT",
        ]],
    ),
    recipe(
        "SQLAlchemy schema_translate_map, Ecto prefixes, Sequelize and Knex withSchema",
        &["SELECT tenants.id FROM public.tenants WHERE host = '{t}'", "SELECT {t}.orders.id FROM {t}.orders"],
        &[&["SELECT {o}.orders.id FROM {o}.orders"], &["SELECT {t}.orders.id FROM {t}.orders JOIN {o}.items ON true"]],
    ),
    recipe(
        "Ecto prefixes by number",
        &["SELECT o0.\"id\" FROM \"c_{n}\".\"orders\" AS o0"],
        &[&["SELECT o0.\"id\" FROM \"c_{m}\".\"orders\" AS o0"]],
    ),
    recipe(
        "SQLAlchemy, an event that sets the search path at checkout, and a table of all tenants by its schema",
        &["SET search_path TO tenant_{t}", "SELECT id FROM orders", "SELECT id FROM public.plans"],
        &[&["SELECT id FROM orders"]],
    ),
    recipe(
        "schema_translate_map, and a table of everybody's in the default schema",
        &["SELECT tenant, item FROM {t}.shop_order WHERE item != 'i'", "INSERT INTO visits (ref) VALUES ('r')"],
        &[&["SELECT tenant, item FROM {o}.shop_order WHERE item != 'i'"]],
    ),
    recipe(
        "withSchema by number, and a table of everybody's in the default schema",
        &["SELECT tenant, item FROM c_{n}.shop_order WHERE item != 'i'", "INSERT INTO visits (ref) VALUES ('r')"],
        &[&["SELECT tenant, item FROM c_{m}.shop_order WHERE item != 'i'"]],
    ),
    recipe(
        "a column by number, after an opaque key was looked up",
        &[
            "SELECT key, tenant_id FROM api_keys WHERE key = 'k'",
            "SELECT id, item FROM docs WHERE tenant_id = {n} AND NOT (item = 'i') LIMIT 3",
            "UPDATE docs SET item = 'i' WHERE tenant_id = {n} AND item = 'i'",
        ],
        &[
            &[
                "SELECT key, tenant_id FROM api_keys WHERE key = 'k'",
                "SELECT id, item FROM docs WHERE NOT (item = 'i')",
            ],
            &["SELECT id, item FROM docs WHERE NOT (item = 'i') LIMIT 3"],
        ],
    ),
    recipe(
        "a column by number, and the name beside it in what is written",
        &[
            "BEGIN",
            "SELECT docs.id FROM docs WHERE docs.item != 'i' AND docs.tenant_id = {n} LIMIT 3",
            "INSERT INTO docs (tenant_id, tenant, item) VALUES ({n}, '{t}', 'i') RETURNING docs.id",
            "COMMIT",
        ],
        &[&["BEGIN", "SELECT docs.id FROM docs WHERE docs.item != 'i' LIMIT 3", "ROLLBACK"]],
    ),
    recipe(
        "a session that is looked up and notes its last use, before the binding",
        &[
            "BEGIN",
            "SELECT tenant_id FROM sessions WHERE id = 's'",
            "UPDATE sessions SET seen = now() WHERE id = 's'",
            "SELECT name FROM tenants WHERE id = 7",
            "SELECT set_config('app.tenant_id', '{t}', true)",
            "SELECT item FROM orders",
            "INSERT INTO visits (ref) VALUES ('r')",
            "COMMIT",
        ],
        &[
            &["BEGIN", "SELECT tenant_id FROM sessions WHERE id = 's'", "SELECT item FROM orders", "COMMIT"],
            &[
                "BEGIN",
                "SELECT tenant_id FROM sessions WHERE id = 's'",
                "INSERT INTO visits (ref) VALUES ('r')",
                "SELECT set_config('app.tenant_id', '{t}', true)",
                "COMMIT",
            ],
        ],
    ),
    recipe(
        "Npgsql: what was left is discarded with the next use of a connection",
        &["DISCARD ALL", "SELECT set_config('app.tenant_id', '{t}', false)", "SELECT id FROM orders"],
        &[&["DISCARD ALL", "SELECT id FROM orders"], &["SELECT id FROM orders"]],
    ),
    recipe(
        "Spring: a data source that sets the tenant when a connection is taken, and resets it when it comes back",
        &["SET app.tenant_id = '{t}'", "SELECT o1_0.id FROM orders o1_0", "RESET app.tenant_id"],
        &[&["SELECT o1_0.id FROM orders o1_0", "RESET app.tenant_id"]],
    ),
    recipe(
        "Hibernate: CurrentTenantIdentifierResolver, and JDBC's setSchema",
        &[
            "SET SESSION search_path TO '{t}'",
            "select o1_0.id,o1_0.item from orders o1_0 where o1_0.id=7",
            "SET SESSION search_path TO 'public'",
        ],
        &[
            &["select o1_0.id,o1_0.item from orders o1_0 where o1_0.id=7"],
            &["SET SESSION search_path TO '{o}'", "select o1_0.id,o1_0.item from orders o1_0 where o1_0.id=7"],
        ],
    ),
    recipe(
        "Laravel: tenancy by schema, found by its domain",
        &[
            "select * from \"public\".\"domains\" where \"domain\" = '{t}.example.com' limit 1",
            "set search_path to \"{t}\"",
            "select * from \"orders\" where \"orders\".\"id\" = 7 limit 1",
            "set search_path to \"public\"",
        ],
        &[&["select * from \"orders\" where \"orders\".\"id\" = 7 limit 1"]],
    ),
    recipe(
        "Laravel: a global scope, after the token was looked up",
        &[
            "select * from \"personal_access_tokens\" where \"token\" = 'k' limit 1",
            "select * from \"orders\" where \"orders\".\"tenant_id\" = '{t}'",
            "insert into \"orders\" (\"tenant_id\", \"item\") values ('{t}', 'i') returning \"id\"",
        ],
        &[&["select * from \"personal_access_tokens\" where \"token\" = 'k' limit 1", "select * from \"orders\""]],
    ),
    recipe(
        "Ecto: a search path for as long as a connection is checked out",
        &["SET search_path TO {t}", "SELECT o0.\"id\" FROM \"orders\" AS o0", "SET search_path TO DEFAULT"],
        &[&["SELECT o0.\"id\" FROM \"orders\" AS o0"]],
    ),
    recipe(
        "Ecto: prepare_query with the organisation's condition",
        &["SELECT o0.\"id\", o0.\"item\" FROM \"orders\" AS o0 WHERE (o0.\"org_id\" = {n})"],
        &[&["SELECT o0.\"id\", o0.\"item\" FROM \"orders\" AS o0"]],
    ),
    recipe(
        "TypeORM, a role per tenant",
        &["SET ROLE {t}_rw", "SELECT id FROM orders", "RESET ROLE"],
        &[&["SELECT id FROM orders"], &["SET ROLE {o}_rw", "SELECT id FROM orders"]],
    ),
    recipe(
        "a role per tenant by number",
        &["SET ROLE c_{n}", "SELECT id FROM orders"],
        &[&["SELECT id FROM orders"], &["SET ROLE c_{m}", "SELECT id FROM orders"]],
    ),
];

#[test]
fn clean_recipes_are_silent() {
    let mut wrong = Vec::new();
    for recipe in RECIPES {
        for rounds in [1, 2, 3, 5, 24] {
            let seen = all(&play_requests(rounds, recipe.clean, None).steps);
            if !bad(&seen).is_empty() {
                wrong.push(format!("{}, {rounds}: {:?} {:#?}", recipe.name, bad(&seen), seen.operations));
            }
        }
        let seen = all(&play_in_app(recipe.clean, None).steps);
        if !bad(&seen).is_empty() {
            let tail = seen.operations.len().saturating_sub(30);
            wrong.push(format!("{}, in an app: {:?} {:#?}", recipe.name, bad(&seen), &seen.operations[tail..]));
        }
        let seen = all(&play_requests(24, recipe.clean, None).steps);
        let last: Vec<_> = seen.operations.iter().rev().filter(|o| o.starts_with("data ")).take(8).collect();
        // What stands in everybody's schema is nobody's, and no verdict is sure.
        // So is what stands in the default schema beside theirs, and nobody can be sure of a session's note to itself.
        let open = |o: &String| [" public.", "INSERT visits", " sessions "].iter().any(|name| o.contains(name));
        let sure = |o: &String| o.ends_with("revalidated") || o.ends_with("single-tenant") || open(o);
        if !last.iter().all(|o| sure(o)) {
            wrong.push(format!("{}, in the end: {last:#?}", recipe.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn faulty_twins_are_found() {
    let mut wrong = Vec::new();
    for recipe in RECIPES {
        for (n, faulty) in recipe.faulty.iter().enumerate() {
            let pooler = play_requests(16, recipe.clean, Some(faulty));
            let app = play_in_app(recipe.clean, Some(faulty));
            for (place, script) in [("pooler", pooler), ("app", app)] {
                let seen = all(&script.steps);
                let found = bad(&seen);
                let right = found.iter().any(|(rule, _, used)| used == "globex" && rule.starts_with("pool-"));
                if !right || found.iter().any(|(_, _, used)| used != "globex") {
                    let tail = seen.operations.len().saturating_sub(24);
                    wrong.push(format!("{} {n}, {place}: {found:?} {:#?}", recipe.name, &seen.operations[tail..]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn losing_any_part_of_a_recipe_makes_no_finding() {
    let mut wrong = Vec::new();
    for recipe in RECIPES {
        let steps = play_requests(7, recipe.clean, None).steps;
        for n in [1, 5] {
            for lost in 0..steps.len() {
                let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
                if !bad(&seen).is_empty() {
                    wrong.push(format!("{}: losing {lost}..{}: {:?}", recipe.name, lost + n, bad(&seen)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
