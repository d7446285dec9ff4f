//! The requests of Kafka's protocol, by number (Apache Kafka 4.1, `clients/src/main/resources/common/message`).

use crate::model::OpKind;

/// `Produce`.
pub(super) const PRODUCE: i16 = 0;
/// `Fetch`.
pub(super) const FETCH: i16 = 1;
/// `Metadata`.
pub(super) const METADATA: i16 = 3;
/// `OffsetCommit`.
pub(super) const OFFSET_COMMIT: i16 = 8;
/// `SaslHandshake`.
pub(super) const SASL_HANDSHAKE: i16 = 17;
/// `ApiVersions`.
pub(super) const API_VERSIONS: i16 = 18;
/// `TxnOffsetCommit`.
pub(super) const TXN_OFFSET_COMMIT: i16 = 28;
/// `SaslAuthenticate`.
pub(super) const SASL_AUTHENTICATE: i16 = 36;
/// `ShareFetch`: records handed out one by one to several consumers (KIP-932).
pub(super) const SHARE_FETCH: i16 = 78;

/// A kind of request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Api {
    /// Its name.
    pub(super) name: &'static str,
    /// From this version on its layout is the flexible one.
    flexible: i16,
    /// The newest version known here.
    pub(super) newest: i16,
}

const NEVER: i16 = i16::MAX;

const fn api(name: &'static str, flexible: i16, newest: i16) -> Api {
    Api { name, flexible, newest }
}

/// By number; numbers that only brokers use among themselves are left out of what clients may say.
const APIS: &[Api] = &[
    api("Produce", 9, 13),
    api("Fetch", 12, 18),
    api("ListOffsets", 6, 11),
    api("Metadata", 9, 13),
    api("LeaderAndIsr", 4, 7),
    api("StopReplica", 2, 4),
    api("UpdateMetadata", 6, 8),
    api("ControlledShutdown", 3, 3),
    api("OffsetCommit", 8, 10),
    api("OffsetFetch", 6, 10),
    api("FindCoordinator", 3, 6),
    api("JoinGroup", 6, 9),
    api("Heartbeat", 4, 4),
    api("LeaveGroup", 4, 5),
    api("SyncGroup", 4, 5),
    api("DescribeGroups", 5, 6),
    api("ListGroups", 3, 5),
    api("SaslHandshake", NEVER, 1),
    api("ApiVersions", 3, 4),
    api("CreateTopics", 5, 7),
    api("DeleteTopics", 4, 6),
    api("DeleteRecords", 2, 2),
    api("InitProducerId", 2, 6),
    api("OffsetForLeaderEpoch", 4, 4),
    api("AddPartitionsToTxn", 3, 5),
    api("AddOffsetsToTxn", 3, 4),
    api("EndTxn", 3, 5),
    api("WriteTxnMarkers", 1, 2),
    api("TxnOffsetCommit", 3, 5),
    api("DescribeAcls", 2, 3),
    api("CreateAcls", 2, 3),
    api("DeleteAcls", 2, 3),
    api("DescribeConfigs", 4, 4),
    api("AlterConfigs", 2, 2),
    api("AlterReplicaLogDirs", 2, 2),
    api("DescribeLogDirs", 2, 5),
    api("SaslAuthenticate", 2, 2),
    api("CreatePartitions", 2, 3),
    api("CreateDelegationToken", 2, 3),
    api("RenewDelegationToken", 2, 2),
    api("ExpireDelegationToken", 2, 2),
    api("DescribeDelegationToken", 2, 3),
    api("DeleteGroups", 2, 2),
    api("ElectLeaders", 2, 2),
    api("IncrementalAlterConfigs", 1, 1),
    api("AlterPartitionReassignments", 0, 1),
    api("ListPartitionReassignments", 0, 0),
    api("OffsetDelete", NEVER, 0),
    api("DescribeClientQuotas", 1, 1),
    api("AlterClientQuotas", 1, 1),
    api("DescribeUserScramCredentials", 0, 0),
    api("AlterUserScramCredentials", 0, 0),
    api("Vote", 0, 2),
    api("BeginQuorumEpoch", 1, 1),
    api("EndQuorumEpoch", 1, 1),
    api("DescribeQuorum", 0, 2),
    api("AlterPartition", 0, 3),
    api("UpdateFeatures", 0, 2),
    api("Envelope", 0, 0),
    api("FetchSnapshot", 0, 1),
    api("DescribeCluster", 0, 2),
    api("DescribeProducers", 0, 0),
    api("BrokerRegistration", 0, 4),
    api("BrokerHeartbeat", 0, 1),
    api("UnregisterBroker", 0, 0),
    api("DescribeTransactions", 0, 0),
    api("ListTransactions", 0, 2),
    api("AllocateProducerIds", 0, 0),
    api("ConsumerGroupHeartbeat", 0, 1),
    api("ConsumerGroupDescribe", 0, 1),
    api("ControllerRegistration", 0, 0),
    api("GetTelemetrySubscriptions", 0, 0),
    api("PushTelemetry", 0, 0),
    api("AssignReplicasToDirs", 0, 0),
    api("ListConfigResources", 0, 1),
    api("DescribeTopicPartitions", 0, 0),
    api("ShareGroupHeartbeat", 0, 1),
    api("ShareGroupDescribe", 0, 1),
    api("ShareFetch", 0, 2),
    api("ShareAcknowledge", 0, 2),
    api("AddRaftVoter", 0, 1),
    api("RemoveRaftVoter", 0, 0),
    api("UpdateRaftVoter", 0, 0),
    api("InitializeShareGroupState", 0, 0),
    api("ReadShareGroupState", 0, 0),
    api("WriteShareGroupState", 0, 0),
    api("DeleteShareGroupState", 0, 0),
    api("ReadShareGroupStateSummary", 0, 0),
    api("StreamsGroupHeartbeat", 0, 0),
    api("StreamsGroupDescribe", 0, 0),
    api("DescribeShareGroupOffsets", 0, 1),
    api("AlterShareGroupOffsets", 0, 0),
    api("DeleteShareGroupOffsets", 0, 0),
];

/// What is known of a request's number.
pub(super) fn known(key: i16) -> Option<&'static Api> {
    APIS.get(usize::try_from(key).ok()?)
}

/// Its name.
pub(super) fn name(key: i16) -> &'static str {
    known(key).map_or("unknown", |a| a.name)
}

/// Whether the layout of this version is the flexible one, with compact strings and tagged fields (KIP-482).
pub(super) fn flexible(key: i16, version: i16) -> bool {
    known(key).is_some_and(|a| version >= a.flexible)
}

/// Whether the layout of this version is known.
pub(super) fn readable(key: i16, version: i16) -> bool {
    known(key).is_some_and(|a| (0..=a.newest).contains(&version))
}

/// What it does.
pub(super) fn kind(key: i16) -> OpKind {
    match key {
        PRODUCE => OpKind::Publish,
        FETCH | SHARE_FETCH => OpKind::Deliver,
        OFFSET_COMMIT | TXN_OFFSET_COMMIT | 79 => OpKind::Ack,
        // Groups, access lists, settings, transactions, topics: what there is.
        15 | 16 | 29 | 32 | 35 | 48 | 50 | 55 | 60 | 61 | 65 | 66 | 69 | 74 | 75 | 77 | 89 | 90 => OpKind::Discover,
        _ => OpKind::Control,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        let named = [
            (PRODUCE, "Produce"),
            (FETCH, "Fetch"),
            (METADATA, "Metadata"),
            (OFFSET_COMMIT, "OffsetCommit"),
            (SASL_HANDSHAKE, "SaslHandshake"),
            (API_VERSIONS, "ApiVersions"),
            (TXN_OFFSET_COMMIT, "TxnOffsetCommit"),
            (SASL_AUTHENTICATE, "SaslAuthenticate"),
            (60, "DescribeCluster"),
            (68, "ConsumerGroupHeartbeat"),
            (75, "DescribeTopicPartitions"),
            (SHARE_FETCH, "ShareFetch"),
            (92, "DeleteShareGroupOffsets"),
        ];
        for (key, expected) in named {
            assert_eq!(name(key), expected);
        }
        assert_eq!((name(93), name(-1)), ("unknown", "unknown"));
        assert!(flexible(PRODUCE, 9) && !flexible(PRODUCE, 8) && !flexible(SASL_HANDSHAKE, 1));
    }
}
