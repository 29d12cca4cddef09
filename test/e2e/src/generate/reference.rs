//! `docs/rpc.md`: the reference of all methods.

use super::COMMAND;
use rmr_rpc::{Kind, Method, Parameter, Schema};
use serde_json::{Value, json};

const HEAD: &str = "\
JSON-RPC 2.0 on a unix socket (default `/var/tmp/spdk.sock`, `rmr_tgt -r` changes it), as SPDK speaks it. Three clients:

```sh
rmr-rpc bdev_get_bdevs                                             # the native one: `rmr-rpc --help`
spdk-rpc bdev_get_bdevs                                            # SPDK's own, from PyPI: `pip install spdk`
PYTHONPATH=rpc/plugin spdk-rpc --plugin rmr_rpc rmr_get_memory     # SPDK's own, with our methods
```

Methods marked *SPDK* have SPDK's name, parameters and answer; the others are ours. *Startup* methods may be called only
before the framework is initialised (`rmr_tgt --wait-for-rpc`, then `framework_start_init`), *runtime* methods only
after, *any* at any time. A method without parameters takes none: leave `params` out.

## Errors
An error is `{\"code\", \"message\"[, \"data\"]}`. `message` names the parameter, the value and what would be accepted;
`data` holds the same as members (`method`, `parameter`, `value`, `accepted`, `did_you_mean`).

| code | meaning |
|---|---|
| -32700 | no JSON, or over a limit (256 KiB, 8,192 values a request); the connection ends |
| -32600 | JSON, but no request |
| -32601 | no such method |
| -32602, -32603 | wrong parameters: unknown, missing, given twice, of the wrong kind or out of range; each method below says which of the two it answers. -32603 also stands for a failure of the target |
| -1 | the method exists, but not in this phase; of `keyring_file_add_key` also: not permitted, as the file's mode or owner is wrong (`docs/112-keys.md`) |
| -12, -16, -17, -19, -22, -126, ... | about an object: the negative errno (no memory, busy, exists, no such device, invalid, no such key) |

No error changes anything: a call is done whole or not at all.
";

/// The text of the reference.
pub fn reference(schema: &Schema) -> String {
    let mut text =
        format!("# RPC reference\n<!-- Made by `{COMMAND}`. Edit the methods, not this file. -->\n\n{HEAD}");
    text.push_str("\n## Methods\n| method | phase | SPDK | what it does |\n|---|---|---|---|\n");
    for method in &schema.methods {
        let Method { name, phase, .. } = method;
        let spdk = if method.spdk { "yes" } else { "" };
        text.push_str(&format!("| [{name}](#{name}) | {phase} | {spdk} | {} |\n", cell(&method.summary)));
    }
    schema.methods.iter().for_each(|method| text.push_str(&section(method)));
    text
}

fn section(method: &Method) -> String {
    let origin = if method.spdk { "SPDK's method" } else { "Our own method" };
    let aliases = match method.aliases.as_slice() {
        [] => String::new(),
        names => format!(", deprecated: `{}`", names.join("`, `")),
    };
    let mut text =
        format!("\n### {}\n{}. {origin}; phase: {}{aliases}.\n", method.name, method.summary, method.phase);
    text.push_str(&parameters(method));
    text.push_str(&example(method));
    text
}

fn parameters(method: &Method) -> String {
    if method.params.is_none() {
        return "\nNo parameters; with some the answer is -32602.\n".to_owned();
    }
    let row = |parameter: &Parameter| {
        let required = if parameter.required { "yes" } else { "" };
        format!(
            "| `{}` | {} | {required} | {} |\n",
            parameter.name,
            cell(&takes(parameter)),
            cell(&parameter.meaning)
        )
    };
    let rows: String = method.parameters().iter().map(row).collect();
    let code = method.decode_error;
    format!(
        "\n| parameter | takes | required | meaning |\n|---|---|---|---|\n{rows}\nWrong parameters: {code}.\n"
    )
}

/// What a parameter takes, in plain words.
fn takes(parameter: &Parameter) -> String {
    let number = |name: &str| parameter.schema.get(name).map(Value::to_string);
    let range = match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => format!(" {least} to {most}"),
        (Some(least), None) => format!(" from {least}"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    };
    let format = parameter.schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match (&parameter.kind, format) {
        (Kind::Bool, _) => "boolean".to_owned(),
        (Kind::Integer, _) => format!("{}{range}", integer(format)),
        (Kind::Number, _) => format!("number{range}"),
        (Kind::Text, "uuid") => "UUID".to_owned(),
        (Kind::Text, _) => "string".to_owned(),
        (Kind::Word(words), _) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        (Kind::List(items), _) => format!("array of {}s", items.placeholder().to_lowercase()),
        (Kind::Json, _) => "JSON".to_owned(),
    }
}

fn integer(format: &str) -> &str {
    match format {
        "int64" | "int32" | "uint8" | "uint16" | "uint32" => format,
        _ => "uint64",
    }
}

fn example(method: &Method) -> String {
    let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method.name});
    if let Some(params) = &method.example {
        request["params"] = params.clone();
    }
    let result =
        method.result_example.as_ref().map(|result| format!("\n```json\n{}\n```\n", wrapped(result)));
    format!(
        "\n```sh\nrmr-rpc {}\n```\n```json\n{request}\n```\nResult:\n{}",
        method.example_command(),
        result.unwrap_or_default()
    )
}

/// On one line if it fits, else indented.
fn wrapped(value: &Value) -> String {
    let line = value.to_string();
    if line.len() <= 110 { line } else { format!("{value:#}") }
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
