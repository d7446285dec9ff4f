//! Tools as they were approved: lock files, their signatures, and what has changed since.
//!
//! A lock holds a hash of every tool of every server seen: canonical JSON (RFC 8785) over what a model reads and a caller
//! relies on. It is made from a recording or a running agent, compared by `leasewarden tools verify`, and, when the
//! configuration names it, by the agent itself.

pub mod compare;
pub mod fetch;
pub mod lock;
pub mod signing;
