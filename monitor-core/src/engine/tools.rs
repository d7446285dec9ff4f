//! Tools that servers were seen to list: what `leasewarden tools` locks and compares.

use rustc_hash::FxHashMap;

use super::output::ToolView;
use crate::model::mcp::{Exchange, ManifestHash};
use crate::model::{Fingerprint, Interner, Service, ServiceId, Sym};

/// Most tools told apart, over all servers and versions.
const MAX_TOOLS: usize = 16_384;
/// Most sessions whose server is remembered; then they are forgotten all at once, and the service's last one counts.
const MAX_SESSIONS: usize = 16_384;

/// What a server calls itself, and its version.
type Server = (Sym, Sym);

/// Tools by service, server, version and name: during a rollout two versions answer side by side.
#[derive(Debug, Default)]
pub(super) struct Tools {
    tools: FxHashMap<(ServiceId, Server, Sym), ManifestHash>,
    /// Which server last introduced itself at a service.
    servers: FxHashMap<ServiceId, Server>,
    /// Which server opened a session.
    sessions: FxHashMap<Fingerprint, Server>,
}

impl Tools {
    /// Notes what an exchange at `service` tells of its server and its tools. A tool that is listed anew replaces what
    /// was known; one that is no longer listed stays: lists may differ from tenant to tenant.
    pub(super) fn note(&mut self, service: ServiceId, exchange: &Exchange) {
        if let Some(server) = exchange.server {
            self.servers.insert(service, server);
            if let Some(session) = exchange.opened.or(exchange.session) {
                if self.sessions.len() >= MAX_SESSIONS {
                    self.sessions.clear();
                }
                self.sessions.insert(session, server);
            }
        }
        let Some(page) = &exchange.tools else { return };
        let by_session = exchange.session.and_then(|s| self.sessions.get(&s));
        let unknown = (Sym::EMPTY, Sym::EMPTY);
        let server = by_session.or_else(|| self.servers.get(&service)).copied().unwrap_or(unknown);
        for tool in &page.tools {
            let key = (service, server, tool.name);
            if self.tools.len() < MAX_TOOLS || self.tools.contains_key(&key) {
                self.tools.insert(key, tool.hash);
            }
        }
    }

    /// All of them, sorted. A server that has not told its name is called as its service is.
    pub(super) fn views(&self, services: &[Service], names: &Interner) -> Vec<ToolView> {
        let mut all: Vec<ToolView> = self
            .tools
            .iter()
            .map(|((service, (server, version), tool), hash)| {
                let service = services.get(service.0 as usize).map_or("_other", |s| names.name(s.name)).to_owned();
                let server = if *server == Sym::EMPTY { service.clone() } else { names.listed(*server) };
                let version = names.listed(*version);
                ToolView { server, version, service, tool: names.listed(*tool), hash: *hash }
            })
            .collect();
        all.sort();
        all
    }

    pub(super) fn len(&self) -> usize {
        self.tools.len()
    }

    pub(super) fn limit() -> usize {
        MAX_TOOLS
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::model::Nanos;
    use crate::model::mcp::{Answered, Content, Method, Revision, Tool, ToolPage, Transport};

    fn exchange(server: Option<Server>, session: Option<u64>, tools: &[(Sym, u8)]) -> Exchange {
        let tools = tools
            .iter()
            .map(|(name, hash)| Tool {
                name: *name,
                hash: ManifestHash([*hash; 32]),
                read_only: false,
                idempotent: false,
                patterns: SmallVec::new(),
            })
            .collect();
        let initialize = server.is_some();
        Exchange {
            request: 1,
            id: None,
            begun: Nanos(1),
            ended: Nanos(2),
            transport: Transport::StreamableHttp,
            revision: Revision::V2025_11_25,
            method: if initialize { Method::Initialize } else { Method::ToolsList },
            verb: Sym::EMPTY,
            name: Sym::EMPTY,
            answered: Answered::Result,
            sender: None,
            token: None,
            credential: None,
            session: session.filter(|_| !initialize).map(Fingerprint),
            opened: session.filter(|_| initialize).map(Fingerprint),
            opened_recurs: false,
            arguments: None,
            named: SmallVec::new(),
            idempotency: None,
            continues: false,
            mismatch: None,
            handles_used: SmallVec::new(),
            handles_given: SmallVec::new(),
            tools: (!initialize).then_some(ToolPage { tools, after: None, next: None, cut: false, scope: None }),
            server,
            content: Content::default(),
        }
    }

    #[test]
    fn tools_go_to_the_server_that_listed_them() {
        let mut names = Interner::new(100);
        let mut name = |text: &str| names.intern(text);
        let (orders, v1, v2, search, add) = (name("orders"), name("1.0"), name("2.0"), name("search"), name("add"));
        let mut tools = Tools::default();
        let service = ServiceId(0);
        tools.note(service, &exchange(None, None, &[(add, 9)]));
        tools.note(service, &exchange(Some((orders, v1)), Some(1), &[]));
        tools.note(service, &exchange(Some((orders, v2)), Some(2), &[]));
        // A session that the old version opened, while the new one has introduced itself since.
        tools.note(service, &exchange(None, Some(1), &[(search, 1), (add, 2)]));
        tools.note(service, &exchange(None, Some(2), &[(search, 3)]));
        tools.note(service, &exchange(None, None, &[(search, 4)]));
        let views = tools.views(&[], &names);
        let seen: Vec<_> =
            views.iter().map(|v| (v.server.as_str(), v.version.as_str(), v.tool.as_str(), v.hash.0[0])).collect();
        let want = [
            ("_other", "", "add", 9),
            ("orders", "1.0", "add", 2),
            ("orders", "1.0", "search", 1),
            ("orders", "2.0", "search", 4),
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn memory_is_bounded() {
        let mut tools = Tools::default();
        for i in 0..20_000u32 {
            tools.note(ServiceId(i), &exchange(Some((Sym(i), Sym(1))), Some(u64::from(i)), &[]));
            tools.note(ServiceId(i), &exchange(None, None, &[(Sym(i), 0)]));
        }
        assert_eq!(tools.len(), Tools::limit());
        assert!(tools.sessions.len() <= MAX_SESSIONS);
    }
}
