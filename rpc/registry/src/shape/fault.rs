//! What is wrong with the parameters of one call, and how it is told.

use crate::error::RpcError;

/// The longest value shown in an error, in characters.
const SHOWN_MAX: usize = 80;

/// One refused parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where: `listen_address.traddr`, `members[2].paths`; empty for the parameters as a whole.
    pub(crate) path: String,
    pub(crate) what: What,
    /// What would be accepted there.
    pub(crate) accepted: String,
}

/// The kinds of fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The value as given, and the kind it is of.
    Wrong {
        value: String,
        kind: &'static str,
    },
    Missing,
    Duplicate,
    Unknown {
        nearest: Option<String>,
    },
}

impl Fault {
    pub(crate) fn wrong(path: &str, raw: &str, kind: &'static str, accepted: String) -> Self {
        Self { path: path.to_owned(), what: What::Wrong { value: shorten(raw), kind }, accepted }
    }

    /// The reply, under the code that the method answers for wrong parameters.
    pub(crate) fn into_error(self, method: &str, code: i64) -> RpcError {
        let message = format!("{method}: {}", self.text());
        let value = match &self.what {
            What::Wrong { value, .. } => serde_json::Value::from(value.as_str()),
            _ => serde_json::Value::Null,
        };
        let error = RpcError::new(code, message)
            .detail("method", method)
            .detail("parameter", self.path)
            .detail("value", value)
            .detail("accepted", self.accepted);
        match self.what {
            What::Unknown { nearest: Some(name) } => error.detail("did_you_mean", name),
            _ => error,
        }
    }

    fn text(&self) -> String {
        let Self { path, what, accepted } = self;
        match what {
            What::Wrong { value, kind } if path.is_empty() => {
                format!("params: got {value} ({kind}), accepted: {accepted}")
            }
            What::Wrong { value, kind } => {
                format!("parameter \"{path}\": got {value} ({kind}), accepted: {accepted}")
            }
            What::Missing => format!("parameter \"{path}\" is missing, accepted: {accepted}"),
            What::Duplicate => format!("parameter \"{path}\" is given more than once, accepted: {accepted}"),
            What::Unknown { nearest: Some(name) } => {
                format!("unknown parameter \"{path}\", did you mean \"{name}\"? accepted: {accepted}")
            }
            What::Unknown { nearest: None } => format!("unknown parameter \"{path}\", accepted: {accepted}"),
        }
    }
}

/// The text as given, cut after [`SHOWN_MAX`] characters.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
