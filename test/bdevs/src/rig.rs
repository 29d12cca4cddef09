//! A registry with one module's methods, for tests of those.

use rpc_registry::{Registry, RpcError};
use serde_json::Value;
use std::sync::Arc;
use tgt_bdev::Bdevs;

/// Methods and bdevs, without reactors and without a socket.
pub struct Rig {
    registry: Registry,
    /// The bdevs.
    pub bdevs: Arc<Bdevs>,
}

impl Rig {
    /// With the methods that `register` adds, at run time.
    pub fn new<R>(register: impl FnOnce(&mut Registry, &Arc<Bdevs>) -> R) -> Rig {
        let (mut registry, bdevs) = (Registry::new(), Bdevs::new());
        let _module = register(&mut registry, &bdevs);
        assert!(registry.enter_runtime());
        Rig { registry, bdevs }
    }

    /// Calls a method.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.registry.call_value(method, Some(&params))
    }

    /// A call that must be refused with this code and these words, and change nothing.
    pub fn refused(&self, method: &str, params: Value, code: i64, words: &str) {
        let before = self.state();
        let error = self.call(method, params.clone()).expect_err(words);
        assert_eq!(error.code, code, "{params}: {error}");
        assert!(error.message.contains(words), "{params}: {error}");
        assert_eq!(self.state(), before, "{params} changed something");
    }

    fn state(&self) -> String {
        let openers: Vec<_> =
            self.bdevs.all().iter().map(|bdev| (bdev.num_blocks(), bdev.openers())).collect();
        format!("{:?} {openers:?}", self.bdevs)
    }
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bdevs.fmt(f)
    }
}
