//! Answers for people.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};
use std::fmt::Write;

type Row = Map<String, Value>;

/// The width of the terminal that stdout is; none when it is no terminal.
pub(crate) fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    // A terminal that does not know says 0.
    (size.ws_col > 0).then_some(size.ws_col)
}

/// An answer as text: members one a line, lists of objects as tables no wider than `width`. Ends with a newline.
pub fn plain(value: &Value, width: Option<u16>) -> String {
    let mut text = String::new();
    block(&mut text, value, width);
    text
}

fn block(text: &mut String, value: &Value, width: Option<u16>) {
    match value {
        Value::Array(list) if list.is_empty() => text.push_str("(none)\n"),
        Value::Array(list) => match rows(list) {
            Some(rows) if rows.iter().any(|row| row.values().any(holds_rows)) => blocks(text, &rows, width),
            Some(rows) => table(text, &rows, width),
            None => list.iter().for_each(|each| line(text, &short(each))),
        },
        Value::Object(members) => object(text, members, width),
        scalar => line(text, &short(scalar)),
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content.trim_end());
    text.push('\n');
}

/// Lines `name  value`, then the nested members under their names.
fn object(text: &mut String, members: &Row, width: Option<u16>) {
    let nested = |value: &Value| value.is_object() || rows_of(value).is_some();
    let flat: Vec<_> = members.iter().filter(|(_, value)| !nested(value) || is_empty(value)).collect();
    let widest = flat.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in flat {
        line(text, &format!("{name:widest$}  {}", short(value)));
    }
    for (name, value) in members.iter().filter(|(_, value)| nested(value) && !is_empty(value)) {
        let mut inner = String::new();
        block(&mut inner, value, width.map(|width| width.saturating_sub(2)));
        line(text, &format!("{name}:"));
        inner.lines().for_each(|each| line(text, &format!("  {each}")));
    }
}

/// Objects one below the other, for those that hold tables themselves.
fn blocks(text: &mut String, rows: &[&Row], width: Option<u16>) {
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        object(text, row, width);
    }
}

fn table(text: &mut String, rows: &[&Row], width: Option<u16>) {
    let all = columns(rows);
    let (mut shown, left_out) = choose(rows, &all);
    let mut grid = grid(rows, &shown);
    let mut too_wide = 0;
    while shown.len() > 1 && width.is_some_and(|width| grid_width(&grid) > usize::from(width)) {
        shown.pop();
        too_wide += 1;
        grid = self::grid(rows, &shown);
    }
    grid.lines().for_each(|each| line(text, &each));
    let reasons = [
        (left_out.empty, "zero, false or empty in every row"),
        (left_out.nested, "nested"),
        (too_wide, "too wide"),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<String> = reasons.map(|(count, why)| format!("{count} {why}")).collect();
    if !reasons.is_empty() {
        let _infallible = writeln!(text, "\nnot shown: {}; --json shows all", reasons.join(", "));
    }
}

/// Columns that are not shown.
#[derive(Default)]
struct LeftOut {
    empty: usize,
    nested: usize,
}

/// The columns worth showing: all but the nested ones and those that say nothing in any row.
fn choose<'r>(rows: &[&Row], all: &[&'r str]) -> (Vec<&'r str>, LeftOut) {
    let (mut shown, mut left_out) = (Vec::new(), LeftOut::default());
    for name in all {
        let values = || rows.iter().filter_map(|row| row.get(*name));
        if !shown.is_empty() && values().all(is_empty) {
            left_out.empty += 1;
        } else if values().any(|value| value.is_object() || rows_of(value).is_some()) {
            left_out.nested += 1;
        } else {
            shown.push(*name);
        }
    }
    (shown, left_out)
}

/// The names of all members of all rows, in the order in which they first come.
fn columns<'r>(rows: &[&'r Row]) -> Vec<&'r str> {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn grid(rows: &[&Row], columns: &[&str]) -> Table {
    let mut grid = Table::new();
    grid.load_style(presets::NOTHING).set_header(columns.iter().map(|name| name.to_uppercase()));
    for row in rows {
        grid.add_row(columns.iter().map(|name| row.get(*name).map(short).unwrap_or_default()));
    }
    for (at, name) in columns.iter().enumerate() {
        let numeric = rows.iter().filter_map(|row| row.get(*name)).all(is_figure);
        if let Some(column) = grid.column_mut(at) {
            column.set_padding((0, 2));
            column.set_cell_alignment(if numeric { CellAlignment::Right } else { CellAlignment::Left });
        }
    }
    grid
}

/// A number, or text that is a number and its unit, or a dash in the place of one.
fn is_figure(value: &Value) -> bool {
    let Value::String(text) = value else { return value.is_number() };
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    text == "-" || number.parse::<f64>().is_ok_and(f64::is_finite) && !unit.contains(' ')
}

fn grid_width(grid: &Table) -> usize {
    grid.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default()
}

/// The objects of a list of nothing but objects.
fn rows(list: &[Value]) -> Option<Vec<&Row>> {
    list.iter().map(Value::as_object).collect::<Option<Vec<_>>>().filter(|rows| !rows.is_empty())
}

fn rows_of(value: &Value) -> Option<Vec<&Row>> {
    value.as_array().and_then(|list| rows(list))
}

fn holds_rows(value: &Value) -> bool {
    rows_of(value).is_some()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

/// A value on one line.
fn short(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "(none)".to_owned(),
        Value::Array(list) if list.iter().all(|each| !each.is_object() && !each.is_array()) => {
            list.iter().map(short).collect::<Vec<_>>().join(",")
        }
        Value::Object(members) if members.is_empty() => "(none)".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(value: Value, width: Option<u16>) -> String {
        plain(&value, width)
    }

    #[test]
    fn scalars_and_lists_of_them_are_lines() {
        assert_eq!(shown(json!("Null0"), None), "Null0\n");
        assert_eq!(shown(json!(true), None), "true\n");
        assert_eq!(shown(json!(["a", "b"]), None), "a\nb\n");
        assert_eq!(shown(json!([]), None), "(none)\n");
    }

    #[test]
    fn objects_are_lines_and_what_is_nested_stands_below() {
        let value =
            json!({"tick_rate": 1, "l": [], "bdevs": [{"name": "a", "n": 7}, {"name": "bb", "n": 10}]});
        let expect = "tick_rate  1\nl          (none)\nbdevs:\n  NAME   N\n  a      7\n  bb    10\n";
        assert_eq!(shown(value, None), expect);
    }

    #[test]
    fn tables_leave_out_what_says_nothing_and_what_does_not_fit_and_say_so() {
        let value = json!([
            {"name": "a", "zero": 0, "aliases": ["x"], "deep": {"a": 1}, "far": "far away to the right"},
            {"name": "b", "zero": 0, "aliases": ["y"], "deep": {"a": 1}, "far": "far"},
        ]);
        let wide = shown(value.clone(), None);
        assert!(wide.starts_with("NAME  ALIASES  FAR\na     x        far away to the right\n"), "{wide}");
        assert!(
            wide.ends_with("\nnot shown: 1 zero, false or empty in every row, 1 nested; --json shows all\n")
        );
        let narrow = shown(value, Some(20));
        assert!(narrow.starts_with("NAME  ALIASES\na     x\nb     y\n"), "{narrow}");
        assert!(narrow.contains("1 too wide"), "{narrow}");
    }

    #[test]
    fn figures_stand_right_with_their_units_or_without() {
        for figure in [json!(1), json!("1.5"), json!("12.3 us"), json!("0 B")] {
            assert!(is_figure(&figure), "{figure}");
        }
        for other in [json!(""), json!("inf"), json!("1 2 3"), json!("1111-22"), json!(true), json!("us 1")] {
            assert!(!is_figure(&other), "{other}");
        }
    }

    #[test]
    fn rows_that_hold_rows_stand_one_below_the_other() {
        let value = json!([{"name": "t", "pollers": [{"name": "p", "id": 1}]}, {"name": "u", "pollers": []}]);
        assert_eq!(
            shown(value, None),
            "name  t\npollers:\n  NAME  ID\n  p      1\n\nname     u\npollers  (none)\n"
        );
    }
}
