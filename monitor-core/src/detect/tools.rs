//! Lists of tools, merged from their pages, and how long they are in force.

use super::McpUse;
use super::caller::Caller;
use super::recent::Recent;
use super::tables::Table;
use super::{Hit, World};
use crate::model::mcp::{Answered, CacheScope, ManifestHash, Method};
use crate::model::{Fingerprint, Nanos, ServiceId, Sym, Unseen, Where, WorkloadId};
use smallvec::{SmallVec, smallvec};

/// Most lists that are being read page by page.
const MAX_READING: usize = 1_024;
/// Most tools of one list. A longer one is not compared.
pub(super) const MAX_TOOLS: usize = 2_048;
/// Who has not asked for the next page in this time has given up.
const GIVEN_UP: Nanos = Nanos::secs(30);

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    /// Its tools by name: every one once.
    pub(super) tools: Vec<(Sym, ManifestHash)>,
    /// When its first page was asked for.
    pub(super) begun: Nanos,
    /// The narrowest of what its pages allow a cache.
    pub(super) scope: Option<CacheScope>,
}

impl List {
    /// The same tools, word for word.
    pub(super) fn digest(&self) -> u64 {
        use std::hash::Hasher as _;
        let mut h = siphasher::sip::SipHasher13::new();
        for (name, hash) in &self.tools {
            h.write_u32(name.0);
            h.write(&hash.0);
        }
        h.finish()
    }
}

/// Whose lists an exchange puts out of force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outdated {
    /// Nobody's.
    Nobodys,
    /// The list of whoever asked for a newer one, of which no page came.
    OfAsker,
    /// All lists of the server: it says that its tools have changed.
    All,
}

/// What an exchange says of the lists before it.
pub(super) fn outdates(u: &McpUse<'_>, world: &World<'_>) -> Outdated {
    let e = u.exchange;
    match e.method {
        Method::Control if world.names.exact(e.verb) == "notifications/tools/list_changed" => Outdated::All,
        // An answer that only begins here (202) comes elsewhere, or is lost there; and one may be there and not be read.
        Method::ToolsList
            if e.tools.is_none()
                && (e.answered.is_unread() || matches!(e.answered, Answered::Unknown | Answered::Accepted)) =>
        {
            Outdated::OfAsker
        }
        _ => Outdated::Nobodys,
    }
}

/// What a hit rests on that takes a list for the server's latest: no newer one was missed `since`.
pub(super) fn rests_on_lists(hit: &Hit, since: Nanos) -> SmallVec<[Unseen; 2]> {
    let Some(service) = hit.site.service else { return SmallVec::new() };
    smallvec![Unseen { place: Where::Service(service), since }, Unseen { place: Where::Answered(service), since }]
}

/// What a page brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// It is no page of a list, or the server refused.
    None,
    /// More pages are to come.
    More,
    /// The last one: this is the list.
    Whole(List),
    /// The list cannot be known whole: why.
    Broken(&'static str),
}

#[derive(Debug)]
struct Reading {
    list: List,
    at: Nanos,
    /// The cursor of the next page.
    next: Option<Fingerprint>,
    /// Two of them are being read at once and the pages may be of either.
    muddled: bool,
}

/// Lists that are being read.
#[derive(Debug)]
pub(super) struct Reader(Recent<(ServiceId, Caller, Option<WorkloadId>), Reading>);

impl Default for Reader {
    fn default() -> Self {
        Self(Recent::new(MAX_READING))
    }
}

impl Table for Reader {
    fn memory(&self) -> usize {
        let tools = self.0.iter().map(|(_, r)| r.list.tools.memory());
        self.0.memory() + tools.sum::<usize>()
    }

    fn bound(&mut self, most: usize) {
        self.0.bound(most);
    }
}

impl Reader {
    /// Takes the answer to one `tools/list`.
    pub(super) fn read(&mut self, u: &McpUse<'_>, service: ServiceId, caller: Caller) -> Page {
        let e = u.exchange;
        let Some(page) = &e.tools else { return Page::None };
        let key = (service, caller, u.site.workload);
        if page.cut {
            self.0.remove(&key);
            return Page::Broken("list is cut");
        }
        let before = self.0.remove(&key).filter(|r| e.begun.since(r.at) < GIVEN_UP);
        let mut reading = match (page.after, before) {
            (None, before) => Reading {
                list: List { tools: Vec::new(), begun: e.begun, scope: page.scope },
                at: e.ended,
                next: None,
                muddled: before.is_some() && page.next.is_some(),
            },
            (Some(_), None) => return Page::Broken("list was not seen from its start"),
            // The page before this one named another cursor: one between them was not seen.
            (after, Some(before)) if before.next != after => return Page::Broken("a page was not seen"),
            (_, Some(before)) => before,
        };
        if reading.list.tools.len() + page.tools.len() > MAX_TOOLS {
            return Page::Broken("list is too long");
        }
        reading.at = e.ended;
        reading.next = page.next;
        reading.list.scope = narrower(reading.list.scope, page.scope);
        reading.list.tools.extend(page.tools.iter().map(|t| (t.name, t.hash)));
        if page.next.is_some() {
            self.0.insert(key, reading);
            return Page::More;
        }
        if reading.muddled {
            return Page::Broken("two lists were read at once");
        }
        let mut list = reading.list;
        list.tools.sort_unstable();
        list.tools.dedup();
        // The interner is full: names are no longer told apart.
        if list.tools.iter().any(|(name, _)| *name == Sym::OTHER) {
            return Page::Broken("too many names");
        }
        Page::Whole(list)
    }
}

fn narrower(a: Option<CacheScope>, b: Option<CacheScope>) -> Option<CacheScope> {
    match (a, b) {
        (Some(CacheScope::Private), _) | (_, Some(CacheScope::Private)) => Some(CacheScope::Private),
        (Some(CacheScope::Public), Some(CacheScope::Public)) => Some(CacheScope::Public),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::Exchange;

    fn read(reader: &mut Reader, e: &Exchange) -> Page {
        let u = McpUse { site: SITE, exchange: e, answer: by_label(A) };
        reader.read(&u, ServiceId(0), Caller::Tenant(A))
    }

    #[test]
    fn pages_are_merged_in_order() {
        let mut reader = Reader::default();
        assert_eq!(read(&mut reader, &page(0, &[tool(SEND, 1)], true, false)), Page::More);
        assert_eq!(read(&mut reader, &page(1, &[tool(ORDERS, 2)], false, false)), Page::More);
        let Page::Whole(list) = read(&mut reader, &page(2, &[tool(READ, 3)], false, true)) else { panic!() };
        let names: Vec<Sym> = list.tools.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [ORDERS, SEND, READ]);
    }

    #[test]
    fn what_is_not_whole_is_not_a_list() {
        let mut reader = Reader::default();
        assert!(matches!(read(&mut reader, &page(0, &[tool(SEND, 1)], false, true)), Page::Broken(_)));
        let mut cut = page(1, &[tool(SEND, 1)], true, true);
        cut.tools.as_mut().unwrap().cut = true;
        assert_eq!(read(&mut reader, &cut), Page::Broken("list is cut"));
        // Two at once.
        read(&mut reader, &page(2, &[tool(SEND, 1)], true, false));
        read(&mut reader, &page(2, &[tool(SEND, 1)], true, false));
        assert!(matches!(read(&mut reader, &page(3, &[], false, true)), Page::Broken(_)));
        // One that was given up does not count.
        read(&mut reader, &page(10, &[tool(SEND, 1)], true, false));
        assert!(matches!(read(&mut reader, &page(100, &[tool(READ, 1)], true, true)), Page::Whole(_)));
        assert!(matches!(read(&mut reader, &page(101, &[], false, true)), Page::Broken(_)), "nothing of it is left");
    }

    #[test]
    fn a_page_that_was_not_seen_breaks_the_chain() {
        let mut reader = Reader::default();
        let chained = |after: Option<u64>, next: Option<u64>| {
            let mut e = page(1, &[tool(SEND, 1)], true, true);
            let page = e.tools.as_mut().unwrap();
            (page.after, page.next) = (after.map(Fingerprint), next.map(Fingerprint));
            e
        };
        assert_eq!(read(&mut reader, &chained(None, Some(1))), Page::More);
        assert_eq!(read(&mut reader, &chained(Some(2), Some(3))), Page::Broken("a page was not seen"));
        assert!(matches!(read(&mut reader, &chained(Some(3), None)), Page::Broken(_)), "nothing of it is left");
        for (after, next) in [(None, Some(1)), (Some(1), Some(2))] {
            assert_eq!(read(&mut reader, &chained(after, next)), Page::More);
        }
        assert!(matches!(read(&mut reader, &chained(Some(2), None)), Page::Whole(_)));
    }

    #[test]
    fn a_list_without_end_is_given_up() {
        let mut reader = Reader::default();
        let tools: Vec<_> = (0..100).map(|n| tool(Sym(100 + n), 1)).collect();
        read(&mut reader, &page(0, &tools, true, false));
        let broken = (1..30).map(|_| read(&mut reader, &page(1, &tools, false, false)));
        assert!(broken.into_iter().any(|p| p == Page::Broken("list is too long")));
    }
}
