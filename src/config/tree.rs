//! Deserializes a configuration type from the merged YAML tree. Every error names the whole path of its key.
//!
//! References to the environment are expanded here, where the type of the key is known: text stays as it is, anything else is
//! read as one YAML scalar, never as a list or a map. A key without a value has its default.

use std::borrow::Cow;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::error::KeyError;
use super::expand::{Env, Expanded, expand, variables};
use super::source::scalar;

/// Reads a `T` out of `tree`.
pub(super) fn read<T: DeserializeOwned>(tree: &Value, env: Env<'_>) -> Result<T, KeyError> {
    T::deserialize(Node { value: tree, env })
}

/// The environment variables in the value at `path`.
pub(super) fn variables_at(tree: &Value, path: &[String], env: Env<'_>) -> Vec<String> {
    let value = path.iter().try_fold(tree, |value, key| match value {
        Value::Array(items) => items.get(key.trim_matches(['[', ']']).parse::<usize>().ok()?),
        value => value.get(key),
    });
    match value {
        Some(Value::String(text)) => {
            variables(text, env).into_iter().filter_map(|(name, value)| value.map(|_| name)).collect()
        }
        _ => Vec::new(),
    }
}

/// Readers of numbers, which may be in quotes.
macro_rules! numbers {
    ($($reader:ident)*) => {$(
        fn $reader<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
            let value = self.typed()?;
            match value.as_str().map(|text| scalar(text.to_owned())) {
                Some(number @ Value::Number(_)) => visit(&number, visitor),
                _ => visit(&value, visitor),
            }
        }
    )*};
}

/// One value of the tree.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    env: Env<'a>,
}

impl<'a> Node<'a> {
    /// The value for a key that is not text.
    fn typed(self) -> Result<Cow<'a, Value>, KeyError> {
        let Value::String(text) = self.value else { return Ok(Cow::Borrowed(self.value)) };
        Ok(match expand(text, self.env)? {
            None => Cow::Borrowed(self.value),
            Some(Expanded { mut text, value: Some(length) }) => {
                // The unit after a reference applies only to a value without one.
                if text[..length].trim_end().ends_with(|c: char| c.is_ascii_alphabetic()) {
                    text.truncate(length);
                }
                Cow::Owned(scalar(text))
            }
            Some(Expanded { text, value: None }) => Cow::Owned(Value::String(text)),
        })
    }

    /// The value for a key that is text. A whole number needs no quotes; YAML does not keep how other values were written.
    fn text(self) -> Result<Option<Cow<'a, str>>, KeyError> {
        Ok(match self.value {
            Value::String(text) => {
                let expanded = expand(text, self.env)?;
                Some(expanded.map_or(Cow::Borrowed(text.as_str()), |expanded| Cow::Owned(expanded.text)))
            }
            Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
            _ => None,
        })
    }

    /// Names only the kind of a value in the place of a list or a map: the value may be a secret that belongs into it.
    fn refuse_scalar<T>(self, expected: &str) -> Result<T, KeyError> {
        let found = match self.typed()?.as_ref() {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        Err(KeyError::custom(format!("found {found}, expected {expected}")))
    }

    fn keys(self, map: &'a Map<String, Value>, known: &'static [&'static str]) -> Keys<'a> {
        Keys { entries: map.iter(), value: None, known, env: self.env }
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = KeyError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        visit(self.typed()?.as_ref(), visitor)
    }

    /// Accepts quotes, and the words of YAML 1.1, as the Collector's parser does.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        let value = self.typed()?;
        match value.as_str().and_then(truth) {
            Some(value) => visitor.visit_bool(value),
            None => visit(&value, visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.text()? {
            Some(text) => visitor.visit_str(&text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        match self.text()? {
            Some(text) => {
                let text = text.trim();
                let known = |variant: &&&str| variant.eq_ignore_ascii_case(text);
                let text = variants.iter().find(known).copied().unwrap_or(text);
                let text: StrDeserializer<'_, KeyError> = text.into_deserializer();
                visitor.visit_enum(text)
            }
            None => {
                let expected = format!("one of {}", variants.join(", "));
                self.deserialize_any(Refuse(&expected)).map(|never| match never {})
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.value {
            Value::Array(items) => {
                visitor.visit_seq(Items { items: items.iter().enumerate(), env: self.env })
            }
            _ => self.refuse_scalar("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.value {
            Value::Object(map) => visitor.visit_map(self.keys(map, &[])),
            Value::Null => visitor.visit_map(self.keys(&Map::new(), &[])),
            // Some maps may be written as lists of pairs.
            Value::Array(_) => self.deserialize_seq(visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        match self.value {
            Value::Object(map) => visitor.visit_map(self.keys(map, fields)),
            Value::Null => visitor.visit_map(self.keys(&Map::new(), fields)),
            _ => self.refuse_scalar("a map"),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

fn visit<'de, V: Visitor<'de>>(value: &Value, visitor: V) -> Result<V::Value, KeyError> {
    match value {
        Value::Null => visitor.visit_unit(),
        Value::Bool(value) => visitor.visit_bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => visitor.visit_u64(value),
            (_, Some(value), _) => visitor.visit_i64(value),
            // Such as 1e4 and 4.0.
            (_, _, Some(value)) if value.fract() == 0.0 && (0.0..u64::MAX as f64).contains(&value) => {
                visitor.visit_u64(value as u64)
            }
            (_, _, value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
        },
        Value::String(text) => visitor.visit_str(text),
        Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
        Value::Object(_) => Err(Error::invalid_type(Unexpected::Map, &visitor)),
    }
}

/// The truth value of `text`, if it is one.
fn truth(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text.trim()));
    match () {
        () if is(&["true", "yes", "on", "y"]) => Some(true),
        () if is(&["false", "no", "off", "n"]) => Some(false),
        () => None,
    }
}

/// The elements of a list.
struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    env: Env<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = KeyError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, KeyError> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let element = seed.deserialize(Node { value, env: self.env });
        element.map(Some).map_err(|error| error.under(format!("[{index}]")))
    }
}

/// The keys of a map, without known ones that have no value.
struct Keys<'a> {
    entries: serde_json::map::Iter<'a>,
    value: Option<(&'a String, &'a Value)>,
    known: &'static [&'static str],
    env: Env<'a>,
}

impl<'de> MapAccess<'de> for Keys<'_> {
    type Error = KeyError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, KeyError> {
        for (key, value) in self.entries.by_ref() {
            if value.is_null() && self.known.contains(&key.as_str()) {
                continue;
            }
            self.value = Some((key, value));
            let key: StrDeserializer<'_, KeyError> = key.as_str().into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, KeyError> {
        let (key, value) = self.value.take().ok_or_else(|| KeyError::custom("a value without a key"))?;
        seed.deserialize(Node { value, env: self.env }).map_err(|error| error.under(key.clone()))
    }
}

/// Accepts nothing, to get the usual error for the value found.
struct Refuse<'a>(&'a str);

impl Visitor<'_> for Refuse<'_> {
    type Value = std::convert::Infallible;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}
