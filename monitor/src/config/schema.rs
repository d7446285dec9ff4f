//! The JSON schema of the configuration, for editors: `docs/config.schema.json`.

use super::file::File;

/// The schema as JSON text, with a final newline.
pub fn schema() -> String {
    let schema = schemars::schema_for!(File);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_is_current() {
        crate::testing::assert_current("docs/config.schema.json", &super::schema());
    }
}
