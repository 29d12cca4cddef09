//! The files that are made from the schema, so that it stays the one truth.

mod man;
mod plugin;
mod reference;

pub use man::man;
pub use plugin::plugin;
pub use reference::reference;

use rmr_rpc::Schema;
use serde_json::Value;

/// Writes the files anew.
pub const COMMAND: &str = "RMR_UPDATE=1 cargo test -p test-e2e --test generated";

/// The files as they must be, by their paths from the root: schema, reference, plugin, and the manual
/// pages.
pub fn files(schema: &Value) -> Vec<(&'static str, String)> {
    let typed: Schema =
        serde_json::from_value(schema.clone()).expect("the registry's schema has the client's form");
    let mut files = vec![
        ("rpc/schema.json", format!("{schema:#}\n")),
        ("docs/rpc.md", reference(&typed)),
        ("rpc/plugin/rmr_rpc.py", plugin(&typed)),
    ];
    files.extend(man());
    files
}
