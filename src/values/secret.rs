//! Secrets of a configuration, which are never shown: tokens, passwords, keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A text that is printed and serialized as `[REDACTED]`. Error messages do not quote it either.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// The text shown instead of a secret.
pub const REDACTED: &str = "[REDACTED]";

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        /// serde's own error for a value that is not text would show the value.
        fn refused<T, E: Error>() -> Result<T, E> {
            Err(E::custom("found something that is not text, expected text; put it in quotes"))
        }
        impl Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
                refused()
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
                refused()
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
                refused()
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
                refused()
            }
        }
        // A token may look like a number.
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::F64Deserializer;

    use super::*;

    #[test]
    fn a_secret_is_shown_to_nobody_but_who_asks_for_it() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[REDACTED] Some([REDACTED])");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[REDACTED]\"");
        let number: F64Deserializer<serde::de::value::Error> = 123.4567.into_deserializer();
        let refusal = Secret::deserialize(number).unwrap_err().to_string();
        assert!(refusal.contains("put it in quotes") && !refusal.contains("123"), "{refusal}");
    }
}
