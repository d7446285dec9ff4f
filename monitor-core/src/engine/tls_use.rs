//! How much of each service's TLS is read, and whose connections would have to be opened anew for the rest: told to
//! people (`/services`, metrics), and nothing is decided by it.
//!
//! Only where TLS is to be read. Memory: [`MAX_SERVICES`] services, of each [`MAX_CLIENTS`] workloads and [`MAX_NAMES`]
//! host names. What a connection adds is a counter at a place that it knows.

use std::net::SocketAddr;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::conn::Conn;
use super::context::Context;
use super::map::{ServiceKey, ServiceMap};
use super::output::{RestartView, ServiceView, TlsView};
use super::parts::Parts;
use super::recognise;
use crate::model::tls::{Unread, alpn_word};
use crate::model::{Interner, Protocol, Sym, WorkloadId};
use crate::tls::Tls;

/// Most services told apart; what comes after them is one, `_other`.
const MAX_SERVICES: usize = 4_096;
/// Most client workloads of one service told apart.
const MAX_CLIENTS: usize = 256;
/// Most host names kept of one service, the first that were asked for; and application protocols.
const MAX_NAMES: usize = 8;

/// A number for each reason.
type ByReason<T> = [T; Unread::ALL.len()];

fn slot<T>(all: &mut ByReason<T>, why: Unread) -> Option<&mut T> {
    let at = Unread::ALL.iter().position(|known| *known == why)?;
    all.get_mut(at)
}

/// What is known of one client workload at one service.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    /// Its connections that were read so far.
    read: u64,
    /// Those that are open now and are not read.
    unread_now: ByReason<u32>,
}

/// What is read of one service's TLS, and what is not.
#[derive(Debug)]
struct TlsUse {
    key: Option<ServiceKey>,
    address: SocketAddr,
    workload: Option<WorkloadId>,
    read: u64,
    unread: ByReason<u64>,
    bytes_read: u64,
    bytes_unread: ByReason<u64>,
    /// Hosts that clients asked for, where the server went on.
    names: SmallVec<[(Sym, u64); 1]>,
    /// Application protocols that the server chose.
    protocols: SmallVec<[(&'static str, u64); 1]>,
    clients: FxHashMap<Option<WorkloadId>, Client>,
}

/// Where a connection is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    at: usize,
    client: Option<WorkloadId>,
    /// It counts as open and not read.
    unread: Option<Unread>,
}

/// All services with TLS.
#[derive(Debug, Default)]
pub(super) struct TlsUses {
    keys: FxHashMap<ServiceKey, usize>,
    uses: Vec<TlsUse>,
}

impl TlsUses {
    /// How many services, and the most.
    pub(super) fn level(&self) -> (usize, usize) {
        (self.uses.len(), MAX_SERVICES)
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        let clients: usize = self.uses.iter().map(|u| u.clients.capacity() * size_of::<(WorkloadId, Client)>()).sum();
        self.uses.capacity() * size_of::<TlsUse>() + self.keys.capacity() * 40 + clients
    }

    /// The place of a service.
    fn at(&mut self, key: ServiceKey, address: SocketAddr, workload: Option<WorkloadId>) -> usize {
        if let Some(&at) = self.keys.get(&key) {
            return at;
        }
        let last = self.uses.len().saturating_sub(1);
        if self.uses.len() >= MAX_SERVICES {
            return last;
        }
        let at = self.uses.len();
        let key = (at + 1 < MAX_SERVICES).then_some(key);
        self.keys.extend(key.map(|key| (key, at)));
        self.uses.push(TlsUse {
            key,
            address,
            workload,
            read: 0,
            unread: ByReason::default(),
            bytes_read: 0,
            bytes_unread: ByReason::default(),
            names: SmallVec::new(),
            protocols: SmallVec::new(),
            clients: FxHashMap::default(),
        });
        at
    }

    /// Services are configured otherwise now.
    pub(super) fn place(&mut self, key_at: impl Fn(SocketAddr, Option<WorkloadId>) -> ServiceKey) {
        self.keys.clear();
        for (at, used) in self.uses.iter_mut().enumerate().filter(|(_, used)| used.key.is_some()) {
            let key = match used.key {
                Some(key @ ServiceKey::Behind(_)) => key,
                _ => key_at(used.address, used.workload),
            };
            used.key = Some(key);
            self.keys.entry(key).or_insert(at);
        }
    }

    /// Forgets workloads that are gone.
    pub(super) fn forget(&mut self, gone: &FxHashSet<WorkloadId>) {
        for used in &mut self.uses {
            used.clients.retain(|client, _| client.is_none_or(|w| !gone.contains(&w)));
        }
    }

    fn client(&mut self, counted: Counted) -> Option<&mut Client> {
        let clients = &mut self.uses.get_mut(counted.at)?.clients;
        let room = clients.len() < MAX_CLIENTS || clients.contains_key(&counted.client);
        room.then(|| clients.entry(counted.client).or_default())
    }

    /// A connection that was open and not read is neither any more.
    fn settle(&mut self, counted: &mut Counted) {
        let Some(why) = counted.unread.take() else { return };
        // Not made anew for who is forgotten.
        let client = self.uses.get_mut(counted.at).and_then(|used| used.clients.get_mut(&counted.client));
        if let Some(n) = client.and_then(|client| slot(&mut client.unread_now, why)) {
            *n = n.saturating_sub(1);
        }
    }

    /// Adds what is known to the services that are known otherwise, and the services of which nothing else is.
    pub(super) fn join(&self, map: &ServiceMap, ctx: &Context, views: &mut Vec<ServiceView>) {
        for used in &self.uses {
            let known = used.key.and_then(|key| map.id_of(key)).and_then(|id| views.get_mut(id.0 as usize));
            if let Some(view) = known {
                add(&mut view.tls, used, ctx);
                continue;
            }
            let workload = map.at_listener(used.address).or(used.workload);
            let name = match used.key {
                Some(ServiceKey::Behind(to)) => ctx.names.name(to).to_owned(),
                Some(_) => match ctx.service_name_at(used.address, workload) {
                    Some(name) => name.to_owned(),
                    None => used.address.to_string(),
                },
                None => ctx.names.name(Sym::OTHER).to_owned(),
            };
            if let Some(view) = views.iter_mut().find(|view| view.name == name) {
                add(&mut view.tls, used, ctx);
                continue;
            }
            let mut tls = None;
            add(&mut tls, used, ctx);
            views.push(ServiceView {
                name,
                protocol: Protocol::Opaque.name(),
                address: used.address,
                workload: workload.and_then(|w| ctx.directory.get(w)).map(|w| ctx.names.name(w.name).to_owned()),
                relay: false,
                tenants: Vec::new(),
                unattributed: 0,
                bindings: 0,
                tools: Vec::new(),
                tls,
            });
        }
    }
}

/// One more of something, unless there is no room to tell it apart.
fn note<N>(list: &mut SmallVec<[(N, u64); 1]>, is: impl Fn(&N) -> bool, new: impl FnOnce() -> N) {
    if let Some((_, n)) = list.iter_mut().find(|(known, _)| is(known)) {
        *n += 1;
    } else if list.len() < MAX_NAMES {
        list.push((new(), 1));
    }
}

/// Adds `n` to what a list says of `name`.
fn count<N: PartialEq>(list: &mut Vec<(N, u64)>, name: N, n: u64) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known += n,
        None => list.push((name, n)),
    }
}

/// What is known of one use, with names, added to a view.
fn add(view: &mut Option<TlsView>, used: &TlsUse, ctx: &Context) {
    let view = view.get_or_insert_default();
    view.read += used.read;
    view.bytes_read += used.bytes_read;
    for (i, why) in Unread::ALL.into_iter().enumerate() {
        for (list, all) in [(&mut view.unread, &used.unread), (&mut view.bytes_unread, &used.bytes_unread)] {
            if let Some(n) = all.get(i).copied().filter(|n| *n > 0) {
                count(list, why.name(), n);
            }
        }
    }
    for (name, n) in &used.names {
        count(&mut view.server_names, ctx.names.name(*name).to_owned(), *n);
    }
    for (protocol, n) in &used.protocols {
        count(&mut view.protocols, protocol, *n);
    }
    for (client, known) in &used.clients {
        let name = client.and_then(|w| ctx.directory.get(w)).map_or(Sym::OTHER, |w| w.name);
        for (why, n) in Unread::ALL.into_iter().zip(known.unread_now).filter(|(_, n)| *n > 0) {
            // What opens a connection anew would be read: it is the connection that is too old, not its library unknown.
            if why.ends_with_its_connection() || (why == Unread::NoSecret && known.read > 0) {
                let workload = ctx.names.name(name).to_owned();
                let at = view.restart.iter_mut().find(|r| r.workload == workload && r.reason == why.name());
                match at {
                    Some(restart) => restart.connections += u64::from(n),
                    None => view.restart.push(RestartView { workload, reason: why.name(), connections: u64::from(n) }),
                }
            }
        }
    }
    // Tables have no order.
    view.restart.sort_unstable();
}

impl Conn {
    /// Where this connection's TLS is counted, if it is to be read at all.
    fn counted(&mut self, parts: &mut Parts) -> Option<Counted> {
        if self.tls_use.is_some() || parts.ctx.settings.tls.is_none() {
            return self.tls_use;
        }
        let [first, second] = &self.ends;
        let listens = parts.map.at_listener(first.addr).is_some();
        let client = self.client.or_else(|| {
            recognise::only_other(listens, parts.map.at_listener(second.addr).is_some())
                .or_else(|| recognise::by_ports(&self.ends))
        });
        let server = self.ends.get(1 - client.unwrap_or(0))?;
        let key = match self.state.facts.tunnel {
            Some(to) => ServiceKey::Behind(to),
            None => parts.map.key_at(&parts.ctx, server.addr, server.workload),
        };
        let at = parts.sealing.uses.at(key, server.addr, server.workload);
        let client = client.and_then(|c| self.ends.get(c)).and_then(|e| e.workload);
        self.tls_use = Some(Counted { at, client, unread: None });
        self.tls_use
    }

    /// So many bytes of its TLS were read, or were not.
    pub(super) fn counts_tls(&mut self, unread: Option<Unread>, n: u64, parts: &mut Parts) {
        let Some(counted) = self.counted(parts) else { return };
        let Some(used) = parts.sealing.uses.uses.get_mut(counted.at) else { return };
        match unread {
            None => used.bytes_read += n,
            Some(why) => slot(&mut used.bytes_unread, why).into_iter().for_each(|all| *all += n),
        }
    }

    /// Its TLS is read from now on.
    pub(super) fn record_tls_read(&mut self, tls: &Tls, parts: &mut Parts) {
        let Some(counted) = self.counted(parts) else { return };
        if let Some(client) = parts.sealing.uses.client(counted) {
            client.read += 1;
        }
        let Some(used) = parts.sealing.uses.uses.get_mut(counted.at) else { return };
        used.read += 1;
        if let Some(protocol) = tls.alpn().map(alpn_word) {
            note(&mut used.protocols, |known| *known == protocol, || protocol);
        }
        let (Some(name), names) = (tls.server_name(), &mut parts.ctx.names) else { return };
        let known = |sym: &Sym, names: &Interner| names.exact(*sym) == name;
        let sym = used.names.iter().map(|(sym, _)| *sym).find(|sym| known(sym, names));
        let room = used.names.len() < MAX_NAMES;
        let Some(sym) = sym.or_else(|| room.then(|| names.hear(name, Protocol::Opaque))) else { return };
        note(&mut used.names, |known| *known == sym, || sym);
        let tenant = self.state.facts.endpoint.map(|a| a.tenant);
        names.used(sym, tenant, self.state.facts.id, !parts.ctx.tenants.is_empty());
    }

    /// Its TLS is not read, and will not be.
    pub(super) fn record_tls_unread(&mut self, why: Unread, parts: &mut Parts) {
        let Some(mut counted) = self.counted(parts) else { return };
        let uses = &mut parts.sealing.uses;
        uses.settle(&mut counted);
        if let Some(n) = uses.uses.get_mut(counted.at).and_then(|used| slot(&mut used.unread, why)) {
            *n += 1;
        }
        if let Some(n) = uses.client(counted).and_then(|client| slot(&mut client.unread_now, why)) {
            *n += 1;
            counted.unread = Some(why);
        }
        self.tls_use = Some(counted);
    }

    /// It has ended.
    pub(super) fn leaves_tls(&mut self, parts: &mut Parts) {
        if let Some(mut counted) = self.tls_use.take() {
            parts.sealing.uses.settle(&mut counted);
        }
    }
}
