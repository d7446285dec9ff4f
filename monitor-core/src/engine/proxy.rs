//! What a proxy says at the beginning of a connection, before anything else: for whom it speaks. The header is passed over
//! in any case; the address in it names the client where the operator trusts whoever sent it (`services[].proxy_protocol`).

use std::net::SocketAddr;

use super::conn::Conn;
use super::feed::Feed;
use super::parts::Parts;
use crate::decode::proxy::{Header, Named, header};
use crate::model::identity::AddressRule;
use crate::model::{Nanos, Side, WorkloadId};

/// Whether a connection still may begin with a header.
#[derive(Debug, Default)]
pub(super) enum Preface {
    /// Nothing was said yet by whoever connected.
    #[default]
    Expected,
    /// This side has begun what may be one.
    Begun(Side, Vec<u8>),
    /// So many bytes of it are still to come.
    Rest(Side, usize),
    /// It is over, or there was none.
    Past,
}

/// Whom a header names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fronted {
    /// Its address there.
    pub(super) addr: SocketAddr,
    /// Who that is, if anybody knows.
    pub(super) workload: Option<WorkloadId>,
}

/// What of some bytes is to be read on.
enum Read<'b> {
    Bytes(&'b [u8]),
    Held(Vec<u8>, usize),
    Nothing,
}

impl Conn {
    /// Whether a header may come from the end that sends to `from`'s side.
    pub(super) fn may_be_fronted(&self, from: Side) -> bool {
        matches!(self.preface, Preface::Expected) && (self.client.is_none() || self.side(from) == Side::Client)
    }

    fn preface<'b>(&mut self, from: Side, bytes: &'b [u8], parts: &mut Parts) -> Read<'b> {
        match std::mem::take(&mut self.preface) {
            Preface::Expected if self.client.is_some() && self.side(from) == Side::Server => {
                self.preface = Preface::Expected;
                Read::Bytes(bytes)
            }
            Preface::Expected => match header(bytes) {
                Header::NeedMore => {
                    self.preface = Preface::Begun(from, bytes.to_vec());
                    Read::Nothing
                }
                Header::Not => {
                    self.preface = Preface::Past;
                    Read::Bytes(bytes)
                }
                Header::Is(len, named) => {
                    self.end_preface(from, bytes.len(), len, named, parts);
                    bytes.get(len..).filter(|rest| !rest.is_empty()).map_or(Read::Nothing, Read::Bytes)
                }
            },
            Preface::Begun(side, mut held) if side == from => {
                held.extend_from_slice(bytes);
                match header(&held) {
                    Header::NeedMore => {
                        self.preface = Preface::Begun(side, held);
                        Read::Nothing
                    }
                    Header::Not => {
                        self.preface = Preface::Past;
                        Read::Held(held, 0)
                    }
                    Header::Is(len, named) => {
                        self.end_preface(from, held.len(), len, named, parts);
                        if held.len() > len { Read::Held(held, len) } else { Read::Nothing }
                    }
                }
            }
            Preface::Rest(side, left) if side == from => {
                self.preface = if bytes.len() < left { Preface::Rest(side, left - bytes.len()) } else { Preface::Past };
                bytes.get(left..).filter(|rest| !rest.is_empty()).map_or(Read::Nothing, Read::Bytes)
            }
            other => {
                self.preface = other;
                Read::Bytes(bytes)
            }
        }
    }

    /// A header of `len` bytes, of which `there` are there at least.
    fn end_preface(&mut self, from: Side, there: usize, len: usize, named: Option<Named>, parts: &mut Parts) {
        self.preface = if there < len { Preface::Rest(from, len - there) } else { Preface::Past };
        let index = usize::from(from == Side::Server);
        // The end that sends the header is the client.
        let client = *self.client.get_or_insert(index);
        let (Some(sender), Some(server)) = (self.ends.get(client), self.ends.get(1 - client)) else { return };
        let spec = parts.ctx.spec_at(server.addr).and_then(|i| parts.ctx.settings.services.get(i));
        let trusted = spec.is_some_and(|spec| {
            spec.proxies.iter().any(|(net, prefix)| {
                let rule = AddressRule { net: *net, prefix: *prefix, port: None, workload: None };
                rule.covers(sender.addr)
            })
        });
        // Only at the very beginning is it the proxy's word.
        let seen_from_start = self.ends.iter().all(|e| e.start.is_some());
        if let (Some((addr, to)), true) = (named, trusted && seen_from_start) {
            let bare = !(addr.ip().is_loopback() || addr.ip().is_unspecified());
            let workload = self.front.or_else(|| parts.map.at_address(&mut parts.ctx, addr, to, bare));
            self.fronted = Some(Fronted { addr, workload });
        }
        self.identify(parts);
    }

    /// Bytes that are held of a header.
    pub(super) fn preface_memory(&self) -> usize {
        if let Preface::Begun(_, held) = &self.preface { held.capacity() } else { 0 }
    }
}

impl Feed<'_> {
    /// The first bytes of a connection: what is no header goes on as ever.
    pub(super) fn first_bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        match self.conn.preface(from, bytes, self.parts) {
            Read::Bytes(rest) => {
                self.count_preface(bytes.len() - rest.len());
                self.pass(from, at, rest, ends_segment);
            }
            Read::Held(held, skipped) => {
                self.count_preface(skipped);
                self.pass(from, at, held.get(skipped..).unwrap_or_default(), ends_segment);
            }
            Read::Nothing if matches!(self.conn.preface, Preface::Begun(..)) => {}
            Read::Nothing => self.count_preface(bytes.len()),
        }
    }

    /// Bytes of a header, which was read.
    fn count_preface(&mut self, n: usize) {
        self.parts.stats.bytes_seen += n as u64;
        self.parts.stats.bytes_decoded += n as u64;
    }

    /// `n` bytes are missing. Whether all of them were a header's.
    pub(super) fn preface_misses(&mut self, from: Side, n: u64) -> bool {
        let expected = self.conn.may_be_fronted(from);
        match &mut self.conn.preface {
            Preface::Rest(side, left) if *side == from => {
                let n = usize::try_from(n).unwrap_or(usize::MAX);
                if n > *left {
                    self.conn.preface = Preface::Past;
                    return false;
                }
                *left -= n;
                if *left == 0 {
                    self.conn.preface = Preface::Past;
                }
                true
            }
            Preface::Begun(side, _) if *side == from => {
                self.conn.preface = Preface::Past;
                false
            }
            Preface::Expected if expected => {
                self.conn.preface = Preface::Past;
                false
            }
            _ => false,
        }
    }
}
