//! Queries, read with `sqlparser`: which tables and functions they name, and which `set_config` calls they make.
//!
//! A call counts only where it is sure to run; one anywhere else makes the statement one whose effect is unknown.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Insert,
    JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableObject,
    TableWithJoins, UnaryOperator, UpdateTableFromKind, Value as SqlValue, Visit, Visitor,
};
use sqlparser::dialect::{MySqlDialect, PostgreSqlDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::shape::{Act, Draft, Lasting, Named, Sure, Tag, Template};
use super::value::{Value, Wanted};
use super::{Dialect, mysql, names, predicate};

/// Most tokens given to the parser: its trees are as deep as a chain of operators is long, and they are walked and
/// dropped recursively.
const MAX_TOKENS: usize = 2000;
/// Deepest nesting followed in search of calls that are sure to run.
const MAX_DEPTH: usize = 24;

/// The template of a query; `None` if it is too large or not understood.
pub(super) fn parse(shape: &str, n_tokens: usize, dialect: Dialect) -> Option<Template> {
    if n_tokens > MAX_TOKENS {
        return None;
    }
    // The parser is not ours, and the text comes from anybody: a panic in it must cost a statement, not the agent.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let mut parser = match dialect {
            Dialect::Postgres => Parser::new(&PostgreSqlDialect {}).try_with_sql(shape).ok()?,
            // A shape quotes names in one way, whoever wrote it.
            Dialect::MySql => {
                let tokens = Tokenizer::new(&mysql::Lexis, shape).tokenize().ok()?;
                Parser::new(&MySqlDialect {}).with_tokens(tokens)
            }
        };
        let statement = parser.parse_statement().ok()?;
        (parser.peek_token().token == Token::EOF).then_some(statement)
    }));
    let statement = parsed.ok().flatten()?;
    let mut found = Found::default();
    let _ = statement.visit(&mut found);
    let mut calls = Calls { acts: Vec::new(), with: Vec::new(), depth: 0 };
    let (verb, target) = match &statement {
        Statement::Query(query) => {
            calls.query(query, Sure::Always);
            (verb_of(&query.body), body_target(&query.body))
        }
        Statement::Insert(insert) => {
            calls.insert(insert);
            (if insert.replace_into { "REPLACE" } else { "INSERT" }, insert_target(insert))
        }
        Statement::Update(_) => {
            calls.change(&statement);
            ("UPDATE", None)
        }
        Statement::Delete(_) => {
            calls.change(&statement);
            ("DELETE", None)
        }
        Statement::Merge(_) => ("MERGE", None),
        _ => return None,
    };
    let mut draft = Draft::control(verb, Tag::Rows);
    let tenant_table = |name: &&String| !names::system_relation(name, dialect) && !found.with.contains(name);
    let table = target.as_ref().filter(|t| tenant_table(t)).or_else(|| found.relations.iter().find(tenant_table));
    let function = found.functions.iter().find(|f| !names::built_in(f, dialect) && f.as_str() != "set_config");
    draft.data = table.is_some() || function.is_some() || found.into;
    draft.target = table.or(function).cloned().unwrap_or_default();
    draft.unknown =
        found.n_set_config > calls.acts.len() || found.functions.iter().any(|f| names::speaks_of_binding(f, dialect));
    draft.acts = calls.acts;
    if dialect == Dialect::MySql {
        draft.acts.extend(mysql::assigned(shape));
    }
    if table.is_some() {
        let all = target.iter().filter(tenant_table).chain(found.relations.iter().filter(tenant_table));
        let mut named = Named::new(&draft.target, all.map(String::as_str));
        named.writes = found.writes || !matches!(verb, "SELECT" | "VALUES" | "TABLE");
        named.more |= function.is_some();
        draft.tables = Some(named);
    }
    draft.predicates = predicate::predicates(&statement);
    Some(draft.finish())
}

fn verb_of(body: &SetExpr) -> &'static str {
    match body {
        SetExpr::Insert(_) => "INSERT",
        SetExpr::Update(_) => "UPDATE",
        SetExpr::Delete(_) => "DELETE",
        SetExpr::Merge(_) => "MERGE",
        SetExpr::Values(_) => "VALUES",
        SetExpr::Table(_) => "TABLE",
        _ => "SELECT",
    }
}

fn body_target(body: &SetExpr) -> Option<String> {
    match body {
        SetExpr::Insert(Statement::Insert(insert)) => insert_target(insert),
        SetExpr::Table(table) => {
            let name = table.table_name.as_ref()?;
            Some(table.schema_name.as_ref().map_or_else(|| name.clone(), |s| format!("{s}.{name}")))
        }
        _ => None,
    }
}

fn insert_target(insert: &Insert) -> Option<String> {
    match &insert.table {
        TableObject::TableName(name) => Some(dotted(name)),
        _ => None,
    }
}

fn dotted(name: &ObjectName) -> String {
    let mut out = String::new();
    for part in &name.0 {
        if !out.is_empty() {
            out.push('.');
        }
        match part {
            ObjectNamePart::Identifier(ident) => out.push_str(&ident.value),
            ObjectNamePart::Function(f) => out.push_str(&f.name.value),
        }
    }
    out
}

fn is_set_config(name: &str) -> bool {
    matches!(name, "set_config" | "pg_catalog.set_config")
}

/// Everything that a statement names, wherever it does.
#[derive(Default)]
struct Found {
    relations: Vec<String>,
    functions: Vec<String>,
    with: Vec<String>,
    n_set_config: usize,
    into: bool,
    writes: bool,
    /// The next relation visited is the name of a function in FROM.
    function_next: bool,
}

impl Found {
    fn function(&mut self, name: String) {
        self.n_set_config += usize::from(is_set_config(&name));
        self.functions.push(if name == "pg_catalog.set_config" { "set_config".to_owned() } else { name });
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.with.extend(with.cte_tables.iter().map(|cte| cte.alias.name.value.clone()));
        }
        if let SetExpr::Select(select) = &*query.body {
            self.into |= select.into.is_some();
        }
        if let SetExpr::Table(_) = &*query.body {
            self.relations.extend(body_target(&query.body));
        }
        self.writes |= self.into
            || matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: Some(_), name, .. } => {
                self.function(dotted(name));
                self.function_next = true;
            }
            TableFactor::Function { name, .. } => self.function(dotted(name)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if std::mem::take(&mut self.function_next) {
            return ControlFlow::Continue(());
        }
        let name = dotted(name);
        if !self.functions.contains(&name) {
            self.relations.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.function(dotted(&function.name));
        }
        ControlFlow::Continue(())
    }
}

/// The search for `set_config` calls that are sure to run.
struct Calls<'q> {
    acts: Vec<Act>,
    /// CTEs in scope that have not been reached yet.
    with: Vec<(&'q Ident, &'q Query)>,
    depth: usize,
}

impl<'q> Calls<'q> {
    fn query(&mut self, query: &'q Query, sure: Sure) {
        if self.depth >= MAX_DEPTH {
            return;
        }
        self.depth += 1;
        if let Some(with) = &query.with {
            self.with.extend(with.cte_tables.iter().map(|cte| (&cte.alias.name, &*cte.query)));
        }
        let sure = if query.limit_clause.is_some() || query.fetch.is_some() { Sure::WithRows } else { sure };
        match &*query.body {
            SetExpr::Select(select) => self.select(select, sure),
            SetExpr::Query(inner) => self.query(inner, sure),
            SetExpr::Values(values) => {
                for row in &values.rows {
                    row.iter().for_each(|e| self.expr(e, sure));
                }
            }
            SetExpr::SetOperation { left, right, .. } => self.union(left, right, sure),
            SetExpr::Insert(Statement::Insert(insert)) => self.insert(insert),
            SetExpr::Update(statement) | SetExpr::Delete(statement) => self.change(statement),
            _ => {}
        }
        self.depth -= 1;
    }

    /// Rows of the whole say nothing about one side of a set operation: only a side that needs no rows counts.
    fn union(&mut self, left: &'q SetExpr, right: &'q SetExpr, sure: Sure) {
        if sure != Sure::Always || self.depth >= MAX_DEPTH {
            return;
        }
        self.depth += 1;
        for side in [left, right] {
            match side {
                SetExpr::Select(select) if is_plain(select) => self.select(select, sure),
                SetExpr::SetOperation { left, right, .. } => self.union(left, right, sure),
                _ => {}
            }
        }
        self.depth -= 1;
    }

    fn select(&mut self, select: &'q Select, sure: Sure) {
        let aggregated = select.projection.iter().any(has_aggregate);
        let filtered = select.selection.is_some() || select.having.is_some();
        let single = matches!(&*select.from, [only] if only.joins.is_empty());
        let sure_from = if filtered || !single { Sure::WithRows } else { sure };
        for table in &select.from {
            self.table(table, sure_from.max(sure), aggregated);
        }
        if aggregated && !select.from.is_empty() {
            return;
        }
        let sure = if is_plain(select) { sure } else { Sure::WithRows };
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => self.expr(e, sure),
                _ => {}
            }
        }
    }

    fn table(&mut self, table: &'q TableWithJoins, sure: Sure, aggregated: bool) {
        let inner_only = table.joins.iter().all(|j| {
            matches!(j.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
        });
        self.factor(&table.relation, sure, aggregated);
        if inner_only {
            for join in &table.joins {
                self.factor(&join.relation, Sure::WithRows, aggregated);
            }
        }
    }

    fn factor(&mut self, factor: &'q TableFactor, sure: Sure, aggregated: bool) {
        match factor {
            TableFactor::Table { name, args: Some(args), .. } if is_set_config(&dotted(name)) => {
                self.acts.extend(set_config(&args.args, sure));
            }
            TableFactor::Function { name, args, .. } if is_set_config(&dotted(name)) => {
                self.acts.extend(set_config(args, sure));
            }
            TableFactor::Table { name, args: None, .. } => {
                let [ObjectNamePart::Identifier(ident)] = &*name.0 else { return };
                // A CTE runs once however often it is named; one that is never named does not run.
                if let Some(at) = self.with.iter().rposition(|(n, _)| n.value == ident.value) {
                    let (_, query) = self.with.remove(at);
                    self.inner(query, sure, aggregated);
                }
            }
            TableFactor::Derived { subquery, .. } => self.inner(subquery, sure, aggregated),
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.table(table_with_joins, Sure::WithRows, aggregated);
            }
            _ => {}
        }
    }

    fn inner(&mut self, query: &'q Query, sure: Sure, aggregated: bool) {
        let plain = matches!(&*query.body, SetExpr::Select(s) if is_plain(s));
        // An aggregate gives a row even where the inner query gave none.
        if plain || !aggregated {
            self.query(query, sure);
        }
    }

    fn insert(&mut self, insert: &'q Insert) {
        if let Some(source) = &insert.source {
            self.query(source, Sure::WithRows);
        }
        self.items(insert.returning.as_deref());
    }

    fn change(&mut self, statement: &'q Statement) {
        match statement {
            Statement::Update(update) => {
                if let Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) = &update.from {
                    for table in from {
                        self.table(table, Sure::WithRows, false);
                    }
                }
                for assignment in &update.assignments {
                    self.expr(&assignment.value, Sure::WithRows);
                }
                self.items(update.returning.as_deref());
            }
            Statement::Delete(delete) => {
                for table in delete.using.iter().flatten() {
                    self.table(table, Sure::WithRows, false);
                }
                self.items(delete.returning.as_deref());
            }
            _ => {}
        }
    }

    fn items(&mut self, items: Option<&'q [SelectItem]>) {
        for item in items.unwrap_or_default() {
            if let SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } = item {
                self.expr(e, Sure::WithRows);
            }
        }
    }

    /// A call that runs whenever `expr` does: through what evaluates its operands in any case.
    fn expr(&mut self, expr: &'q Expr, sure: Sure) {
        if self.depth >= MAX_DEPTH {
            return;
        }
        self.depth += 1;
        match expr {
            Expr::Function(f) if is_set_config(&dotted(&f.name)) => {
                if let (FunctionArguments::List(list), None, None) = (&f.args, &f.filter, &f.over) {
                    self.acts.extend(set_config(&list.args, sure));
                }
            }
            Expr::Function(f) if evaluates_all(f) => {
                if let FunctionArguments::List(list) = &f.args {
                    for arg in &list.args {
                        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) = arg {
                            self.expr(e, sure);
                        }
                    }
                }
            }
            Expr::Cast { expr, .. } | Expr::Nested(expr) | Expr::IsNull(expr) | Expr::IsNotNull(expr) => {
                self.expr(expr, sure);
            }
            Expr::BinaryOp { left, op, right } if !matches!(op, BinaryOperator::And | BinaryOperator::Or) => {
                self.expr(left, sure);
                self.expr(right, sure);
            }
            Expr::Tuple(items) => items.iter().for_each(|e| self.expr(e, sure)),
            Expr::Subquery(query) if matches!(&*query.body, SetExpr::Select(s) if is_plain(s)) => {
                self.query(query, sure);
            }
            _ => {}
        }
        self.depth -= 1;
    }
}

/// A SELECT that gives exactly one row and computes all of it.
fn is_plain(select: &Select) -> bool {
    select.from.is_empty() && select.selection.is_none() && select.having.is_none() && select.distinct.is_none()
}

fn has_aggregate(item: &SelectItem) -> bool {
    struct Search(bool);
    impl Visitor for Search {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(f) = expr {
                self.0 |= names::aggregate(&dotted(&f.name));
            }
            ControlFlow::Continue(())
        }
    }
    let mut search = Search(false);
    let _ = item.visit(&mut search);
    search.0
}

/// Functions of the server that evaluate every argument.
fn evaluates_all(f: &Function) -> bool {
    let name = dotted(&f.name);
    names::built_in(&name, Dialect::Postgres)
        && !matches!(name.as_str(), "coalesce" | "nullif" | "greatest" | "least")
        && !names::aggregate(&name)
        && f.filter.is_none()
        && f.over.is_none()
}

/// `set_config(name, value, is_local)`.
fn set_config(args: &[FunctionArg], sure: Sure) -> Option<Act> {
    let mut plain = args.iter().map(|a| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    });
    let (name, text, local) = (plain.next()??, plain.next()??, plain.next()??);
    if plain.next().is_some() {
        return None;
    }
    let lasting = match value(local, Wanted::Bool, 0) {
        Value::Fixed(flag) if &*flag == "true" => Lasting::Transaction,
        Value::Fixed(_) | Value::Null => Lasting::Session,
        other => Lasting::If(other),
    };
    Some(Act::Set { name: value(name, Wanted::Text, 0), value: value(text, Wanted::Text, 0), lasting, sure })
}

/// Where the value of an argument comes from. `wanted`: the type that the context gives a bare parameter.
pub(super) fn value(expr: &Expr, wanted: Wanted, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Computed;
    }
    match expr {
        Expr::Value(v) => sql_value(&v.value, wanted),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => value(inner, wanted, depth + 1),
        // Of several casts the innermost types a parameter.
        Expr::Cast { expr: inner, data_type, .. } => value(inner, type_of(data_type), depth + 1),
        Expr::TypedString(t) => sql_value(&t.value.value, wanted),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match value(inner, wanted, depth + 1) {
            Value::Literal(i) => Value::Negative(i),
            _ => Value::Computed,
        },
        _ => Value::Computed,
    }
}

fn sql_value(v: &SqlValue, wanted: Wanted) -> Value {
    let number = |digits: &str| digits.parse().map_or(Value::Computed, Value::Literal);
    match v {
        SqlValue::SingleQuotedString(s) => number(s),
        SqlValue::Number(s, _) => number(s),
        SqlValue::Boolean(b) => Value::Fixed(if *b { "true" } else { "false" }.into()),
        SqlValue::Null => Value::Null,
        SqlValue::Placeholder(p) => {
            p.strip_prefix('$').and_then(|n| n.parse().ok()).map_or(Value::Computed, |n| Value::Param(n, wanted))
        }
        _ => Value::Computed,
    }
}

fn type_of(data_type: &DataType) -> Wanted {
    match data_type {
        DataType::Text | DataType::Varchar(None) | DataType::CharacterVarying(None) => Wanted::Text,
        DataType::Boolean | DataType::Bool => Wanted::Bool,
        DataType::SmallInt(_)
        | DataType::Int(_)
        | DataType::Int2(_)
        | DataType::Int4(_)
        | DataType::Int8(_)
        | DataType::Integer(_)
        | DataType::BigInt(_) => Wanted::Integer,
        DataType::Uuid => Wanted::Uuid,
        _ => Wanted::Other,
    }
}
