//! Bounds of what waits to be sent, and what has become of it.

/// What may wait, the request that is under way included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most records.
    pub records: usize,
    /// Most bytes.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { records: 8_192, bytes: 4 << 20 }
    }
}

/// What has become of records and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records that the collector took.
    pub sent: u64,
    /// Records dropped for want of room, the oldest first.
    pub queue_full: u64,
    /// Records of requests that the collector refused for good.
    pub refused: u64,
    /// Records that the collector turned down in requests that it took.
    pub rejected: u64,
    /// Records left when the agent stopped.
    pub shutdown: u64,
    /// Requests that were taken.
    pub requests_ok: u64,
    /// Requests refused for good.
    pub requests_refused: u64,
    /// Requests that the collector put off (429, 502, 503, 504).
    pub requests_busy: u64,
    /// Requests without an answer in time.
    pub requests_timeout: u64,
    /// Requests that found no collector, or lost it.
    pub requests_unreachable: u64,
    /// Records that wait now.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// What may wait.
    pub bounds: Bounds,
}
