//! What a proxy lets through after `CONNECT`: a connection of its own, on the same bytes.

use super::conn::{App, Conn};
use super::output::Output;
use super::parts::Parts;
use super::undecided::Undecided;
use crate::ledger::Ledger;

/// Requests before a tunnel have numbers below this.
const TUNNEL: u64 = 1 << 32;

impl Conn {
    /// A proxy lets the client through to somewhere else: from the client's next byte on this is another connection, in
    /// clear or not, of the same client and to another service.
    pub(super) fn goes_through(&mut self, answer: &[u8], parts: &mut Parts, out: &mut dyn Output) -> bool {
        let facts = &mut self.state.facts;
        if facts.tunnel.is_none() || self.state.unreadable != Some("tunnel") {
            return false;
        }
        self.state.unreadable = None;
        if !answer.ends_with(b"\r\n\r\n") {
            // Something of the other connection came with the proxy's answer: its beginning was not seen.
            self.ends.iter_mut().for_each(|end| end.start = None);
        }
        facts.before += TUNNEL;
        if std::mem::take(&mut facts.mid_stream) {
            parts.stats.flows_mid_stream = parts.stats.flows_mid_stream.saturating_sub(1);
        }
        // Requests to the proxy proved nothing to the server behind it, so the tunnel begins with an empty ledger.
        self.state.ledger = Ledger::new();
        self.tls_use = None;
        parts.stats.flows_decoded = parts.stats.flows_decoded.saturating_sub(1);
        parts.stats.flows_undecided += 1;
        self.app = App::Undecided(Undecided::default());
        self.ask(parts, out);
        true
    }
}
