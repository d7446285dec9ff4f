//! One engine with its identity and outputs, whichever source feeds it.

use monitor_core::engine::Engine;
use monitor_core::model::{Event, Nanos, Settings};

use super::outputs::Outputs;
use crate::capture::Source;
use crate::identity::IdentityConfig;

/// Takes events, gives results to its outputs.
pub(super) struct Agent {
    pub(super) engine: Engine,
    pub(super) out: Outputs,
    identity: IdentityConfig,
    last: Nanos,
}

impl Agent {
    pub(super) fn new(settings: Settings, identity: IdentityConfig, out: Outputs) -> Self {
        let mut engine = Engine::new(settings);
        for fact in identity.addresses() {
            engine.add_address(&fact);
        }
        Self { engine, out, identity, last: Nanos(0) }
    }

    /// Handles one event.
    pub(super) fn event(&mut self, event: &Event<'_>) {
        let at = event.at();
        self.last = self.last.max(at);
        self.out.bytes_at = matches!(event, Event::Segment(_)).then_some(at);
        match *event {
            Event::CgroupSeen { at, id, path } => self.engine.learn_cgroup(at, id, &self.identity.resolve(path)),
            Event::CgroupGone { at, id } => self.engine.forget_cgroup(at, id),
            _ => {}
        }
        self.engine.handle(event, &mut self.out);
    }

    /// Passes on what the engine wants captured.
    pub(super) fn apply_budgets(&mut self, source: &mut dyn Source) {
        for (cookie, tx, rx) in self.out.budgets.drain(..) {
            source.set_budget(cookie, tx, rx);
        }
    }

    /// The input has ended.
    pub(super) fn finish(&mut self) {
        self.out.bytes_at = None;
        self.engine.finish(self.last, &mut self.out);
        self.out.flush();
    }
}
