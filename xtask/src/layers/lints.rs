//! `unsafe` stands only where the table allows it: the compiler enforces it, this checks that the compiler is told.

use toml::{Table, Value};

/// What the check reads of one member.
pub(crate) struct Manifest<'a> {
    pub(crate) name: &'a str,
    pub(crate) toml: &'a Table,
    /// The source text of each target's root file.
    pub(crate) roots: &'a [String],
}

const FORBID: &str = "#![forbid(unsafe_code)]";

/// Complaints about a member that must not hold unsafe code.
pub(crate) fn safe_crate(workspace: &Table, member: &Manifest<'_>) -> Option<String> {
    let inherits = at(member.toml, &["lints", "workspace"]).and_then(Value::as_bool) == Some(true);
    let forbidden = level(workspace, &["workspace", "lints", "rust", "unsafe_code"]) == Some("forbid");
    let by_source = !member.roots.is_empty() && member.roots.iter().all(|text| text.contains(FORBID));
    if (inherits && forbidden) || by_source {
        return None;
    }
    let name = member.name;
    Some(if inherits {
        format!("`{name}`: the workspace's lint unsafe_code is not `forbid`")
    } else {
        format!(
            "`{name}` is not in rules.unsafe: it needs `[lints] workspace = true` or {FORBID} in every root file"
        )
    })
}

/// Complaints about a member that may hold unsafe code: each block must carry its reasons.
pub(crate) fn unsafe_crate(member: &Manifest<'_>) -> Vec<String> {
    let wanted =
        [["lints", "clippy", "undocumented_unsafe_blocks"], ["lints", "rust", "unsafe_op_in_unsafe_fn"]];
    let lax =
        wanted.iter().filter(|path| !matches!(level(member.toml, path.as_slice()), Some("deny" | "forbid")));
    lax.map(|path| format!("`{}` may hold unsafe code: {} must be `deny`", member.name, path.join(".")))
        .collect()
}

/// A lint's level, written as `"deny"` or as `{ level = "deny", … }`.
fn level<'t>(table: &'t Table, path: &[&str]) -> Option<&'t str> {
    match at(table, path)? {
        Value::String(level) => Some(level),
        Value::Table(table) => table.get("level")?.as_str(),
        _ => None,
    }
}

fn at<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Value> {
    let (last, folders) = path.split_last()?;
    folders.iter().try_fold(table, |table, key| table.get(*key)?.as_table())?.get(*last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect("TOML")
    }

    fn safe(workspace: &str, member: &str, roots: &[&str]) -> Option<String> {
        let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
        let toml = table(member);
        safe_crate(&table(workspace), &Manifest { name: "x", toml: &toml, roots: &roots })
    }

    const FORBIDDEN: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"";

    #[test]
    fn a_member_with_the_workspace_lints_passes_only_if_those_forbid() {
        let inherits = "[lints]\nworkspace = true";
        assert_eq!(safe(FORBIDDEN, inherits, &[]), None);
        let tabled = "[workspace.lints.rust]\nunsafe_code = { level = \"forbid\" }";
        assert_eq!(safe(tabled, inherits, &[]), None);
        assert!(safe("[workspace.lints.rust]\nunsafe_code = \"deny\"", inherits, &[]).is_some());
        assert!(safe("", inherits, &[]).is_some());
    }

    #[test]
    fn a_member_with_its_own_lints_must_forbid_in_every_root() {
        let own = "[lints.rust]\nmissing_docs = \"warn\"";
        assert!(safe(FORBIDDEN, own, &["//! a lib"]).is_some());
        assert!(safe(FORBIDDEN, own, &[FORBID, "//! its binary"]).is_some());
        assert!(safe(FORBIDDEN, own, &[]).is_some());
        assert_eq!(safe(FORBIDDEN, own, &[FORBID, FORBID]), None);
    }

    #[test]
    fn a_member_that_may_hold_unsafe_code_must_explain_it() {
        let count = |text: &str| {
            let toml = table(text);
            unsafe_crate(&Manifest { name: "x", toml: &toml, roots: &[] }).len()
        };
        let both = "[lints.rust]\nunsafe_op_in_unsafe_fn = \"deny\"\n[lints.clippy]\nundocumented_unsafe_blocks = \"deny\"";
        assert_eq!(count(both), 0);
        assert_eq!(count(&both.replace("blocks = \"deny\"", "blocks = \"warn\"")), 1);
        assert_eq!(count(""), 2);
    }
}
