//! The methods' documented examples, in an order in which each finds what it needs.

use rmr_rpc::{Method, Schema};

/// The methods, in the order in which their examples can be called on a target that was started with --wait-for-rpc:
/// options, the step to run time, what makes things, what looks at them, what removes them, and last what ends it all.
pub fn in_order(schema: &Schema) -> Vec<&Method> {
    let mut methods: Vec<&Method> = schema.methods.iter().collect();
    methods.sort_by_key(|method| rank(method));
    methods
}

fn rank(method: &Method) -> u8 {
    match (method.name.as_str(), method.phase.as_str()) {
        ("framework_start_init", _) => 1,
        ("framework_wait_init", _) => 2,
        ("spdk_kill_instance", _) => 9,
        (_, "startup") => 0,
        (name, _) if is_one_of(name, &["create", "add", "enable", "set"]) => 3,
        (name, _) if is_one_of(name, &["delete", "remove", "disable", "clear"]) => 8,
        _ => 5,
    }
}

/// Is one of the name's words one of `verbs`?
fn is_one_of(name: &str, verbs: &[&str]) -> bool {
    name.split('_').any(|word| verbs.contains(&word))
}
