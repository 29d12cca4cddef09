//! Entry point for the fuzzer: any bytes as a config file.

/// Parses `data` and makes its calls on a registry with the built-in methods only. Never panics.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match crate::parse(text) {
        Ok(config) => {
            let registry = rpc_registry::Registry::new();
            for _ in 0..2 {
                let report = crate::apply(&config, &registry, true).expect("errors are ignored");
                let calls: usize = config.subsystems.iter().map(|subsystem| subsystem.calls.len()).sum();
                assert!(report.made + report.failed.len() + report.skipped.len() <= calls);
                registry.enter_runtime();
            }
        }
        Err(error) => assert!(error.to_string().starts_with("config:"), "{error}"),
    }
}
