//! The JSON schema of the configuration, for editors: `docs/config.schema.json`; and as a part of the schema of the Helm
//! chart's values, so that a misspelt key is refused where it is typed and not on the node.

use serde_json::Value;

use super::file::File;

/// The schema as JSON text, with a final newline.
pub fn schema() -> String {
    let schema = schemars::schema_for!(File);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// `values`, the schema of the chart's values, with the configuration's as what `config` may be. Nothing else of it
/// changes. `None`: it is not laid out as expected (two spaces a step, `config` among the properties, `definitions` last).
pub fn chart_schema(values: &str) -> Option<String> {
    let mut schema: Value = serde_json::to_value(schemars::schema_for!(File)).ok()?;
    // Helm's engines read draft 7, which calls them so.
    rename(&mut schema);
    let whole = schema.as_object_mut()?;
    let definitions = whole.remove("definitions")?;
    whole.remove("$schema");
    // The chart adds what must be there.
    whole.remove("required");
    let block = |value: &Value, indent: &str| {
        serde_json::to_string_pretty(value).ok().map(|text| text.replace('\n', &format!("\n{indent}")))
    };
    let (before, rest) = values.split_once("\n    \"config\": ")?;
    let (_, after) = rest.split_once("\n    },\n")?;
    let (between, _) = after.split_once("\n  \"definitions\": ")?;
    Some(format!(
        "{before}\n    \"config\": {},\n{between}\n  \"definitions\": {}\n}}\n",
        block(&schema, "    ")?,
        block(&definitions, "  ")?
    ))
}

/// `$defs` becomes `definitions`, where it stands and where it is referred to.
fn rename(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(definitions) = map.remove("$defs") {
                map.insert("definitions".to_owned(), definitions);
            }
            if let Some(Value::String(target)) = map.get_mut("$ref") {
                *target = target.replace("#/$defs/", "#/definitions/");
            }
            map.values_mut().for_each(rename);
        }
        Value::Array(list) => list.iter_mut().for_each(rename),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_is_current() {
        crate::testing::assert_current("docs/config.schema.json", &super::schema());
    }

    /// A key that nobody describes is a key that nobody uses.
    #[test]
    fn every_key_is_described() {
        let page = std::fs::read_to_string(crate::testing::repository("docs/configuration.md")).unwrap();
        let words: std::collections::HashSet<&str> =
            page.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').collect();
        let schema: serde_json::Value = serde_json::from_str(&super::schema()).unwrap();
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, part) in definitions.iter().map(|(n, p)| (n.as_str(), p)).chain([("the file", &schema)]) {
            for key in part["properties"].as_object().into_iter().flat_map(|p| p.keys()) {
                assert!(words.contains(key.as_str()), "docs/configuration.md does not describe `{key}` of {name}");
            }
        }
        let headers = monitor_core::model::HeaderPolicy::default();
        for header in [headers.tenant, headers.credential, headers.trace, headers.baggage].concat() {
            assert!(
                page.contains(&format!("`{header}`")),
                "docs/configuration.md does not name the default `{header}`"
            );
        }
    }

    #[test]
    fn the_charts_schema_holds_the_configurations() {
        let path = "deploy/helm/leasewarden/values.schema.json";
        let committed = std::fs::read_to_string(crate::testing::repository(path)).unwrap();
        crate::testing::assert_current(path, &super::chart_schema(&committed).unwrap());
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let (chart, alone) = (read(&committed), read(&super::schema()));
        let [inside, outside] =
            ["/definitions", "/$defs"].map(|p| if p == "/definitions" { &chart } else { &alone }.pointer(p));
        let names = |v: Option<&serde_json::Value>| -> Vec<String> {
            v.unwrap().as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(inside), names(outside));
        assert_eq!(chart.pointer("/properties/config/additionalProperties"), Some(&false.into()));
        assert!(!committed.contains("$defs"), "draft 7 knows no $defs");
        assert_eq!(super::chart_schema("{}"), None);
    }
}
