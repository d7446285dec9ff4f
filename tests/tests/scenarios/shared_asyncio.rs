//! A shared service on one thread whose handlers interleave, alone and with a background job.

crate::shared::shared! {
    unbound: "asyncio-unbound" [with_1 = 1, with_16 = 16, with_32 = 32];
    session_set_left_behind: "asyncio-session-set" [with_1 = 1, with_16 = 16, with_32 = 32];
    per_transaction: "asyncio-per-transaction" [with_1 = 1, with_16 = 16, with_32 = 32];
    traced_unbound: "asyncio-traced-unbound" [with_16 = 16];
    no_value_unbound: "asyncio-summary-unbound" [with_1 = 1, with_16 = 16];
    no_value_per_transaction: "asyncio-summary-per-transaction" [with_16 = 16];
    asyncpg_unbound: "asyncpg-unbound" [with_16 = 16];
    asyncpg_per_transaction: "asyncpg-per-transaction" [with_16 = 16];
    background_job_unbound: "asyncio-job-unbound" [with_1 = 1, with_16 = 16];
    background_job_bound: "asyncio-job-bound" [with_1 = 1, with_16 = 16];
}
