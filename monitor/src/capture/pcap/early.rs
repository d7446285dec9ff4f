//! Segments that a file has too early: they acknowledge bytes that come behind them. Captures from several queues of one
//! card are written like that. The bytes were received before they were acknowledged, so the segment waits for them; not
//! for long, since they may be missing for good.
//!
//! Memory: at most 512 segments, of at most 64 KiB each.

use monitor_core::model::Nanos;

use super::link::{Endpoint, TcpPacket};

/// How long a segment waits, in the capture's time.
pub(super) const HOLD: Nanos = Nanos::millis(100);
/// Packets of its connection that it waits for, and most that wait of one connection.
pub(super) const MAX_OF_FLOW: usize = 8;
/// Most that wait, of all connections.
pub(super) const MAX_ALL: usize = 512;

/// A segment that waits.
pub(super) struct Early {
    /// Without its bytes.
    packet: TcpPacket<'static>,
    bytes: Vec<u8>,
}

impl Early {
    pub(super) fn of(p: &TcpPacket<'_>) -> Self {
        let TcpPacket { src, dst, seq, ack_number, syn, ack, fin, rst, len, bytes } = *p;
        let packet = TcpPacket { src, dst, seq, ack_number, syn, ack, fin, rst, len, bytes: &[] };
        Self { packet, bytes: bytes.to_vec() }
    }

    pub(super) fn packet(&self) -> TcpPacket<'_> {
        TcpPacket { bytes: &self.bytes, ..self.packet }
    }

    pub(super) fn ack_number(&self) -> u32 {
        self.packet.ack_number
    }

    pub(super) fn is_from(&self, end: Endpoint) -> bool {
        self.packet.src == end
    }
}
