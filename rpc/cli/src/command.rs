//! The command line, made from the schema: one subcommand a method, one option a parameter.

use crate::error::EXIT_CODES;
use crate::kind::Kind;
use crate::schema::{Method, Parameter, embedded};
use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use serde_json::{Map, Value};
use std::path::PathBuf;

const ABOUT: &str = "Call a running storage target

Every method of the target is a subcommand, every parameter an option:
  rmr-rpc bdev_malloc_create --name Malloc0 --num-blocks 131072 --block-size 512
  rmr-rpc bdev_get_bdevs
`rmr-rpc methods` lists the methods, `rmr-rpc METHOD --help` explains one, with an example.";

/// Shells that complete what is typed.
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

const COMPLETION_NOTES: &str = "\
Put it where the shell looks for it:
  rmr-rpc completion bash > /usr/share/bash-completion/completions/rmr-rpc
  rmr-rpc completion zsh  > /usr/share/zsh/vendor-completions/_rmr-rpc
  rmr-rpc completion fish > /usr/share/fish/vendor_completions.d/rmr-rpc.fish
or load it for this shell alone, in bash: source <(rmr-rpc completion bash)";

const NOTES: &str = "\
Answers are shown for people, in a terminal and in a pipe alike: lists as tables, times and sizes in readable units,
without nested parts and what does not fit. With --json the answer is printed whole and exact, as JSON; an error is
then one JSON object on stderr.";

/// The command line with every method spelled out, for what is made from all of it: completions, the manual page.
pub fn whole_tree() -> Command {
    let mut tree = tree().mut_subcommands(|method| method.hide(false));
    tree.build();
    tree
}

/// The whole command line. Only the method that is asked for is spelled out: the others are names.
pub(crate) fn tree() -> Command {
    let methods = embedded().methods.iter().map(|method| {
        let command = Command::new(method.name.clone()).about(method.summary.clone()).hide(true);
        command.aliases(method.aliases.clone()).defer(spell_out)
    });
    Command::new("rmr-rpc")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(format!("{NOTES}\n\n{EXIT_CODES}"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_value_name("METHOD")
        .subcommand_help_heading("Beside the methods")
        .disable_help_subcommand(true)
        .args(own_options())
        .subcommand(call())
        .subcommand(wait())
        .subcommand(completion())
        .subcommand(crate::top::command())
        .subcommand(
            Command::new("methods").about("List the methods this client knows, without asking a target"),
        )
        .subcommands(methods)
}

fn own_options() -> [Arg; 3] {
    [
        Arg::new("socket")
            .short('s')
            .long("socket")
            .value_name("PATH")
            .help("The target's socket")
            .default_value("/var/tmp/spdk.sock")
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath)
            .global(true),
        Arg::new("seconds")
            .short('t')
            .long("seconds")
            .value_name("SECONDS")
            .help("How long to wait for an answer")
            .default_value("60")
            .value_parser(ValueParser::new(seconds))
            .global(true),
        Arg::new("json")
            .long("json")
            .help("Print the answer whole, as JSON")
            .action(ArgAction::SetTrue)
            .global(true),
    ]
}

fn call() -> Command {
    let params = Arg::new("PARAMS").help("Parameters as a JSON object; `-` reads them from stdin");
    Command::new("call")
        .about("Call any method, also one this client does not know")
        .arg(Arg::new("METHOD").required(true).help("The method"))
        .arg(params)
}

fn wait() -> Command {
    let timeout = Arg::new("timeout")
        .long("timeout")
        .value_name("SECONDS")
        .help("How long to wait; without it as long as -t says")
        .value_parser(ValueParser::new(seconds));
    Command::new("wait").about("Wait until the target answers and its framework is initialised").arg(timeout)
}

fn completion() -> Command {
    let shell = Arg::new("SHELL").required(true).value_parser(SHELLS).help("The shell");
    Command::new("completion")
        .about("Print what a shell needs to complete methods, options and words")
        .after_help(COMPLETION_NOTES)
        .arg(shell)
}

/// A number of seconds that can be waited.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let valid = text.parse().ok().filter(|seconds| (0.001..=1e9).contains(seconds));
    valid.ok_or_else(|| "a number of seconds from 0.001 is needed".to_owned())
}

/// Adds what only the method that was asked for needs.
fn spell_out(command: Command) -> Command {
    let Some(method) = embedded().method(command.get_name()) else { return command };
    command.args(method.parameters().into_iter().map(argument)).after_help(notes(method))
}

fn argument(parameter: Parameter) -> Arg {
    let kind = parameter.kind.clone();
    let several = matches!(kind, Kind::List(_));
    let bare_flag = kind == Kind::Bool && !parameter.required;
    let arg = Arg::new(parameter.name.clone())
        .long(parameter.option())
        .alias(parameter.name.clone())
        .value_name(kind.placeholder())
        .help(parameter.meaning)
        .help_heading("Parameters")
        .required(parameter.required)
        .allow_negative_numbers(true)
        .value_hint(if parameter.name == "filename" { ValueHint::FilePath } else { ValueHint::Other })
        .value_parser(parser(kind));
    match (several, bare_flag) {
        (true, _) => arg.num_args(1..).action(ArgAction::Append),
        (_, true) => arg.num_args(0..=1).default_missing_value("true"),
        _ => arg,
    }
}

/// How text becomes a value. Words are told to clap, which lists them, completes them and suggests the nearest.
fn parser(kind: Kind) -> ValueParser {
    match kind {
        Kind::Word(words) => PossibleValuesParser::new(words).map(Value::String).into(),
        kind => ValueParser::new(move |text: &str| kind.parse(text)),
    }
}

fn notes(method: &Method) -> String {
    let when = match method.phase.as_str() {
        "startup" => "Only before the framework is initialised (target started with --wait-for-rpc).\n",
        "any" => "Also before the framework is initialised.\n",
        _ => "",
    };
    format!("{when}Example:\n  rmr-rpc {}\n\nExit codes: see `rmr-rpc --help`", method.example_command())
}

/// The parameters that the options of a method make; none when no option is given.
pub(crate) fn params(method: &Method, matches: &ArgMatches) -> Option<Value> {
    let mut members = Map::new();
    for parameter in method.parameters() {
        let given = matches.get_many::<Value>(&parameter.name).into_iter().flatten().cloned().collect();
        if let Some(value) = parameter.kind.join(given) {
            members.insert(parameter.name, value);
        }
    }
    (!members.is_empty()).then_some(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Options of this program, not of a method.
    const OWN_OPTIONS: [&str; 4] = ["socket", "seconds", "json", "help"];
    /// Subcommands of this program, not methods of a target.
    const OWN_VERBS: [&str; 6] = ["call", "completion", "top", "wait", "methods", "help"];

    fn parsed(line: &str) -> Result<(String, Option<Value>), clap::Error> {
        let matches = tree().try_get_matches_from(line.split_whitespace())?;
        let (name, matches) = matches.subcommand().expect("a subcommand");
        let method = embedded().method(name).expect("a method");
        Ok((method.name.clone(), params(method, matches)))
    }

    #[test]
    fn no_method_takes_a_name_that_is_ours() {
        for method in &embedded().methods {
            assert!(!OWN_VERBS.contains(&method.name.as_str()), "{}", method.name);
            for parameter in method.parameters() {
                let taken = OWN_OPTIONS.contains(&parameter.option().as_str());
                assert!(!taken, "{}: --{} is an option of rmr-rpc itself", method.name, parameter.option());
            }
        }
    }

    #[test]
    fn every_method_spells_out_without_a_clash_and_its_example_comes_back() {
        for method in &embedded().methods {
            spell_out(Command::new(method.name.clone())).debug_assert();
            let line = format!("rmr-rpc {}", method.example_command());
            let expect = method.example.clone().filter(|example| example != &json!({}));
            let mut required = method.parameters().into_iter().filter(|parameter| parameter.required);
            if expect.is_none() && required.next().is_some() {
                panic!("{} has required parameters and no example", method.name);
            }
            if line.contains('\'') {
                continue; // What a shell would take the quotes off.
            }
            let (name, got) = parsed(&line).unwrap_or_else(|why| panic!("{line}: {why}"));
            assert_eq!((&name, got), (&method.name, expect), "{line}");
        }
    }

    #[test]
    fn wrong_arguments_are_named() {
        let cases = [
            ("rmr-rpc bdev_null_create --name a --num-blocks x --block-size 512", "a whole number is needed"),
            ("rmr-rpc bdev_null_create --name a --num-blocks 1", "--block-size"),
            ("rmr-rpc bdev_null_create --nme a", "--name"),
            ("rmr-rpc bdev_nul_create", "bdev_null_create"),
            ("rmr-rpc -t 0 bdev_get_bdevs", "from 0.001"),
            ("rmr-rpc bdev_get_iostat --reset-mode maxmn", "maxmin"),
            ("rmr-rpc completion tcsh", "bash, zsh, fish"),
        ];
        for (line, words) in cases {
            let error = parsed(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn options_go_before_and_behind_the_method_and_names_may_be_spelled_as_on_the_wire() {
        let line = "rmr-rpc -s /a bdev_null_create --name a --num_blocks 1 --block-size 512 --json -t 3";
        let matches = tree().try_get_matches_from(line.split_whitespace()).expect("a call");
        let (_, inner) = matches.subcommand().expect("a subcommand");
        assert!(inner.get_flag("json"));
        assert_eq!(inner.get_one::<f64>("seconds"), Some(&3.0));
        assert_eq!(inner.get_one::<PathBuf>("socket"), Some(&PathBuf::from("/a")));
    }
}
