//! What each verb does, and how it ends.

use crate::client::Client;
use crate::command::{params, tree, whole_tree};
use crate::error::Error;
use crate::schema::embedded;
use crate::show::terminal_width;
use crate::top;
use crate::view;
use clap::ArgMatches;
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two tries to connect, while waiting for a target.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What a verb brings.
enum Outcome {
    /// What was waited for is so.
    Nothing,
    /// Text as it is, whatever form was asked for.
    Text(String),
    /// Text for people, and the same for programs.
    Either { text: String, json: Value },
    /// What a method answered; it was called with these parameters.
    Answer { method: String, params: Option<Value>, answer: Value },
}

/// The program: reads the process's arguments, makes the call, prints the answer.
pub fn main() -> ExitCode {
    let matches = tree().get_matches();
    let Some((verb, matches)) = matches.subcommand() else { return ExitCode::from(2) };
    let as_json = matches.get_flag("json");
    match run(verb, matches) {
        Ok(outcome) => print(&outcome, as_json),
        Err(error) => fail(&error, as_json),
    }
}

fn run(verb: &str, matches: &ArgMatches) -> Result<Outcome, Error> {
    let socket = matches.get_one::<PathBuf>("socket").map(PathBuf::as_path).unwrap_or(Path::new(""));
    let limit = limit(matches, "seconds").unwrap_or_default();
    let call = |method: &str, params: Option<Value>| {
        let answer = Client::connect(socket, limit)?.call(method, params.as_ref())?;
        Ok(Outcome::Answer { method: method.to_owned(), params, answer })
    };
    match verb {
        "methods" => Ok(Outcome::Answer { method: "methods".to_owned(), params: None, answer: methods() }),
        "completion" => Ok(Outcome::Text(completion(word(matches, "SHELL")))),
        "top" => top::run(socket, limit, matches).map(|ended| match ended {
            top::Ended::Quit => Outcome::Nothing,
            top::Ended::Once { text, json } => Outcome::Either { text, json },
        }),
        "wait" => wait(socket, self::limit(matches, "timeout").unwrap_or(limit)).map(|()| Outcome::Nothing),
        "call" => {
            let params = matches.get_one::<String>("PARAMS").map(|text| given_params(text)).transpose()?;
            call(word(matches, "METHOD"), params)
        }
        name => {
            let method = embedded().method(name).ok_or_else(|| Error::Usage(format!("no method {name}")))?;
            call(&method.name, params(method, matches))
        }
    }
}

fn word<'m>(matches: &'m ArgMatches, name: &str) -> &'m str {
    matches.get_one::<String>(name).map(String::as_str).unwrap_or_default()
}

/// What the shell reads to complete a line of this program.
fn completion(shell: &str) -> String {
    use clap_complete::{Shell, generate};
    let shell = match shell {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    generate(shell, &mut whole_tree(), "rmr-rpc", &mut script);
    // For bash, clap_complete 4.6 spells the name of a program with a dash in two ways, and then offers no options.
    String::from_utf8_lossy(&script).replace("rmr__subcmd__rpc", "rmr__rpc")
}

fn limit(matches: &ArgMatches, name: &str) -> Option<Duration> {
    matches.get_one::<f64>(name).map(|seconds| Duration::from_secs_f64(*seconds))
}

fn methods() -> Value {
    let row = |method: &crate::Method| json!({"method": method.name, "phase": method.phase, "spdk": method.spdk, "summary": method.summary});
    embedded().methods.iter().map(row).collect()
}

fn given_params(text: &str) -> Result<Value, Error> {
    let mut from_stdin = String::new();
    let text = if text == "-" {
        let read = io::stdin().read_to_string(&mut from_stdin);
        read.map_err(|why| Error::Usage(format!("PARAMS from stdin: {why}")))?;
        &from_stdin
    } else {
        text
    };
    serde_json::from_str(text).map_err(|why| Error::Usage(format!("PARAMS is no JSON: {why}")))
}

/// Waits until the target answers and is initialised. Each failure on the way is tried again while time is left.
fn wait(socket: &Path, limit: Duration) -> Result<(), Error> {
    let end = Instant::now() + limit;
    loop {
        let error = match initialised(socket, end, limit) {
            Ok(()) => return Ok(()),
            // What was left for this one call says nothing to a user.
            Err(Error::Timeout { method, .. }) => return Err(Error::Timeout { method, limit }),
            Err(error) => error,
        };
        let may_come = match &error {
            Error::Unreachable { why, .. } => why.may_come(),
            // It stopped, or turned us away, under our hands; the next one may stay.
            Error::Closed { .. } => true,
            _ => false,
        };
        if !may_come || left(end).is_zero() {
            return Err(error);
        }
        sleep(RETRY_PAUSE.min(left(end)));
    }
}

/// Asks again and again while the target is in startup, and lets it tell only then when its configuration is loaded:
/// the target would go on waiting for a client that gave up.
fn initialised(socket: &Path, end: Instant, limit: Duration) -> Result<(), Error> {
    let mut client = Client::connect(socket, left(end))?;
    while in_startup(&mut client)? {
        if left(end).is_zero() {
            return Err(Error::NotInitialised { limit });
        }
        sleep(RETRY_PAUSE.min(left(end)));
    }
    client.set_limit(left(end));
    client.call("framework_wait_init", None).map(drop)
}

fn in_startup(client: &mut Client) -> Result<bool, Error> {
    let names = client.call("rpc_get_methods", Some(&json!({"current": true})))?;
    Ok(names.as_array().is_some_and(|names| names.iter().any(|name| name == "framework_start_init")))
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

fn print(outcome: &Outcome, as_json: bool) -> ExitCode {
    let text = match outcome {
        Outcome::Nothing => return ExitCode::SUCCESS,
        Outcome::Text(text) => text.clone(),
        Outcome::Either { json, .. } if as_json => format!("{json:#}\n"),
        Outcome::Either { text, .. } => text.clone(),
        Outcome::Answer { answer, .. } if as_json => format!("{answer:#}\n"),
        Outcome::Answer { method, params, answer } => {
            view::text(method, params.as_ref(), answer, terminal_width())
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        // `rmr-rpc … | head` has seen enough.
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            eprintln!("rmr-rpc: the target did it, but its answer cannot be printed: {why}");
            ExitCode::from(5)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn fail(error: &Error, as_json: bool) -> ExitCode {
    match error {
        Error::Refused { refusal, .. } if as_json => eprintln!("{}", json!(refusal)),
        _ if as_json => eprintln!("{}", json!({"message": error.to_string(), "hint": error.hint()})),
        _ => {
            eprintln!("rmr-rpc: {error}");
            for line in error.details() {
                eprintln!("  {line}");
            }
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
        }
    }
    ExitCode::from(error.exit_code())
}
