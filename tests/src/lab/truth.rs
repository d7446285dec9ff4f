//! What a service knows of its own work, against what the agent says of it: joined by the service's local port and the
//! place of the operation among those of that port.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use serde_json::Value;

use super::service::Behind;

/// One operation, as the service knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worked {
    /// Local port of the service's socket.
    pub port: u16,
    /// Place among the operations of that port.
    pub ordinal: u64,
    /// For whom it was; none when it was nobody's in particular.
    pub tenant: Option<String>,
}

impl Worked {
    /// Reads the service's file.
    ///
    /// # Errors
    /// When a line is something else.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        text.lines()
            .map(|line| {
                let value: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
                let number = |name: &str| value.get(name).and_then(Value::as_u64).context("no number");
                Ok(Self {
                    port: u16::try_from(number("port")?)?,
                    ordinal: number("ordinal")?,
                    tenant: value.get("tenant").and_then(Value::as_str).map(str::to_owned),
                })
            })
            .collect()
    }
}

/// How often right and wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To the tenant it was for.
    pub right: u64,
    /// To somebody else.
    pub wrong: u64,
}

/// What the agent said of a service's operations.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Attributed, by basis.
    pub by_basis: BTreeMap<String, Counts>,
    /// Not attributed, and for somebody.
    pub abstained: u64,
    /// Not attributed, and for nobody: right.
    pub nobody: u64,
    /// Operations that the service knows of and the agent does not.
    pub unseen: u64,
    /// Operations that the agent saw and the service does not know of.
    pub unknown: u64,
}

impl Tally {
    /// Joins the two.
    ///
    /// # Errors
    /// When a line of `operations` is something else.
    pub fn of(truth: &[Worked], operations: &str, upstream: u16, behind: Behind) -> Result<Self> {
        let mut known: HashMap<(u16, u64), &Worked> = truth.iter().map(|w| ((w.port, w.ordinal), w)).collect();
        let mut ordinals: HashMap<u16, u64> = HashMap::new();
        let mut tally = Self::default();
        let mut ops: Vec<Value> = operations
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
            .collect::<Result<_>>()?;
        // They come as they are decided; their place is by when they began. Times are of one width.
        ops.sort_by_cached_key(|op| op.pointer("/at").and_then(Value::as_str).unwrap_or_default().to_owned());
        for op in &ops {
            let text = |pointer: &str| op.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let port = |pointer: &str| text(pointer).rsplit(':').next()?.parse::<u16>().ok();
            if port("/flow/server") != Some(upstream) || !is_lab_work(text("/kind"), text("/target"), behind) {
                continue;
            }
            let port = port("/flow/client").with_context(|| format!("no port: {op}"))?;
            let ordinal = ordinals.entry(port).or_default();
            let worked = known.remove(&(port, *ordinal));
            *ordinal += 1;
            let said = op.pointer("/use_tenant").and_then(Value::as_str);
            match (worked, said) {
                (None, _) => tally.unknown += 1,
                (Some(Worked { tenant: None, .. }), None) => tally.nobody += 1,
                (Some(_), None) => tally.abstained += 1,
                (Some(w), Some(said)) => {
                    let counts = tally.by_basis.entry(text("/basis").to_owned()).or_default();
                    *(if w.tenant.as_deref() == Some(said) { &mut counts.right } else { &mut counts.wrong }) += 1;
                }
            }
        }
        tally.unseen = known.len() as u64;
        Ok(tally)
    }

    /// Right and wrong of all bases for which `counts` holds.
    #[must_use]
    pub fn sum(&self, counts: impl Fn(&str) -> bool) -> Counts {
        self.by_basis
            .iter()
            .filter(|(basis, _)| counts(basis))
            .fold(Counts::default(), |sum, (_, c)| Counts { right: sum.right + c.right, wrong: sum.wrong + c.wrong })
    }

    /// Takes over another tally.
    pub fn add(&mut self, other: &Self) {
        for (basis, c) in &other.by_basis {
            let sum = self.by_basis.entry(basis.clone()).or_default();
            sum.right += c.right;
            sum.wrong += c.wrong;
        }
        self.abstained += other.abstained;
        self.nobody += other.nobody;
        self.unseen += other.unseen;
        self.unknown += other.unknown;
    }
}

/// The evidence class of a basis.
#[must_use]
pub fn class_of(basis: &str) -> &'static str {
    match basis {
        "own-container" | "peer-container" | "bracketed" => "endpoint",
        "forwarded-content" | "trace-id" | "binding" => "wire",
        _ => "inferred",
    }
}

/// The lab's tables. An agent must show their names ([`Tally::of`] goes by them).
pub const TABLES: [&str; 3] = ["orders", "stock", "visits"];

/// Whether the services count this operation: work on the lab's tables, keys and paths, not what libraries do besides.
fn is_lab_work(kind: &str, target: &str, behind: Behind) -> bool {
    let has_tables = matches!(behind, Behind::Postgres | Behind::MariaDb);
    kind == "data" && (!has_tables || TABLES.iter().any(|table| target.contains(table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(at: u32, port: u16, tenant: Option<&str>) -> String {
        let mut op = serde_json::json!({
            "at": format!("2026-01-01T00:00:00.00000{at}Z"),
            "flow": { "client": format!("127.0.0.1:{port}"), "server": "127.0.0.1:5432" },
            "kind": "data", "target": "orders", "basis": "value-flow",
        });
        if let (Some(tenant), Some(object)) = (tenant, op.as_object_mut()) {
            object.insert("use_tenant".into(), tenant.into());
        }
        format!("{op}\n")
    }

    #[test]
    fn operations_are_joined_by_port_and_place() {
        let truth = Worked::parse(concat!(
            "{\"port\":7,\"ordinal\":0,\"tenant\":\"acme\"}\n",
            "{\"port\":7,\"ordinal\":1,\"tenant\":\"globex\"}\n",
            "{\"port\":7,\"ordinal\":2,\"tenant\":null}\n",
            "{\"port\":8,\"ordinal\":0,\"tenant\":\"acme\"}\n",
            "{\"port\":9,\"ordinal\":0,\"tenant\":\"acme\"}\n",
        ))
        .unwrap();
        // As they are decided, not as they began.
        let operations = [
            op(3, 7, Some("acme")),
            op(2, 8, None),
            op(1, 7, Some("acme")),
            op(4, 7, Some("acme")),
            op(5, 8, Some("acme")),
        ]
        .concat();
        let tally = Tally::of(&truth, &operations, 5432, Behind::Postgres).unwrap();
        assert_eq!(tally.by_basis.get("value-flow"), Some(&Counts { right: 1, wrong: 2 }));
        assert_eq!((tally.abstained, tally.nobody, tally.unseen, tally.unknown), (1, 0, 1, 1));
        let other = Tally::of(&truth, &operations, 5433, Behind::Postgres).unwrap();
        assert_eq!(other.unseen, 5);
    }
}
