//! spdk_kill_instance.

use rpc_registry::{Method, Registry, RpcError};
use rustix::process::{Signal, getpid, kill_process};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// The signals that may be sent, as in SPDK.
const SIGNALS: [(&str, Signal); 6] = [
    ("SIGINT", Signal::INT),
    ("SIGTERM", Signal::TERM),
    ("SIGQUIT", Signal::QUIT),
    ("SIGHUP", Signal::HUP),
    ("SIGKILL", Signal::KILL),
    ("SIGUSR1", Signal::USR1),
];

/// Parameters of `spdk_kill_instance`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Kill {
    /// SIGINT, SIGTERM (both stop it in order), SIGQUIT, SIGHUP, SIGKILL or SIGUSR1, or the number of one of them
    sig_name: String,
}

pub(super) fn register(registry: &mut Registry) {
    registry.add(
        Method::new("spdk_kill_instance", "Send a signal to this target")
            .spdk(true)
            .example(json!({"sig_name": "SIGTERM"}))
            .result_example(json!(true)),
        |Kill { sig_name }| {
            let signal = signal_of(&sig_name)?;
            kill_process(getpid(), signal)
                .map(|()| true)
                .map_err(|errno| RpcError::errno(errno.raw_os_error(), format!("cannot send {sig_name}")))
        },
    );
}

fn signal_of(text: &str) -> Result<Signal, RpcError> {
    let matches = |name: &str, signal: Signal| text == name || text.parse() == Ok(signal.as_raw());
    let found = SIGNALS.into_iter().find(|(name, signal)| matches(name, *signal));
    found.map(|(_, signal)| signal).ok_or_else(|| {
        let accepted = SIGNALS.map(|(name, _)| name).join(", ");
        let error = RpcError::invalid_params(format!("signal {text:?}, accepted: {accepted}"));
        error.parameter("sig_name", text, accepted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        assert_eq!(signal_of("SIGTERM").expect("a signal"), Signal::TERM);
        assert_eq!(signal_of("15").expect("a signal"), Signal::TERM);
        for text in ["SIGSTOP", "19", "sigterm", "", "-1"] {
            let error = signal_of(text).expect_err(text);
            assert!(error.code == -32602 && error.message.contains("SIGTERM"), "{error}");
        }
    }
}
