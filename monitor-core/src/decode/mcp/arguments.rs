//! Whom a call's arguments name, and the headers that repeat them: by a member's name, in lists and objects under it, or
//! because a value at the outermost level is a known tenant's name.

use serde_json::Value;

use super::exchange::{Context, claimed, handle, tenant};
use super::head::Head;
use super::names;
use crate::model::mcp::{Exchange, Revision};
use crate::model::{Claim, Side};

/// Deepest argument that is looked at.
const MAX_DEPTH: usize = 8;
/// Most arguments that are looked at.
const MAX_NODES: usize = 4096;
/// Most tenants that are told of one call.
const MAX_NAMED: usize = 8;
/// Longest text that is read as JSON once more.
const MAX_INNER: usize = 16 << 10;

/// What stands above a value.
#[derive(Clone, Copy)]
struct Above<'n> {
    /// The name of the member that it belongs to.
    name: &'n str,
    /// That name speaks of tenants.
    speaks: bool,
    /// It belongs to the arguments' outermost level.
    outermost: bool,
}

/// Looks at a call's arguments.
pub(super) fn look(arguments: &Value, x: &mut Exchange, cx: &mut Context<'_>) {
    let mut look = Look { left: MAX_NODES, x, cx };
    look.value(arguments, Above { name: "", speaks: false, outermost: true }, 0);
}

/// Looks at the headers that repeat arguments, which may have no argument beside them. Only servers of the revision that
/// has them read them.
pub(super) fn mirrored(x: &mut Exchange, head: &Head, cx: &mut Context<'_>) {
    if x.revision != Revision::Unknown && x.revision < Revision::V2026_07_28 {
        return;
    }
    for (header, value) in &head.mirrored {
        let Some(short) = header.strip_prefix("mcp-param-") else { continue };
        // By the argument's name where the tool's schema tells it, else by the header's own.
        let memory = cx.shared.memory.clone();
        let memory = memory.borrow();
        let mirror = memory.mirrors.get(&(head.address, x.name));
        let declared = mirror.and_then(|m| m.iter().find(|(name, _)| name == short)).and_then(|(_, path)| path.last());
        let name = declared.map_or(short, String::as_str);
        if value.is_empty() || value.len() > names::MAX_TENANT {
            continue;
        }
        let claim = claimed(name, value, cx.sink);
        note(x, header, claim, names::speaks_of_tenants(name), cx);
    }
}

struct Look<'l, 'c> {
    left: usize,
    x: &'l mut Exchange,
    cx: &'l mut Context<'c>,
}

impl Look<'_, '_> {
    fn value(&mut self, value: &Value, above: Above<'_>, depth: usize) {
        if depth > MAX_DEPTH || self.left == 0 {
            // The part that is not read may name a tenant.
            note(self.x, above.name, Claim::Unreadable, true, self.cx);
            return;
        }
        self.left -= 1;
        match value {
            Value::Object(members) => {
                let by_field = filtered(members);
                for (name, value) in members {
                    if names::is_idempotency(name)
                        && let Some(key) = value.as_str()
                    {
                        self.x.idempotency = Some(self.cx.salt.fingerprint(key.as_bytes()));
                        continue;
                    }
                    let plain = Above { name, speaks: names::speaks_of_tenants(name), outermost: depth == 0 };
                    let below = match by_field {
                        // {"field": "tenant_id", "value": "acme"}
                        Some(field) if names::is_value(name) => Above { name: field, speaks: true, ..plain },
                        // {"tenant": {"id": "acme"}}
                        _ if above.speaks && names::identifies(name) => Above { name: above.name, ..above },
                        _ => plain,
                    };
                    if above.speaks && below.name == name.as_str() {
                        // {"tenants": {"acme": {}}}
                        self.claim(above, &Value::String(name.clone()), false);
                    }
                    self.value(value, below, depth + 1);
                }
            }
            Value::Array(all) => all.iter().for_each(|v| self.value(v, above, depth + 1)),
            Value::String(text) => {
                if names::is_id_field(above.name) {
                    handle(text, self.cx.salt, &mut self.x.handles_used);
                }
                self.cx.escaped_values(self.x.request, Side::Client, text);
                if text.len() <= MAX_INNER
                    && text.trim_start().starts_with(['{', '['])
                    && let Ok(inner) = serde_json::from_str::<Value>(text)
                {
                    self.value(&inner, above, depth + 1);
                } else {
                    self.claim(above, value, above.speaks);
                }
            }
            Value::Number(_) => self.claim(above, value, above.speaks),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Notes whom a value names. `says`: it names somebody even if nobody knows whom.
    fn claim(&mut self, above: Above<'_>, value: &Value, says: bool) {
        if above.speaks || above.outermost {
            let claim = tenant(above.name, value, self.cx.sink);
            note(self.x, above.name, claim, says, self.cx);
        }
    }
}

/// The member that a filter of this form is about, if it speaks of tenants: `{"field": "tenant_id", "value": …}`.
fn filtered(members: &serde_json::Map<String, Value>) -> Option<&str> {
    let field = ["field", "column", "attribute", "property", "key", "name"]
        .iter()
        .find_map(|n| members.get(*n).and_then(Value::as_str))?;
    (names::speaks_of_tenants(field) && members.keys().any(|n| names::is_value(n))).then_some(field)
}

fn note(x: &mut Exchange, name: &str, claim: Claim, says: bool, cx: &mut Context<'_>) {
    let known = matches!(claim, Claim::Tenant(_));
    let told = |(_, c): &(_, Claim)| *c == claim || (!known && !matches!(c, Claim::Tenant(_)));
    if (known || (says && matches!(claim, Claim::Opaque(_) | Claim::Unreadable)))
        && x.named.len() < MAX_NAMED
        && !x.named.iter().any(told)
    {
        x.named.push((cx.name(name), claim));
    }
}
