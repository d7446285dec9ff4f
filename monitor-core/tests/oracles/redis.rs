//! `redis-protocol` over the recordings of Redis.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use monitor_core::model::{Outcome, Side};
use redis_protocol::resp2::types::OwnedFrame as Old;
use redis_protocol::resp3::types::OwnedFrame as New;

use crate::common::Segments;
use crate::common::suites::REDIS as SUITE;
use crate::{Frames, Told, every, frames};

/// A frame of either version of the protocol, as far as it is compared.
#[derive(Clone, Debug, PartialEq)]
enum Frame {
    Text(Vec<u8>),
    Number(i64),
    List(Vec<Self>),
    Push(Vec<Self>),
    Error,
    Null,
    Other,
}

impl From<Old> for Frame {
    fn from(frame: Old) -> Self {
        match frame {
            Old::SimpleString(data) | Old::BulkString(data) => Self::Text(data),
            Old::Integer(n) => Self::Number(n),
            Old::Array(all) => Self::List(all.into_iter().map(Self::from).collect()),
            Old::Error(_) => Self::Error,
            Old::Null => Self::Null,
        }
    }
}

impl From<New> for Frame {
    fn from(frame: New) -> Self {
        match frame {
            New::SimpleString { data, .. } | New::BlobString { data, .. } => Self::Text(data),
            New::Number { data, .. } => Self::Number(data),
            New::Array { data, .. } => Self::List(data.into_iter().map(Self::from).collect()),
            New::Push { data, .. } => Self::Push(data.into_iter().map(Self::from).collect()),
            New::SimpleError { .. } | New::BlobError { .. } => Self::Error,
            New::Null => Self::Null,
            _ => Self::Other,
        }
    }
}

impl Frame {
    fn text(&self) -> Option<&str> {
        if let Self::Text(data) = self { std::str::from_utf8(data).ok() } else { None }
    }
}

fn read(segments: &Segments) -> Frames<Frame> {
    use redis_protocol::{resp2, resp3};
    frames(segments, |_, bytes: &mut BytesMut| {
        // What both versions have is written alike, but for what is not there.
        let (frame, n) = match resp2::decode::decode(bytes) {
            Ok(Some((frame, n))) => (Frame::from(frame), n),
            Ok(None) => return Ok(None),
            Err(_) => match resp3::decode::complete::decode(bytes).map_err(|e| e.to_string())? {
                Some((frame, n)) => (Frame::from(frame), n),
                None => return Ok(None),
            },
        };
        let _ = bytes.split_to(n);
        Ok(Some(frame))
    })
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Ok,
    Error,
    /// It stood in a transaction that was not done.
    NotDone,
}

/// Commands and replies, paired as a client pairs them.
#[derive(Default)]
struct Conversation {
    commands: Vec<Vec<String>>,
    waiting: VecDeque<usize>,
    replies: BTreeMap<usize, (Reply, Frame)>,
    /// Channel and content of messages that nobody asked for.
    pushed: Vec<(String, usize)>,
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
    /// Replies that the command in front has had, of those that it gets for each of its channels.
    confirmed: usize,
    in_transaction: bool,
    queued: Vec<usize>,
}

const SUBSCRIBING: [(&str, &str); 4] =
    [("subscribe", "channel"), ("psubscribe", "pattern"), ("unsubscribe", "channel"), ("punsubscribe", "pattern")];

impl Conversation {
    fn command(&mut self, frame: &Frame) {
        let Frame::List(words) = frame else { panic!("a command is a list: {frame:?}") };
        let words = words.iter().map(|w| match w {
            Frame::Text(data) => String::from_utf8_lossy(data).into_owned(),
            other => panic!("a command's word is text: {other:?}"),
        });
        self.waiting.push_back(self.commands.len());
        self.commands.push(words.collect());
    }

    fn reply(&mut self, frame: Frame) {
        if let Frame::List(parts) | Frame::Push(parts) = &frame {
            let text = |n: usize| parts.get(n).and_then(Frame::text);
            let content = |n: usize| if let Some(Frame::Text(data)) = parts.get(n) { data.len() } else { 0 };
            match text(0) {
                Some("message") if self.hears("channel") => {
                    return self.pushed.push((text(1).unwrap().to_owned(), content(2)));
                }
                Some("pmessage") if self.hears("pattern") => {
                    return self.pushed.push((text(2).unwrap().to_owned(), content(3)));
                }
                Some(word) => {
                    if let Some((word, kind)) = SUBSCRIBING.into_iter().find(|(w, _)| *w == word) {
                        return self.confirm(word, kind, text(1).map(str::to_owned), frame.clone());
                    }
                }
                None => {}
            }
            assert!(matches!(frame, Frame::List(_)), "nothing else is pushed: {frame:?}");
        }
        let n = self.waiting.pop_front().expect("a reply is to a command");
        self.end(n, frame);
    }

    fn hears(&self, kind: &str) -> bool {
        self.subscribed.get(kind).is_some_and(|all| !all.is_empty())
    }

    /// One channel of a command that (un)subscribes.
    fn confirm(&mut self, word: &'static str, kind: &'static str, channel: Option<String>, frame: Frame) {
        let n = *self.waiting.front().unwrap();
        assert!(self.commands[n][0].eq_ignore_ascii_case(word), "{word} confirms {:?}", self.commands[n]);
        let all = self.subscribed.entry(kind).or_default();
        self.confirmed += 1;
        let named = self.commands[n].len() - 1;
        let done = if named > 0 { self.confirmed == named } else { all.len() <= 1 };
        match channel {
            Some(channel) if word.contains("un") => assert!(all.remove(&channel)),
            Some(channel) => assert!(all.insert(channel)),
            None => {}
        }
        if done {
            self.confirmed = 0;
            self.waiting.pop_front();
            self.end(n, frame);
        }
    }

    fn end(&mut self, n: usize, frame: Frame) {
        let is = |word: &str| self.commands[n][0].eq_ignore_ascii_case(word);
        if self.in_transaction && frame.text() == Some("QUEUED") {
            return self.queued.push(n);
        }
        if is("MULTI") {
            self.in_transaction = true;
        } else if is("EXEC") || is("DISCARD") {
            self.in_transaction = false;
            let queued = std::mem::take(&mut self.queued);
            if let (Frame::List(parts), true) = (&frame, is("EXEC")) {
                assert_eq!(parts.len(), queued.len());
                for (n, part) in queued.into_iter().zip(parts) {
                    self.replies.insert(n, (of(part), part.clone()));
                }
            } else {
                self.replies.extend(queued.into_iter().map(|n| (n, (Reply::NotDone, Frame::Null))));
            }
        }
        self.replies.insert(n, (of(&frame), frame));
    }
}

fn of(frame: &Frame) -> Reply {
    if *frame == Frame::Error { Reply::Error } else { Reply::Ok }
}

#[test]
fn commands_and_replies_are_what_redis_protocol_reads() {
    every(&SUITE, &[], read, |name, frames, told| {
        let mut talk = Conversation::default();
        for (from, frame) in frames {
            match from {
                Side::Client => talk.command(&frame),
                Side::Server => talk.reply(frame),
            }
        }
        assert_eq!(told.n_begun(), talk.commands.len(), "{name}: each command is a request");
        assert_eq!(told.n_answered(), talk.replies.len(), "{name}: each reply answers one");
        let operations = told.by_request();
        for (n, (reply, _)) in &talk.replies {
            let (command, what) = (&talk.commands[*n], format!("{name}: {} {:?}", n + 1, talk.commands[*n]));
            let of_it = operations.get(&(*n as u64 + 1)).unwrap_or_else(|| panic!("{what} is an operation"));
            for op in of_it {
                let verb = told.name(op.verb).split(' ').next().unwrap();
                assert!(verb.eq_ignore_ascii_case(&command[0]), "{what} is {verb}");
                let want = if *reply == Reply::Ok { Outcome::Ok } else { Outcome::Error };
                assert_eq!(op.outcome, want, "{what}");
            }
        }
        messages(name, &talk, told);
    });
}

/// Messages of lists and channels.
fn messages(name: &str, talk: &Conversation, told: &Told) {
    let pushed: Vec<_> = told.delivered().filter(|d| d.message.request == 0).collect();
    assert_eq!(pushed.len(), talk.pushed.len(), "{name}: messages of channels");
    for (delivery, (channel, size)) in pushed.iter().zip(&talk.pushed) {
        assert!(told.shows(delivery.message.queue, channel), "{name}: {channel}");
        assert_eq!(delivery.message.bytes, *size as u64, "{name}: {channel}");
    }
    // What Celery puts into a list is an envelope, of which the content is a part.
    if name.starts_with("celery") {
        return;
    }
    for (n, (reply, frame)) in &talk.replies {
        let command = &talk.commands[*n];
        let is = |word: &str| command[0].eq_ignore_ascii_case(word);
        // Nobody has what was put to the end of a list that is not there; nobody needs to listen to a channel.
        let taken = is("PUBLISH") || *frame != Frame::Number(0);
        if *reply == Reply::Ok && taken && (is("LPUSH") || is("RPUSH") || is("RPUSHX") || is("PUBLISH")) {
            let sent: Vec<u64> = command[2..].iter().map(|word| word.len() as u64).collect();
            let ours = told.published().filter(|m| m.request == *n as u64 + 1);
            let ours: Vec<u64> = ours.map(|m| m.bytes).collect();
            assert_eq!(ours, sent, "{name}: {command:?}");
        }
    }
}
