//! The protocol's methods: what each counts as, what it names, and what its result must hold.

use serde_json::Value;

use crate::model::mcp::Method;

/// Methods that may be named as they are; all others are a peer's words.
pub(super) const KNOWN: &[&str] = &[
    "initialize",
    "tools/list",
    "tools/call",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
    "completion/complete",
    "subscriptions/listen",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "server/discover",
    "ping",
    "logging/setLevel",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/cancel",
    "tasks/update",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/message",
    "notifications/roots/list_changed",
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/tasks/status",
    "notifications/elicitation/complete",
];

/// What a method of MCP asks for; `None`: MCP has no such method. Of the server's own requests only their answers are
/// seen as requests of the client, and those are told apart elsewhere.
pub(super) fn of(name: &str) -> Option<Method> {
    Some(match name {
        "initialize" => Method::Initialize,
        "tools/list" => Method::ToolsList,
        "tools/call" => Method::ToolsCall,
        "resources/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "prompts/get"
        | "completion/complete"
        | "subscriptions/listen" => Method::Data,
        "resources/list" | "resources/templates/list" | "prompts/list" | "server/discover" => Method::Discover,
        "ping" | "logging/setLevel" | "sampling/createMessage" | "elicitation/create" | "roots/list" => Method::Control,
        _ if name.starts_with("tasks/") => Method::Data,
        _ if name.starts_with("notifications/") => Method::Control,
        _ => return None,
    })
}

/// Whether a method alone shows that this is MCP: other protocols have an `initialize` and a `ping`, too.
pub(super) fn shows(name: &str, params: &Value) -> bool {
    match name {
        "ping" => false,
        "initialize" => params.get("protocolVersion").is_some() && params.get("clientInfo").is_some(),
        _ => of(name).is_some(),
    }
}

/// What a request names: the tool, the prompt, the resource.
pub(super) fn named<'p>(name: &str, params: &'p Value) -> Option<&'p str> {
    let at = |value: &'p Value, key: &str| value.get(key).and_then(Value::as_str);
    match name {
        "tools/call" | "prompts/get" => at(params, "name"),
        "completion/complete" => {
            let by = params.get("ref")?;
            at(by, "name").or_else(|| at(by, "uri"))
        }
        _ if name.starts_with("resources/") => at(params, "uri"),
        _ => None,
    }
}

/// Whether the name is a resource's address, of which only the shape is kept.
pub(super) fn names_address(name: &str, value: &str) -> bool {
    name.starts_with("resources/") || value.contains("://")
}

/// Members of which a result holds at least one, for the methods whose results no other method's look like.
fn members(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "initialize" => &["protocolVersion", "serverInfo"],
        "tools/list" => &["tools"],
        "tools/call" => &["content", "structuredContent", "toolResult", "task", "taskId"],
        "resources/list" => &["resources"],
        "resources/templates/list" => &["resourceTemplates"],
        "resources/read" => &["contents"],
        "prompts/list" => &["prompts"],
        "prompts/get" => &["messages"],
        "completion/complete" => &["completion"],
        _ => return None,
    })
}

const WITH_RESULTS: [&str; 9] = [
    "initialize",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
    "completion/complete",
];

/// Whether a result is the answer to another method: it holds nothing that its own must hold, and what another's must.
pub(super) fn belongs_elsewhere(name: &str, result: &Value) -> bool {
    let has = |list: &[&str]| list.iter().any(|key| result.get(key).is_some());
    let Some(own) = members(name) else { return false };
    // A result that asks for more has a form of its own (2026-07-28).
    let asks = result.get("resultType").is_some_and(|t| t != "complete");
    !has(own) && !asks && WITH_RESULTS.iter().any(|other| *other != name && members(other).is_some_and(has))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn methods_of_mcp_and_of_others() {
        assert_eq!(of("tools/call"), Some(Method::ToolsCall));
        assert_eq!(of("tasks/get"), Some(Method::Data));
        assert_eq!(of("eth_call"), None);
        assert_eq!(of("textDocument/hover"), None);
        assert!(!shows("initialize", &json!({"processId": 1, "capabilities": {}})), "a language server");
        assert!(shows("initialize", &json!({"protocolVersion": "2025-06-18", "clientInfo": {}})));
    }

    #[test]
    fn results_that_belong_to_another_request() {
        let list = json!({"tools": []});
        let call = json!({"content": [], "isError": false});
        assert!(belongs_elsewhere("tools/call", &list) && belongs_elsewhere("tools/list", &call));
        assert!(!belongs_elsewhere("tools/list", &list) && !belongs_elsewhere("tools/call", &call));
        assert!(!belongs_elsewhere("tools/call", &json!({})), "odd, but nobody else's");
        assert!(!belongs_elsewhere("ping", &call));
        assert!(!belongs_elsewhere("tools/call", &json!({"resultType": "input_required", "messages": []})));
    }
}
