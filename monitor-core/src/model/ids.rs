//! Newtypes for every identifier, so that none is taken for another.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);
    };
}

id!(
    /// The kernel's socket cookie: unique for the socket's life, not ordered (kernel commit 07881ccbf40c).
    /// Captures that have no cookie number their flows themselves.
    SocketCookie(u64)
);
id!(
    /// The kernel's cgroup v2 id: the inode number of the cgroup's directory.
    CgroupId(u64)
);
id!(
    /// One connection seen at one socket.
    FlowId(u32)
);
id!(
    /// One connection, whichever of its sockets are watched on this host.
    ConnId(u32)
);
id!(
    /// A thread: its kernel thread id in the initial pid namespace. The kernel gives the number of a thread that is gone
    /// to another one in time.
    ThreadId(u32)
);
id!(
    /// A process: the kernel's thread group id in the initial pid namespace. Given to another one in time, like a thread's.
    ProcessId(u32)
);
id!(
    /// The container, pod or unit behind a cgroup or an address.
    WorkloadId(u32)
);
id!(
    /// What workloads connect to: a listening endpoint and its protocol.
    ServiceId(u32)
);
id!(
    /// An isolation unit: a tenant by its configured or discovered name.
    TenantId(u32)
);

/// A request, by the connection it came in on and its number there.
pub type RequestKey = (ConnId, RequestNo);

/// What a process works for, among what came in on one connection. In the order of coming, either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestNo {
    /// A request that its client sent, by the number that the decoder gave it.
    Sent(u64),
    /// A message that a broker delivered, counted from 1.
    Delivery(u64),
}
