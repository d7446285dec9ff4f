//! Small conversations, written by hand.
