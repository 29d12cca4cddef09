//! The table of methods, and the one way through which every call goes.

use crate::ascii::{MAX_RESULT_BYTES, to_ascii};
use crate::asker::Asker;
use crate::error::{RpcError, codes};
use crate::method::{Method, State};
use crate::near::nearest;
use crate::scope::Scope;
use crate::shape::{Compiled, Shape, check, compile};
use crate::subsystem::Subsystem;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// One call on its way to a handler.
pub(crate) struct Call<'c> {
    pub(crate) registry: &'c Registry,
    pub(crate) scope: &'c Scope,
    asker: &'c Asker,
    params: Option<&'c RawValue>,
}

type Handler = Box<dyn Fn(&Call<'_>) -> Result<String, RpcError> + Send + Sync>;

struct Entry {
    method: Method,
    /// None for a method without parameters.
    params: Option<Compiled>,
    handler: Handler,
    /// The warning about a deprecated name is given once.
    alias_told: AtomicBool,
}

/// All methods and subsystems of the target. Filled at start by its modules, then shared as `Arc<Registry>`.
///
/// Calls may come from any number of control threads at once; a handler must never be called on a reactor.
pub struct Registry {
    entries: Vec<Entry>,
    /// Names and aliases.
    by_name: HashMap<&'static str, usize>,
    subsystems: Vec<Subsystem>,
    running: AtomicBool,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry in state [`State::Startup`] that knows `rpc_get_methods`, `rmr_get_schema`,
    /// `framework_get_subsystems` and `framework_get_config`.
    pub fn new() -> Self {
        let mut registry = Self {
            entries: Vec::new(),
            by_name: HashMap::new(),
            subsystems: Vec::new(),
            running: AtomicBool::new(false),
        };
        crate::builtin::register(&mut registry);
        registry
    }

    /// Adds a method with parameters `P`: a struct with named fields, `#[derive(Deserialize, JsonSchema)]` and
    /// `#[serde(deny_unknown_fields)]`. Its doc comments and `#[schemars(range(…), length(…))]` are what callers see.
    ///
    /// # Panics
    /// When the name is taken, the parameters cannot be checked, or the example does not fit them: mistakes in the
    /// program, which show at start.
    pub fn add<P, R, F>(&mut self, method: Method, handler: F)
    where
        P: DeserializeOwned + JsonSchema,
        R: Serialize,
        F: Fn(P) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        self.add_with(method, move |_: &Registry, params: P| handler(params));
    }

    /// As [`Registry::add`], for a handler that needs the registry itself.
    pub fn add_with<P, R, F>(&mut self, method: Method, handler: F)
    where
        P: DeserializeOwned + JsonSchema,
        R: Serialize,
        F: Fn(&Registry, P) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        self.add_scoped(method, move |call, params: P| handler(call.registry, params));
    }

    /// Adds a method that takes no parameters.
    ///
    /// # Panics
    /// As [`Registry::add`].
    pub fn add_no_params<R, F>(&mut self, method: Method, handler: F)
    where
        R: Serialize,
        F: Fn() -> Result<R, RpcError> + Send + Sync + 'static,
    {
        self.add_no_params_with(method, move |_| handler());
    }

    /// As [`Registry::add_no_params`], for a handler that waits for long and ends when its asker has gone.
    pub fn add_no_params_for<R, F>(&mut self, method: Method, handler: F)
    where
        R: Serialize,
        F: Fn(&Asker) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        self.add_no_params_scoped(method, move |call| handler(call.asker));
    }

    /// As [`Registry::add_no_params`], for a handler that needs the registry itself.
    pub fn add_no_params_with<R, F>(&mut self, method: Method, handler: F)
    where
        R: Serialize,
        F: Fn(&Registry) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        self.add_no_params_scoped(method, move |call| handler(call.registry));
    }

    fn add_no_params_scoped<R, F>(&mut self, method: Method, handler: F)
    where
        R: Serialize,
        F: Fn(&Call<'_>) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        let name = method.name;
        assert!(method.example.is_none(), "{name}: an example of parameters it does not take");
        let run = move |call: &Call<'_>| match call.params {
            None => result_text(name, &handler(call)?),
            Some(given) => Err(RpcError::invalid_params(format!("{name} requires no parameters")).parameter(
                "params",
                given.get().chars().take(80).collect::<String>(),
                "nothing: leave params out",
            )),
        };
        self.insert(Entry {
            method,
            params: None,
            handler: Box::new(run),
            alias_told: AtomicBool::new(false),
        });
    }

    pub(crate) fn add_scoped<P, R, F>(&mut self, method: Method, handler: F)
    where
        P: DeserializeOwned + JsonSchema,
        R: Serialize,
        F: Fn(&Call<'_>, P) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        let (name, code) = (method.name, method.decode_error);
        let compiled = compile::<P>().unwrap_or_else(|why| panic!("{name}: {why}"));
        let shape = compiled.shape.clone();
        if let Some(example) = &method.example {
            let text = example.to_string();
            let raw = serde_json::from_str::<&RawValue>(&text).unwrap_or(RawValue::NULL);
            decode::<P>(&shape, Some(raw), name, code)
                .unwrap_or_else(|why| panic!("{name}: its example: {why}"));
        }
        let run = move |call: &Call<'_>| {
            let params = decode::<P>(&shape, call.params, name, code)?;
            result_text(name, &handler(call, params)?)
        };
        self.insert(Entry {
            method,
            params: Some(compiled),
            handler: Box::new(run),
            alias_told: AtomicBool::new(false),
        });
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.entries.len();
        for name in std::iter::once(entry.method.name).chain(entry.method.aliases.iter().copied()) {
            assert!(self.by_name.insert(name, at).is_none(), "the method {name} is registered twice");
        }
        self.entries.push(entry);
    }

    /// Adds a subsystem, after those it depends on.
    ///
    /// # Panics
    /// When its name is taken or one that it depends on is not there yet.
    pub fn add_subsystem(&mut self, subsystem: Subsystem) {
        let name = subsystem.name;
        assert!(self.subsystem(name).is_none(), "the subsystem {name} is registered twice");
        for needed in &subsystem.depends_on {
            assert!(
                self.subsystem(needed).is_some(),
                "the subsystem {name} needs {needed} registered before it"
            );
        }
        self.subsystems.push(subsystem);
    }

    /// The subsystems, each after those it depends on.
    pub fn subsystems(&self) -> &[Subsystem] {
        &self.subsystems
    }

    /// The subsystem of this name.
    pub fn subsystem(&self, name: &str) -> Option<&Subsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.name == name)
    }

    /// How far the target has come.
    pub fn state(&self) -> State {
        if self.running.load(Ordering::Acquire) { State::Runtime } else { State::Startup }
    }

    /// Moves from startup to run time. False when it was there already: of two callers, one wins.
    pub fn enter_runtime(&self) -> bool {
        !self.running.swap(true, Ordering::AcqRel)
    }

    /// The declaration of a method, by its name or an alias.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.by_name.get(name).map(|at| &self.entries[*at].method)
    }

    /// All declarations, in the order of registration.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.entries.iter().map(|entry| &entry.method)
    }

    /// Calls a method. `params` is the text as the caller wrote it; `None` and `null` are the same.
    ///
    /// The result is compact ASCII JSON of at most [`MAX_RESULT_BYTES`]. Blocks as long as the handler does; a
    /// handler that panics answers -32603.
    pub fn call(&self, scope: &Scope, name: &str, params: Option<&RawValue>) -> Result<String, RpcError> {
        self.call_for(&Asker::new(), scope, name, params)
    }

    /// [`Registry::call`] for an asker that may go before it has its answer: handlers that wait end then.
    pub fn call_for(
        &self,
        asker: &Asker,
        scope: &Scope,
        name: &str,
        params: Option<&RawValue>,
    ) -> Result<String, RpcError> {
        let entry = self.find(scope, name)?;
        let method = entry.method.name;
        if method != name && !entry.alias_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(method = name, "deprecated name, use {method}");
        }
        self.in_phase(&entry.method)?;
        let params = params.filter(|raw| raw.get().trim() != "null");
        let call = Call { registry: self, scope, asker, params };
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (entry.handler)(&call))).unwrap_or_else(|panic| {
            let why = panic_text(panic.as_ref());
            tracing::error!(method, "the handler panicked: {why}");
            Err(RpcError::internal(format!("{method}: the handler panicked: {why}")).detail("method", method))
        });
        let took_us = started.elapsed().as_micros() as u64;
        match &result {
            Ok(_) => tracing::debug!(method, took_us, "called"),
            // The caller is told; a client that errs all the time must not fill the log.
            Err(error) => tracing::debug!(method, took_us, code = error.code, "refused: {}", error.message),
        }
        result
    }

    /// [`Registry::call`] with parsed values, for tests and callers inside the program.
    pub fn call_value(&self, name: &str, params: Option<&Value>) -> Result<Value, RpcError> {
        let raw = params.map(serde_json::value::to_raw_value).transpose();
        let raw = raw.map_err(|why| RpcError::internal(why.to_string()))?;
        let text = self.call(&Scope::all(), name, raw.as_deref())?;
        serde_json::from_str(&text).map_err(|why| RpcError::internal(why.to_string()))
    }

    fn find(&self, scope: &Scope, name: &str) -> Result<&Entry, RpcError> {
        let entry = self.by_name.get(name).map(|at| &self.entries[*at]);
        entry.filter(|entry| scope.allows(entry.method.name)).ok_or_else(|| {
            let visible = self.methods().map(|method| method.name).filter(|name| scope.allows(name));
            RpcError::new(codes::METHOD_NOT_FOUND, "Method not found")
                .detail("method", name.chars().take(80).collect::<String>())
                .detail("did_you_mean", nearest(name, visible))
        })
    }

    fn in_phase(&self, method: &Method) -> Result<(), RpcError> {
        let state = self.state();
        if method.phase.allows(state) {
            return Ok(());
        }
        let text = match state {
            State::Startup => {
                "Method may only be called after framework is initialized using framework_start_init RPC."
            }
            State::Runtime => {
                "Method may only be called before framework is initialized. Use --wait-for-rpc command line \
                 parameter and then issue this RPC before the framework_start_init RPC."
            }
        };
        Err(RpcError::new(codes::WRONG_PHASE, text).detail("method", method.name))
    }

    /// Everything a client or a document needs to know of all methods:
    /// `{"methods": [{name, summary, phase, spdk, aliases, decode_error, params, example, result_example}]}`, where
    /// `params` is a JSON Schema without references, or null for a method without parameters.
    pub fn schema(&self) -> Value {
        let one = |entry: &Entry| {
            let method = &entry.method;
            json!({
                "name": method.name,
                "summary": method.summary,
                "phase": method.phase.name(),
                "spdk": method.spdk,
                "aliases": method.aliases,
                "decode_error": method.decode_error,
                "params": entry.params.as_ref().map(|params| &params.schema),
                "example": method.example,
                "result_example": method.result_example,
            })
        };
        json!({ "methods": self.entries.iter().map(one).collect::<Vec<_>>() })
    }
}

/// Missing parameters are an empty object: the error then names what is missing.
fn decode<P: DeserializeOwned>(
    shape: &Shape,
    raw: Option<&RawValue>,
    name: &str,
    code: i64,
) -> Result<P, RpcError> {
    let empty =
        serde_json::value::to_raw_value(&json!({})).map_err(|why| RpcError::internal(why.to_string()))?;
    let value = check(shape, raw.unwrap_or(&empty)).map_err(|fault| fault.into_error(name, code))?;
    serde_json::from_value(value)
        .map_err(|why| RpcError::new(code, format!("{name}: {why}")).detail("method", name))
}

fn result_text<R: Serialize>(name: &str, result: &R) -> Result<String, RpcError> {
    to_ascii(result, MAX_RESULT_BYTES).map_err(|why| RpcError::internal(format!("{name}: the result: {why}")))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no text",
    }
}
