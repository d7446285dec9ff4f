//! Model Context Protocol: what rules need to know of one exchange, without its payload.

use smallvec::SmallVec;

use super::{Attribution, Claim, Fingerprint, Nanos, OpKind, Sym, TenantId, WorkloadId, token::Token};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// POST with a JSON or an SSE reply (2025-03-26 and later).
    StreamableHttp,
    /// GET for events, POST for messages (2024-11-05).
    HttpSse,
    /// WebSocket text messages.
    WebSocket,
}

/// Revision of the protocol, as far as it changes what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// Not told.
    Unknown,
    /// 2024-11-05.
    V2024_11_05,
    /// 2025-03-26: batches.
    V2025_03_26,
    /// 2025-06-18: no batches, `MCP-Protocol-Version`.
    V2025_06_18,
    /// 2025-11-25: the last one with sessions.
    V2025_11_25,
    /// 2026-07-28: no sessions, required headers.
    V2026_07_28,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `initialize`.
    Initialize,
    /// `tools/list`.
    ToolsList,
    /// `tools/call`.
    ToolsCall,
    /// Anything else that touches data: `resources/read`, `prompts/get`, `completion/complete`, `resources/subscribe`,
    /// `subscriptions/listen`, `tasks/*`.
    Data,
    /// Other lists.
    Discover,
    /// `ping`, notifications, logging, answers to the server's own requests.
    Control,
    /// End of a session: DELETE.
    End,
}

impl Method {
    /// The operation kind it counts as.
    pub fn kind(self) -> OpKind {
        match self {
            Self::ToolsCall | Self::Data => OpKind::Data,
            Self::ToolsList | Self::Discover => OpKind::Discover,
            Self::Initialize | Self::Control | Self::End => OpKind::Control,
        }
    }
}

/// How the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// With a result.
    Result,
    /// With a result that says that the tool failed (`isError`).
    ToolError,
    /// With a JSON-RPC error of this code.
    RpcError(i64),
    /// With this HTTP status and no JSON-RPC message (401, 403, 404, 5xx), or with success (2xx) and a message that was all
    /// there and could not be read here: packed in an unknown way, or too large.
    Status(u16),
    /// Accepted without an answer (202, a notification).
    Accepted,
    /// The answer was not seen, or not whole.
    Unknown,
}

impl Answered {
    /// The server did what was asked for.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Result | Self::Accepted)
    }

    /// HTTP says that the server did, and what its message says could not be read.
    pub fn is_unread(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    /// The server let whoever asked in: by its answer or, where that could not be read, by its status. What it did is
    /// another question, since a message may say that a tool failed.
    pub fn is_success(self) -> bool {
        self.is_done() || self.is_unread()
    }

    /// The server refused: for lack of authorization, or as unknown (tool, session).
    pub fn is_refused(self) -> bool {
        matches!(self, Self::Status(401 | 403 | 404) | Self::RpcError(-32602 | -32601 | -32001 | -32002 | -32020))
    }
}

/// Something suspicious in a text that a model will read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// Words that mostly stand in instructions ("important", "you must"): weak alone.
    Words,
    /// Instructions to the model: ignore what came before, do not tell the user, hidden tags.
    Instructions,
    /// Speaks of using or not using another tool (shadowing).
    OtherTools,
    /// Tells to send something somewhere, or to read secrets.
    Exfiltration,
    /// Invisible or direction-changing characters, tag characters.
    HiddenUnicode,
    /// Speaks of other tenants or customers in the imperative.
    CrossTenant,
}

/// SHA-256 of a tool's canonical JSON (RFC 8785): stable across runs and hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ManifestHash(pub [u8; 32]);

/// A tool as a server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: Sym,
    /// Over name, title, description, input and output schema, annotations.
    pub hash: ManifestHash,
    /// `readOnlyHint` (false by default).
    pub read_only: bool,
    /// `idempotentHint` (false by default).
    pub idempotent: bool,
    /// What is suspicious in its description or schema.
    pub patterns: SmallVec<[Pattern; 1]>,
}

/// What a cache may do with a reply (2026-07-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheScope {
    /// Reuse it for anybody.
    Public,
    /// Only for whom it was made.
    Private,
}

/// One page of a list of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolPage {
    /// Its tools.
    pub tools: Vec<Tool>,
    /// The cursor that it was asked for with; `None`: it is the first page.
    pub after: Option<Fingerprint>,
    /// The cursor of the page that follows; `None`: it is the last page.
    pub next: Option<Fingerprint>,
    /// Something of it was cut or missing: not to be compared.
    pub cut: bool,
    /// What a cache may do with it.
    pub scope: Option<CacheScope>,
}

/// What a result shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Suspicious texts.
    pub patterns: SmallVec<[Pattern; 1]>,
    /// Tenants whose canary it holds.
    pub canaries: SmallVec<[TenantId; 1]>,
    /// Tenants that fields which speak of a tenant (`tenant_id`, `org`) name.
    pub tenants: SmallVec<[Claim; 2]>,
    /// Payload bytes looked at.
    pub bytes: u64,
    /// Not all of it was looked at.
    pub cut: bool,
}

/// Who sent a request, as far as its connection tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The workload at the client's end.
    pub workload: Option<WorkloadId>,
    /// The tenant it works for, where it works for one alone.
    pub by: Option<Attribution>,
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Number of the request on its connection ([`super::Operation::request`]).
    pub request: u64,
    /// The id that JSON-RPC gives it, of which only equality matters.
    pub id: Option<Fingerprint>,
    /// When the request was whole.
    pub begun: Nanos,
    /// When its answer was.
    pub ended: Nanos,
    /// How it travelled.
    pub transport: Transport,
    /// Revision of the protocol.
    pub revision: Revision,
    /// What it asks for.
    pub method: Method,
    /// The method's name.
    pub verb: Sym,
    /// The tool, prompt or resource it names ([`Sym::EMPTY`]: none).
    pub name: Sym,
    /// How it was answered.
    pub answered: Answered,
    /// It was sent on another connection than this one, on which its answer came: who sent it there. Token, credential
    /// and session are that request's.
    pub sender: Option<Sender>,
    /// The token presented with this very request.
    pub token: Option<Token>,
    /// Another credential was presented with this very request (API key, Basic).
    pub credential: Option<Fingerprint>,
    /// The session it claims to belong to.
    pub session: Option<Fingerprint>,
    /// The session that its answer opened.
    pub opened: Option<Fingerprint>,
    /// By its looks, a server may give that session's id to others, too, one after the other.
    pub opened_recurs: bool,
    /// Hash of the canonical arguments.
    pub arguments: Option<Fingerprint>,
    /// Whom its arguments and the headers that repeat them name: the name of each, and each tenant once. What names
    /// nobody known, or could not be read, is told once.
    pub named: SmallVec<[(Sym, Claim); 1]>,
    /// Idempotency key, from header, argument or metadata.
    pub idempotency: Option<Fingerprint>,
    /// It continues a request that the server had asked more for (`requestState`).
    pub continues: bool,
    /// A mirrored header says something else than the body (`Mcp-Method`, `Mcp-Name`, `Mcp-Param-…`): which.
    pub mismatch: Option<Sym>,
    /// High-entropy ids it passes in: task ids, cursors, request state, handles among the arguments.
    pub handles_used: SmallVec<[Fingerprint; 2]>,
    /// High-entropy ids its answer gives out.
    pub handles_given: SmallVec<[Fingerprint; 4]>,
    /// For `tools/list`: a page of the list.
    pub tools: Option<ToolPage>,
    /// What the server calls itself and its version, from `initialize` or discovery: name, version.
    pub server: Option<(Sym, Sym)>,
    /// What its result shows.
    pub content: Content,
}
