//! Subsystems: the parts of the target that a saved configuration is made of, in the order they depend on each other.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One call in a saved configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigEntry {
    /// The method to call when the configuration is loaded.
    pub method: String,
    /// Its parameters; left out for a method that takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
}

impl ConfigEntry {
    /// A call with parameters.
    pub fn new(method: impl Into<String>, params: Value) -> Self {
        Self { method: method.into(), params: Some(params) }
    }

    /// A call without parameters.
    pub fn bare(method: impl Into<String>) -> Self {
        Self { method: method.into(), params: None }
    }
}

/// Writes the calls that would bring a subsystem back to what it is now.
pub type ConfigWriter = Box<dyn Fn() -> Vec<ConfigEntry> + Send + Sync>;

/// One subsystem.
pub struct Subsystem {
    pub(crate) name: &'static str,
    pub(crate) depends_on: Vec<&'static str>,
    pub(crate) writer: Option<ConfigWriter>,
}

impl Subsystem {
    /// A subsystem that depends on nothing and saves nothing (`framework_get_config` answers null).
    pub fn new(name: &'static str) -> Self {
        Self { name, depends_on: Vec::new(), writer: None }
    }

    /// The subsystems that must be up before this one. They must be registered before it.
    #[must_use]
    pub fn depends_on(mut self, names: &[&'static str]) -> Self {
        self.depends_on = names.to_vec();
        self
    }

    /// What saves its configuration. Called on control threads; may ask reactors and wait.
    #[must_use]
    pub fn config(mut self, writer: impl Fn() -> Vec<ConfigEntry> + Send + Sync + 'static) -> Self {
        self.writer = Some(Box::new(writer));
        self
    }

    /// Its name, as in config files.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The calls that would bring it back, or nothing when it has no writer.
    pub fn saved(&self) -> Option<Vec<ConfigEntry>> {
        self.writer.as_ref().map(|writer| writer())
    }
}
