//! The index that a request to a search engine names: the first part of the path, before what is done with it. Each tenant
//! may have its own. Source: the REST interfaces of Elasticsearch and OpenSearch.

use crate::decode::Sink;
use crate::model::{Claim, Slot, Sym, Tables};

/// What is done with documents of an index.
const DONE: &[&str] = &[
    "_search",
    "_msearch",
    "_async_search",
    "_count",
    "_doc",
    "_source",
    "_create",
    "_update",
    "_bulk",
    "_mget",
    "_explain",
    "_termvectors",
    "_knn_search",
    "_update_by_query",
    "_delete_by_query",
];

/// Whom the index in a path names, as a schema in a statement does; `None`: there is none, or there are several.
pub(super) fn index(path: &str, sink: &mut dyn Sink) -> Option<Tables> {
    let mut parts = path.split('/').filter(|p| !p.is_empty());
    let (index, done) = (parts.next()?, parts.next()?);
    if index.starts_with(['_', '.', '*']) || index.contains([',', '%']) || !DONE.contains(&done) {
        return None;
    }
    let claim = sink.claim(Slot::Schema, "", index);
    // What is asked and what is changed is not told apart: nobody is bound after it.
    Some(Tables {
        also: [Sym::EMPTY; 3],
        more: true,
        writes: true,
        unqualified: false,
        schemas: [claim, Claim::Neutral],
        held: false,
    })
}
