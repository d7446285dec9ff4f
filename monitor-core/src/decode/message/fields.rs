//! Fields of a JSON text whose names speak of a tenant, without keeping the text's tree. Text inside text is read, too:
//! job libraries put arguments into strings.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::packed::{self, Said};
use crate::model::claim::speaks_of_tenant;

/// How deep fields are looked for: an envelope, a job, its arguments, one more.
const MAX_DEPTH: usize = 4;
/// Longest field name that can speak of a tenant.
const MAX_NAME: usize = 64;

/// Calls `say` with the lower-case name and the value of each field that speaks of a tenant and holds a string or a number.
/// What is no JSON has none. Gives whether all of it was looked at.
pub(super) fn each(text: &[u8], say: &mut dyn FnMut(Said<'_>)) -> bool {
    let mut found = Found { say, whole: true };
    found.walk(text, 0);
    found.whole
}

/// What is found, and whether nothing was passed over.
struct Found<'a> {
    say: &'a mut dyn FnMut(Said<'_>),
    whole: bool,
}

impl Found<'_> {
    fn walk(&mut self, text: &[u8], depth: usize) {
        let mut json = serde_json::Deserializer::from_slice(text);
        // What was found before an error is part of the text all the same.
        let read = Walk { found: self, name: None, depth }.deserialize(&mut json);
        self.whole &= read.is_ok() && json.end().is_ok();
    }
}

/// Visits one value; `name`: that of the field it is the value of, where that speaks of a tenant.
struct Walk<'a, 'b, 'n> {
    found: &'a mut Found<'b>,
    name: Option<&'n str>,
    depth: usize,
}

impl Walk<'_, '_, '_> {
    fn scalar(self, value: &str) {
        if let Some(name) = self.name {
            (self.found.say)(Said::Field(name, value));
        } else if matches!(value.as_bytes(), [b'{' | b'[', ..]) {
            // One that is none is text like any other.
            if self.depth >= MAX_DEPTH {
                self.found.whole = false;
            } else if serde_json::from_str::<IgnoredAny>(value).is_ok() {
                self.found.walk(value.as_bytes(), self.depth + 1);
            }
        } else if matches!(value.as_bytes(), [b'O' | b'a', b':', b'0'..=b'9', ..]) {
            self.found.whole &= packed::php(value, self.found.say);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        if self.name.is_some() {
            self.scalar(&n.to_string());
        }
        Ok(())
    }

    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        if self.name.is_some() {
            self.scalar(&n.to_string());
        }
        Ok(())
    }

    fn visit_str<E>(self, s: &str) -> Result<(), E> {
        self.scalar(s);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let deep = self.depth >= MAX_DEPTH;
        loop {
            let more = if deep {
                self.found.whole = false;
                seq.next_element::<IgnoredAny>()?.is_some()
            } else {
                let next = Walk { found: &mut *self.found, name: None, depth: self.depth + 1 };
                seq.next_element_seed(next)?.is_some()
            };
            if !more {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let deep = self.depth >= MAX_DEPTH;
        while let Some(key) = map.next_key_seed(Text)? {
            if deep {
                self.found.whole = false;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let lower = (key.len() <= MAX_NAME).then(|| key.to_ascii_lowercase());
            let name = lower.as_deref().filter(|n| speaks_of_tenant(n));
            map.next_value_seed(Walk { found: &mut *self.found, name, depth: self.depth + 1 })?;
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(s))
    }

    fn visit_str<E>(self, s: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        each(text.as_bytes(), &mut |said| {
            if let Said::Field(n, v) = said {
                found.push((n.to_owned(), v.to_owned()));
            }
        });
        found
    }

    #[test]
    fn fields_are_found_down_to_a_depth() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(all(r#"{"Tenant_ID":"a","x":{"org_id":7}}"#), [of("tenant_id", "a"), of("org_id", "7")]);
        assert_eq!(all(r#"[[],{"tenant":"b"}]"#), [of("tenant", "b")]);
        assert_eq!(all(r#"{"a":{"b":{"c":{"d":{"tenant":"x"}}}}}"#), []);
        assert_eq!(all(r#"{"tenant":null}"#), []);
        assert_eq!(all(r#"{"args":"[{\"tenant\":\"a\"}]"}"#), [of("tenant", "a")]);
        assert_eq!(all(r#"{"command":"O:1:\"A\":1:{s:6:\"tenant\";s:1:\"a\";}"}"#), [of("tenant", "a")]);
    }

    #[test]
    fn what_is_no_json_has_none() {
        assert_eq!(all("tenant=a"), []);
        assert_eq!(all(""), []);
        assert_eq!(all(r#"{"tenant":"a","#).len(), 1, "found before it breaks off");
        assert_eq!(all(&"[".repeat(10_000)), []);
    }
}
