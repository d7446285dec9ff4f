//! Statements in, what they do out.

use super::super::scan::Scan;
use super::super::shape::{Act, Lasting, template_of};
use super::super::value::{Value, literal_text};
use super::super::{Dialect, Shapes};
use crate::model::claim::Salt;

fn scan(text: &str) -> (String, Vec<Option<String>>, bool) {
    let mut scan = Scan::default();
    scan.mysql_statement(text.as_bytes(), 0, true);
    let literals = scan.literals.iter().map(|l| literal_text(text.as_bytes(), l)).collect();
    (String::from_utf8(scan.shape.clone()).unwrap(), literals, scan.unterminated)
}

fn shape(text: &str) -> String {
    let (shape, _, unterminated) = scan(text);
    assert!(!unterminated, "{text}");
    shape
}

/// The acts of a statement, each as one text.
fn acts(text: &str) -> Vec<String> {
    let (shape, literals, _) = scan(text);
    let template = template_of(&shape, shape.split(' ').count(), Dialect::MySql);
    let value = |v: &Value| match v {
        Value::Fixed(text) => text.to_string(),
        Value::Literal(i) => format!("'{}'", literals[usize::from(*i)].as_deref().unwrap_or("?")),
        Value::Param(n, _) => format!("${n}"),
        other => format!("{other:?}"),
    };
    let one = |act: &Act| match act {
        Act::Set { name, value: v, lasting: Lasting::Session, .. } => format!("{}={}", value(name), value(v)),
        Act::Reset { name, .. } => format!("reset {}", value(name)),
        other => format!("{other:?}"),
    };
    template.acts.iter().map(one).collect()
}

fn table(text: &str) -> (String, String, bool, bool) {
    let shape = shape(text);
    let t = template_of(&shape, shape.split(' ').count(), Dialect::MySql);
    (t.verb.to_string(), t.target.to_string(), t.data, t.unknown)
}

#[test]
fn quotes_comments_and_placeholders_are_mysqls() {
    assert_eq!(
        shape("SELECT `Id`, \"it\" FROM `my``t` # note\n WHERE a=? -- more\n AND b = -1 and c--1 /* x /* y */ ;"),
        "select \"Id\" , '0' from \"my`t\" where a = $1 and b = - 1 and c - - 2"
    );
    assert_eq!(
        shape("SELECT @A, @'b c', @@SESSION.sql_mode, @x.y:=1"),
        "select @a , @b_c , @@session.sql_mode , @x.y := 0"
    );
    assert_eq!(shape("select _utf8mb4'a', N'b', x'4142', 0x41, 'a' 'b'"), "select '0' , '1' , '2' , 3 , '4'");
    assert_eq!(shape("select a<=>b, c->>'$.d', e!=f, g||h"), "select a <=> b , c ->> '0' , e != f , g || h");
    let (_, literals, _) = scan(r#"select 'it''s', "a""b", 'x\'y\n', "it's", 'a\%b'"#);
    let text: Vec<&str> = literals.iter().map(|l| l.as_deref().unwrap()).collect();
    assert_eq!(text, ["it's", "a\"b", "x'y\n", "it's", "a%b"]);
}

#[test]
fn code_in_comments_is_code_and_what_may_not_run_is_not_known() {
    assert_eq!(shape("/*!40101 SET NAMES utf8 */"), "set names utf8");
    assert_eq!(shape("select 1 /*! , 2 */ from t"), "select 0 , 1 from t");
    for text in
        ["/*!99999 SET @tenant_id = 'a' */", "/*M! SET @tenant_id = 'a' */", "/*! SELECT 1", "select 'a", "`a", "/* a"]
    {
        assert!(scan(text).2, "{text}");
    }
}

#[test]
fn statements_end_at_semicolons_but_those_of_procedures() {
    let count = |text: &str| {
        let mut n = 0;
        Shapes::new(Salt(1, 2), Dialect::MySql).read(text.as_bytes(), false, true, &mut |_| {}, &mut |_| n += 1);
        n
    };
    assert_eq!(count("select ';'; select 2 ;; # ;\n select `a;b`"), 3);
    assert_eq!(count("create definer=`a`@`b` procedure p() begin select 1; select 2; end"), 1);
}

#[test]
fn what_is_set() {
    for (text, want) in [
        ("SET @tenant_id = 'acme'", &["@tenant_id='acme'"][..]),
        ("set @tenant_id := ?, @x = 5, sql_mode=''", &["@tenant_id=$1", "@x='5'", "sql_mode=''"]),
        ("SET @tenant_id = NULL", &["@tenant_id=Null"]),
        ("SET @tenant_id = concat('a', 'b'), @b = 'x'", &["@tenant_id=Computed", "@b='x'"]),
        ("SET SESSION wait_timeout = DEFAULT, @@global.x = on", &["reset wait_timeout", "x=on"]),
        ("SET ROLE tenant_acme", &["role=tenant_acme"]),
        ("SET ROLE 'tenant_acme'@'%'", &["role='tenant_acme'"]),
        ("SET ROLE NONE", &["role=none"]),
        ("SET ROLE DEFAULT", &["reset role"]),
        ("USE `acme`", &["database=acme"]),
        ("use acme", &["database=acme"]),
        ("SELECT @tenant_id := id FROM t", &["@tenant_id=Computed"]),
        ("SELECT a, b INTO @a, @tenant_id FROM t WHERE c = @d", &["@a=Computed", "@tenant_id=Computed"]),
        ("CALL p(@out)", &["@out=Computed"]),
        ("START TRANSACTION READ ONLY", &["Begin"]),
        ("BEGIN WORK", &["Begin"]),
        ("ROLLBACK", &["Commit"]),
        ("COMMIT AND CHAIN", &["Commit", "Begin"]),
        ("SET NAMES utf8mb4", &[]),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", &[]),
        ("ROLLBACK TO SAVEPOINT a", &[]),
    ] {
        assert_eq!(acts(text), want, "{text}");
    }
}

#[test]
fn what_is_touched() {
    for (text, verb, target, data) in [
        ("SELECT * FROM `acme`.`orders` WHERE id=?", "SELECT", "acme.orders", true),
        ("INSERT INTO orders (a, b) VALUES (?, ?) ON DUPLICATE KEY UPDATE a = VALUES(a)", "INSERT", "orders", true),
        ("REPLACE INTO orders VALUES (1, 'a')", "REPLACE", "orders", true),
        ("UPDATE orders SET a=1 WHERE b='x' ORDER BY c LIMIT 3", "UPDATE", "orders", true),
        ("DELETE FROM orders WHERE a = 1 LIMIT 2", "DELETE", "orders", true),
        ("SELECT a FROM orders FORCE INDEX (i) LIMIT 2, 3", "SELECT", "orders", true),
        ("INSERT IGNORE INTO orders SET a = 1", "INSERT", "orders", true),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE orders", "LOAD DATA", "orders", true),
        ("CALL report(1)", "CALL", "report", true),
        ("TRUNCATE TABLE orders", "TRUNCATE", "orders", true),
        ("SELECT 1", "SELECT", "", false),
        ("SELECT 1 FROM DUAL", "SELECT", "", false),
        ("SELECT @@version_comment LIMIT 1", "SELECT", "", false),
        ("SELECT DATABASE(), USER(), CONNECTION_ID()", "SELECT", "", false),
        ("SELECT * FROM information_schema.tables", "SELECT", "", false),
        ("SHOW TABLES", "SHOW", "", false),
        ("EXPLAIN SELECT * FROM orders", "EXPLAIN", "", false),
        ("SET @x = (SELECT a FROM orders)", "SET", "", true),
    ] {
        let got = table(text);
        assert_eq!((got.0.as_str(), got.1.as_str(), got.2, got.3), (verb, target, data, false), "{text}");
    }
    assert!(table("CALL set_tenant('a')").3 && table("SELECT set_tenant('a')").3 && table("DO switch_org(1)").3);
    assert!(table("EXECUTE s USING @a").3);
}
