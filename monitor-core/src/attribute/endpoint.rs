//! Basis: the client's container or address carries a tenant label.

use crate::model::{Attribution, Basis, Directory, WorkloadId};

/// One end of a connection, as far as identity goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Who is there, if known.
    pub workload: Option<WorkloadId>,
    /// Its own socket is watched (else it is known as the peer of one that is, by address).
    pub watched: bool,
}

/// The tenant of a connection whose client belongs to one.
pub fn by_endpoint(client: End, directory: &Directory) -> Option<Attribution> {
    let tenant = directory.get(client.workload?)?.tenant?;
    let basis = if client.watched { Basis::OwnContainer } else { Basis::PeerContainer };
    Some(Attribution::new(tenant, basis))
}
