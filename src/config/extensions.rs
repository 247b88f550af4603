//! `extensions`, whose keys are types with or without a name: `basicauth`, `basicauth/senders`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::error::KeyError;
use super::storage;
use crate::buffer::config::FileStorageConfig;
use crate::receiver::auth::config::AuthenticatorConfig;
use crate::telemetry::config::HealthCheckConfig;

/// Extensions: all that are defined, or those in use.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) health_check: Option<HealthCheckConfig>,
    pub(super) authenticators: BTreeMap<String, AuthenticatorConfig>,
    pub(super) file_storages: BTreeMap<String, FileStorageConfig>,
}

const TYPES: &[&str] = &["health_check", "bearertokenauth", "basicauth", storage::TYPE];

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Extensions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extensions, A::Error> {
                let mut extensions = Extensions::default();
                while let Some(key) = map.next_key::<String>()? {
                    let authenticator = match key.split_once('/').map_or(key.as_str(), |(kind, _)| kind) {
                        "health_check" if key == "health_check" => {
                            extensions.health_check = Some(map.next_value()?);
                            continue;
                        }
                        storage::TYPE => {
                            let files = map.next_value()?;
                            extensions.file_storages.insert(key, files);
                            continue;
                        }
                        "bearertokenauth" => AuthenticatorConfig::Bearer(map.next_value()?),
                        "basicauth" => AuthenticatorConfig::Basic(map.next_value()?),
                        _ => return Err(A::Error::unknown_field(&key, TYPES)),
                    };
                    extensions.authenticators.insert(key, authenticator);
                }
                Ok(extensions)
            }
        }
        deserializer.deserialize_struct("Extensions", TYPES, Any)
    }
}

impl Extensions {
    /// The extensions in `names`, which is the list `service.extensions`.
    pub(super) fn used(mut self, names: &[String]) -> Result<Self, KeyError> {
        let key = "service.extensions";
        let mut used = Self::default();
        for name in names {
            let kind = name.split('/').next().unwrap_or(name);
            if !TYPES.contains(&kind) {
                let types = TYPES.join(", ");
                return Err(KeyError::new(key, format!("found {name}; known here: {types}")));
            }
            let undefined =
                || KeyError::new(key, format!("{name} is not defined; write `{name}:` under extensions"));
            if name == "health_check" {
                used.health_check = Some(self.health_check.take().ok_or_else(undefined)?);
            } else if kind == storage::TYPE {
                let files = self.file_storages.remove(name).ok_or_else(undefined)?;
                used.file_storages.insert(name.clone(), files);
            } else {
                let authenticator = self.authenticators.remove(name).ok_or_else(undefined)?;
                used.authenticators.insert(name.clone(), authenticator);
            }
        }
        Ok(used)
    }
}
