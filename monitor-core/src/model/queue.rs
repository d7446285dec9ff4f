//! Messages on their way through a queue, as the broker's connections show them: published, delivered, settled.

use smallvec::SmallVec;

use super::{Basis, Claim, EvidenceClass, Fingerprint, Nanos, RequestKey, ServiceId, Sym, TenantId};

/// Most ids kept of one message.
pub const MAX_IDS: usize = 4;
/// Most values kept of one message.
pub const MAX_VALUES: usize = 32;

/// One message, without its content.
#[derive(Clone, Debug)]
pub struct Message {
    /// The request of this connection that carried it, or whose answer did; 0: the broker pushed it.
    pub request: u64,
    /// When its last byte was seen.
    pub at: Nanos,
    /// Where it was published to, as far as that may be shown: exchange and routing key, topic, subject, list, stream.
    pub queue: Sym,
    /// Where it was published to, exactly: the same for publisher and consumer.
    pub address: Fingerprint,
    /// What identifies this one message at this broker: an id that broker, producer or job library gave it, with all
    /// that makes it unique (stream and number; topic, partition and offset).
    pub ids: SmallVec<[Fingerprint; 2]>,
    /// Covers the content as it is handed on unchanged; `None` if it was not seen whole.
    pub print: Option<Fingerprint>,
    /// Length of the content, in bytes.
    pub bytes: u64,
    /// Whom a header or field of it names. A label (V1): anybody can write it.
    pub marker: Claim,
    /// It has a header or field for a tenant, whether or not the value is known.
    pub labelled: bool,
    /// What it says of its tenant could be read: its content was seen whole, and is text.
    pub readable: bool,
    /// Whom a signed claim in it names that was verified here, against a configured key.
    pub proved: Option<TenantId>,
    /// It is a job library's or broker's own affair (a heartbeat, an order to workers, a result), and no job.
    pub chore: bool,
    /// It is only what a message says, kept beside the queue, which its id goes through.
    pub body: bool,
    /// Which part of its address it goes to, where addresses have such (a partition, or the key that chooses one): each tenant
    /// may have its own.
    pub lane: Option<Fingerprint>,
    /// It carries a signed claim that could not be verified here.
    pub signed: bool,
    /// What lets a consumer see that it got the same job twice, where the producer gave it such a key.
    pub idempotency: Option<Fingerprint>,
    /// Ids of traces and requests that it carries.
    pub traces: SmallVec<[Fingerprint; 1]>,
    /// Other values that it carries, which may turn up again in the work done for it.
    pub values: SmallVec<[Fingerprint; 8]>,
}

impl Message {
    /// Its content only says where the message is, which says this.
    pub fn refers_to(&mut self, body: &Self) {
        self.labelled |= body.labelled;
        self.signed |= body.signed;
        self.proved = self.proved.or(body.proved);
        if self.marker == Claim::Neutral {
            self.marker = body.marker;
        }
        self.readable = body.readable;
        let more = body.values.iter().filter(|v| !self.values.contains(v)).copied();
        let more: SmallVec<[Fingerprint; 8]> = more.take(MAX_VALUES.saturating_sub(self.values.len())).collect();
        self.values.extend(more);
    }
}

/// A message has reached a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The broker says that it was delivered before.
    pub again: bool,
    /// What confirms it.
    pub confirmation: Confirmation,
}

/// What tells that the work on a delivery is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Nothing: the broker waits for no confirmation, or the decoder has no room to follow it.
    None,
    /// A [`Settled`] with this handle on the same connection, where it is unique among the deliveries outstanding.
    Here(u64),
    /// A [`Settled`] with this handle on any of the consumer's connections.
    Anywhere(u64),
    /// A [`Passed`] beyond this position of a log, on any of the reader's connections.
    Past(Position),
}

impl Confirmation {
    /// Whether the broker waits for it.
    pub fn is_awaited(self) -> bool {
        self != Self::None
    }

    /// The handle that a [`Settled`] names the delivery by, if one does.
    pub fn handle(self) -> Option<u64> {
        match self {
            Self::Here(handle) | Self::Anywhere(handle) => Some(handle),
            Self::None | Self::Past(_) => None,
        }
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub log: Fingerprint,
    /// The message's number there.
    pub offset: i64,
}

/// Everything below this position is confirmed, on whichever of the consumer's connections it was delivered.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// The first that is not.
    pub to: Position,
    /// When.
    pub at: Nanos,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// The consumer confirmed it.
    Done,
    /// The consumer gave it back, to be delivered again.
    Returned,
    /// The consumer refused it for good.
    Dropped,
}

/// A delivery has ended.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Which one.
    pub handle: u64,
    /// When.
    pub at: Nanos,
    /// How.
    pub how: Settlement,
}

/// What happened to a message.
#[derive(Clone, Debug)]
pub enum QueueEvent {
    /// A producer has handed it to the broker. Told when the broker confirmed it, where it does, else when the message
    /// was complete.
    Published(Message),
    /// The broker has handed it to a consumer.
    Delivered(Delivery),
    /// The consumer is done with it.
    Settled(Settled),
    /// The consumer is done with all that came before.
    Passed(Passed),
}

/// A job: a message in the hands of a process that works for several tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The broker that handed it out.
    pub service: ServiceId,
    /// Where it was published to, as far as that may be shown.
    pub queue: Sym,
    /// How it was handed out, as the protocol names it.
    pub verb: Sym,
    /// When.
    pub at: Nanos,
    /// Names the message at its broker, where anything does.
    pub id: Option<Fingerprint>,
    /// It was handed out before.
    pub again: bool,
    /// It carries a key by which its second coming can be noticed.
    pub keyed: bool,
}

/// Work that is part of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobWork {
    /// The job, by the connection that it came on and its number there.
    pub key: RequestKey,
    /// What is known of it.
    pub job: Job,
    /// Whose job it is.
    pub tenant: TenantId,
    /// How it is known that the work is part of a job of that tenant's: the best basis.
    pub basis: Basis,
    /// How well.
    pub class: EvidenceClass,
}
