//! What wire formats have in common, whatever their protocol.

mod reader;

pub(crate) use reader::{Long, Reader};
