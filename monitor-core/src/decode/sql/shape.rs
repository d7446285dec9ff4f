//! One template per statement shape, in a bounded cache that all connections share.

use std::cell::Cell;
use std::hash::Hasher;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::plan::{LiteralText, Plan};
use super::scan::Scan;
use super::value::{Value, Wanted};
use super::{Dialect, guess, mysql, parse, utility};
use crate::model::Sym;
use crate::model::claim::Salt;

/// What a statement of one shape does. A function of the shape alone.
#[derive(Debug)]
pub(crate) struct Template {
    /// First keywords, in upper case.
    pub(crate) verb: Box<str>,
    /// What it is about; empty when nothing.
    pub(crate) target: Box<str>,
    /// Touches tenant data.
    pub(crate) data: bool,
    /// It may bind or reset something that cannot be read from its text.
    pub(crate) unknown: bool,
    /// What it changes, in order.
    pub(crate) acts: Box<[Act]>,
    /// What its CommandComplete tag must begin with.
    pub(crate) tag: Tag,
    /// Literals that the acts need.
    pub(crate) literals: Box<[u16]>,
    /// What its rows have in common, where that speaks of a tenant.
    pub(crate) predicates: Box<[Predicate]>,
    /// Parameters that the acts need, and how to read them in binary.
    pub(crate) params: Box<[(u16, Wanted)]>,
    /// The tables it names, where its text was understood.
    pub(crate) tables: Option<Named>,
    /// Names interned: a template lives in one [`Shapes`], which serves one interner.
    pub(crate) symbols: Cell<Option<Symbols>>,
}

/// A template's names, interned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbols {
    pub(crate) verb: Sym,
    pub(crate) target: Sym,
    /// Tables besides the target.
    pub(crate) also: [Sym; 3],
}

/// The tables of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Those besides the target, with their schemas if written.
    pub(crate) also: Vec<Box<str>>,
    /// There are more, or it calls what may use others.
    pub(crate) more: bool,
    /// It changes rows.
    pub(crate) writes: bool,
    /// One is named without its schema.
    pub(crate) unqualified: bool,
    /// Schemas, each once.
    pub(crate) schemas: Vec<Box<str>>,
}

/// Most tables besides the target that are kept of a statement.
const MAX_ALSO: usize = 3;
/// Most schemas that are kept of a statement.
const MAX_SCHEMAS: usize = 2;

impl Named {
    /// From the names in a statement. `target`: the one that is told anyway.
    pub(crate) fn new<'n>(target: &str, names: impl Iterator<Item = &'n str>) -> Self {
        let mut this = Self::default();
        for name in names {
            match name.rsplit_once('.') {
                None => this.unqualified = true,
                Some((path, _)) => {
                    let schema = path.rsplit('.').next().unwrap_or(path);
                    let new = this.schemas.iter().all(|s| **s != *schema);
                    if new && this.schemas.len() < MAX_SCHEMAS {
                        this.schemas.push(schema.into());
                    }
                    this.more |= new && !this.schemas.iter().any(|s| **s == *schema);
                }
            }
            if name != target && this.also.iter().all(|a| **a != *name) {
                if this.also.len() < MAX_ALSO {
                    this.also.push(name.into());
                } else {
                    this.more = true;
                }
            }
        }
        this
    }
}

/// A column whose name speaks of a tenant has this value in every row that the statement touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Predicate {
    /// The column, in lower case.
    pub(crate) column: Box<str>,
    /// The value; for rows that are inserted, every different way it is written.
    pub(crate) values: Box<[Value]>,
    /// For rows that are inserted: the place in the row, whose value the shape may not have of every row.
    pub(crate) place: Option<u8>,
}

/// How long a setting lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// For the session.
    Session,
    /// For the transaction.
    Transaction,
    /// For the transaction when this is true.
    If(Value),
}

/// Whether a call in a statement has run once the statement has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sure {
    /// Yes.
    Always,
    /// If it gave or changed at least one row.
    WithRows,
}

/// One thing a statement changes.
#[derive(Debug)]
pub(crate) enum Act {
    /// A setting, the role or the session user takes a value.
    Set { name: Value, value: Value, lasting: Lasting, sure: Sure },
    /// One goes back to its start-up value.
    Reset { name: Value, lasting: Lasting },
    /// All settings go back, role and session user stay.
    ResetAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `SAVEPOINT name`.
    Savepoint(Box<str>),
    /// `ROLLBACK TO name`.
    RollbackTo(Box<str>),
    /// `RELEASE name`.
    Release(Box<str>),
    /// `PREPARE name AS …`.
    Prepare { name: Box<str>, inner: Rc<Template> },
    /// `EXECUTE name (…)`.
    Execute { name: Box<str>, args: Box<[Value]> },
    /// `DEALLOCATE name`, or all.
    Deallocate(Option<Box<str>>),
    /// A block of code in this literal: may do anything its text speaks of.
    Code(u16),
    /// `DECLARE … CURSOR FOR` a query that binds: it will when rows are fetched.
    ArmCursor,
    /// `FETCH`, `MOVE`: runs what a cursor holds.
    RunCursor,
}

/// Kinds of CommandComplete tags, as far as a wrong pairing would matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `SET`.
    Set,
    /// `RESET`.
    Reset,
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `ROLLBACK`, `PREPARE TRANSACTION`: what a transaction's end answers.
    End,
    /// `SAVEPOINT`, `RELEASE`.
    Savepoint,
    /// `DISCARD …`.
    Discard,
    /// `PREPARE`, `DEALLOCATE`.
    Prepare,
    /// `SELECT`, `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `FETCH`, `MOVE`, `COPY`.
    Rows,
    /// Everything else.
    Other,
    /// The statement may answer anything.
    Any,
}

impl Tag {
    /// The kind of a tag as the server sent it.
    pub(crate) fn of(tag: &[u8]) -> Self {
        let first = tag.split(|b| *b == b' ').next().unwrap_or_default();
        match first {
            b"SET" if tag != b"SET CONSTRAINTS" => Self::Set,
            b"RESET" => Self::Reset,
            b"BEGIN" => Self::Begin,
            b"START" if tag == b"START TRANSACTION" => Self::Begin,
            b"COMMIT" | b"ROLLBACK" if !tag.ends_with(b" PREPARED") => Self::End,
            b"PREPARE" if tag == b"PREPARE TRANSACTION" => Self::End,
            b"SAVEPOINT" | b"RELEASE" => Self::Savepoint,
            b"DISCARD" => Self::Discard,
            b"PREPARE" | b"DEALLOCATE" => Self::Prepare,
            b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"FETCH" | b"MOVE" | b"COPY" => Self::Rows,
            _ => Self::Other,
        }
    }

    /// Whether a statement of this kind can have been answered with a tag of that kind.
    pub(crate) fn fits(self, answer: Self) -> bool {
        self == answer || self == Self::Any
    }
}

/// Shapes kept per generation: at most twice as many in all.
const GENERATION: usize = 2048;
/// Longest shape kept as a template of its own, in bytes.
pub(crate) const MAX_SHAPE: usize = 64 << 10;

/// A map that forgets what was not used for a generation: bounded, and no bookkeeping on a hit.
#[derive(Debug)]
pub(crate) struct Generations<V> {
    young: FxHashMap<u64, V>,
    old: FxHashMap<u64, V>,
    size: usize,
    n_forgotten: u64,
}

impl<V: Clone> Generations<V> {
    /// Holds `size` to `2 * size` entries.
    pub(crate) fn new(size: usize) -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), size, n_forgotten: 0 }
    }

    /// The entry, which counts as a use.
    pub(crate) fn get(&mut self, key: u64) -> Option<V> {
        if let Some(v) = self.young.get(&key) {
            return Some(v.clone());
        }
        let v = self.old.remove(&key)?;
        self.insert(key, v.clone());
        Some(v)
    }

    /// Adds or replaces.
    pub(crate) fn insert(&mut self, key: u64, value: V) {
        if self.young.len() >= self.size && !self.young.contains_key(&key) {
            self.n_forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Takes out.
    pub(crate) fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// Takes out everything, and its memory.
    pub(crate) fn clear(&mut self) {
        self.young = FxHashMap::default();
        self.old = FxHashMap::default();
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Bytes the tables hold, without what values point to.
    pub(crate) fn memory(&self) -> usize {
        (self.young.capacity() + self.old.capacity()) * (size_of::<(u64, V)>() + 1)
    }
}

/// Everything that the decoders of one engine share: the templates and the scratch of the pre-scan.
#[derive(Debug)]
pub(crate) struct Shapes {
    salt: Salt,
    dialect: Dialect,
    templates: Generations<Rc<Template>>,
    scan: Scan,
    n_parsed: u64,
}

/// Statements of one text told apart; a text with more is read as far as this.
pub(crate) const MAX_STATEMENTS: usize = 1024;

impl Shapes {
    /// An empty cache; `salt` keys the hash of shapes, so that nobody outside can make two of them collide.
    pub(crate) fn new(salt: Salt, dialect: Dialect) -> Self {
        Self { salt, dialect, templates: Generations::new(GENERATION), scan: Scan::default(), n_parsed: 0 }
    }

    /// Shapes that were parsed so far: each a miss of the cache.
    pub(crate) fn n_parsed(&self) -> u64 {
        self.n_parsed
    }

    /// Shapes held.
    pub(crate) fn len(&self) -> usize {
        self.templates.len()
    }

    /// Reads every statement of `text` in order. `cut`: the text goes on where nobody saw it. `backslash`: see
    /// [`Scan::statement`]. Gives whether more statements may follow than were handed out.
    /// `literal` sees the content of each literal.
    pub(crate) fn read(
        &mut self,
        text: &[u8],
        cut: bool,
        backslash: bool,
        literal: &mut dyn FnMut(&[u8]),
        each: &mut dyn FnMut(Plan),
    ) -> bool {
        let mut at = 0;
        let mut n = 0;
        while at < text.len() {
            let mut scan = std::mem::take(&mut self.scan);
            at = match self.dialect {
                Dialect::Postgres => scan.statement(text, at, backslash),
                Dialect::MySql => scan.mysql_statement(text, at, backslash),
            };
            // What the cut went through cannot be trusted to end where the text does; nor can a statement that the
            // server would refuse.
            let broken = scan.unterminated || (cut && !scan.closed);
            if scan.n_tokens > 0 && n < MAX_STATEMENTS {
                n += 1;
                for at in scan.literals.iter().map(|l| &l.at).chain(&scan.dropped) {
                    literal(text.get(at.clone()).unwrap_or_default());
                }
                let template = if broken { Rc::new(guess::broken(&scan)) } else { self.template(&scan) };
                let literals = template
                    .literals
                    .iter()
                    .filter_map(|&i| Some((i, LiteralText::read(text, scan.literals.get(usize::from(i))?))))
                    .collect();
                each(Plan { template, literals, differs: scan.differs });
            } else if scan.n_tokens > 0 {
                self.scan = scan;
                return true;
            }
            self.scan = scan;
        }
        cut
    }

    fn template(&mut self, scan: &Scan) -> Rc<Template> {
        let mut h = self.salt.hasher();
        h.write(&scan.shape);
        let key = h.finish();
        if let Some(known) = self.templates.get(key) {
            return known;
        }
        self.n_parsed += 1;
        let text = String::from_utf8_lossy(&scan.shape);
        let template = Rc::new(template_of(&text, scan.n_tokens, self.dialect));
        self.templates.insert(key, template.clone());
        template
    }
}

/// The template of a shape.
pub(crate) fn template_of(shape: &str, n_tokens: usize, dialect: Dialect) -> Template {
    if shape.len() > MAX_SHAPE {
        return guess::unparsed(shape, dialect);
    }
    let by_hand = match dialect {
        Dialect::Postgres => utility::parse(shape),
        Dialect::MySql => mysql::parse(shape),
    };
    by_hand.or_else(|| parse::parse(shape, n_tokens, dialect)).unwrap_or_else(|| guess::unparsed(shape, dialect))
}

/// The template of a query inside a utility statement. Never one of a utility statement, so that nesting is bounded.
pub(crate) fn query_of(shape: &str, dialect: Dialect) -> Template {
    let n_tokens = shape.split(' ').count();
    parse::parse(shape, n_tokens, dialect).unwrap_or_else(|| {
        let mut template = guess::unparsed(shape, dialect);
        template.unknown |= shape.starts_with("execute ");
        template
    })
}

/// A template in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) verb: String,
    pub(crate) target: String,
    pub(crate) data: bool,
    pub(crate) unknown: bool,
    pub(crate) acts: Vec<Act>,
    pub(crate) predicates: Vec<Predicate>,
    pub(crate) tables: Option<Named>,
    pub(crate) tag: Tag,
}

impl Draft {
    /// A statement that does nothing of interest.
    pub(crate) fn control(verb: &str, tag: Tag) -> Self {
        Self {
            verb: verb.to_owned(),
            target: String::new(),
            data: false,
            unknown: false,
            acts: Vec::new(),
            predicates: Vec::new(),
            tables: None,
            tag,
        }
    }

    /// A statement with one act.
    pub(crate) fn act(verb: &str, tag: Tag, act: Act) -> Self {
        let mut this = Self::control(verb, tag);
        this.acts.push(act);
        this
    }

    /// The template, with what its acts need worked out.
    pub(crate) fn finish(self) -> Template {
        let mut literals = Vec::new();
        let mut params = Vec::new();
        for act in &self.acts {
            needs(act, &mut literals, &mut params);
        }
        for value in self.predicates.iter().flat_map(|p| &p.values) {
            value_needs(value, &mut literals, &mut params);
        }
        literals.sort_unstable();
        literals.dedup();
        params.sort_by_key(|(i, _)| *i);
        params.dedup_by_key(|(i, _)| *i);
        Template {
            verb: self.verb.into(),
            target: self.target.into(),
            data: self.data,
            unknown: self.unknown,
            acts: self.acts.into(),
            tag: self.tag,
            literals: literals.into(),
            predicates: self.predicates.into(),
            params: params.into(),
            tables: self.tables,
            symbols: Cell::new(None),
        }
    }
}

fn value_needs(value: &Value, literals: &mut Vec<u16>, params: &mut Vec<(u16, Wanted)>) {
    let parts = if let Value::List(parts) = value { parts } else { std::slice::from_ref(value) };
    for part in parts {
        match part {
            Value::Literal(i) | Value::Negative(i) => literals.push(*i),
            Value::Param(i, wanted) => params.push((*i, *wanted)),
            _ => {}
        }
    }
}

fn needs(act: &Act, literals: &mut Vec<u16>, params: &mut Vec<(u16, Wanted)>) {
    let mut value = |v: &Value| value_needs(v, literals, params);
    match act {
        Act::Set { name, value: v, lasting, .. } => {
            value(name);
            value(v);
            if let Lasting::If(flag) = lasting {
                value(flag);
            }
        }
        Act::Reset { name, .. } => value(name),
        Act::Execute { args, .. } => args.iter().for_each(value),
        Act::Code(i) => literals.push(*i),
        // The inner statement's parameters are the ones of EXECUTE.
        Act::Prepare { inner, .. } => literals.extend(inner.literals.iter()),
        _ => {}
    }
}
