//! A shared service with threads and `psycopg_pool`: one thread per connection, and hand-over to workers.

crate::shared::shared! {
    unbound: "threads-unbound" [with_1 = 1, with_16 = 16, with_32 = 32];
    session_set_left_behind: "threads-session-set" [with_1 = 1, with_16 = 16, with_32 = 32];
    per_transaction: "threads-per-transaction" [with_1 = 1, with_16 = 16, with_32 = 32];
    no_value_unbound: "threads-summary-unbound" [with_1 = 1, with_16 = 16];
    no_value_per_transaction: "threads-summary-per-transaction" [with_16 = 16];
    handed_over_unbound: "handover-unbound" [with_16 = 16];
    handed_over_per_transaction: "handover-per-transaction" [with_16 = 16];
}
