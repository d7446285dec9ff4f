//! Which services each tool uses, and whether it tells them for whom: the graph behind `downstream-scope-missing`, for
//! people to look at.

use rustc_hash::FxHashMap;

use crate::model::{Interner, Service, ServiceId, Sym};

/// Most pairs of tool and service told apart.
const MAX_EDGES: usize = 16_384;
/// Fewest operations that say something about a tool's habit.
const ENOUGH: u64 = 3;

/// How a tool uses a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habit {
    /// Operations that showed their tenant.
    pub scoped: u64,
    /// Operations that did not, on a connection that other tenants use as well.
    pub bare: u64,
    /// Operations of which that is not known.
    pub unknown: u64,
}

impl Habit {
    /// One word for it: `aware`, `agnostic`, `mixed`, or `unknown` while too little was seen.
    pub fn name(self) -> &'static str {
        match (self.scoped, self.bare) {
            (s, b) if s + b < ENOUGH => "unknown",
            (_, 0) => "aware",
            (0, _) => "agnostic",
            _ => "mixed",
        }
    }
}

/// One service that a tool uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamView {
    /// The tool.
    pub tool: String,
    /// The service behind it.
    pub service: String,
    /// How it is used.
    pub habit: Habit,
}

/// All of it: by MCP server, tool, and service behind.
#[derive(Debug, Default)]
pub(super) struct Downstream(FxHashMap<(ServiceId, Sym, ServiceId), Habit>);

impl Downstream {
    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The tool `name` of `server` has used `service`; whether it showed for whom.
    pub(super) fn note(&mut self, server: ServiceId, name: Sym, service: ServiceId, scoped: Option<bool>) {
        let key = (server, name, service);
        if self.0.len() >= MAX_EDGES && !self.0.contains_key(&key) {
            return;
        }
        let habit = self.0.entry(key).or_default();
        let n = match scoped {
            Some(true) => &mut habit.scoped,
            Some(false) => &mut habit.bare,
            None => &mut habit.unknown,
        };
        *n = n.saturating_add(1);
    }

    /// What the tools of `server` use, sorted.
    pub(super) fn views(&self, server: ServiceId, services: &[Service], names: &Interner) -> Vec<DownstreamView> {
        let mut all: Vec<DownstreamView> = self
            .0
            .iter()
            .filter(|((of, ..), _)| *of == server)
            .map(|((_, tool, service), habit)| DownstreamView {
                tool: names.name(*tool).to_owned(),
                service: services.get(service.0 as usize).map_or("_other", |s| names.name(s.name)).to_owned(),
                habit: *habit,
            })
            .collect();
        all.sort_by(|a, b| (&a.tool, &a.service).cmp(&(&b.tool, &b.service)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_have_names() {
        let habit = |scoped, bare| Habit { scoped, bare, unknown: 9 }.name();
        assert_eq!([habit(2, 0), habit(3, 0), habit(0, 3), habit(4, 1)], ["unknown", "aware", "agnostic", "mixed"]);
    }

    #[test]
    fn the_graph_is_bounded_and_sorted() {
        let mut names = Interner::new(8);
        let (a, b) = (names.intern("add"), names.intern("buy"));
        let mut graph = Downstream::default();
        graph.note(ServiceId(0), b, ServiceId(1), Some(true));
        graph.note(ServiceId(0), a, ServiceId(1), None);
        let views = graph.views(ServiceId(0), &[], &names);
        assert_eq!(views.iter().map(|v| v.tool.as_str()).collect::<Vec<_>>(), ["add", "buy"]);
        for n in 0..20_000 {
            graph.note(ServiceId(n), a, ServiceId(1), None);
        }
        assert_eq!(graph.0.len(), MAX_EDGES);
    }
}
