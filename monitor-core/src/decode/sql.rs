//! What SQL means for a connection's bindings: statement text in, [`Plan`]s out. Shared by the protocols that carry it.
//!
//! [`scan`] finds a statement's end and shape in one pass; [`shape`] keeps one [`Template`] per shape, so that only a
//! new shape is parsed ([`utility`] for what PostgreSQL calls utility statements, [`mysql`] for MySQL's and MariaDB's,
//! [`parse`] with `sqlparser` for queries, and [`predicate`] for whose rows these touch); [`plan`] fills a template with a
//! statement's literals and parameters and says what it did; [`noted`] is what else a statement carries.

pub(crate) mod commands;
mod guess;
mod mysql;
mod names;
pub(crate) mod noted;
mod parse;
pub(crate) mod plan;
mod predicate;
pub(crate) mod scan;
pub(crate) mod shape;
mod utility;
pub(crate) mod value;
mod words;

pub(crate) use plan::{Call, Memory, Plan, Prepared};
pub(crate) use shape::Shapes;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// PostgreSQL's.
    Postgres,
    /// MySQL's and MariaDB's.
    MySql,
}
