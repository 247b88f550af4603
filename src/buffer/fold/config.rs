//! `exporters.postgres.sending_queue.fold`.

use serde::{Deserialize, Serialize};

use crate::values::duration::GoDuration;

/// How repeated records are folded while the buffer fills.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FoldConfig {
    /// Whether they are.
    pub enabled: bool,
    /// A record is folded if the same one came no longer ago; one folded record is stored for each such time.
    pub window: GoDuration,
    /// The attributes in which repeated records may differ.
    pub ignore: Vec<String>,
    /// Whether they may differ in the numbers of their body.
    pub template: bool,
    /// The scopes and events, by name, whose records are never folded.
    pub except: Vec<String>,
}

impl Default for FoldConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window: GoDuration::seconds(10),
            ignore: Vec::new(),
            template: false,
            except: Vec::new(),
        }
    }
}
