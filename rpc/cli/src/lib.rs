//! `rmr-rpc`: the native JSON-RPC client.
//!
//! # What it is and is not
//! A command line for every method of the target, made at run time from the schema that the target publishes and that
//! is embedded here (`rpc/schema.json`). It decides nothing about a method: what is a valid value, the target says.
//! It is also the client that the end-to-end tests use. SPDK's own client works as well and needs none of this.
//!
//! # Words
//! * *schema*: all methods with parameters, examples and phase, as `rmr_get_schema` answers it.
//! * *kind*: what one option's text is turned into: a number, a word, a list, ...
//! * *hint*: the next step to take, printed after an error.
//!
//! # Who may call it, on which thread
//! Any thread that may block. A [`Client`] is one connection and makes one call at a time.
//!
//! # Invariants
//! * Every call ends: by an answer, by the peer, or at its deadline, also when bytes trickle in.
//! * Numbers go out and come back exactly.
//! * Each way to fail has an exit code of its own ([`Error::exit_code`]).
//!
//! # Map of files
//! `schema` the embedded schema · `kind` what an option takes · `command` the command line · `client` one connection ·
//! `diagnose` why nobody answers · `error` ways to fail, exit codes, hints · `run` what each verb does · `show`
//! values as lines and tables · `view/` what is shown of well-known answers · `top/` the live
//! view · `main.rs` the process.
//!
//! # Where the tests are
//! Beside the code; against a live target in `test/e2e`.

mod client;
mod command;
mod diagnose;
mod error;
mod kind;
mod run;
mod schema;
mod show;
mod top;
mod view;

pub use client::Client;
pub use command::whole_tree;
pub use diagnose::Unreachable;
pub use error::{Error, Refusal};
pub use kind::Kind;
pub use run::main;
pub use schema::{Method, Parameter, Schema, embedded};
pub use show::plain;
pub use view::text;
