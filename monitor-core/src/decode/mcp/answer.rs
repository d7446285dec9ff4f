//! From an answer to the facts that rules look at: lists of tools, ids given out, what the texts hold.

use serde_json::Value;
use smallvec::SmallVec;

use super::exchange::{Asked, Context, cursor, handle, tenant};
use super::head::revision;
use super::names;
use super::patterns::{MAX_TEXT, patterns};
use super::rpc::{Body, Message};
use super::shared::Known;
use super::views::unescaped;
use crate::decode::jcs;
use crate::model::mcp::{Answered, CacheScope, Content, Method, Pattern, Revision, Tool, ToolPage};
use crate::model::{Claim, Nanos, Side};

/// Most tools of one page.
const MAX_TOOLS: usize = 1024;
/// Most values of one result that are looked at.
const MAX_NODES: usize = 50_000;
/// Bytes of one result that are looked through for patterns.
const MAX_PATTERN_TEXT: usize = 256 << 10;
/// Most tenants that are told of one result.
const MAX_TENANTS: usize = 8;
/// Longest text that is read as JSON once more.
const MAX_INNER: usize = 64 << 10;
/// Deepest value that is looked at.
const MAX_DEPTH: usize = 32;
/// Most mirrored parameters of one tool.
const MAX_MIRRORED: usize = 16;

/// Takes an answer's message in. `bytes` is the size of the text it stood in.
pub(super) fn take(asked: &mut Asked, message: &Message, bytes: u64, ended: Nanos, cx: &mut Context<'_>) {
    asked.is_answered = true;
    let x = &mut asked.exchange;
    x.ended = ended;
    x.content.bytes = bytes;
    x.content.cut = message.cut;
    let result = match &message.body {
        Body::Error { code, .. } => {
            x.answered = Answered::RpcError(*code);
            return;
        }
        Body::Result { result, .. } => result,
        Body::Request { .. } => return,
    };
    let failed = result.get("isError").is_some_and(|v| v == &Value::Bool(true));
    x.answered = if failed { Answered::ToolError } else { Answered::Result };
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    let info = result
        .get("serverInfo")
        .or_else(|| result.get("_meta").and_then(|m| m.get("io.modelcontextprotocol/serverInfo")));
    if let Some(info) = info {
        let name = cx.name(&text(info, "name").unwrap_or_default());
        let version = cx.name(&text(info, "version").unwrap_or_default());
        x.server = Some((name, version));
    }
    if x.method == Method::Initialize
        && let Some(date) = result.get("protocolVersion").and_then(Value::as_str)
    {
        x.revision = revision(date);
    }
    for key in ["nextCursor", "requestState", "taskId"] {
        if let Some(value) = result.get(key).and_then(Value::as_str) {
            handle(value, cx.salt, &mut x.handles_given);
        }
    }
    let method = x.method;
    match method {
        Method::ToolsList => asked.exchange.tools = Some(page(asked, result, message.cut, cx)),
        Method::ToolsCall | Method::Data => {
            let mut look = Look { left: MAX_NODES, pattern_left: MAX_PATTERN_TEXT, cut: false };
            look.at(result, "", 0, asked, cx);
            asked.exchange.content.cut |= look.cut;
        }
        Method::Initialize | Method::Discover | Method::Control | Method::End => {}
    }
}

/// It may be another's answer: that there was one is all that is known.
pub(super) fn forget(asked: &mut Asked) {
    let x = &mut asked.exchange;
    x.content = Content { bytes: x.content.bytes, cut: true, ..Content::default() };
    x.handles_given.clear();
    (x.tools, x.server, x.opened) = (None, None, None);
}

/// What is remembered of the server that gave this answer.
pub(super) fn known(asked: &Asked) -> Option<Known> {
    let x = &asked.exchange;
    let tells = matches!(x.method, Method::Initialize) || (x.server.is_some() && x.revision >= Revision::V2026_07_28);
    (tells && x.answered == Answered::Result).then_some(Known { revision: x.revision, server: x.server })
}

fn page(asked: &Asked, result: &Value, cut: bool, cx: &mut Context<'_>) -> ToolPage {
    let list = result.get("tools").and_then(Value::as_array);
    let tools = list.into_iter().flatten().take(MAX_TOOLS).map(|t| tool(t, cx)).collect();
    ToolPage {
        tools,
        after: asked.cursor,
        next: cursor(result, "nextCursor", cx.salt),
        cut: cut || asked.cut || list.is_none_or(|l| l.len() > MAX_TOOLS),
        scope: match result.get("cacheScope").and_then(Value::as_str) {
            Some("public") => Some(CacheScope::Public),
            Some("private") => Some(CacheScope::Private),
            _ => None,
        },
    }
}

fn tool(tool: &Value, cx: &mut Context<'_>) -> Tool {
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
    let hint = |key: &str| tool.get("annotations").and_then(|a| a.get(key)) == Some(&Value::Bool(true));
    let mut found = SmallVec::new();
    let mut left = MAX_PATTERN_TEXT;
    for part in ["name", "title", "description", "inputSchema", "outputSchema", "annotations"] {
        if let Some(value) = tool.get(part) {
            texts(value, 0, &mut left, &mut found);
        }
    }
    Tool {
        name: cx.name(name),
        hash: jcs::tool_hash(tool),
        read_only: hint("readOnlyHint"),
        idempotent: hint("idempotentHint"),
        patterns: found,
    }
}

/// The patterns of all texts inside, member names too: a schema speaks to the model as a description does.
fn texts(value: &Value, depth: usize, left: &mut usize, out: &mut SmallVec<[Pattern; 1]>) {
    let mut one = |text: &str| {
        let n = text.len().min(MAX_TEXT);
        if n <= *left {
            *left -= n;
            patterns(text, out);
        }
    };
    match value {
        Value::String(text) => one(text),
        Value::Array(all) if depth < MAX_DEPTH => all.iter().for_each(|v| texts(v, depth + 1, left, out)),
        Value::Object(all) if depth < MAX_DEPTH => {
            for (name, v) in all {
                // A name that is a sentence.
                if name.len() > 24 {
                    let n = name.len().min(MAX_TEXT);
                    if n <= *left {
                        *left -= n;
                        patterns(name, out);
                    }
                }
                texts(v, depth + 1, left, out);
            }
        }
        _ => {}
    }
}

/// The headers that a tool's schema asks to be repeated (`x-mcp-header`), with the argument each repeats.
pub(super) fn mirrors(result: &Value) -> Vec<(String, super::shared::Mirror)> {
    let list = result.get("tools").and_then(Value::as_array);
    let of = |tool: &Value| {
        let mut found = Vec::new();
        declared(tool.get("inputSchema")?, &mut Vec::new(), &mut found);
        (!found.is_empty()).then(|| (tool.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(), found))
    };
    list.into_iter().flatten().take(MAX_TOOLS).filter_map(of).collect()
}

fn declared(schema: &Value, path: &mut Vec<String>, found: &mut super::shared::Mirror) {
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if found.len() >= MAX_MIRRORED || path.len() >= 4 {
            return;
        }
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header").and_then(Value::as_str) {
            found.push((header.to_ascii_lowercase(), path.clone()));
        }
        declared(property, path, found);
        path.pop();
    }
}

/// A look through a result.
struct Look {
    left: usize,
    pattern_left: usize,
    cut: bool,
}

impl Look {
    fn at(&mut self, value: &Value, name: &str, depth: usize, asked: &mut Asked, cx: &mut Context<'_>) {
        if depth > MAX_DEPTH || self.left == 0 {
            self.cut = true;
            return;
        }
        self.left -= 1;
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if names::speaks_of_tenant(name) {
                        note(&mut asked.exchange.content, tenant(name, value, cx.sink));
                    }
                    self.at(value, name, depth + 1, asked, cx);
                }
            }
            Value::Array(all) => all.iter().for_each(|v| self.at(v, name, depth + 1, asked, cx)),
            Value::String(text) => self.text(text, name, depth, asked, cx),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, name: &str, depth: usize, asked: &mut Asked, cx: &mut Context<'_>) {
        // Pictures and the like.
        if matches!(name, "blob" | "data") && text.len() > 1024 {
            return;
        }
        let x = &mut asked.exchange;
        if names::is_id_field(name) {
            handle(text, cx.salt, &mut x.handles_given);
        }
        canaries(text, &mut x.content, cx);
        // JSON in a text: a model reads what its escapes stand for.
        if let Some(plain) = unescaped(text) {
            canaries(&plain, &mut x.content, cx);
        }
        let n = text.len().min(MAX_TEXT);
        if n <= self.pattern_left {
            self.pattern_left -= n;
            patterns(text, &mut x.content.patterns);
            self.cut |= text.len() > MAX_TEXT;
        } else {
            self.cut = true;
        }
        cx.escaped_values(x.request, Side::Server, text);
        // A structured result is often told as the text of JSON, too.
        if name == "text"
            && text.len() <= MAX_INNER
            && text.trim_start().starts_with(['{', '['])
            && let Ok(inner) = serde_json::from_str::<Value>(text)
        {
            self.fields(&inner, "", depth + 1, asked, cx);
        }
    }

    /// What members say by their names; their texts were looked at where they stood.
    fn fields(&mut self, value: &Value, name: &str, depth: usize, asked: &mut Asked, cx: &mut Context<'_>) {
        if depth > MAX_DEPTH || self.left == 0 {
            self.cut = true;
            return;
        }
        self.left -= 1;
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if names::speaks_of_tenant(name) {
                        note(&mut asked.exchange.content, tenant(name, value, cx.sink));
                    }
                    self.fields(value, name, depth + 1, asked, cx);
                }
            }
            Value::Array(all) => all.iter().for_each(|v| self.fields(v, name, depth + 1, asked, cx)),
            Value::String(text) => {
                if names::is_id_field(name) {
                    handle(text, cx.salt, &mut asked.exchange.handles_given);
                }
                if text.len() <= MAX_INNER
                    && text.trim_start().starts_with(['{', '['])
                    && let Ok(inner) = serde_json::from_str::<Value>(text)
                {
                    self.fields(&inner, "", depth + 1, asked, cx);
                }
            }
            _ => {}
        }
    }
}

fn canaries(text: &str, content: &mut Content, cx: &mut Context<'_>) {
    for tenant in cx.sink.canaries(text) {
        if !content.canaries.contains(&tenant) && content.canaries.len() < MAX_TENANTS {
            content.canaries.push(tenant);
        }
    }
}

fn note(content: &mut Content, claim: Claim) {
    let says = matches!(claim, Claim::Tenant(_) | Claim::Opaque(_));
    if says && !content.tenants.contains(&claim) && content.tenants.len() < MAX_TENANTS {
        content.tenants.push(claim);
    }
}
