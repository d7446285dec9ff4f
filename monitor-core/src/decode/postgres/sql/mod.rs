//! What SQL means for a connection's bindings: statement text in, [`Plan`]s out.
//!
//! [`scan`] finds a statement's end and shape in one pass; [`shape`] keeps one [`Template`] per shape, so that only a
//! new shape is parsed ([`utility`] for what PostgreSQL calls utility statements, [`parse`] with `sqlparser` for
//! queries, and [`predicate`] for whose rows these touch); [`plan`] fills a template with a statement's literals and parameters and says what it did.

mod guess;
mod names;
mod parse;
pub(crate) mod plan;
mod predicate;
pub(crate) mod scan;
pub(crate) mod shape;
mod utility;
pub(crate) mod value;

pub(crate) use plan::{Call, Memory, Plan, Prepared};
pub(crate) use shape::Shapes;
