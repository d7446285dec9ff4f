//! The kernel's own types (BTF): where a field stands, what a tracepoint is called with. Only as much of the format
//! (Documentation/bpf/btf.rst) as that takes.

use std::fs;
use std::path::Path;

use monitor_common::knobs::unix as knob;

/// Where the kernel shows its types.
pub const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Most bytes read. A distribution's kernel has about 6 MB.
const MAX_BYTES: u64 = 64 << 20;
const MAGIC: u16 = 0xeb9f;
/// Modifiers and typedefs followed before a chain counts as endless.
const MAX_DEPTH: usize = 16;

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why something cannot be learned from BTF.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel shows none.
    #[error("cannot read {PATH}: {0}")]
    Read(#[from] std::io::Error),
    /// Not the format that this agent knows.
    #[error("the kernel's BTF cannot be understood: {0}")]
    Format(&'static str),
    /// It has no such type or field.
    #[error("the kernel has no {0}")]
    Missing(String),
    /// It is there, but not as the probes need it.
    #[error("{0} of this kernel is another than the probes know")]
    Other(String),
}

/// Types, looked up by scanning: asked a handful of times when the agent starts.
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where each type begins in `types`; type 1 comes first.
    at: Vec<u32>,
}

/// One type: what every type begins with, and what follows.
#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    bitfields: bool,
    /// Its size or the type it refers to.
    refers: u32,
    rest: &'a [u8],
}

impl Btf {
    /// The running kernel's.
    ///
    /// # Errors
    /// [`BtfError::Read`] and [`BtfError::Format`].
    pub fn of_kernel() -> Result<Self, BtfError> {
        let path = Path::new(PATH);
        if fs::metadata(path)?.len() > MAX_BYTES {
            return Err(BtfError::Format("it is too long"));
        }
        Self::parse(&fs::read(path)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let word = |at: usize| word(bytes, at).and_then(|w| usize::try_from(w).ok()).ok_or(SHORT);
        if bytes.first_chunk::<2>().map(|m| u16::from_ne_bytes(*m)) != Some(MAGIC) {
            return Err(BtfError::Format("no header"));
        }
        let header = word(4)?;
        let part = |offset: usize, len: usize| {
            let begin = header.checked_add(offset)?;
            bytes.get(begin..begin.checked_add(len)?)
        };
        let types = part(word(8)?, word(12)?).ok_or(SHORT)?;
        let strings = part(word(16)?, word(20)?).ok_or(SHORT)?;
        let mut at = Vec::new();
        let mut next = 0usize;
        while next < types.len() {
            at.push(u32::try_from(next).map_err(|_| SHORT)?);
            let info = self::word(types, next + 4).ok_or(SHORT)?;
            next += 12 + extra(info >> 24 & 0x1f, info & 0xffff).ok_or(BtfError::Format("an unknown kind of type"))?;
        }
        if next != types.len() {
            return Err(SHORT);
        }
        Ok(Self { types: types.to_vec(), strings: strings.to_vec(), at })
    }

    fn get(&self, id: u32) -> Option<Type<'_>> {
        let begin = usize::try_from(*self.at.get(usize::try_from(id.checked_sub(1)?).ok()?)?).ok()?;
        let bytes = self.types.get(begin..)?;
        let info = word(bytes, 4)?;
        let kind = info >> 24 & 0x1f;
        let rest = bytes.get(12..)?.get(..extra(kind, info & 0xffff)?)?;
        Some(Type { name: word(bytes, 0)?, kind, bitfields: info >> 31 == 1, refers: word(bytes, 8)?, rest })
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let text = usize::try_from(offset).ok().and_then(|o| self.strings.get(o..)).unwrap_or_default();
        text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn find(&self, kind: u32, name: &str) -> Option<Type<'_>> {
        let ids = 1..=u32::try_from(self.at.len()).ok()?;
        ids.filter_map(|id| self.get(id)).find(|t| t.kind == kind && self.is_named(t.name, name))
    }

    /// What a type is without its other names and qualifiers.
    fn behind(&self, id: u32) -> Option<Type<'_>> {
        let mut t = self.get(id)?;
        for _ in 0..MAX_DEPTH {
            match t.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    t = self.get(t.refers)?;
                }
                _ => return Some(t),
            }
        }
        None
    }

    /// Bytes from the beginning of a structure to a field that has a name of its own, and the field's type.
    fn field(&self, structure: &str, field: &str) -> Option<(u32, u32)> {
        let t = self.find(kind::STRUCT, structure)?;
        let member = t.rest.chunks_exact(12).find(|m| word(m, 0).is_some_and(|n| self.is_named(n, field)))?;
        let bits = word(member, 8)? & if t.bitfields { 0x00ff_ffff } else { u32::MAX };
        Some((bits / 8, word(member, 4)?))
    }

    /// As [`Self::field`], also where the field is in a structure or union without a name inside of it.
    fn inner_field(&self, structure: &str, field: &str) -> Option<u32> {
        self.member(self.find(kind::STRUCT, structure)?, field, 0)
    }

    fn member(&self, t: Type<'_>, field: &str, depth: usize) -> Option<u32> {
        for member in t.rest.chunks_exact(12) {
            let (name, ty, at) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
            let at = (at & if t.bitfields { 0x00ff_ffff } else { u32::MAX }) / 8;
            if self.is_named(name, field) {
                return Some(at);
            }
            let inner = self.behind(ty).filter(|t| matches!(t.kind, kind::STRUCT | kind::UNION));
            if let Some(inner) = inner.filter(|_| self.is_named(name, "") && depth < MAX_DEPTH)
                && let Some(found) = self.member(inner, field, depth + 1)
            {
                return Some(at + found);
            }
        }
        None
    }

    /// The number of a member of an enumeration.
    fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let t = self.find(kind::ENUM, enumeration)?;
        let member = t.rest.chunks_exact(8).find(|m| word(m, 0).is_some_and(|n| self.is_named(n, name)))?;
        word(member, 4)
    }

    /// Whether the kernel has a function of this name that programs can be attached to.
    fn has_function(&self, name: &str) -> bool {
        self.find(kind::FUNC, name).is_some()
    }

    /// What the probes of Unix sockets read of the kernel's structures, by the name of the knob that they take it from.
    ///
    /// # Errors
    /// [`BtfError::Missing`]: a function or a field that they need is not there.
    pub fn unix_sockets(&self, functions: &[&'static str]) -> Result<Vec<(&'static str, u32)>, BtfError> {
        for function in functions {
            if !self.has_function(function) {
                return Err(BtfError::Missing(format!("function {function} to attach to")));
            }
        }
        let offset = |structure: &str, field: &str| {
            self.inner_field(structure, field)
                .ok_or_else(|| BtfError::Missing(format!("field {field} in struct {structure}")))
        };
        // Before 6.4 it had no underscores.
        let list = offset("iov_iter", "__iov").or_else(|_| offset("iov_iter", "iov"))?;
        let listed = self
            .enumerator("iter_type", "ITER_IOVEC")
            .ok_or_else(|| BtfError::Missing("ITER_IOVEC in enum iter_type".to_owned()))?;
        Ok(vec![
            (knob::SOCKET_SK, offset("socket", "sk")?),
            (knob::PEER, offset("unix_sock", "peer")?),
            (knob::ADDR, offset("unix_sock", "addr")?),
            (knob::DENTRY, offset("unix_sock", "path")? + offset("path", "dentry")?),
            (knob::NAME_LEN, offset("unix_address", "len")?),
            (knob::NAME, offset("unix_address", "name")?),
            (knob::INODE, offset("dentry", "d_inode")?),
            (knob::INODE_NUMBER, offset("inode", "i_ino")?),
            (knob::SUPER, offset("inode", "i_sb")?),
            (knob::DEVICE, offset("super_block", "s_dev")?),
            (knob::ITER, offset("msghdr", "msg_iter")?),
            (knob::ITER_TYPE, offset("iov_iter", "iter_type")?),
            (knob::ITER_OFFSET, offset("iov_iter", "iov_offset")?),
            (knob::ITER_IOV, list),
            (knob::TYPE_IOVEC, listed),
            (knob::TYPE_UBUF, self.enumerator("iter_type", "ITER_UBUF").unwrap_or(u32::MAX)),
            (knob::SOCK_CGROUP, offset("sock", "sk_cgrp_data")?),
            (knob::CGROUP_NODE, offset("cgroup", "kn")?),
            (knob::NODE_ID, offset("kernfs_node", "id")?),
        ])
    }

    /// Byte in `struct sock` at which the 64 bits of the socket's cookie stand.
    ///
    /// # Errors
    /// [`BtfError::Missing`] and [`BtfError::Other`].
    pub fn cookie_offset(&self) -> Result<u32, BtfError> {
        let field = |structure: &str, name: &str| {
            self.field(structure, name).ok_or_else(|| BtfError::Missing(format!("field {name} in struct {structure}")))
        };
        let (begin, _) = field("sock", "__sk_common")?;
        let (offset, ty) = field("sock_common", "skc_cookie")?;
        match self.behind(ty) {
            Some(t) if t.refers == 8 && t.kind == kind::STRUCT => Ok(begin + offset),
            _ => Err(BtfError::Other("sock_common.skc_cookie".to_owned())),
        }
    }

    /// That the raw tracepoint is there and is called with a socket, the outcome, and flags:
    /// `TP_PROTO(struct sock *sk, int ret, int flags)`.
    ///
    /// # Errors
    /// [`BtfError::Missing`] and [`BtfError::Other`].
    pub fn check_socket_call(&self, tracepoint: &str) -> Result<(), BtfError> {
        let other = || BtfError::Other(format!("raw tracepoint {tracepoint}"));
        let name = format!("btf_trace_{tracepoint}");
        let typedef = self
            .find(kind::TYPEDEF, &name)
            .ok_or_else(|| BtfError::Missing(format!("raw tracepoint {tracepoint} (there from 6.3 on)")))?;
        let proto = self
            .get(typedef.refers)
            .filter(|p| p.kind == kind::PTR)
            .and_then(|p| self.get(p.refers))
            .filter(|p| p.kind == kind::FUNC_PROTO)
            .ok_or_else(other)?;
        let params: Option<Vec<Type<'_>>> =
            proto.rest.chunks_exact(8).map(|p| word(p, 4).and_then(|id| self.behind(id))).collect();
        // The first is the tracepoint's own.
        let fits = match params.as_deref() {
            Some([_, sk, ret, flags]) => {
                let to_sock = sk.kind == kind::PTR
                    && self.behind(sk.refers).is_some_and(|s| s.kind == kind::STRUCT && self.is_named(s.name, "sock"));
                let is_int = |t: &Type<'_>| t.kind == kind::INT && t.refers == 4;
                to_sock && is_int(ret) && is_int(flags)
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(other()) }
    }
}

const SHORT: BtfError = BtfError::Format("it is cut");

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|w| u32::from_ne_bytes(*w))
}

/// Bytes behind the twelve that every type begins with; `None`: a kind that is not known.
fn extra(kind: u32, n: u32) -> Option<usize> {
    let n = usize::try_from(n).ok()?;
    Some(match kind {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => n * 12,
        kind::ENUM | kind::FUNC_PROTO => n * 8,
        kind::PTR
        | kind::FWD
        | kind::TYPEDEF
        | kind::VOLATILE
        | kind::CONST
        | kind::RESTRICT
        | kind::FUNC
        | kind::FLOAT
        | kind::TYPE_TAG => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes BTF.
    #[derive(Default)]
    struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        n: u32,
    }

    impl Writer {
        fn new() -> Self {
            Self { strings: vec![0], ..Self::default() }
        }

        fn name(&mut self, name: &str) -> u32 {
            let at = self.strings.len() as u32;
            self.strings.extend(name.as_bytes());
            self.strings.push(0);
            if name.is_empty() { 0 } else { at }
        }

        fn add(&mut self, name: &str, kind: u32, refers: u32, n: u32, rest: &[u32]) -> u32 {
            let name = self.name(name);
            for word in [name, kind << 24 | n, refers].iter().chain(rest) {
                self.types.extend(word.to_ne_bytes());
            }
            self.n += 1;
            self.n
        }

        fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
            let rest: Vec<u32> = members.iter().flat_map(|(n, ty, byte)| [self.name(n), *ty, byte * 8]).collect();
            self.add(name, kind::STRUCT, size, members.len() as u32, &rest)
        }

        fn bytes(&self) -> Vec<u8> {
            let mut out = MAGIC.to_ne_bytes().to_vec();
            out.extend([1, 0]);
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            for word in [24, 0, types, types, strings] {
                out.extend(u32::to_ne_bytes(word));
            }
            [out, self.types.clone(), self.strings.clone()].concat()
        }
    }

    /// A kernel with sockets as they are, or with a cookie of another size, or another prototype.
    fn kernel(cookie_size: u32, n_params: usize) -> Vec<u8> {
        let mut w = Writer::new();
        let int = w.add("int", kind::INT, 4, 0, &[32]);
        let cookie = w.structure("", cookie_size, &[("counter", int, 0)]);
        let cookie = w.add("atomic64_t", kind::TYPEDEF, cookie, 0, &[]);
        w.structure("sock_common_x", 8, &[("skc_cookie", int, 4)]);
        let common = w.structure("sock_common", 136, &[("skc_family", int, 16), ("skc_cookie", cookie, 88)]);
        let sock = w.structure("sock", 760, &[("__sk_common", common, 0), ("sk_x", int, 136)]);
        let sock = w.add("", kind::PTR, sock, 0, &[]);
        let void = w.add("", kind::PTR, 0, 0, &[]);
        let params: Vec<u32> = [void, sock, int, int, int].into_iter().take(n_params).flat_map(|id| [0, id]).collect();
        let proto = w.add("", kind::FUNC_PROTO, 0, n_params as u32, &params);
        let proto = w.add("", kind::PTR, proto, 0, &[]);
        w.add("btf_trace_sock_recv_length", kind::TYPEDEF, proto, 0, &[]);
        w.add("float", kind::FLOAT, 4, 0, &[]);
        w.bytes()
    }

    #[test]
    fn finds_the_cookie_and_the_prototype() {
        let btf = Btf::parse(&kernel(8, 4)).unwrap();
        assert_eq!(btf.cookie_offset().unwrap(), 88);
        btf.check_socket_call("sock_recv_length").unwrap();
        let missing = btf.check_socket_call("sock_send_length").unwrap_err().to_string();
        assert!(missing.contains("no raw tracepoint sock_send_length"), "{missing}");
    }

    /// Fields in parts without a name, as `struct iov_iter` has them, numbers of an enumeration, and functions.
    #[test]
    fn finds_what_has_no_name_of_its_own() {
        let mut w = Writer::new();
        let int = w.add("int", kind::INT, 4, 0, &[32]);
        let pointer = w.add("", kind::PTR, int, 0, &[]);
        let list = w.structure("", 16, &[("__iov", pointer, 0), ("count", int, 8)]);
        let name = w.name("__ubuf_iovec");
        let either = w.add("", kind::UNION, 16, 2, &[name, pointer, 0, 0, list, 0]);
        w.structure("iov_iter", 32, &[("iter_type", int, 0), ("", either, 16)]);
        let (iovec, ubuf) = (w.name("ITER_IOVEC"), w.name("ITER_UBUF"));
        w.add("iter_type", kind::ENUM, 4, 2, &[ubuf, 0, iovec, 1]);
        let proto = w.add("", kind::FUNC_PROTO, int, 0, &[]);
        w.add("unix_stream_recvmsg", kind::FUNC, proto, 0, &[]);
        let btf = Btf::parse(&w.bytes()).unwrap();
        let field = |name| btf.inner_field("iov_iter", name);
        assert_eq!((field("iter_type"), field("__ubuf_iovec"), field("count")), (Some(0), Some(16), Some(24)));
        assert_eq!((field("nr_segs"), btf.inner_field("iov", "count")), (None, None));
        assert_eq!(btf.enumerator("iter_type", "ITER_IOVEC"), Some(1));
        assert_eq!((btf.enumerator("iter_type", "ITER_PIPE"), btf.enumerator("x", "ITER_IOVEC")), (None, None));
        let missing = btf.unix_sockets(&["unix_stream_recvmsg", "unix_gone"]).unwrap_err().to_string();
        assert!(missing.contains("no function unix_gone"), "{missing}");
        let missing = btf.unix_sockets(&["unix_stream_recvmsg"]).unwrap_err().to_string();
        assert!(missing.contains("in struct socket"), "{missing}");
    }

    #[test]
    fn what_is_not_as_it_was_is_refused() {
        let btf = Btf::parse(&kernel(4, 5)).unwrap();
        assert!(matches!(btf.cookie_offset(), Err(BtfError::Other(_))));
        assert!(matches!(btf.check_socket_call("sock_recv_length"), Err(BtfError::Other(_))));
        assert!(Btf::parse(b"").is_err() && Btf::parse(&[0; 64]).is_err());
    }

    #[test]
    fn cut_or_changed_bytes_are_harmless() {
        let whole = kernel(8, 4);
        for n in 0..whole.len() {
            assert!(Btf::parse(&whole[..n]).is_err(), "{n}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                if let Ok(btf) = Btf::parse(&changed) {
                    let _ = (btf.cookie_offset(), btf.check_socket_call("sock_recv_length"));
                }
            }
        }
    }
}
