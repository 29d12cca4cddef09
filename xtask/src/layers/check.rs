//! The members' dependencies on each other, compared with the layer table. Pure: data in, complaints out.

use std::collections::BTreeSet;

use super::table::{Layers, Place, Sideways};
use crate::project::Package;

/// A dependency between two members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// Seen by tests, benches and examples only.
    pub(crate) dev: bool,
}

/// The dependencies of the members on each other.
pub(crate) fn edges(packages: &[Package]) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    for package in packages {
        for dep in package.dependencies.iter().filter(|dep| dep.path.is_some()) {
            if let Some(to) = packages.iter().find(|other| other.name == dep.name) {
                edges.push(Edge { from: &package.name, to: &to.name, dev: dep.is_dev() });
            }
        }
    }
    edges
}

/// Everything wrong with `members` and `edges` according to `table`, one line each.
pub(crate) fn complaints(table: &Layers, members: &[&str], edges: &[Edge<'_>]) -> Vec<String> {
    let mut found = membership(table, members);
    found.extend(rule_names(table, members));
    found.extend(edges.iter().filter_map(|edge| wrong_edge(table, *edge)));
    found.extend(edges.iter().filter_map(|edge| beyond_only(table, *edge)));
    found.extend(table.rules.sideways.iter().filter_map(|entry| idle_sideways(table, entry, edges)));
    found
}

/// Every member stands in the table once, and nothing else does.
fn membership(table: &Layers, members: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, _) in table.places() {
        if !members.contains(&name) {
            found.push(format!("layers.toml: `{name}` is no member of the workspace"));
        }
        if !seen.insert(name) {
            found.push(format!("layers.toml: `{name}` stands in the table twice"));
        }
    }
    let missing = members.iter().filter(|name| !seen.contains(**name));
    found.extend(missing.map(|name| format!("layers.toml: the member `{name}` stands in no layer")));
    found
}

/// Every crate and layer named by a rule exists.
fn rule_names(table: &Layers, members: &[&str]) -> Vec<String> {
    let rules = &table.rules;
    let mut crates: Vec<(&str, &str)> = Vec::new();
    crates.extend(rules.unsafe_crates.iter().map(|name| ("unsafe", name.as_str())));
    for entry in &rules.sideways {
        crates.extend([("sideways", entry.from.as_str()), ("sideways", entry.to.as_str())]);
    }
    for rule in &rules.only {
        crates.push(("only", &rule.name));
        crates.extend(rule.may.iter().map(|name| ("only", name.as_str())));
    }
    let unknown = crates.iter().filter(|(_, name)| !members.contains(name));
    let mut found: Vec<String> = unknown
        .map(|(rule, name)| format!("layers.toml: rules.{rule} names `{name}`, which is no member"))
        .collect();
    for layer in &table.layer {
        for user in layer.used_by.iter().flatten() {
            if !table.layer.iter().any(|other| other.name == *user) {
                let name = &layer.name;
                found.push(format!("layers.toml: layer {name} is used_by `{user}`, which is no layer"));
            }
        }
    }
    found
}

/// The one rule: downwards, or named in `sideways`; and a layer with `used_by` is used by those alone.
fn wrong_edge(table: &Layers, edge: Edge<'_>) -> Option<String> {
    let (from, to) = (table.place(edge.from)?, table.place(edge.to)?);
    if named_sideways(&table.rules.sideways, edge) {
        return None;
    }
    let reason = match (from, to) {
        (Place::Beside, _) => return None,
        (Place::Layer(_), Place::Beside) if edge.dev => return None,
        (Place::Layer(_), Place::Beside) => "what is beside is for tests and tools only",
        (Place::Layer(upper), Place::Layer(lower)) if lower < upper => {
            if edge.dev || may_use(table, upper, lower) {
                return None;
            }
            "the lower layer's `used_by` does not name the upper one"
        }
        (Place::Layer(upper), Place::Layer(lower)) if upper == lower => "sideways, and not in rules.sideways",
        (Place::Layer(_), Place::Layer(_)) => "upwards",
    };
    let kind = if edge.dev { "has a dev-dependency" } else { "depends" };
    let (from, to) = (table.show(from), table.show(to));
    Some(format!("`{}` in {from} {kind} on `{}` in {to}: {reason}", edge.from, edge.to))
}

fn may_use(table: &Layers, upper: usize, lower: usize) -> bool {
    let users = table.layer[lower].used_by.as_ref();
    users.is_none_or(|users| users.contains(&table.layer[upper].name))
}

fn named_sideways(entries: &[Sideways], edge: Edge<'_>) -> bool {
    entries.iter().any(|entry| entry.from == edge.from && entry.to == edge.to)
}

/// `rules.only`: what a crate may need to build; its tests may need more.
fn beyond_only(table: &Layers, edge: Edge<'_>) -> Option<String> {
    let rule = table.rules.only.iter().find(|rule| rule.name == edge.from)?;
    let allowed = edge.dev || rule.may.iter().any(|name| name == edge.to);
    let may = if rule.may.is_empty() { "none".to_owned() } else { rule.may.join(", ") };
    (!allowed)
        .then(|| format!("`{}` depends on `{}`; rules.only allows it {may} of ours", edge.from, edge.to))
}

/// A `sideways` entry must be needed, used and explained.
fn idle_sideways(table: &Layers, entry: &Sideways, edges: &[Edge<'_>]) -> Option<String> {
    let name = format!("layers.toml: rules.sideways {} -> {}", entry.from, entry.to);
    let edge = edges.iter().find(|edge| edge.from == entry.from && edge.to == entry.to);
    if entry.why.trim().is_empty() {
        return Some(format!("{name} gives no reason"));
    }
    let Some(edge) = edge else {
        return Some(format!("{name} is used by no dependency: remove it"));
    };
    let places = (table.place(edge.from)?, table.place(edge.to)?);
    let needless = match places {
        (Place::Layer(upper), Place::Layer(lower)) => lower < upper && may_use(table, upper, lower),
        (Place::Layer(_), Place::Beside) => edge.dev,
        (Place::Beside, _) => true,
    };
    needless.then(|| format!("{name} is allowed without it: remove it"))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
