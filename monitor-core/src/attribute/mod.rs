//! For whom is this operation? One file per basis; each answers or abstains, and none guesses.
//!
//! The order of trust: the client's own container, then what its relay was seen to forward, then what the unit of work
//! has bound. Inferred bases, when there are any, come after these and never contradict a fresh binding.

mod binding;
mod endpoint;
pub mod forwarded;
pub mod through;

pub use binding::by_binding;
pub use endpoint::{End, by_endpoint};
