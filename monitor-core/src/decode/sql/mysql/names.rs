//! What names say in MySQL and MariaDB: functions of the server itself, system tables.

/// Functions that touch no table of a tenant. A name that is missing here only makes its caller's statement count as a
/// data operation.
const BUILT_IN: &[&str] = &[
    "abs", "acos", "adddate", "addtime", "aes_decrypt", "aes_encrypt", "any_value", "ascii", "asin", "atan", "avg",
    "benchmark", "bin", "bin_to_uuid", "bit_and", "bit_count", "bit_length", "bit_or", "bit_xor", "cast", "ceil",
    "ceiling", "char", "char_length", "character_length", "charset", "coalesce", "coercibility", "collation", "compress",
    "concat", "concat_ws", "connection_id", "conv", "convert", "convert_tz", "cos", "count", "crc32", "cume_dist",
    "curdate", "current_date", "current_role", "current_time", "current_timestamp", "current_user", "curtime",
    "database", "date", "date_add", "date_format", "date_sub", "datediff", "day", "dayname", "dayofmonth",
    "dayofweek", "dayofyear", "default", "degrees", "dense_rank", "elt", "exp", "export_set", "extract",
    "field", "find_in_set", "first_value", "floor", "format", "found_rows", "from_base64", "from_days",
    "from_unixtime", "get_format", "get_lock", "greatest", "group_concat", "grouping", "hex", "hour", "if", "ifnull",
    "inet6_aton", "inet6_ntoa", "inet_aton", "inet_ntoa", "insert", "instr", "interval", "is_free_lock", "is_used_lock",
    "isnull", "json_array", "json_arrayagg", "json_contains", "json_contains_path", "json_depth", "json_extract",
    "json_insert", "json_keys", "json_length", "json_merge_patch", "json_merge_preserve", "json_object",
    "json_objectagg", "json_overlaps", "json_quote", "json_remove", "json_replace", "json_search", "json_set",
    "json_table", "json_type", "json_unquote", "json_valid", "json_value", "lag", "last_day", "last_insert_id",
    "last_value", "lastval", "lcase", "lead", "least", "left", "length", "ln", "localtime", "localtimestamp", "locate",
    "log", "log10", "log2", "lower", "lpad", "ltrim", "make_set", "makedate", "maketime", "match", "max", "md5",
    "microsecond", "mid", "min", "minute", "mod", "month", "monthname", "name_const", "nextval", "now", "nth_value",
    "ntile", "nullif", "nvl", "nvl2", "oct", "octet_length", "ord", "percent_rank", "period_add", "period_diff", "pi",
    "position", "pow", "power", "quarter", "quote", "radians", "rand", "random_bytes", "rank", "regexp_instr",
    "regexp_like", "regexp_replace", "regexp_substr", "release_all_locks", "release_lock", "repeat", "replace",
    "reverse", "right", "round", "row", "row_count", "row_number", "rpad", "rtrim", "schema", "sec_to_time", "second",
    "session_user", "setval", "sha", "sha1", "sha2", "sign", "sin", "sleep", "soundex", "space", "sqrt", "std",
    "stddev", "stddev_pop", "stddev_samp", "str_to_date", "strcmp", "subdate", "substr", "substring",
    "substring_index", "subtime", "sum", "sysdate", "system_user", "tan", "time", "time_format", "time_to_sec",
    "timediff", "timestamp", "timestampadd", "timestampdiff", "to_base64", "to_char", "to_days", "to_seconds", "trim",
    "truncate", "ucase", "uncompress", "unhex", "unix_timestamp", "upper", "user", "utc_date", "utc_time",
    "utc_timestamp", "uuid", "uuid_short", "uuid_to_bin", "values", "var_pop", "var_samp", "variance", "version",
    "week", "weekday", "weekofyear", "year", "yearweek",
];

/// Whether a function (lower case, with its database if written) is the server's own.
pub(in crate::decode::sql) fn built_in(name: &str) -> bool {
    name.starts_with("st_") || BUILT_IN.binary_search(&name).is_ok()
}

/// Whether a relation (lower case, with its database if written) belongs to the system.
pub(in crate::decode::sql) fn system_relation(name: &str) -> bool {
    match name.split_once('.') {
        Some((database, _)) => {
            let is = |system: &&str| database.eq_ignore_ascii_case(system);
            ["information_schema", "performance_schema", "mysql", "sys"].iter().any(|s| is(s))
        }
        None => name == "dual",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(BUILT_IN.is_sorted());
    }
}
