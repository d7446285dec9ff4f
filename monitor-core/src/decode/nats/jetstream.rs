//! JetStream: the subjects by which deliveries are confirmed, and the answers to publications and to questions about
//! consumers (docs.nats.io, "JetStream wire API"; ADR-15 for the longer subject).

use serde::Deserialize;

use super::frame::number;
use crate::model::queue::Settlement;

/// A delivery, as the subject says by which it is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack<'a> {
    pub(super) stream: &'a [u8],
    pub(super) consumer: &'a [u8],
    /// How often it was delivered, this time included.
    pub(super) delivered: u64,
    /// Its number in the stream, and among the consumer's deliveries.
    pub(super) stream_seq: &'a [u8],
    pub(super) consumer_seq: u64,
}

/// Reads such a subject: `$JS.ACK.STREAM.CONSUMER.DELIVERED.SSEQ.CSEQ.TIME.PENDING`, or with domain and account before
/// the stream, and maybe a random word at the end.
pub(super) fn ack(subject: &[u8]) -> Option<Ack<'_>> {
    let rest = subject.strip_prefix(b"$JS.ACK.")?;
    let n = rest.split(|b| *b == b'.').count();
    let skip = match n {
        7 => 0,
        9..=12 => 2,
        _ => return None,
    };
    let mut words = rest.split(|b| *b == b'.').skip(skip);
    let (stream, consumer) = (words.next()?, words.next()?);
    let delivered = number(words.next()?)?;
    let stream_seq = words.next()?;
    number(stream_seq)?;
    Some(Ack { stream, consumer, delivered, stream_seq, consumer_seq: number(words.next()?)? })
}

/// What a confirmation says; `None`: that work goes on.
pub(super) fn settlement(payload: &[u8]) -> Option<Settlement> {
    match payload {
        [b'-', b'N', b'A', b'K', ..] => Some(Settlement::Returned),
        [b'+', b'T', b'E', b'R', b'M', ..] => Some(Settlement::Dropped),
        [b'+', b'W', b'P', b'I', ..] => None,
        // `+ACK`, `+NXT` or nothing; whatever else there is, the server takes it for a confirmation.
        _ => Some(Settlement::Done),
    }
}

/// How a consumer's deliveries are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// One by one.
    Each,
    /// With all before.
    All,
    /// Not at all.
    Never,
}

/// What the server answered to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PubAck<'a> {
    /// Stored in this stream under this number.
    Stored(&'a str, u64),
    /// It was there already.
    Duplicate,
    /// Refused.
    Refused,
    /// It is no answer of JetStream's, but of whoever received the message.
    Other,
}

#[derive(Deserialize)]
struct PubAckText<'a> {
    #[serde(borrow, default)]
    stream: Option<&'a str>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a str>,
}

/// Reads the answer to a publication.
pub(super) fn pub_ack(text: &[u8]) -> PubAck<'_> {
    if text.first() != Some(&b'{') {
        return PubAck::Other;
    }
    match serde_json::from_slice::<PubAckText<'_>>(text) {
        Ok(PubAckText { stream: Some(_), error: Some(_), .. }) => PubAck::Refused,
        Ok(PubAckText { kind: Some(kind), error: Some(_), .. }) if kind.starts_with("io.nats.jetstream") => {
            PubAck::Refused
        }
        Ok(PubAckText { stream: Some(_), duplicate: true, .. }) => PubAck::Duplicate,
        Ok(PubAckText { stream: Some(stream), seq: Some(seq), .. }) if !stream.is_empty() => {
            PubAck::Stored(stream, seq)
        }
        _ => PubAck::Other,
    }
}

#[derive(Deserialize)]
struct ApiText<'a> {
    #[serde(borrow, default)]
    stream_name: Option<&'a str>,
    #[serde(borrow, default)]
    name: Option<&'a str>,
    #[serde(borrow, default)]
    config: Option<ConfigText<'a>>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ConfigText<'a> {
    #[serde(borrow, default)]
    ack_policy: Option<&'a str>,
}

/// What the server answered about a consumer: whether it refused, and stream, name and policy.
pub(super) fn consumer(text: &[u8]) -> (bool, Option<(&str, &str, Policy)>) {
    let Ok(api) = serde_json::from_slice::<ApiText<'_>>(text) else { return (false, None) };
    let policy = api.config.and_then(|c| c.ack_policy).and_then(|p| match p {
        "explicit" => Some(Policy::Each),
        "all" => Some(Policy::All),
        "none" => Some(Policy::Never),
        _ => None,
    });
    let known = match (api.stream_name, api.name, policy) {
        (Some(stream), Some(name), Some(policy)) => Some((stream, name, policy)),
        _ => None,
    };
    (api.error.is_some(), known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_are_read() {
        let old = ack(b"$JS.ACK.JOBS.w1.2.17.9.1795258762198591434.0").unwrap();
        assert_eq!((old.stream, old.consumer, old.delivered), (&b"JOBS"[..], &b"w1"[..], 2));
        assert_eq!((old.stream_seq, old.consumer_seq), (&b"17"[..], 9));
        assert_eq!(ack(b"$JS.ACK.hub.ACCHASH.JOBS.w1.2.17.9.1795258762198591434.0.rnd"), Some(old));
        assert_eq!(ack(b"$JS.ACK._.ACCHASH.JOBS.w1.2.17.9.1795258762198591434.0"), Some(old));
        for bad in [&b"$JS.ACK.JOBS.w1.2.17"[..], b"$JS.ACK.JOBS.w1.x.17.9.1.0", b"_INBOX.a", b"$JS.ACK."] {
            assert_eq!(ack(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn answers_to_publications() {
        assert_eq!(pub_ack(br#"{"stream":"NODE", "seq":2}"#), PubAck::Stored("NODE", 2));
        assert_eq!(pub_ack(br#"{"stream":"NODE","seq":2,"duplicate":true}"#), PubAck::Duplicate);
        assert_eq!(pub_ack(br#"{"error":{"code":400,"err_code":10060},"stream":"JOBS","seq":0}"#), PubAck::Refused);
        assert_eq!(pub_ack(br#"{"answer":"ok"}"#), PubAck::Other);
        assert_eq!(pub_ack(b"ok"), PubAck::Other);
        assert_eq!(settlement(b"-NAK {\"delay\": 5}"), Some(Settlement::Returned));
        assert_eq!((settlement(b"+WPI"), settlement(b"")), (None, Some(Settlement::Done)));
    }
}
