//! The layer check against a small table: what must pass passes, and each wrong edge is named.

use super::*;

const TABLE: &str = r#"
[[layer]]
name = "formats"
what = "sized structs"
crates = ["proto", "status"]

[[layer]]
name = "engine"
what = "pure"
crates = ["engine", "env"]

[[layer]]
name = "modules"
what = "bdevs"
crates = ["null", "brmr"]
used_by = ["app"]

[[layer]]
name = "exports"
what = "know no module"
crates = ["nvmf"]

[[layer]]
name = "app"
what = "knows all"
crates = ["app"]

[beside]
what = "tests and tools"
crates = ["e2e", "alloc"]

[rules]
unsafe = ["env"]
sideways = [{ from = "brmr", to = "null", why = "the pair shares one store" }]
only = [{ crate = "engine", may = ["proto"] }]
"#;

const MEMBERS: &[&str] = &["proto", "status", "engine", "env", "null", "brmr", "nvmf", "app", "e2e", "alloc"];

/// The edge that keeps the table's `sideways` entry in use.
const USED: Edge<'static> = Edge { from: "brmr", to: "null", dev: false };

fn with(table: &str, members: &[&str], more: &[(&str, &str, bool)]) -> Vec<String> {
    let table = Layers::parse("layers.toml", table).expect("a table");
    let mut edges = vec![USED];
    edges.extend(more.iter().map(|&(from, to, dev)| Edge { from, to, dev }));
    complaints(&table, members, &edges)
}

/// The one complaint about one more dependency.
fn objection(from: &str, to: &str, dev: bool) -> String {
    let found = with(TABLE, MEMBERS, &[(from, to, dev)]);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn downward_dependencies_pass() {
    let fine = [
        ("engine", "proto", false),
        ("null", "env", false),
        ("nvmf", "status", false),
        ("app", "null", false),
        ("app", "nvmf", false),
        ("e2e", "app", false),
        ("e2e", "alloc", false),
        ("env", "alloc", true),
        ("nvmf", "null", true),
        ("engine", "status", true),
    ];
    assert_eq!(with(TABLE, MEMBERS, &fine), Vec::<String>::new());
}

#[test]
fn an_upward_dependency_is_refused() {
    let line = objection("env", "null", false);
    assert_eq!(line, "`env` in layer 1 (engine) depends on `null` in layer 2 (modules): upwards");
}

#[test]
fn an_upward_dev_dependency_is_refused_too() {
    assert!(objection("proto", "env", true).ends_with("upwards"));
}

#[test]
fn a_sideways_dependency_must_be_named_in_the_right_direction() {
    assert!(objection("null", "brmr", false).contains("not in rules.sideways"));
    assert!(objection("proto", "status", true).contains("not in rules.sideways"));
}

#[test]
fn a_layer_with_used_by_is_used_by_those_alone() {
    assert!(objection("nvmf", "null", false).contains("`used_by`"));
}

#[test]
fn what_is_beside_serves_tests_only() {
    assert!(objection("app", "alloc", false).contains("tests and tools only"));
}

#[test]
fn the_only_rule_is_narrower_than_the_layers() {
    let line = objection("engine", "status", false);
    assert_eq!(line, "`engine` depends on `status`; rules.only allows it proto of ours");
}

#[test]
fn a_sideways_entry_nobody_uses_is_refused() {
    let table = Layers::parse("layers.toml", TABLE).expect("a table");
    let found = complaints(&table, MEMBERS, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("used by no dependency"));
}

#[test]
fn a_sideways_entry_the_layers_allow_anyway_is_refused() {
    let table = TABLE.replace("from = \"brmr\", to = \"null\"", "from = \"app\", to = \"env\"");
    let found = with(&table, MEMBERS, &[("app", "env", false)]);
    assert!(found.iter().any(|line| line.contains("allowed without it")), "{found:?}");
}

#[test]
fn a_sideways_entry_without_a_reason_is_refused() {
    let found = with(&TABLE.replace("the pair shares one store", " "), MEMBERS, &[]);
    assert_eq!(found, ["layers.toml: rules.sideways brmr -> null gives no reason"]);
}

#[test]
fn a_member_outside_the_table_and_a_stranger_in_it_are_named() {
    let found = with(TABLE, &[MEMBERS, &["new"]].concat(), &[]);
    assert_eq!(found, ["layers.toml: the member `new` stands in no layer"]);
    let found = with(TABLE, &MEMBERS[..MEMBERS.len() - 1], &[]);
    assert_eq!(found, ["layers.toml: `alloc` is no member of the workspace"]);
    let twice = TABLE.replace("[\"nvmf\"]", "[\"nvmf\", \"null\"]");
    assert!(with(&twice, MEMBERS, &[]).contains(&"layers.toml: `null` stands in the table twice".to_owned()));
}

#[test]
fn rules_that_name_nobody_are_refused() {
    let found = with(&TABLE.replace("unsafe = [\"env\"]", "unsafe = [\"gone\"]"), MEMBERS, &[]);
    assert_eq!(found, ["layers.toml: rules.unsafe names `gone`, which is no member"]);
    let found = with(&TABLE.replace("used_by = [\"app\"]", "used_by = [\"roof\"]"), MEMBERS, &[]);
    assert_eq!(found, ["layers.toml: layer modules is used_by `roof`, which is no layer"]);
}

#[test]
fn an_unknown_key_in_the_table_is_an_error() {
    assert!(Layers::parse("layers.toml", &TABLE.replace("used_by", "user_by")).is_err());
}
