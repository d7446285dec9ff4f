//! Statements in, shapes and literals out.

use super::*;

fn shapes(text: &str) -> Vec<(String, Vec<String>)> {
    let mut scan = Scan::default();
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        at = scan.statement(text.as_bytes(), at, false);
        if scan.n_tokens > 0 {
            let literals = scan.literals.iter().map(|l| text[l.at.clone()].to_owned()).collect();
            out.push((String::from_utf8(scan.shape.clone()).unwrap(), literals));
        }
    }
    out
}

fn shape(text: &str) -> String {
    let mut all = shapes(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0).0
}

#[test]
fn literals_space_case_and_comments_make_no_shape() {
    let a = shape("SELECT * FROM Orders WHERE id = 12 AND name='it''s' -- note\n");
    let b = shape("select  *\nfrom orders /* traceparent='00-ab' /* nested */ */ where id=7 and name = 'x';");
    assert_eq!(a, "select * from orders where id = 0 and name = '1'");
    assert_eq!(a, b);
    assert_ne!(shape("SELECT * FROM \"Orders\""), shape("SELECT * FROM orders"));
    assert_ne!(shape("SELECT 1"), shape("SELECT '1'"));
}

#[test]
fn every_way_to_write_a_string() {
    let all = shapes(r#"select E'a\'b', $$it's; fine$$, $t$ $$ $t$, U&'\0061', b'01', n'c', 'a' "#);
    assert_eq!(all[0].0, "select '0' , '1' , '2' , '3' , '4' , '5' , '6'");
    assert_eq!(all[0].1, [r"a\'b", "it's; fine", " $$ ", r"\0061", "01", "c", "a"]);
    assert_eq!(shapes("select 'a'\n  'b'")[0].0, "select '0'");
    assert_eq!(shapes("select 'a' 'b'")[0].0, "select '0' '1'");
}

#[test]
fn statements_end_at_semicolons_outside_everything() {
    let all = shapes("select ';'; select $$;$$ ;; create rule r as on insert to t do (select 1; select 2); x");
    let texts: Vec<&str> = all.iter().map(|s| s.0.as_str()).collect();
    let rule = "create rule r as on insert to t do ( select 0 ; select 1 )";
    assert_eq!(texts, ["select '0'", "select '0'", rule, "x"]);
    let body = "create function f() returns int begin atomic select case when true then 1 end; select 2; end; y";
    assert_eq!(shapes(body).len(), 2);
    assert_eq!(shapes("begin; commit; end; abort").len(), 4);
}

#[test]
fn lists_and_rows_of_any_length_have_one_shape() {
    let list = |n: i32| {
        let items: Vec<String> = (0..n).map(|i| format!("${}", i + 1)).collect();
        shape(&format!("select * from t where id in ({}) and x = $99", items.join(",")))
    };
    assert_eq!(list(9), list(500));
    assert_ne!(list(2), list(3));
    let rows = |n: i32| {
        let rows: Vec<String> = (0..n).map(|i| format!("({i},'{i}')")).collect();
        shape(&format!("insert into t values {} returning id", rows.join(", ")))
    };
    assert_eq!(rows(3), rows(400));
    assert_eq!(rows(3), "insert into t values ( 0 , '1' ) , ( 2 , '3' ) returning id");
    // A literal after a cut list still has the right number.
    let all = shapes("insert into t values (1),(2),(3) returning set_config('a','b',true)");
    assert!(all[0].0.ends_with("set_config ( '2' , '3' , true )"), "{}", all[0].0);
    assert_eq!(all[0].1, ["1", "2", "a", "b"]);
    // A row that calls something is never cut.
    let calls = shape("values (set_config('a','b',true)),(set_config('a','b',true)),(set_config('a','b',true))");
    assert_eq!(calls.matches("set_config").count(), 3);
}

#[test]
fn what_is_cut_short_is_remembered() {
    let scan = |text: &str| {
        let mut scan = Scan::default();
        scan.statement(text.as_bytes(), 0, false);
        let dropped: Vec<String> = scan.dropped.iter().map(|r| text[r.clone()].to_owned()).collect();
        (dropped.join(" "), scan.differs)
    };
    assert_eq!(scan("select 1, 2 from t where a in (1,2,3,4,5,6,7,8,'9',10)"), ("9 10".into(), 0));
    assert_eq!(scan("insert into t values (1,'a'),(2,'a')"), (String::new(), 0));
    assert_eq!(scan("insert into t values (1,'a'),(2,'a'),(2,'a')"), ("2 a".into(), 0));
    assert_eq!(scan("insert into t values (1,'a'),(2,'a'),(3,'a'),(2,'b')"), ("3 a 2 b".into(), 0b11));
    assert_eq!(scan("insert into t values (1,'a'),(2,'a'),(2,E'a')"), ("2 a".into(), 0b10));
    assert_eq!(scan("insert into t values (1,$1),(2,$1),(2,$2)"), ("2".into(), 0b10));
    assert_eq!(scan("insert into t values (1,'a'),(2,'a'),(2)"), ("2".into(), 0xff));
    assert_eq!(
        scan("insert into t values (1,'a'),(lower('x'),'b'),(2,'c')"),
        (String::new(), 0),
        "no rows of literals"
    );
}

#[test]
fn operators_and_numbers() {
    assert_eq!(shape("select a=-1, b->>'x', c::int, 1.5e-3, .5 , d<->$1"), {
        "select a = - 0 , b ->> '1' , c :: int , 2 , 3 , d <-> $1"
    });
    assert_eq!(shape("select 1--2"), "select 0");
    assert_eq!(shape("select a*/*c*/b"), "select a * b");
}

#[test]
fn an_unterminated_text_says_so() {
    for text in ["select 'a", "select \"a", "select /* a", "select $a$ b", "select E'a\\'"] {
        let mut scan = Scan::default();
        assert_eq!(scan.statement(text.as_bytes(), 0, false), text.len());
        assert!(scan.unterminated, "{text}");
    }
}
