//! What a statement says of all rows it touches: the tenant column that its WHERE, its inner joins or the rows it
//! inserts hold to one value.

use sqlparser::ast::{
    BinaryOperator, Expr, FromTable, Insert, JoinConstraint, JoinOperator, SetExpr, Statement, TableWithJoins,
    UpdateTableFromKind,
};

use super::parse::value;
use super::scan::LIST;
use super::shape::Predicate;
use super::value::{Value, Wanted};
use crate::model::claim::speaks_of_tenant;

/// Most predicates kept of one statement, and most ways to write a value in the rows of one.
const MAX: usize = 4;
/// Deepest nesting of conditions.
const MAX_DEPTH: usize = 24;

/// The predicates of a statement, on the columns whose names say most clearly that they hold the tenant: an account or a
/// customer may be the tenant's own data where there is a tenant column too.
pub(super) fn predicates(statement: &Statement) -> Vec<Predicate> {
    let mut all = Vec::new();
    of_statement(statement, &mut all);
    let Some(best) = all.iter().map(|p| rank(&p.column)).min() else { return all };
    all.retain(|p| rank(&p.column) == best && !p.values.contains(&Value::Computed));
    all.truncate(MAX);
    all
}

fn of_statement(statement: &Statement, out: &mut Vec<Predicate>) {
    match statement {
        Statement::Query(query) => match &*query.body {
            SetExpr::Select(select) => {
                joined(&select.from, out);
                select.selection.iter().for_each(|c| conjuncts(c, out, 0));
            }
            SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner)
                if !matches!(inner, Statement::Query(_)) =>
            {
                of_statement(inner, out);
            }
            _ => {}
        },
        Statement::Update(update) => {
            if let Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) = &update.from {
                joined(from, out);
            }
            update.selection.iter().for_each(|c| conjuncts(c, out, 0));
        }
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            joined(from, out);
            joined(delete.using.as_deref().unwrap_or_default(), out);
            delete.selection.iter().for_each(|c| conjuncts(c, out, 0));
        }
        Statement::Insert(insert) => inserted(insert, out),
        _ => {}
    }
}

/// Conditions of inner joins hold for every row; those of outer joins do not.
fn joined(from: &[TableWithJoins], out: &mut Vec<Predicate>) {
    use JoinOperator::{CrossJoin, Inner, Join, Left, LeftOuter};
    for table in from {
        // Rows that a right or full join adds pass by the conditions of the joins before it.
        let keeps = |op: &JoinOperator| matches!(op, Join(_) | Inner(_) | CrossJoin(_) | Left(_) | LeftOuter(_));
        if !table.joins.iter().all(|j| keeps(&j.join_operator)) {
            continue;
        }
        for join in &table.joins {
            if let Join(JoinConstraint::On(on)) | Inner(JoinConstraint::On(on)) = &join.join_operator {
                conjuncts(on, out, 0);
            }
        }
    }
}

fn conjuncts(condition: &Expr, out: &mut Vec<Predicate>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut found = |column: &Expr, other: &Expr| {
        if let Some(column) = tenant_column(column) {
            out.push(Predicate { column, values: [value(other, Wanted::Any, 0)].into(), place: None });
        }
    };
    match condition {
        Expr::Nested(inner) => conjuncts(inner, out, depth + 1),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, out, depth + 1);
            conjuncts(right, out, depth + 1);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            found(left, right);
            found(right, left);
        }
        Expr::InList { expr, list, negated: false } => {
            if let [only] = list.as_slice() {
                found(expr, only);
            }
        }
        _ => {}
    }
}

/// The name of a column that speaks of a tenant.
fn tenant_column(expr: &Expr) -> Option<Box<str>> {
    let ident = match expr {
        Expr::Identifier(ident) => ident,
        Expr::CompoundIdentifier(parts) => parts.last()?,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => return tenant_column(inner),
        _ => return None,
    };
    let name = ident.value.to_lowercase();
    speaks_of_tenant(&name).then(|| name.into())
}

/// How clearly a column's name says that it holds the tenant; the lowest is the clearest.
fn rank(column: &str) -> u8 {
    match column {
        c if c.contains("tenant") => 0,
        c if c.contains("customer") || c.contains("account") => 2,
        _ => 1,
    }
}

/// The tenant column of rows that are written out, in all the ways its value is written.
fn inserted(insert: &Insert, out: &mut Vec<Predicate>) {
    let Some(source) = &insert.source else { return };
    let SetExpr::Values(rows) = &*source.body else { return };
    for (at, column) in insert.columns.iter().enumerate() {
        let name = column.to_string().trim_matches('"').to_lowercase();
        if !speaks_of_tenant(&name) {
            continue;
        }
        let mut values: Vec<Value> = Vec::new();
        for row in &rows.rows {
            // What the shape leaves out of a long row moves what comes after it.
            let same_place = at < LIST || row.len() == insert.columns.len();
            let v = row.get(at).filter(|_| same_place).map_or(Value::Computed, |e| value(e, Wanted::Any, 0));
            if !values.contains(&v) {
                values.push(if values.len() < MAX { v } else { Value::Computed });
            }
            if values.contains(&Value::Computed) {
                break;
            }
        }
        let place = u8::try_from(at).ok().filter(|at| usize::from(*at) < LIST);
        out.push(Predicate { column: name.into(), values: values.into(), place });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::super::shape::template_of;
    use super::*;

    /// `column = values` of each predicate of a shape.
    fn of(shape: &str) -> Vec<String> {
        let template = template_of(shape, shape.split(' ').count(), Dialect::Postgres);
        assert!(!template.verb.is_empty());
        let one = |v: &Value| match v {
            Value::Literal(i) => format!("#{i}"),
            Value::Negative(i) => format!("-#{i}"),
            Value::Param(n, _) => format!("${n}"),
            other => format!("{other:?}"),
        };
        let line = |p: &Predicate| format!("{} {}", p.column, p.values.iter().map(one).collect::<Vec<_>>().join(" "));
        template.predicates.iter().map(line).collect()
    }

    #[test]
    fn what_all_rows_have_in_common() {
        let cases: &[(&str, &[&str])] = &[
            ("select a from t where tenant_id = '0'", &["tenant_id #0"]),
            ("select a from t x where x . tenant_id = $1 and x . b = '0'", &["tenant_id $1"]),
            ("select a from t where '0' = ( \"Tenant_ID\" ) and ( a = 1 and b = 2 )", &["tenant_id #0"]),
            ("select a from t where tenant_id :: text = $1 :: text", &["tenant_id $1"]),
            ("select a from t where tenant_id in ( '0' )", &["tenant_id #0"]),
            ("select a from t where tenant_id = - 0", &["tenant_id -#0"]),
            ("select a from t x join u on x . id = u . id and u . tenant_id = '0'", &["tenant_id #0"]),
            (
                "select a from t x inner join u on u . tenant_id = $1 where x . tenant_id = $2",
                &["tenant_id $1", "tenant_id $2"],
            ),
            ("select a from t x join u on u . tenant_id = '0' left join v on v . tenant_id = '1'", &["tenant_id #0"]),
            ("update t set a = '0' where tenant_id = '1'", &["tenant_id #1"]),
            ("update t set a = '0' from u where t . id = u . id and u . tenant_id = '1'", &["tenant_id #1"]),
            ("delete from t where tenant_id = $1", &["tenant_id $1"]),
            ("delete from t using u join v on v . tenant_id = '0' where t . id = v . id", &["tenant_id #0"]),
            ("insert into t ( id , tenant_id ) values ( $1 , $2 )", &["tenant_id $2"]),
            ("insert into t ( id , tenant_id ) values ( 0 , '1' ) , ( 2 , '3' )", &["tenant_id #1 #3"]),
            ("insert into t ( tenant_id , id ) values ( $1 , $2 ) , ( $1 , $3 )", &["tenant_id $1"]),
            ("with x as ( select 0 ) insert into t ( tenant_id ) values ( '1' )", &["tenant_id #1"]),
            ("select a from t where tenant_id = '0' and customer_id = '1' and org_id = '2'", &["tenant_id #0"]),
            ("select a from t where customer_id = '0' and org_id = '1'", &["org_id #1"]),
            ("select a from t where account = '0'", &["account #0"]),
        ];
        for (shape, want) in cases {
            assert_eq!(of(shape), *want, "{shape}");
        }
    }

    #[test]
    fn what_does_not_hold_for_all_rows_or_cannot_be_read() {
        let cases = [
            "select a from t where tenant_id = '0' or a = '1'",
            "select a from t where not ( tenant_id = '0' )",
            "select a from t where tenant_id <> '0'",
            "select a from t where tenant_id in ( '0' , '1' )",
            "select a from t where tenant_id not in ( '0' )",
            "select a from t where tenant_id = lower ( '0' )",
            "select a from t where tenant_id = current_setting ( '0' ) and account_id = '1'",
            "select a from t where tenant_id = ( select '0' )",
            "select a from t where tenant_id like '0'",
            "select a from t where supplier = '0'",
            "select tenant_id = '0' from t",
            "select a from t x join u on x . tenant_id = u . tenant_id",
            "select a from t x left join u on u . tenant_id = '0'",
            "select a from t x join v on v . tenant_id = '0' right join u on x . id = u . id",
            "select a from t having tenant_id = '0'",
            "select a from ( select a from t where tenant_id = '0' ) x",
            "select a from t where tenant_id = '0' union select a from u",
            "update t set tenant_id = '0'",
            "insert into t values ( '0' )",
            "insert into t ( a , tenant_id ) values ( 0 , '1' ) , ( 2 , lower ( '3' ) )",
            "insert into t ( a , tenant_id ) values ( 0 , '1' ) , ( 2 )",
            "insert into t ( tenant_id ) select '0'",
            // The shape keeps eight of a long run: what comes after it is not in its place.
            "insert into t ( a , b , c , d , e , f , g , h , i , tenant_id , k ) values ( 0 , 1 , 2 , 3 , 4 , 5 , 6 , 7 , default , '8' )",
        ];
        for shape in cases {
            assert_eq!(of(shape), [""; 0], "{shape}");
        }
        let many: Vec<String> = (0..6).map(|i| format!("( lower ( 'x' ) , ${} )", i + 1)).collect();
        assert_eq!(of(&format!("insert into t ( a , tenant_id ) values {}", many.join(" , "))), [""; 0]);
    }
}
