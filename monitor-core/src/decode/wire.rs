//! What wire formats have in common, whatever their protocol.

pub(crate) mod protobuf;
mod reader;

pub(crate) use reader::{Long, Reader};
