//! What names say: functions of the server itself, functions that speak of taking on a tenant, system tables.

use super::{Dialect, mysql};

/// Functions of PostgreSQL that touch no table of a tenant. A name that is missing here only makes its caller's
/// statement count as a data operation. Functions that run SQL given as text are left out on purpose.
const BUILT_IN: &[&str] = &[
    "abs",
    "age",
    "any_value",
    "array_agg",
    "array_append",
    "array_cat",
    "array_length",
    "array_position",
    "array_remove",
    "array_to_string",
    "avg",
    "bit_length",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "cast",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "clock_timestamp",
    "coalesce",
    "col_description",
    "concat",
    "concat_ws",
    "convert_from",
    "convert_to",
    "count",
    "current_catalog",
    "current_database",
    "current_date",
    "current_query",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_time",
    "current_timestamp",
    "current_user",
    "currval",
    "date_part",
    "date_trunc",
    "decode",
    "dense_rank",
    "div",
    "encode",
    "every",
    "exp",
    "extract",
    "first_value",
    "floor",
    "format",
    "format_type",
    "gen_random_uuid",
    "generate_series",
    "generate_subscripts",
    "greatest",
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_function_privilege",
    "has_schema_privilege",
    "has_sequence_privilege",
    "has_table_privilege",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "initcap",
    "json_agg",
    "json_array_elements",
    "json_array_elements_text",
    "json_array_length",
    "json_build_array",
    "json_build_object",
    "json_each",
    "json_each_text",
    "json_extract_path",
    "json_extract_path_text",
    "json_object",
    "json_object_agg",
    "json_to_record",
    "json_to_recordset",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_object_agg",
    "jsonb_set",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "lag",
    "last_value",
    "lastval",
    "lead",
    "least",
    "left",
    "length",
    "localtime",
    "localtimestamp",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_timestamp",
    "max",
    "md5",
    "min",
    "mod",
    "nextval",
    "now",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "obj_description",
    "octet_length",
    "overlay",
    "parse_ident",
    "position",
    "power",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "random",
    "rank",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "row",
    "row_number",
    "row_to_json",
    "rpad",
    "rtrim",
    "session_user",
    "setseed",
    "setval",
    "sha256",
    "shobj_description",
    "sign",
    "split_part",
    "sqrt",
    "statement_timestamp",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "system_user",
    "text",
    "timeofday",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_regclass",
    "to_regtype",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "transaction_timestamp",
    "translate",
    "trim",
    "trunc",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "unnest",
    "upper",
    "user",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "version",
    "xmin",
];

/// Whether a function (lower case, with its schema if written) is the server's own and touches no tenant's table.
pub(super) fn built_in(name: &str, dialect: Dialect) -> bool {
    if dialect == Dialect::MySql {
        return mysql::built_in(name);
    }
    let name = match name.split_once('.') {
        Some(("pg_catalog", rest)) => rest,
        Some(_) => return false,
        None => name,
    };
    // NOTIFY hands data to other sessions.
    (name.starts_with("pg_") && name != "pg_notify") || BUILT_IN.binary_search(&name).is_ok()
}

/// Whether a relation (lower case, with its schema if written) belongs to the system.
pub(super) fn system_relation(name: &str, dialect: Dialect) -> bool {
    if dialect == Dialect::MySql {
        return mysql::system_relation(name);
    }
    match name.split_once('.') {
        Some((schema, _)) => matches!(schema, "pg_catalog" | "information_schema" | "pg_toast"),
        None => name.starts_with("pg_"),
    }
}

/// Aggregates: they give a row where there was none.
pub(super) fn aggregate(name: &str) -> bool {
    matches!(
        name,
        "count"
            | "sum"
            | "avg"
            | "min"
            | "max"
            | "bool_or"
            | "bool_and"
            | "every"
            | "array_agg"
            | "string_agg"
            | "json_agg"
            | "jsonb_agg"
            | "json_object_agg"
            | "jsonb_object_agg"
            | "any_value"
    )
}

const NOUNS: &[&str] = &["tenant", "org", "account", "customer", "role", "context", "claim", "jwt"];
const VERBS: &[&str] =
    &["set", "use", "switch", "bind", "assume", "login", "impersonate", "become", "enter", "reset", "clear"];
/// Verbs that also count where they begin a name without a separator (`settenant`).
const PREFIXES: &[&str] = &["set", "switch", "bind", "assume", "impersonate"];

/// Whether a function's name speaks of taking on (or giving up) a tenant: what it binds cannot be read.
pub(super) fn speaks_of_binding(name: &str, dialect: Dialect) -> bool {
    let bare = name.rsplit('.').next().unwrap_or(name);
    if bare == "set_config" {
        // One in the system's schema is read argument by argument; any other may do anything.
        return !matches!(name, "set_config" | "pg_catalog.set_config");
    }
    if built_in(name, dialect) {
        return false;
    }
    let verb = bare.split('_').any(|w| VERBS.contains(&w)) || PREFIXES.iter().any(|p| bare.starts_with(p));
    verb && NOUNS.iter().any(|n| name.contains(n))
}

/// Whether code (a `DO` block, a cut statement) may change what the session has bound, by its words.
pub(super) fn code_may_bind(code: &str) -> bool {
    let lower = code.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
    words.any(|w| {
        matches!(w, "set_config" | "set" | "reset" | "discard" | "role" | "authorization" | "execute" | "call")
            || speaks_of_binding(w, Dialect::Postgres)
            || w.contains("tenant")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PG: Dialect = Dialect::Postgres;

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(BUILT_IN.is_sorted());
    }

    #[test]
    fn names() {
        assert!(built_in("now", PG) && built_in("pg_catalog.now", PG) && built_in("pg_backend_pid", PG));
        assert!(!built_in("app.now", PG) && !built_in("my_report", PG) && !built_in("pg_notify", PG));
        for name in ["set_tenant", "app.set_current_tenant", "switch_org", "auth.login_as_customer", "settenantid"] {
            assert!(speaks_of_binding(name, PG), "{name}");
        }
        for name in ["current_setting", "useraccount_report", "set_config", "pg_catalog.set_config", "tenant_total"] {
            assert!(!speaks_of_binding(name, PG), "{name}");
        }
        assert!(speaks_of_binding("evil.set_config", PG));
        assert!(code_may_bind("begin perform set_config('a','b',true); end"));
        assert!(!code_may_bind("begin insert into audit values (1); end"));
    }
}
