//! The verbs of `cargo xtask`, one file each.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod docs;
pub(crate) mod fuzz;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod test;
pub(crate) mod tidy;
pub(crate) mod vm;
