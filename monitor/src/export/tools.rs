//! The tools that servers were seen to list, as JSON: what `/tools` serves and `leasewarden tools` reads.

use monitor_core::engine::ToolView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tools::lock::{hash_text, parse_hash};

/// A tool that a server was seen to list.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(title = "leasewarden tool")]
pub(super) struct ToolJson {
    /// The server's name, as it calls itself.
    server: String,
    /// The server's version, as it tells it.
    version: String,
    /// The service that it is reached at.
    service: String,
    /// The tool's name.
    tool: String,
    /// `sha256:` and the hash of its canonical JSON (RFC 8785), in hexadecimal.
    hash: String,
}

/// The tools as a JSON array.
pub fn tools(list: &[ToolView]) -> String {
    let value: Vec<ToolJson> = list
        .iter()
        .map(|t| ToolJson {
            server: t.server.clone(),
            version: t.version.clone(),
            service: t.service.clone(),
            tool: t.tool.clone(),
            hash: hash_text(&t.hash),
        })
        .collect();
    serde_json::to_string(&value).unwrap_or_default()
}

/// Reads what [`tools`] writes. Members that are not known are left out: an agent may be newer.
///
/// # Errors
/// It is something else, in words.
pub fn parse(text: &str) -> Result<Vec<ToolView>, String> {
    let list: Vec<ToolJson> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    list.into_iter()
        .map(|t| {
            let hash = parse_hash(&t.hash).ok_or_else(|| format!("no hash of the tool `{}`", t.tool.escape_debug()))?;
            Ok(ToolView { server: t.server, version: t.version, service: t.service, tool: t.tool, hash })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::model::mcp::ManifestHash;

    #[test]
    fn tools_are_written_and_read_back() {
        let view = ToolView {
            server: "orders".into(),
            version: "1.2.0".into(),
            service: "orders-mcp".into(),
            tool: "search".into(),
            hash: ManifestHash([0xab; 32]),
        };
        let text = tools(std::slice::from_ref(&view));
        let hash = "ab".repeat(32);
        assert_eq!(
            text,
            format!(
                r#"[{{"server":"orders","version":"1.2.0","service":"orders-mcp","tool":"search","hash":"sha256:{hash}"}}]"#
            )
        );
        assert_eq!(parse(&text).unwrap(), [view]);
        assert!(parse("{}").is_err());
        assert!(parse(&text.replace("sha256:", "md5:")).unwrap_err().contains("`search`"));
    }
}
