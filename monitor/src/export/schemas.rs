//! JSON Schemas (draft 2020-12) of what the agent hands out, made from the types that it writes: `docs/schemas`.

use monitor_core::model::{Basis, EvidenceClass, Severity, Verdict};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::json::FindingJson;
use super::operations::OperationJson;
use super::services::ServiceJson;
use super::tools::ToolJson;

/// Each document and where it is committed.
pub const PATHS: [(&str, &str); 4] = [
    ("finding", "docs/schemas/finding.schema.json"),
    ("operation", "docs/schemas/operation.schema.json"),
    ("services", "docs/schemas/services.schema.json"),
    ("tools", "docs/schemas/tools.schema.json"),
];

/// The schema called `name` as JSON text, with a final newline; `None`: there is none.
pub fn schema(name: &str) -> Option<String> {
    let schema = match name {
        // One line of a file of findings, and one element of what `/findings` answers.
        "finding" => of::<FindingJson<'static>>(),
        "operation" => of::<OperationJson<'static>>(),
        "services" => of::<Vec<ServiceJson<'static>>>(),
        "tools" => of::<Vec<ToolJson>>(),
        _ => return None,
    };
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    Some(text)
}

fn of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Only these values.
fn only(schema: &mut Schema, values: impl Iterator<Item = &'static str>) {
    schema.insert("enum".to_owned(), Value::from(values.collect::<Vec<_>>()));
}

/// The severities' names.
pub(super) fn severities(schema: &mut Schema) {
    only(schema, Severity::ALL.into_iter().map(Severity::name));
}

/// The evidence classes' names.
pub(super) fn classes(schema: &mut Schema) {
    only(schema, CLASSES.into_iter().map(EvidenceClass::name));
}

/// The bases' names.
pub(super) fn bases(schema: &mut Schema) {
    only(schema, Basis::ALL.into_iter().map(Basis::name));
}

/// The verdicts' names; what has none is left out.
pub(super) fn verdicts(schema: &mut Schema) {
    only(schema, Verdict::ALL.into_iter().filter(|v| *v != Verdict::None).map(Verdict::name));
}

const CLASSES: [EvidenceClass; 3] = [EvidenceClass::Wire, EvidenceClass::Endpoint, EvidenceClass::Inferred];

#[cfg(test)]
mod tests {
    use monitor_core::engine::{DownstreamView, Habit, ServiceView, TenantView, ToolView};
    use monitor_core::model::Nanos;
    use monitor_core::model::mcp::ManifestHash;

    use super::*;
    use crate::export::json::{self, About};
    use crate::export::{sample, services, tools};

    /// With nothing allowed that is not declared: whatever is written must be in the schema.
    fn strict(name: &str) -> jsonschema::Validator {
        let mut schema: Value = serde_json::from_str(&schema(name).unwrap()).unwrap();
        close(&mut schema);
        jsonschema::validator_for(&schema).unwrap()
    }

    fn close(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if map.contains_key("properties") {
                    map.insert("additionalProperties".to_owned(), Value::Bool(false));
                }
                map.values_mut().for_each(close);
            }
            Value::Array(list) => list.iter_mut().for_each(close),
            _ => {}
        }
    }

    fn valid(name: &str, text: &str) {
        let value: Value = serde_json::from_str(text).unwrap();
        let errors: Vec<String> = strict(name).iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?} in {text}");
    }

    #[test]
    fn the_committed_schemas_are_current() {
        for (name, path) in PATHS {
            crate::testing::assert_current(path, &schema(name).unwrap());
        }
        assert!(schema("nothing").is_none());
    }

    #[test]
    fn what_is_written_is_as_declared() {
        let about = About { node: "n".into(), cluster: "c".into() };
        valid("finding", &json::finding(&sample::finding(), &about));
        valid("finding", &json::finding(&sample::of_a_pod(), &About::default()));
        let mut bare = sample::finding();
        (bare.tenants, bare.workload, bare.service, bare.flow) = Default::default();
        valid("finding", &json::finding(&bare, &about));
        let view = |workload: Option<&str>| ServiceView {
            name: "orders-db".into(),
            protocol: "postgres",
            address: "127.0.0.1:5432".parse().unwrap(),
            workload: workload.map(str::to_owned),
            relay: false,
            tenants: vec![TenantView {
                tenant: "acme".into(),
                first_seen: Nanos(0),
                last_seen: Nanos(1_000),
                verdicts: vec![("revalidated", 3)],
                bindings: vec![("app.tenant_id".into(), 3)],
            }],
            unattributed: 1,
            bindings: 3,
            tools: vec![DownstreamView {
                tool: "add".into(),
                service: "db".into(),
                habit: Habit { scoped: 3, bare: 0, unknown: 1 },
            }],
            tls: workload.map(|_| crate::testing::tls_view()),
        };
        valid("services", &services::services(&[view(None), view(Some("db"))]));
        valid("services", "[]");
        let tool = ToolView {
            server: "orders".into(),
            version: "1.2.0".into(),
            service: "orders-mcp".into(),
            tool: "search".into(),
            hash: ManifestHash([0xab; 32]),
        };
        valid("tools", &tools::tools(&[tool]));
    }

    #[test]
    fn what_is_not_declared_is_refused() {
        let text = json::finding(&sample::finding(), &About::default());
        for (from, to) in [
            ("\"severity\":\"critical\"", "\"severity\":\"worst\""),
            ("\"basis\":\"binding\"", "\"basis\":\"guess\""),
            ("\"count\":3", "\"count\":\"3\""),
            ("\"count\":3", "\"n\":3"),
        ] {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            assert!(!strict("finding").is_valid(&serde_json::from_str(&other).unwrap()), "{other}");
        }
    }

    #[test]
    fn every_word_is_defined_for_users() {
        let page = std::fs::read_to_string(crate::testing::repository("docs/vocabulary.md")).unwrap();
        let words = Verdict::ALL
            .into_iter()
            .map(Verdict::name)
            .chain(Basis::ALL.into_iter().map(Basis::name))
            .chain(CLASSES.into_iter().map(EvidenceClass::name))
            .chain(Severity::ALL.into_iter().map(Severity::name));
        for word in words {
            assert!(page.contains(&format!("| `{word}` |")), "`{word}` is not defined in docs/vocabulary.md");
        }
    }
}
