//! What a command does with its keys, command by command: what its reply hands over of what they hold, and what it makes
//! of them once the reply says that it did something. A write that the server refused writes nothing, a read of what is
//! not there receives nothing.
//!
//! What is compared or counted instead of read is nobody's: counters, and what locks, leases and limits are made of
//! (numbers and short random words, written only if nothing is there, or to live a while).
//!
//! Sources: redis.io, "Commands"; "Distributed Locks with Redis"; the scripts of redis-py's `Lock`, redlock and limits.

use smallvec::SmallVec;

use super::command::Command;
use super::commands::Known;
use super::given::{Leaf, grown, pair};
use crate::decode::weight::{Weight, holds, weight};
use crate::model::claim::Salt;
use crate::model::keys::{Elements, KeyChange, KeyUse, KeyUses};
use crate::model::{Fingerprint, Outcome};

/// A script's answer that is shorter says too little to be told from another's.
const SUBSTANTIAL: u64 = 8;

/// How a reply's values belong to keys.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gives {
    Nothing,
    /// The whole text that a key holds.
    Text,
    /// The text of each key, in order.
    Texts,
    /// Members, elements or entries, of any of the keys.
    Members,
    /// Entries of streams behind the names of these, which stand less deep.
    Streams(SmallVec<[Fingerprint; 2]>),
    /// Fields and values in turn, behind so many other values.
    Pairs(usize),
    /// The values of these fields.
    Fields(SmallVec<[Fingerprint; 2]>),
    /// Whatever a script likes.
    Anything,
}

/// What a command makes of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Makes {
    Nothing,
    /// One change for the first key.
    First(KeyChange),
    /// A change for each key, in order.
    Each(SmallVec<[KeyChange; 2]>),
    /// The first key holds what the reply names besides.
    Entry,
    /// The text grows to the length that the reply says.
    Grows,
    /// This member is new if its score is just what was added to it.
    Raises(Fingerprint, SmallVec<[u8; 16]>),
}

/// When the reply says that the command did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Always,
    /// Not if it is null.
    Some,
    /// Only if it is null: the answer is what was there before.
    Null,
    /// If it is a number above zero.
    Positive,
    /// If it is just this number: with less it is not known which of them it was.
    Just(u64),
}

/// What a command does with its keys, as far as its arguments say.
#[derive(Clone, Debug)]
pub(super) struct Touch {
    keys: SmallVec<[(Fingerprint, bool); 1]>,
    gives: Gives,
    makes: Makes,
    did: Did,
    /// Keys that hold a word which one of these keys is named by.
    pub(super) pointers: SmallVec<[Fingerprint; 1]>,
}

/// A command's arguments, and where they lie.
struct Args<'a> {
    c: &'a Command,
    salt: Salt,
}

impl Args<'_> {
    fn n(&self) -> usize {
        usize::try_from(self.c.n_args).unwrap_or(usize::MAX)
    }

    fn is(&self, i: usize, word: &str) -> bool {
        self.c.whole(i).is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn has(&self, from: usize, word: &str) -> bool {
        (from..self.c.n_kept()).any(|i| self.is(i, word))
    }

    fn print(&self, i: usize) -> Option<Fingerprint> {
        self.c.print_of(i)
    }

    /// What an argument is worth; a long one is text.
    fn weight(&self, i: usize) -> Weight {
        self.c.whole(i).map_or(Weight::Text, weight)
    }

    /// What a key holds after it was given the value that is argument `i`, to live a while or not.
    fn holds(&self, i: usize, lives: bool, only_if: bool) -> KeyChange {
        let Some(print) = self.print(i) else { return KeyChange::Unknown };
        holds(self.c.whole(i), print, lives, only_if)
    }

    /// The elements that are every `step`th argument from `first` on; `None` if some could not be read.
    fn elements(&self, first: usize, step: usize) -> (Elements, usize) {
        let mut n = 0;
        let mut all = Elements::new();
        for i in (first..self.n()).step_by(step.max(1)) {
            n += 1;
            // Random words and times identify no one. Numbers and words may.
            if !matches!(self.weight(i), Weight::Token | Weight::Number(10..))
                && let Some(print) = self.print(i)
            {
                all.push(print);
            }
        }
        (all, n)
    }

    /// Fields and their values from `first` on.
    fn fields(&self, first: usize) -> Elements {
        let mut all = Elements::new();
        for i in (first..self.c.n_kept()).step_by(2) {
            let weight = self.weight(i + 1);
            if let (Some(field), Some(value)) = (self.print(i), self.print(i + 1))
                && !matches!(weight, Weight::Number(10..))
            {
                all.push(pair(self.salt, field, value));
                // Where values are read without their fields, only what is worth it is known again.
                if matches!(weight, Weight::Text | Weight::Structure)
                    && self.c.whole(i + 1).is_none_or(|v| v.len() as u64 >= SUBSTANTIAL)
                {
                    all.push(value);
                }
            }
        }
        all
    }

    /// The names of streams behind the word `STREAMS`.
    fn streams(&self, n: usize) -> Option<SmallVec<[Fingerprint; 2]>> {
        let at = (1..self.c.n_kept()).find(|i| self.is(*i, "STREAMS"))?;
        (at + 1..=at + n).map(|i| self.print(i)).collect()
    }

    fn set(&self) -> (Gives, Makes, Did) {
        let lives = ["EX", "PX", "EXAT", "PXAT"].iter().any(|w| self.has(3, w));
        let if_none = self.has(3, "NX");
        let only_if = if_none || ["XX", "IFEQ", "IFNE", "IFDEQ", "IFDNE"].iter().any(|w| self.has(3, w));
        let gets = self.has(3, "GET");
        let did = match (gets, if_none, only_if) {
            (true, true, _) => Did::Null,
            (true, false, true) | (false, ..) => Did::Some,
            (true, false, false) => Did::Always,
        };
        let gives = if gets { Gives::Text } else { Gives::Nothing };
        (gives, Makes::First(self.holds(2, lives, only_if)), did)
    }

    /// `KEY [options] SCORE MEMBER...`, `width` words before each member and with it.
    fn scored(&self, width: usize) -> (Gives, Makes, Did) {
        let option = |i: &usize| ["NX", "XX", "GT", "LT", "CH", "INCR"].iter().any(|w| self.is(*i, w));
        let first = (2..self.n()).find(|i| !option(i)).unwrap_or(2);
        let changes = (2..first).any(|i| self.is(i, "INCR") || self.is(i, "CH") || self.is(i, "XX"));
        let (members, n) = self.elements(first + width - 1, width);
        // What is raised or moved was there before: it is whose it was.
        let makes = if changes { Makes::Nothing } else { Makes::First(KeyChange::Adds(members)) };
        (Gives::Nothing, makes, Did::Just(n as u64))
    }

    /// What a script is told besides its keys may be what it writes.
    fn script(&self, n_keys: usize) -> (Gives, Makes, Did) {
        let mut told = Elements::new();
        for i in 3 + n_keys..self.c.n_kept() {
            if matches!(self.weight(i), Weight::Text | Weight::Structure)
                && let Some(print) = self.print(i)
            {
                told.push(print);
            }
        }
        let each = std::iter::repeat_n(KeyChange::Adds(told), n_keys).collect();
        (Gives::Anything, Makes::Each(each), Did::Always)
    }
}

/// The other keys' numbers, from the second on.
fn others(n: usize) -> SmallVec<[u8; 4]> {
    (1..n.min(16)).filter_map(|i| u8::try_from(i).ok()).collect()
}

/// What a command does with `keys`, which are fingerprints and whether they name somebody; `None`: nothing that matters.
pub(super) fn touch(
    salt: Salt,
    known: &Known,
    c: &Command,
    keys: SmallVec<[(Fingerprint, bool); 1]>,
) -> Option<Box<Touch>> {
    let a = Args { c, salt };
    let n = keys.len();
    let from = |keys: &[u8], adds| KeyChange::From { keys: SmallVec::from_slice(keys), adds };
    let none = || KeyChange::Holds(Elements::new());
    let to_first = |change| Makes::First(change);
    let name = known.name;
    let (gives, makes, did) = match name {
        "GET" | "GETEX" => (Gives::Text, Makes::Nothing, Did::Always),
        "GETDEL" => (Gives::Text, to_first(none()), Did::Always),
        "GETSET" => (Gives::Text, to_first(a.holds(2, false, false)), Did::Always),
        "MGET" => (Gives::Texts, Makes::Nothing, Did::Always),
        "SET" => a.set(),
        "SETEX" | "PSETEX" => (Gives::Nothing, to_first(a.holds(3, true, false)), Did::Always),
        "SETNX" => (Gives::Nothing, to_first(a.holds(2, false, true)), Did::Positive),
        "MSET" | "MSETNX" => {
            let each = (0..n).map(|i| a.holds(2 + 2 * i, false, name == "MSETNX")).collect();
            (Gives::Nothing, Makes::Each(each), if name == "MSETNX" { Did::Positive } else { Did::Always })
        }
        "MSETEX" => {
            let options = 2 + 2 * n;
            let lives = ["EX", "PX", "EXAT", "PXAT"].iter().any(|w| a.has(options, w));
            let only_if = a.has(options, "NX") || a.has(options, "XX");
            let each = (0..n).map(|i| a.holds(3 + 2 * i, lives, only_if)).collect();
            (Gives::Nothing, Makes::Each(each), Did::Positive)
        }
        "DELEX" => (Gives::Nothing, to_first(none()), Did::Positive),
        "APPEND" => (Gives::Nothing, Makes::Grows, Did::Always),
        "INCR" | "INCRBY" | "INCRBYFLOAT" | "DECR" | "DECRBY" | "SETBIT" | "BITFIELD" | "PFADD" | "PFMERGE" => {
            (Gives::Nothing, to_first(KeyChange::Nobodys), Did::Always)
        }
        "SETRANGE" | "RESTORE" | "RESTORE-ASKING" => (Gives::Nothing, to_first(KeyChange::Unknown), Did::Always),
        "DEL" | "UNLINK" => (Gives::Nothing, Makes::Each((0..n).map(|_| none()).collect()), Did::Always),
        "RENAME" | "RENAMENX" if n == 2 => {
            let did = if name == "RENAME" { Did::Always } else { Did::Positive };
            (Gives::Nothing, Makes::Each(smallvec::smallvec![none(), from(&[0], false)]), did)
        }
        "MOVE" if n == 2 => {
            (Gives::Nothing, Makes::Each(smallvec::smallvec![none(), from(&[0], false)]), Did::Positive)
        }
        "SORT" | "GEORADIUS" | "GEORADIUSBYMEMBER" if n == 2 => {
            (Gives::Nothing, Makes::Each(smallvec::smallvec![KeyChange::None, from(&[0], false)]), Did::Always)
        }
        "COPY" if n == 2 => {
            (Gives::Nothing, Makes::Each(smallvec::smallvec![KeyChange::None, from(&[0], false)]), Did::Positive)
        }
        "LMOVE" | "BLMOVE" | "RPOPLPUSH" | "BRPOPLPUSH" | "SMOVE" if n == 2 => {
            let did = if name == "SMOVE" { Did::Positive } else { Did::Some };
            (Gives::Nothing, Makes::Each(smallvec::smallvec![KeyChange::None, from(&[0], true)]), did)
        }
        "SINTERSTORE" | "SUNIONSTORE" | "SDIFFSTORE" | "ZUNIONSTORE" | "ZINTERSTORE" | "ZDIFFSTORE" | "ZRANGESTORE"
        | "GEOSEARCHSTORE" | "BITOP"
            if n > 1 =>
        {
            (Gives::Nothing, to_first(from(&others(n), false)), Did::Always)
        }
        "HSET" | "HMSET" => (Gives::Nothing, to_first(KeyChange::Adds(a.fields(2))), Did::Always),
        "HSETNX" => {
            let compared = matches!(a.weight(3), Weight::Number(_) | Weight::Token);
            let adds = if compared { Elements::new() } else { a.fields(2) };
            (Gives::Nothing, to_first(KeyChange::Adds(adds)), Did::Positive)
        }
        "LPUSH" | "RPUSH" | "LPUSHX" | "RPUSHX" => {
            (Gives::Nothing, to_first(KeyChange::Adds(a.elements(2, 1).0)), Did::Positive)
        }
        "LSET" => (Gives::Nothing, to_first(KeyChange::Adds(a.elements(3, usize::MAX).0)), Did::Always),
        "LINSERT" => (Gives::Nothing, to_first(KeyChange::Adds(a.elements(4, usize::MAX).0)), Did::Positive),
        "SADD" => {
            let (members, n) = a.elements(2, 1);
            (Gives::Nothing, to_first(KeyChange::Adds(members)), Did::Just(n as u64))
        }
        "ZADD" => a.scored(2),
        "GEOADD" => a.scored(3),
        "ZINCRBY" => match (a.print(3), c.whole(2)) {
            (Some(member), Some(by)) if !matches!(a.weight(3), Weight::Token | Weight::Number(10..)) => {
                (Gives::Nothing, Makes::Raises(member, SmallVec::from_slice(by)), Did::Always)
            }
            _ => return None,
        },
        "XADD" => (Gives::Nothing, Makes::Entry, Did::Some),
        "HGET" | "HMGET" => {
            let fields = (2..c.n_kept()).filter_map(|i| a.print(i)).collect();
            (Gives::Fields(fields), Makes::Nothing, Did::Always)
        }
        "HGETALL" => (Gives::Pairs(0), Makes::Nothing, Did::Always),
        "HSCAN" => (Gives::Pairs(1), Makes::Nothing, Did::Always),
        "HVALS"
        | "LRANGE"
        | "LINDEX"
        | "SMEMBERS"
        | "SRANDMEMBER"
        | "SPOP"
        | "SSCAN"
        | "SINTER"
        | "SUNION"
        | "SDIFF"
        | "SORT"
        | "SORT_RO"
        | "ZRANGE"
        | "ZRANGEBYSCORE"
        | "ZRANGEBYLEX"
        | "ZREVRANGE"
        | "ZREVRANGEBYSCORE"
        | "ZREVRANGEBYLEX"
        | "ZRANDMEMBER"
        | "ZPOPMIN"
        | "ZPOPMAX"
        | "BZPOPMIN"
        | "BZPOPMAX"
        | "ZMPOP"
        | "BZMPOP"
        | "ZSCAN"
        | "ZUNION"
        | "ZINTER"
        | "ZDIFF"
        | "GEOSEARCH"
        | "GEORADIUS"
        | "GEORADIUSBYMEMBER"
        | "GEORADIUS_RO"
        | "GEORADIUSBYMEMBER_RO"
        | "XRANGE"
        | "XREVRANGE" => (Gives::Members, Makes::Nothing, Did::Always),
        "XREAD" | "XREADGROUP" => (Gives::Streams(a.streams(n)?), Makes::Nothing, Did::Always),
        "EVAL" | "EVALSHA" | "FCALL" | "EVAL_RO" | "EVALSHA_RO" | "FCALL_RO" => a.script(n),
        _ => return None,
    };
    let makes = if known.write { makes } else { Makes::Nothing };
    Some(Box::new(Touch { keys, gives, makes, did, pointers: SmallVec::new() }))
}

impl Touch {
    /// Whether what its reply says matters.
    pub(super) fn asks(&self) -> bool {
        self.gives != Gives::Nothing
            || self.did != Did::Always
            || matches!(self.makes, Makes::Entry | Makes::Grows | Makes::Raises(..))
    }

    /// What came of it; `leaves`: the values of the reply, in order.
    pub(super) fn told(&self, salt: Salt, outcome: Outcome, leaves: &[&Leaf]) -> KeyUses {
        if outcome == Outcome::Error {
            return KeyUses::new();
        }
        let ok = outcome == Outcome::Ok;
        let done = if ok { self.done(leaves) } else { None };
        let mut uses: KeyUses = self
            .keys
            .iter()
            .enumerate()
            .map(|(i, (key, scoped))| KeyUse {
                key: *key,
                scoped: *scoped,
                received: if ok { self.received(salt, i, leaves) } else { Elements::new() },
                change: match done {
                    Some(true) => self.change(salt, i, leaves),
                    Some(false) => KeyChange::None,
                    None if self.changes(i) => KeyChange::Unknown,
                    None => KeyChange::None,
                },
            })
            .collect();
        // What other keys are made from must keep its number.
        if !uses.iter().any(|u| matches!(u.change, KeyChange::From { .. })) {
            uses.retain(|u| u.says());
        }
        uses.extend(self.pointers.iter().map(|key| KeyUse {
            key: *key,
            scoped: false,
            received: Elements::new(),
            change: KeyChange::Names,
        }));
        uses
    }

    /// The numbers of the arguments that become the whole content of the first key, the second, and so on.
    pub(super) fn values(name: &str, n_keys: usize) -> impl Iterator<Item = usize> {
        let (first, step, n) = match name {
            "SET" | "SETNX" | "GETSET" => (2, 1, 1),
            "SETEX" | "PSETEX" => (3, 1, 1),
            "MSET" | "MSETNX" => (2, 2, n_keys),
            "MSETEX" => (3, 2, n_keys),
            _ => (0, 1, 0),
        };
        (0..n).map(move |i| first + i * step)
    }

    /// Whether it did what it was sent for; `None`: that is not known.
    fn done(&self, leaves: &[&Leaf]) -> Option<bool> {
        let first = leaves.first();
        match self.did {
            Did::Always => Some(true),
            Did::Some => first.map(|l| !l.null),
            Did::Null => first.map(|l| l.null),
            Did::Positive => first.and_then(|l| l.number()).map(|n| n > 0),
            Did::Just(all) => match first.and_then(|l| l.number())? {
                0 => Some(false),
                n if n.cast_unsigned() == all => Some(true),
                // Some of them were there before: whose they are is not told, and what is there stays whose it is.
                _ => Some(false),
            },
        }
    }

    fn changes(&self, i: usize) -> bool {
        match &self.makes {
            Makes::Nothing => false,
            Makes::Each(each) => each.get(i).is_some_and(|c| *c != KeyChange::None),
            _ => i == 0,
        }
    }

    fn change(&self, salt: Salt, i: usize, leaves: &[&Leaf]) -> KeyChange {
        let first = leaves.first();
        match &self.makes {
            Makes::Each(each) => each.get(i).cloned().unwrap_or(KeyChange::None),
            _ if i > 0 => KeyChange::None,
            Makes::Nothing => KeyChange::None,
            Makes::First(change) => change.clone(),
            Makes::Entry => {
                first.and_then(|l| l.print).map_or(KeyChange::None, |id| KeyChange::Adds(smallvec::smallvec![id]))
            }
            Makes::Grows => match first.and_then(|l| l.number()).and_then(|n| u64::try_from(n).ok()) {
                Some(n) => KeyChange::Grows(grown(salt, n)),
                None => KeyChange::Unknown,
            },
            Makes::Raises(member, by) => match first.is_some_and(|l| l.text.as_slice() == by.as_slice()) {
                true => KeyChange::Adds(smallvec::smallvec![*member]),
                false => KeyChange::None,
            },
        }
    }

    fn received(&self, salt: Salt, i: usize, leaves: &[&Leaf]) -> Elements {
        let text = |leaf: &Leaf| leaf.print.into_iter().chain((leaf.print.is_some()).then(|| grown(salt, leaf.len)));
        let prints = |from: &[&Leaf]| from.iter().filter_map(|l| l.print).collect();
        match &self.gives {
            Gives::Nothing => Elements::new(),
            Gives::Text if i == 0 => leaves.first().map(|l| text(l).collect()).unwrap_or_default(),
            Gives::Texts => leaves.get(i).map(|l| text(l).collect()).unwrap_or_default(),
            Gives::Members => prints(leaves),
            // Entries of different streams may have the same id.
            Gives::Streams(names) => {
                let names_at = leaves.iter().map(|l| l.depth).min().unwrap_or_default();
                let (mut here, mut all) = (false, Elements::new());
                for leaf in leaves {
                    if leaf.depth == names_at {
                        here = leaf.print.is_some() && leaf.print == names.get(i).copied();
                    } else if here {
                        all.extend(leaf.print);
                    }
                }
                all
            }
            Gives::Anything => leaves.iter().filter(|l| l.len >= SUBSTANTIAL).filter_map(|l| l.print).collect(),
            Gives::Pairs(skip) if i == 0 => leaves
                .get(*skip..)
                .unwrap_or_default()
                .chunks_exact(2)
                .filter_map(|two| match two {
                    [field, value] => Some(pair(salt, field.print?, value.print?)),
                    _ => None,
                })
                .collect(),
            Gives::Fields(fields) if i == 0 => {
                fields.iter().zip(leaves).filter_map(|(field, l)| Some(pair(salt, *field, l.print?))).collect()
            }
            _ => Elements::new(),
        }
    }
}
