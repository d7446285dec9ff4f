//! Methods: which ones there are, who says them, and what of their arguments is read (AMQP 0-9-1 XML specification;
//! `connection.blocked`, `update-secret`, `exchange.bind`, `basic.nack`, `confirm` and the broker's `basic.cancel` are
//! RabbitMQ's extensions).

use crate::decode::wire::Reader;
use crate::model::Side;

/// Class and number of a method.
pub(super) type Id = (u16, u16);

/// The class of methods that are about the connection itself.
pub(super) const CONNECTION: u16 = 10;

/// Methods by their names in the specification, as far as they mean something here.
pub(super) mod id {
    use super::Id;

    pub(in super::super) const CONNECTION_OPEN_OK: Id = (10, 41);
    pub(in super::super) const CONNECTION_CLOSE_OK: Id = (10, 51);
    pub(in super::super) const CONNECTION_UPDATE_SECRET_OK: Id = (10, 71);
    pub(in super::super) const BASIC_PUBLISH: Id = (60, 40);
    pub(in super::super) const BASIC_GET_OK: Id = (60, 71);
    pub(in super::super) const BASIC_GET_EMPTY: Id = (60, 72);
    pub(in super::super) const BASIC_RECOVER_ASYNC: Id = (60, 100);
    pub(in super::super) const BASIC_RECOVER: Id = (60, 110);
    pub(in super::super) const CONFIRM_SELECT: Id = (85, 10);
    pub(in super::super) const TX_SELECT: Id = (90, 10);
    pub(in super::super) const TX_COMMIT: Id = (90, 20);
    pub(in super::super) const TX_ROLLBACK: Id = (90, 30);
}

/// Who says a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Client,
    Server,
    Both,
}

impl Says {
    /// Whether `side` does.
    pub(super) fn includes(self, side: Side) -> bool {
        match self {
            Self::Client => side == Side::Client,
            Self::Server => side == Side::Server,
            Self::Both => true,
        }
    }
}

/// A method of the specification.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) id: Id,
    pub(super) name: &'static str,
    pub(super) says: Says,
    /// It asks, and this answers it (get: or get-empty).
    pub(super) answer: Option<Id>,
}

/// The method with this id.
pub(super) fn known(id: Id) -> Option<Known> {
    let at = TABLE.binary_search_by_key(&id, |row| row.0).ok()?;
    let (id, name, says, answer) = *TABLE.get(at)?;
    Some(Known { id, name, says, answer: (answer != 0).then_some((id.0, answer)) })
}

use Says::{Both as B, Client as C, Server as S};

#[rustfmt::skip]
const TABLE: &[(Id, &str, Says, u16)] = &[
    ((10, 10), "connection.start", S, 0),
    ((10, 11), "connection.start-ok", C, 0),
    ((10, 20), "connection.secure", S, 0),
    ((10, 21), "connection.secure-ok", C, 0),
    ((10, 30), "connection.tune", S, 0),
    ((10, 31), "connection.tune-ok", C, 0),
    ((10, 40), "connection.open", C, 41),
    ((10, 41), "connection.open-ok", S, 0),
    ((10, 50), "connection.close", B, 51),
    ((10, 51), "connection.close-ok", B, 0),
    ((10, 60), "connection.blocked", S, 0),
    ((10, 61), "connection.unblocked", S, 0),
    ((10, 70), "connection.update-secret", C, 71),
    ((10, 71), "connection.update-secret-ok", S, 0),
    ((20, 10), "channel.open", C, 11),
    ((20, 11), "channel.open-ok", S, 0),
    ((20, 20), "channel.flow", B, 21),
    ((20, 21), "channel.flow-ok", B, 0),
    ((20, 40), "channel.close", B, 41),
    ((20, 41), "channel.close-ok", B, 0),
    ((30, 10), "access.request", C, 11),
    ((30, 11), "access.request-ok", S, 0),
    ((40, 10), "exchange.declare", C, 11),
    ((40, 11), "exchange.declare-ok", S, 0),
    ((40, 20), "exchange.delete", C, 21),
    ((40, 21), "exchange.delete-ok", S, 0),
    ((40, 30), "exchange.bind", C, 31),
    ((40, 31), "exchange.bind-ok", S, 0),
    ((40, 40), "exchange.unbind", C, 51),
    ((40, 51), "exchange.unbind-ok", S, 0),
    ((50, 10), "queue.declare", C, 11),
    ((50, 11), "queue.declare-ok", S, 0),
    ((50, 20), "queue.bind", C, 21),
    ((50, 21), "queue.bind-ok", S, 0),
    ((50, 30), "queue.purge", C, 31),
    ((50, 31), "queue.purge-ok", S, 0),
    ((50, 40), "queue.delete", C, 41),
    ((50, 41), "queue.delete-ok", S, 0),
    ((50, 50), "queue.unbind", C, 51),
    ((50, 51), "queue.unbind-ok", S, 0),
    ((60, 10), "basic.qos", C, 11),
    ((60, 11), "basic.qos-ok", S, 0),
    ((60, 20), "basic.consume", C, 21),
    ((60, 21), "basic.consume-ok", S, 0),
    ((60, 30), "basic.cancel", B, 31),
    ((60, 31), "basic.cancel-ok", B, 0),
    ((60, 40), "basic.publish", C, 0),
    ((60, 50), "basic.return", S, 0),
    ((60, 60), "basic.deliver", S, 0),
    ((60, 70), "basic.get", C, 71),
    ((60, 71), "basic.get-ok", S, 0),
    ((60, 72), "basic.get-empty", S, 0),
    ((60, 80), "basic.ack", B, 0),
    ((60, 90), "basic.reject", C, 0),
    ((60, 100), "basic.recover-async", C, 0),
    ((60, 110), "basic.recover", C, 111),
    ((60, 111), "basic.recover-ok", S, 0),
    ((60, 120), "basic.nack", B, 0),
    ((85, 10), "confirm.select", C, 11),
    ((85, 11), "confirm.select-ok", S, 0),
    ((90, 10), "tx.select", C, 11),
    ((90, 11), "tx.select-ok", S, 0),
    ((90, 20), "tx.commit", C, 21),
    ((90, 21), "tx.commit-ok", S, 0),
    ((90, 30), "tx.rollback", C, 31),
    ((90, 31), "tx.rollback-ok", S, 0),
];

/// Where a message was published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) key: &'a [u8],
}

/// What of a method's arguments is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    StartOk {
        mechanism: &'a [u8],
        response: &'a [u8],
    },
    Open {
        vhost: &'a [u8],
    },
    /// What was wrong, if anything was: the method that failed.
    Close {
        failed: Id,
    },
    UpdateSecret {
        secret: &'a [u8],
    },
    Consume {
        queue: &'a [u8],
        tag: &'a [u8],
        no_ack: bool,
        waits: bool,
    },
    ConsumeOk {
        tag: &'a [u8],
    },
    Cancel {
        tag: &'a [u8],
        waits: bool,
    },
    Publish(Address<'a>),
    Return(Address<'a>),
    Deliver {
        consumer: &'a [u8],
        tag: u64,
        again: bool,
        to: Address<'a>,
    },
    Get {
        queue: &'a [u8],
        no_ack: bool,
    },
    GetOk {
        tag: u64,
        again: bool,
        to: Address<'a>,
    },
    Ack {
        tag: u64,
        multiple: bool,
    },
    Reject {
        tag: u64,
        requeue: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
        requeue: bool,
    },
    /// Any other: the name of what it is about, and whether its sender waits for an answer.
    Other {
        name: &'a [u8],
        waits: bool,
    },
}

/// Reads a method's arguments; `None`: too short.
pub(super) fn read<'a>(id: Id, arguments: &'a [u8]) -> Option<Method<'a>> {
    let mut b = Reader::new(arguments);
    let named = |name: &'a [u8], bits: u8, no_wait: u8| Method::Other { name, waits: bits >> no_wait & 1 == 0 };
    Some(match id {
        (10, 11) => {
            b.u32_bytes()?;
            Method::StartOk { mechanism: b.u8_bytes()?, response: b.u32_bytes()? }
        }
        (10, 40) => Method::Open { vhost: b.u8_bytes()? },
        (10 | 20, 50 | 40) => {
            b.u16()?;
            b.u8_bytes()?;
            Method::Close { failed: (b.u16()?, b.u16()?) }
        }
        (10, 70) => Method::UpdateSecret { secret: b.u32_bytes()? },
        (40, 10) => {
            b.u16()?;
            let name = b.u8_bytes()?;
            b.u8_bytes()?;
            named(name, b.u8()?, 4)
        }
        (40, 30 | 40) => {
            b.u16()?;
            let name = b.u8_bytes()?;
            b.u8_bytes()?;
            b.u8_bytes()?;
            named(name, b.u8()?, 0)
        }
        (50, 20) => {
            b.u16()?;
            let name = b.u8_bytes()?;
            b.u8_bytes()?;
            b.u8_bytes()?;
            named(name, b.u8()?, 0)
        }
        (40, 20) | (50, 10 | 30 | 40) => {
            b.u16()?;
            let name = b.u8_bytes()?;
            let bit = match id {
                (40, 20) => 1,
                (50, 10) => 4,
                (50, 40) => 2,
                _ => 0,
            };
            named(name, b.u8()?, bit)
        }
        (50, 50) => {
            b.u16()?;
            named(b.u8_bytes()?, 0, 0)
        }
        (60, 20) => {
            b.u16()?;
            let (queue, tag, bits) = (b.u8_bytes()?, b.u8_bytes()?, b.u8()?);
            Method::Consume { queue, tag, no_ack: bits & 2 != 0, waits: bits & 8 == 0 }
        }
        (60, 21) => Method::ConsumeOk { tag: b.u8_bytes()? },
        (60, 30) => Method::Cancel { tag: b.u8_bytes()?, waits: b.u8()? & 1 == 0 },
        (60, 40) => {
            b.u16()?;
            let to = address(&mut b)?;
            b.u8()?;
            Method::Publish(to)
        }
        (60, 50) => {
            b.u16()?;
            b.u8_bytes()?;
            Method::Return(address(&mut b)?)
        }
        (60, 60) => {
            let consumer = b.u8_bytes()?;
            let (tag, bits) = (b.u64()?, b.u8()?);
            Method::Deliver { consumer, tag, again: bits & 1 != 0, to: address(&mut b)? }
        }
        (60, 70) => {
            b.u16()?;
            Method::Get { queue: b.u8_bytes()?, no_ack: b.u8()? & 1 != 0 }
        }
        (60, 71) => {
            let (tag, bits) = (b.u64()?, b.u8()?);
            Method::GetOk { tag, again: bits & 1 != 0, to: address(&mut b)? }
        }
        (60, 80) => Method::Ack { tag: b.u64()?, multiple: b.u8()? & 1 != 0 },
        (60, 90) => Method::Reject { tag: b.u64()?, requeue: b.u8()? & 1 != 0 },
        (60, 120) => {
            let (tag, bits) = (b.u64()?, b.u8()?);
            Method::Nack { tag, multiple: bits & 1 != 0, requeue: bits & 2 != 0 }
        }
        (85, 10) => named(b"", b.u8()?, 0),
        _ => Method::Other { name: b"", waits: true },
    })
}

fn address<'a>(b: &mut Reader<'a>) -> Option<Address<'a>> {
    Some(Address { exchange: b.u8_bytes()?, key: b.u8_bytes()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_answers_exist() {
        assert!(TABLE.is_sorted_by_key(|row| row.0));
        for (id, name, _, answer) in TABLE {
            assert!(*answer == 0 || known((id.0, *answer)).is_some(), "{name}");
        }
        assert!(known((60, 41)).is_none());
    }

    #[test]
    fn arguments_are_read_and_short_ones_refused() {
        let deliver = b"\x03tag\0\0\0\0\0\0\0\x07\x01\x02ex\x03key";
        let to = Address { exchange: b"ex", key: b"key" };
        assert_eq!(read((60, 60), deliver), Some(Method::Deliver { consumer: b"tag", tag: 7, again: true, to }));
        for n in 0..deliver.len() {
            assert_eq!(read((60, 60), &deliver[..n]), None, "{n}");
        }
        let declare = b"\0\0\x01q\x10\0\0\0\0";
        assert_eq!(read((50, 10), declare), Some(Method::Other { name: b"q", waits: false }));
        let nack = b"\0\0\0\0\0\0\0\x07\x02";
        assert_eq!(read((60, 120), nack), Some(Method::Nack { tag: 7, multiple: false, requeue: true }));
    }
}
