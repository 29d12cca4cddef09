//! What askers may ask of the keeper: two methods on a socket of its own. Handlers run on threads of the server and hand what
//! was asked to the keeper's main thread, as nodes end with the thread that starts them.

use super::Name;
use super::error::DemoError;
use rpc_registry::{Method, Registry, RpcError};
use rpc_server::{Server, ServerConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

const EBUSY: i32 = 16;

/// Parameters of `demo_restart`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Restart {
    /// 0, 1, 2 or compute
    name: String,
}

/// What an asker wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// Folder, processes.
    Get,
    /// Start a dead one again.
    Restart(Name),
}

/// Something asked, and where the answer goes.
pub(super) struct Asked {
    pub(super) what: What,
    answer: SyncSender<Result<Value, RpcError>>,
}

impl Asked {
    /// Answers. Whoever asked may have gone.
    pub(super) fn answer(self, answer: Result<Value, &DemoError>) {
        let _gone = self.answer.send(answer.map_err(|error| RpcError::errno(EBUSY, error.to_string())));
    }
}

/// Serves on `socket` as long as the server lives.
pub(super) fn serve(socket: &Path) -> Result<(Server, Receiver<Asked>), DemoError> {
    let (ask, asked) = channel();
    let mut registry = Registry::new();
    let to = ask.clone();
    registry.add_no_params(Method::new("demo_get", "Show the folder and the processes"), move || {
        hand(&to, What::Get)
    });
    registry.add(
        Method::new("demo_restart", "Start a process again that has ended").example(json!({"name": "1"})),
        move |Restart { name }: Restart| {
            let name = name.parse::<Name>().map_err(|accepted| {
                let text = format!("name {name:?}, {accepted}");
                RpcError::invalid_params(text).parameter("name", &name, "0, 1, 2 or compute")
            })?;
            hand(&ask, What::Restart(name))
        },
    );
    registry.enter_runtime();
    Ok((Server::start(ServerConfig::new(socket), Arc::new(registry))?, asked))
}

fn hand(ask: &Sender<Asked>, what: What) -> Result<Value, RpcError> {
    let ends = |_| RpcError::internal("the demo ends");
    let (answer, answered) = sync_channel(1);
    ask.send(Asked { what, answer }).map_err(|_| RpcError::internal("the demo ends"))?;
    answered.recv().map_err(ends)?
}
