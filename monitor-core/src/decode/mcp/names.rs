//! Which names speak of tenants, of ids and of idempotency, and which values are ids that nobody guesses.

use crate::decode::base64::base64;

/// Headers that repeat what the body says (2026-07-28, SEP-2243), apart from those of parameters.
pub(super) const MIRRORED: &[&str] = &["mcp-method", "mcp-name", "mcp-protocol-version"];

/// Longest value that is taken for an id.
const MAX_HANDLE: usize = 8192;
/// Longest value that may name a tenant.
pub(super) const MAX_TENANT: usize = 128;

/// A name without case and separators.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).take(64).collect::<String>().to_ascii_lowercase()
}

/// Whether a member of this name says whose data it is: `tenant_id`, `orgId`, `customer`, `workspace_id`.
pub(super) fn speaks_of_tenant(name: &str) -> bool {
    let plain = plain(name);
    let word = ["id", "name", "slug", "key", "uuid"].iter().find_map(|end| plain.strip_suffix(end)).unwrap_or(&plain);
    matches!(
        word,
        "tenant" | "org" | "organization" | "organisation" | "account" | "customer" | "workspace" | "company"
    ) && (word != plain || matches!(word, "tenant" | "org" | "organization" | "organisation"))
        || plain == "customer"
}

/// The same, or says whose in a list: `tenant_ids`, `customers`.
pub(super) fn speaks_of_tenants(name: &str) -> bool {
    speaks_of_tenant(name) || {
        let plain = plain(name);
        let one = plain.strip_suffix("ies").map(|stem| format!("{stem}y"));
        let one = one.as_deref().or_else(|| plain.strip_suffix('s'));
        one.is_some_and(speaks_of_tenant) || matches!(plain.as_str(), "accounts" | "workspaces" | "companies")
    }
}

/// Whether a member of this name tells which thing it stands in: the `id` of a tenant.
pub(super) fn identifies(name: &str) -> bool {
    matches!(
        plain(name).as_str(),
        "id" | "ids" | "name" | "names" | "slug" | "key" | "uuid" | "value" | "values" | "code"
    ) || is_comparison(name)
}

/// Whether a member of this name holds what a filter compares with.
pub(super) fn is_value(name: &str) -> bool {
    matches!(plain(name).as_str(), "value" | "values" | "operand") || is_comparison(name)
}

/// An operator as a name: `{"tenant_id": {"$in": […]}}`.
fn is_comparison(name: &str) -> bool {
    matches!(plain(name).as_str(), "eq" | "equals" | "equal" | "in" | "is" | "any" | "anyof" | "oneof")
}

/// Whether a member of this name holds an idempotency key.
pub(super) fn is_idempotency(name: &str) -> bool {
    // Vendor keys of metadata are prefixed: `com.example/idempotencyKey`.
    let last = name.rsplit('/').next().unwrap_or(name);
    plain(last) == "idempotencykey"
}

/// Whether a member of this name holds an id: `id`, `order_id`, `taskId`, `nextCursor`, `uri`.
pub(super) fn is_id_field(name: &str) -> bool {
    let camel = name.ends_with("Id") || name.ends_with("ID");
    camel
        || name.ends_with("_id")
        || name.ends_with("-id")
        || matches!(
            name,
            "id" | "uuid" | "uri" | "handle" | "cursor" | "nextCursor" | "requestState" | "etag" | "token"
        )
}

/// Whether a value holds 64 bits of entropy or more, by its looks: a UUID, or at least sixteen letters and digits in
/// the disorder of chance. Words, numbers and times do not.
pub(super) fn is_handle(value: &str) -> bool {
    if !(16..=MAX_HANDLE).contains(&value.len()) {
        return false;
    }
    // Text that was only encoded has no more entropy than it had.
    if let Some(text) = base64(value)
        && text.len() >= 8
        && text.iter().all(|b| matches!(b, b' '..=b'~' | b'\n'))
    {
        let text = String::from_utf8_lossy(&text).into_owned();
        return text.split(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_')).any(disordered);
    }
    disordered(value)
}

/// Whether no two events of a server have this id, by its looks: it cannot be guessed, or begins with a time in
/// milliseconds, as the ids of many stores of events do.
pub(super) fn is_unique(id: &str) -> bool {
    is_handle(id) || (id.len() >= 15 && id.bytes().take(13).all(|b| b.is_ascii_digit()))
}

fn disordered(value: &str) -> bool {
    let bytes = value.as_bytes();
    let allowed =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=' | b':');
    if bytes.len() < 16 || !bytes.iter().all(allowed) {
        return false;
    }
    let (mut n, mut digits, mut seen) = (0usize, 0usize, 0u128);
    for b in bytes.iter().filter(|b| b.is_ascii_alphanumeric()) {
        n += 1;
        digits += usize::from(b.is_ascii_digit());
        seen |= 1 << (b & 0x7f);
    }
    let changes = bytes
        .windows(2)
        .filter(|w| match w {
            [a, b] => {
                (a.is_ascii_lowercase() && b.is_ascii_uppercase())
                    || (a.is_ascii_digit() && b.is_ascii_alphabetic())
                    || (a.is_ascii_alphabetic() && b.is_ascii_digit())
            }
            _ => false,
        })
        .count();
    n >= 16 && digits >= 2 && seen.count_ones() >= 8 && changes >= 4.max(n.min(64) / 6)
}

/// The parts of a value that are such ids: the value itself, or parts of an address.
pub(super) fn handles<'v>(value: &'v str, each: &mut dyn FnMut(&'v str)) {
    if value.contains("://") {
        let parts = value.split(['/', '?', '&', '=', '#', ':']);
        parts.take(32).filter(|p| is_handle(p)).for_each(each);
    } else if is_handle(value) {
        each(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tenants_ids_and_keys() {
        for name in [
            "tenant",
            "tenant_id",
            "tenantId",
            "orgId",
            "org",
            "organization_id",
            "account_id",
            "customerId",
            "workspace-id",
            "TENANT_NAME",
        ] {
            assert!(speaks_of_tenant(name), "{name}");
        }
        for name in ["account", "company", "id", "organism", "workspace", "customer_email", "order_id", "accounting_id"]
        {
            assert!(!speaks_of_tenant(name), "{name}");
        }
        assert!(is_idempotency("idempotency_key") && is_idempotency("com.example/idempotencyKey"));
        assert!(!is_idempotency("key"));
        assert!(is_id_field("taskId") && is_id_field("order_id") && is_id_field("id") && !is_id_field("paid"));
    }

    #[test]
    fn ids_that_nobody_guesses() {
        for value in [
            "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11",
            "9f86d081884c7d65",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "task_5f3Kq9ZbT0wXv81mPz7L",
            "dQw4w9WgXcQ_1a2B3c4D5e6F",
            // base64 of {"state":"9f86d081884c7d659a2feaa0c55ad015"}
            "eyJzdGF0ZSI6IjlmODZkMDgxODg0YzdkNjU5YTJmZWFhMGM1NWFkMDE1In0=",
        ] {
            assert!(is_handle(value), "{value}");
        }
        for value in [
            "4711",
            "order-4711",
            "customer-satisfaction-report-2024",
            "getCustomerOrdersByRegion2",
            "2026-07-28T12:00:00.000Z",
            "00000000-0000-0000-0000-000000000000",
            "1234567890123456789",
            "b2Zmc2V0OjEwMDowMDAx", // base64 of offset:100:0001
            "internationalization2024",
            "production-eu-west-1-cluster-01",
        ] {
            assert!(!is_handle(value), "{value}");
        }
        let mut found = Vec::new();
        handles("orders://acme/items/9f86d081884c7d65?x=1", &mut |h| found.push(h));
        assert_eq!(found, ["9f86d081884c7d65"]);
    }
}
