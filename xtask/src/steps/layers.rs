//! The step `layers`: members, their dependencies and their lints against `layers.toml`.

use crate::error::{Error, verdict};
use crate::layers::check;
use crate::layers::lints::{self, Manifest};
use crate::layers::table::Layers;
use crate::project::{Package, read};
use crate::step::{Context, Outcome};

const TABLE: &str = "layers.toml";

pub(crate) fn run(context: &Context<'_>) -> Result<Outcome, Error> {
    let project = context.project;
    let table = Layers::parse(TABLE, &project.read(TABLE)?)?;
    let packages = &project.metadata()?.packages;
    let members: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let edges = check::edges(packages);
    let mut complaints = check::complaints(&table, &members, &edges);
    let workspace = project.toml("Cargo.toml")?;
    for package in packages {
        complaints.extend(lint_complaints(&table, &workspace, package)?);
    }
    println!("{} members, {} dependencies between them", members.len(), edges.len());
    verdict(complaints)?;
    Ok(Outcome::Passed)
}

fn lint_complaints(table: &Layers, workspace: &toml::Table, package: &Package) -> Result<Vec<String>, Error> {
    let text = read(&package.manifest_path)?;
    let toml = text.parse().map_err(|reason| Error::form(package.manifest_path.display(), reason))?;
    let roots = package.targets.iter().map(|target| read(&target.src_path));
    let roots = roots.collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest { name: &package.name, toml: &toml, roots: &roots };
    Ok(if table.rules.unsafe_crates.contains(&package.name) {
        lints::unsafe_crate(&manifest)
    } else {
        lints::safe_crate(workspace, &manifest).into_iter().collect()
    })
}
