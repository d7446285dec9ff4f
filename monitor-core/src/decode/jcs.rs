//! Canonical JSON (RFC 8785), and the hash of a tool's manifest over it.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::model::mcp::ManifestHash;

/// The members of a tool that its hash covers: what a model reads, and what a caller may rely on.
const COVERED: [&str; 6] = ["annotations", "description", "inputSchema", "name", "outputSchema", "title"];

/// The hash of a tool as a server lists it. Members that a protocol revision adds for other purposes (`_meta`, icons,
/// execution hints) do not change it.
pub fn tool_hash(tool: &Value) -> ManifestHash {
    let mut covered = Map::new();
    for name in COVERED {
        if let Some(value) = tool.get(name).filter(|v| !v.is_null()) {
            covered.insert(name.to_owned(), value.clone());
        }
    }
    ManifestHash(Sha256::digest(canonical(&Value::Object(covered))).into())
}

/// The canonical form of a value: members sorted, no blanks, numbers and texts as ECMAScript writes them.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => number(n, out),
        Value::String(s) => text(s, out),
        Value::Array(all) => {
            out.push('[');
            for (i, v) in all.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(v, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut all: Vec<_> = map.iter().collect();
            // By UTF-16 code units (§3.2.3).
            all.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (i, (k, v)) in all.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                text(k, out);
                out.push(':');
                write(v, out);
            }
            out.push('}');
        }
    }
}

fn text(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// As `Number.prototype.toString` writes it (ECMA-262 §6.1.6.1.20). Every number is a double there.
fn number(n: &Number, out: &mut String) {
    let Some(x) = n.as_f64().filter(|x| x.is_finite()) else {
        out.push_str("null");
        return;
    };
    if x == 0.0 {
        out.push('0');
        return;
    }
    // The shortest digits that give the number back; of two equally near ones the even one, as ECMAScript has it, which
    // std's formatting does not do and serde_json's does.
    let shortest = Number::from_f64(x.abs()).map(|n| n.to_string()).unwrap_or_default();
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let leading = all.len() - digits.len();
    let digits = digits.trim_end_matches('0');
    // Where the point stands, counted from the first digit.
    let place = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let point = exponent.parse::<i32>().unwrap_or_default() + place(whole.len()) - place(leading);
    let k = place(digits.len());
    if x < 0.0 {
        out.push('-');
    }
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or_default());
    let (before, after) = digits.split_at_checked(usize::try_from(point).unwrap_or_default()).unwrap_or((digits, ""));
    let _ = match point {
        _ if k <= point && point <= 21 => write!(out, "{digits}{}", zeros(point - k)),
        1..=21 => write!(out, "{before}.{after}"),
        -5..=0 => write!(out, "0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
            let dot = if rest.is_empty() { "" } else { "." };
            write!(out, "{first}{dot}{rest}e{:+}", point - 1)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap())
    }

    /// RFC 8785 §3.2.2 and §3.2.3.
    #[test]
    fn the_examples_of_the_rfc() {
        let text = "{\"numbers\": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],\n\
                    \"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\",\n\"literals\": [null, true, false]}";
        let want = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                    \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(of(text), want);
        let sorted =
            of("{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,\"\\u0080\":6,\"\\u00f6\":7}");
        assert_eq!(sorted, "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}");
    }

    /// RFC 8785 Appendix B.
    #[test]
    fn numbers_as_ecmascript_writes_them() {
        for (bits, want) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(canonical(&json!(f64::from_bits(bits))), want);
        }
        assert_eq!(of("[1,-1,100,1.0]"), "[1,-1,100,1]");
    }

    #[test]
    fn a_tools_hash_covers_what_models_read() {
        let tool = json!({"name": "t", "description": "d", "inputSchema": {"type": "object", "a": 1}});
        let same = json!({"inputSchema": {"a": 1.0, "type": "object"}, "description": "d", "name": "t", "_meta": {"x": 1}, "title": null});
        assert_eq!(tool_hash(&tool), tool_hash(&same));
        for (member, value) in
            [("description", json!("e")), ("annotations", json!({"readOnlyHint": true})), ("title", json!("T"))]
        {
            let mut changed = tool.clone();
            changed[member] = value;
            assert_ne!(tool_hash(&tool), tool_hash(&changed), "{member}");
        }
    }
}
