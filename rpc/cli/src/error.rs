//! Ways to fail, each with its exit code and the next step to take.

use crate::diagnose::{Unreachable, listening};
use crate::schema::embedded;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// The table of `--help`.
pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  the target did it
  1  the target refused the call
  2  the command line is wrong
  3  nobody answers on the socket
  4  no answer in time
  5  the connection broke, or the answer is no JSON-RPC";

/// The error member of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Refusal {
    /// What a program switches on.
    pub code: i64,
    /// What a person reads.
    pub message: String,
    /// Detail as members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl Refusal {
    /// A member of the detail.
    pub fn detail(&self, name: &str) -> Option<&Value> {
        self.data.as_ref()?.get(name)
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target answered with an error.
    #[error("{}{} (code {})", prefix(method, &refusal.message), refusal.message, refusal.code)]
    Refused {
        /// What was called.
        method: String,
        /// What it answered.
        refusal: Box<Refusal>,
    },
    /// The arguments make no call.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers on the socket.
    #[error("cannot reach a target on {}: {why}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        why: Unreachable,
    },
    /// No answer came in time.
    #[error("{method}: no answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// What was called.
        method: String,
        /// The time it had.
        limit: Duration,
    },
    /// The target does not come up by itself.
    #[error("the target answers, but its framework is not initialised after {} s", limit.as_secs_f64())]
    NotInitialised {
        /// The time it had.
        limit: Duration,
    },
    /// The connection ended before the answer.
    #[error("{method}: the target closed the connection before it answered")]
    Closed {
        /// What was called.
        method: String,
    },
    /// The connection failed, or what came is no answer.
    #[error("{method}: {why}")]
    Broken {
        /// What was called.
        method: String,
        /// What happened.
        why: String,
    },
}

/// Is `word` in the text, and no part of a longer word?
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

/// Names the method unless the target's text does.
fn prefix(method: &str, message: &str) -> String {
    if message.starts_with(method) { String::new() } else { format!("{method}: ") }
}

impl Error {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
            Self::Timeout { .. } | Self::NotInitialised { .. } => 4,
            Self::Closed { .. } | Self::Broken { .. } => 5,
        }
    }

    /// What the target tells beside its message: the parameter, the value, what it accepts, and what else there is.
    /// Nothing that the message says already.
    pub fn details(&self) -> Vec<String> {
        let Self::Refused { refusal, .. } = self else { return Vec::new() };
        let members = refusal.data.as_ref().and_then(Value::as_object);
        // The method stands before the message, what is near in the hint.
        let told = |name: &str, value: &str| {
            ["method", "did_you_mean"].contains(&name) || has_word(&refusal.message, value)
        };
        let line = |(name, value): (&String, &Value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (!told(name, &value)).then(|| format!("{}: {value}", name.replace('_', " ")))
        };
        members.into_iter().flatten().filter_map(line).collect()
    }

    /// The next step to take, if there is one to name.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { method, refusal } => refused_hint(method, refusal),
            Self::Usage(_) => Some("`rmr-rpc --help` shows how".to_owned()),
            Self::Unreachable { path, why } => Some(unreachable_hint(&path.display().to_string(), why)),
            Self::Timeout { .. } => {
                Some("`-t SECONDS` gives it longer; the call may still take effect".to_owned())
            }
            Self::NotInitialised { .. } => {
                Some("it was started with --wait-for-rpc: call `rmr-rpc framework_start_init`".to_owned())
            }
            Self::Closed { .. } => Some("the target's log, on its stderr, says why".to_owned()),
            Self::Broken { .. } => None,
        }
    }
}

fn refused_hint(method: &str, refusal: &Refusal) -> Option<String> {
    match refusal.code {
        -32601 => Some(unknown_method_hint(method, refusal)),
        // SPDK's text for the wrong phase names framework_start_init already.
        -1 => None,
        -19 if method.starts_with("bdev_") => {
            Some("`rmr-rpc bdev_get_bdevs` lists the bdevs there are".to_owned())
        }
        -17 if method.starts_with("bdev_") => Some(format!(
            "choose another name, or delete the one there is: `rmr-rpc bdev_get_bdevs` lists them{}",
            deleter(method).map(|name| format!(", `rmr-rpc {name}` deletes one")).unwrap_or_default()
        )),
        -16 if method.starts_with("bdev_") => {
            Some("`rmr-rpc thread_get_io_channels` shows what is open, and on which reactor".to_owned())
        }
        -17 | -126 if method.starts_with("keyring_") => {
            Some("`rmr-rpc keyring_get_keys` lists the keys there are".to_owned())
        }
        -14 if method.starts_with("bdev_get_histogram") => {
            Some("`rmr-rpc bdev_enable_histogram --name NAME --enable true` starts to count".to_owned())
        }
        _ if refusal.detail("parameter").is_some() => {
            Some(format!("`rmr-rpc {method} --help` describes the parameters"))
        }
        _ => None,
    }
}

fn unknown_method_hint(method: &str, refusal: &Refusal) -> String {
    let near = refusal.detail("did_you_mean").and_then(Value::as_array).cloned().unwrap_or_default();
    let near: Vec<&str> = near.iter().filter_map(Value::as_str).collect();
    match near.as_slice() {
        [] if embedded().method(method).is_some() => {
            "this target is of another version than this client, or does not serve it to clients \
             (--rpcs-allowed): `rmr-rpc rpc_get_methods` lists what it serves"
                .to_owned()
        }
        [] => "`rmr-rpc rpc_get_methods` lists what this target serves".to_owned(),
        names => format!("did you mean {}?", names.join(" or ")),
    }
}

/// The method that deletes what `method` creates.
fn deleter(method: &str) -> Option<String> {
    let name = format!("{}_delete", method.strip_suffix("_create")?);
    embedded().method(&name).map(|_| name)
}

fn unreachable_hint(path: &str, why: &Unreachable) -> String {
    match why {
        Unreachable::NoFile | Unreachable::NobodyListens => {
            let start = format!("start one with `rmr_tgt -r {path}`");
            match listening().as_slice() {
                [] => format!("{start}, or name the socket of another with `-s PATH`"),
                others => {
                    format!("{start}, or name a socket that is served: `-s {}`", others.join("`, `-s "))
                }
            }
        }
        Unreachable::NotASocket => "name the target's socket with `-s PATH`".to_owned(),
        Unreachable::NotAllowed { uid, .. } => {
            format!("call as uid {uid} or root, or start the target with a wider socket mode")
        }
        Unreachable::Other(_) => "is the path right? `-s PATH` names another".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(code: i64, data: Option<Value>) -> Error {
        let refusal = Refusal { code, message: "No such device: no bdev named \"a\"".to_owned(), data };
        Error::Refused { method: "bdev_examine".to_owned(), refusal: Box::new(refusal) }
    }

    #[test]
    fn every_way_to_fail_is_in_the_table_of_exit_codes() {
        let method = || "m".to_owned();
        let ways = [
            refused(-19, None),
            Error::Usage(String::new()),
            Error::Unreachable { path: "/x".into(), why: Unreachable::NoFile },
            Error::Timeout { method: method(), limit: Duration::from_secs(1) },
            Error::Closed { method: method() },
        ];
        for (way, code) in ways.iter().zip(1..) {
            assert_eq!(way.exit_code(), code, "{way}");
            assert!(EXIT_CODES.contains(&format!("\n  {code}  ")), "{way}");
        }
    }

    #[test]
    fn a_refusal_reads_as_a_sentence_and_names_the_next_step() {
        let error = refused(-19, None);
        assert_eq!(error.to_string(), "bdev_examine: No such device: no bdev named \"a\" (code -19)");
        assert_eq!(error.hint().as_deref(), Some("`rmr-rpc bdev_get_bdevs` lists the bdevs there are"));
        let near = refused(-32601, Some(json!({"did_you_mean": ["bdev_get_bdevs"]})));
        assert_eq!(near.hint().as_deref(), Some("did you mean bdev_get_bdevs?"));
        let parameter = refused(-32603, Some(json!({"parameter": "name"})));
        assert_eq!(
            parameter.hint().as_deref(),
            Some("`rmr-rpc bdev_examine --help` describes the parameters")
        );
        assert_eq!(refused(-22, None).hint(), None);
    }

    fn hint(method: &str, code: i64) -> String {
        let refusal = Refusal { code, message: "m".to_owned(), data: None };
        let error = Error::Refused { method: method.to_owned(), refusal: Box::new(refusal) };
        error.hint().expect("a hint")
    }

    #[test]
    fn what_is_there_already_can_be_deleted_and_what_is_not_counted_can_be() {
        assert!(hint("bdev_null_create", -17).contains("`rmr-rpc bdev_null_delete`"));
        assert!(!hint("bdev_examine", -17).contains("deletes"));
        assert!(hint("bdev_get_histogram", -14).contains("bdev_enable_histogram"));
        assert!(hint("bdev_get_bdevs", -32601).contains("another version"));
        assert!(!hint("nobody_knows", -32601).contains("another version"));
    }

    #[test]
    fn details_tell_what_the_message_does_not() {
        let data = json!({"parameter": "name", "value": "a", "accepted": "Null0, Null1", "did_you_mean": ["x"], "line": 7});
        let details = refused(-19, Some(data)).details();
        assert_eq!(details, ["parameter: name", "accepted: Null0, Null1", "line: 7"]);
        assert!(refused(-19, None).details().is_empty());
    }
}
