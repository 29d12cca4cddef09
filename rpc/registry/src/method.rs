//! What a module declares about one of its methods.

use crate::error::codes;
use serde_json::Value;

/// When a method may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Only before the framework is initialised (`--wait-for-rpc`).
    Startup,
    /// Only after the framework is initialised.
    Runtime,
    /// At any time.
    Any,
}

impl Phase {
    /// May a method of this phase be called in `state`?
    pub fn allows(self, state: State) -> bool {
        match self {
            Self::Startup => state == State::Startup,
            Self::Runtime => state == State::Runtime,
            Self::Any => true,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Runtime => "runtime",
            Self::Any => "any",
        }
    }
}

/// How far the target has come.
///
/// ```text
/// Startup --Registry::enter(Runtime)--> Runtime
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Options may be set; no subsystem runs yet.
    Startup,
    /// All subsystems run.
    Runtime,
}

/// One method's declaration; [`crate::Registry::add`] takes it together with the handler.
#[derive(Debug, Clone)]
pub struct Method {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) phase: Phase,
    pub(crate) decode_error: i64,
    pub(crate) spdk: bool,
    pub(crate) aliases: Vec<&'static str>,
    pub(crate) example: Option<Value>,
    pub(crate) result_example: Option<Value>,
}

impl Method {
    /// A method of the product's own, callable at run time, that answers -32602 for wrong parameters.
    ///
    /// `summary` is one line, as `--help` shows it.
    pub fn new(name: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            summary,
            phase: Phase::Runtime,
            decode_error: codes::INVALID_PARAMS,
            spdk: false,
            aliases: Vec::new(),
            example: None,
            result_example: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// May it be called in `state`?
    pub fn is_for(&self, state: State) -> bool {
        self.phase.allows(state)
    }

    /// When it may be called.
    #[must_use]
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phase = phase;
        self
    }

    /// The code for wrong parameters. SPDK's differs by module: bdev_* -32603, framework and nvmf -32602, raid -32700.
    #[must_use]
    pub fn decode_error(mut self, code: i64) -> Self {
        self.decode_error = code;
        self
    }

    /// Is it one of SPDK's methods, which SPDK's client knows by itself?
    #[must_use]
    pub fn spdk(mut self, spdk: bool) -> Self {
        self.spdk = spdk;
        self
    }

    /// Deprecated names under which it still answers.
    #[must_use]
    pub fn aliases(mut self, aliases: &[&'static str]) -> Self {
        self.aliases = aliases.to_vec();
        self
    }

    /// Example parameters. They are checked against the method's own parameters when it is registered.
    #[must_use]
    pub fn example(mut self, params: Value) -> Self {
        self.example = Some(params);
        self
    }

    /// An example of the result.
    #[must_use]
    pub fn result_example(mut self, result: Value) -> Self {
        self.result_example = Some(result);
        self
    }
}
