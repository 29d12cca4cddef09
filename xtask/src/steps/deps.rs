//! The step `deps`: versions stand in one place, and every dependency is explained.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::error::{Error, verdict};
use crate::project::{Project, read};
use crate::step::{Context, Outcome};

const PAGE: &str = "docs/dependencies.md";
/// The fuzz targets are a workspace of their own; their dependencies are explained on the same page.
const FUZZ: &str = "test/fuzz/Cargo.toml";
/// The heading of the page's table of direct dependencies, of which each row begins with the crate's name.
const HEADING: &str = "## Direct dependencies";

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let project = context.project;
    let workspace = project.toml("Cargo.toml")?;
    let fuzz = project.toml(FUZZ)?;
    let mut declared = from_registry(workspace.get("workspace").and_then(|w| w.get("dependencies")));
    let mut complaints = unused(project, &declared)?;
    declared.extend(from_registry(fuzz.get("dependencies")));
    complaints.extend(unexplained(&declared, &rows(&project.read(PAGE)?)));
    complaints.extend(own_versions(project)?);
    println!("{} dependencies from the registry", declared.len());
    verdict(complaints)?;
    Ok(Outcome::Passed)
}

/// The names in a dependency table that have no `path`: those that come from the registry.
fn from_registry(table: Option<&Value>) -> BTreeSet<String> {
    let entries = table.and_then(Value::as_table).into_iter().flatten();
    let foreign = entries.filter(|(_, value)| value.get("path").is_none());
    foreign.map(|(name, _)| name.clone()).collect()
}

/// The page's rows: crate and reason.
fn rows(page: &str) -> BTreeMap<String, String> {
    let section = page.lines().skip_while(|line| line.trim() != HEADING).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let cells = section.filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(name, rest)| (name.to_owned(), rest.trim_matches(['|', ' ']).to_owned())).collect()
}

/// Declared without a row, a row without a declaration, a row without words.
fn unexplained(declared: &BTreeSet<String>, rows: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for name in declared.iter().filter(|name| !rows.contains_key(*name)) {
        found.push(format!("{PAGE}: `{name}` has no row under \"{HEADING}\""));
    }
    for (name, why) in rows {
        if !declared.contains(name) {
            found.push(format!("{PAGE}: `{name}` is no dependency (any more)"));
        } else if why.is_empty() {
            found.push(format!("{PAGE}: `{name}` gives no reason"));
        }
    }
    found
}

/// Declared for the workspace and used by no member.
fn unused(project: &Project, declared: &BTreeSet<String>) -> Result<Vec<String>, Error> {
    let packages = &project.metadata()?.packages;
    let used: BTreeSet<&str> =
        packages.iter().flat_map(|package| &package.dependencies).map(|dep| dep.name.as_str()).collect();
    let idle = declared.iter().filter(|name| !used.contains(name.as_str()));
    Ok(idle.map(|name| format!("Cargo.toml: no member uses the workspace dependency `{name}`")).collect())
}

/// Members that name a version or a path of their own instead of `workspace = true`.
fn own_versions(project: &Project) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for package in &project.metadata()?.packages {
        let file = &package.manifest_path;
        let manifest: Table = read(file)?.parse().map_err(|reason| Error::form(file.display(), reason))?;
        let own = not_inherited(&manifest);
        let line = |name| format!("{}: `{name}` must be `{name}.workspace = true`", file.display());
        found.extend(own.into_iter().map(line));
    }
    Ok(found)
}

fn not_inherited(manifest: &Table) -> Vec<String> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let places = targets.filter_map(|(_, table)| table.as_table()).chain([manifest]);
    let tables = places.flat_map(|place| kinds.iter().filter_map(|kind| place.get(*kind)?.as_table()));
    let entries = tables.flatten();
    let own = entries.filter(|(_, value)| value.get("workspace").and_then(Value::as_bool) != Some(true));
    own.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "# Title\n| `before` | not this table |\n\n## Direct dependencies\n\
        | crate | why |\n|---|---|\n| `libc` | structs |\n| `uuid` |  |\n\n## Looked at\n| `mimalloc` | no |\n";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_rows_of_the_one_table_count() {
        let rows = rows(PAGE_TEXT);
        assert_eq!(rows.keys().collect::<Vec<_>>(), ["libc", "uuid"]);
        assert_eq!(rows["libc"], "structs");
    }

    #[test]
    fn a_dependency_without_a_row_and_a_row_without_a_dependency_are_named() {
        let found = unexplained(&set(&["libc", "rtrb"]), &rows(PAGE_TEXT));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`rtrb` has no row"));
        assert!(found[1].contains("`uuid` is no dependency"));
    }

    #[test]
    fn a_row_without_words_is_no_explanation() {
        let found = unexplained(&set(&["libc", "uuid"]), &rows(PAGE_TEXT));
        assert_eq!(found, ["docs/dependencies.md: `uuid` gives no reason"]);
    }

    #[test]
    fn crates_of_ours_need_no_row() {
        let table: Table =
            "ours = { path = \"x\" }\nlibc = \"0.2\"\nuuid = { version = \"1\" }".parse().expect("TOML");
        assert_eq!(from_registry(Some(&Value::Table(table))), set(&["libc", "uuid"]));
    }

    #[test]
    fn a_version_in_a_member_is_found_in_every_kind_of_table() {
        let text = "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = { version = \"1\" }\n\
            [target.'cfg(loom)'.dependencies]\nd = { path = \"../d\" }\ne = { workspace = true, features = [\"x\"] }\n";
        let mut found = not_inherited(&text.parse().expect("TOML"));
        found.sort();
        assert_eq!(found, ["b", "c", "d"]);
    }
}
