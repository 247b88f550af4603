//! `extensions`, whose keys are types with or without a name: `basicauth`, `basicauth/senders`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::error::KeyError;
use crate::receiver::auth::config::AuthenticatorConfig;
use crate::telemetry::config::HealthCheckConfig;

/// All extensions that are defined, used or not.
#[derive(Default)]
pub(super) struct Extensions {
    health_check: Option<HealthCheckConfig>,
    authenticators: BTreeMap<String, AuthenticatorConfig>,
}

const TYPES: &[&str] = &["health_check", "bearertokenauth", "basicauth"];

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
    pub(super) fn used(
        mut self,
        names: &[String],
    ) -> Result<(Option<HealthCheckConfig>, BTreeMap<String, AuthenticatorConfig>), KeyError> {
        let key = "service.extensions";
        let mut used = (None, BTreeMap::new());
        for name in names {
            let kind = name.split('/').next().unwrap_or(name);
            if !TYPES.contains(&kind) {
                let types = TYPES.join(", ");
                return Err(KeyError::new(key, format!("found {name}; known here: {types}")));
            }
            let undefined =
                || KeyError::new(key, format!("{name} is not defined; write `{name}:` under extensions"));
            if name == "health_check" {
                used.0 = Some(self.health_check.take().ok_or_else(undefined)?);
            } else {
                used.1.insert(name.clone(), self.authenticators.remove(name).ok_or_else(undefined)?);
            }
        }
        Ok(used)
    }
}
