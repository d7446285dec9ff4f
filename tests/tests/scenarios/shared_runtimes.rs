//! A shared service on Node.js, and one on tokio, whose tasks move from thread to thread.

crate::shared::shared! {
    node_unbound: "node-unbound" [with_1 = 1, with_16 = 16, with_32 = 32];
    node_session_set: "node-session-set" [with_1 = 1, with_16 = 16];
    node_per_transaction: "node-per-transaction" [with_1 = 1, with_16 = 16, with_32 = 32];
    tokio_unbound: "tokio-unbound" [with_1 = 1, with_16 = 16, with_32 = 32];
    tokio_session_set: "tokio-session-set" [with_1 = 1, with_16 = 16];
    tokio_per_transaction: "tokio-per-transaction" [with_1 = 1, with_16 = 16, with_32 = 32];
}
