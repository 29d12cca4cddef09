//! `rpc/plugin/rmr_rpc.py`: our methods for SPDK's client.

use super::COMMAND;
use rmr_rpc::{Kind, Method, Parameter, Schema};

/// The part that does not depend on the schema.
const HEAD: &str = include_str!("plugin_head.py");

/// The text of the plugin: all methods that are not SPDK's, which its client knows by itself.
pub fn plugin(schema: &Schema) -> String {
    let methods = schema.methods.iter().filter(|method| !method.spdk);
    let methods: String = methods.map(|method| format!("    {},\n", entry(method))).collect();
    format!("# Made by `{COMMAND}` from the schema of the target.\n{HEAD}METHODS = [\n{methods}]\n")
}

fn entry(method: &Method) -> String {
    let options: String =
        method.parameters().iter().map(|each| format!("        {},\n", option(each))).collect();
    let options = if options.is_empty() { "[]".to_owned() } else { format!("[\n{options}    ]") };
    format!("({}, {}, {options})", quoted(&method.name), quoted(&method.summary))
}

/// `("name", {keywords of argparse})`.
fn option(parameter: &Parameter) -> String {
    let mut keywords = kind(&parameter.kind);
    if parameter.required {
        keywords.push(("required", "True".to_owned()));
    }
    // argparse formats help texts with `%`.
    keywords.push(("help", quoted(&parameter.meaning.replace('%', "%%"))));
    let keywords: Vec<String> = keywords.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("({}, {{{}}})", quoted(&parameter.name), keywords.join(", "))
}

fn kind(kind: &Kind) -> Vec<(&'static str, String)> {
    let typed = |name: &str| vec![("type", name.to_owned())];
    match kind {
        Kind::Bool => typed("_bool"),
        Kind::Integer => typed("int"),
        Kind::Number => typed("float"),
        Kind::Text => Vec::new(),
        Kind::Word(words) => {
            vec![(
                "choices",
                format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")),
            )]
        }
        Kind::List(items) => [self::kind(items), vec![("nargs", quoted("+"))]].concat(),
        Kind::Json => typed("_json"),
    }
}

/// A string literal of JSON is one of Python, but for what is outside ASCII, which both take as it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
