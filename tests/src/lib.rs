//! The laboratory: real services and clients in cgroups of their own, and the agent that watches them. Used by the
//! scenario tests, by `cargo xtask demo` and, for the small PostgreSQL in it, by the virtual machines.

pub mod lab;
pub mod minipg;
