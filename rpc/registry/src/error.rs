//! What a failed call answers: a code, a text, and the detail a program can read.

use serde::Serialize;
use serde_json::{Map, Value};

/// The codes of JSON-RPC 2.0 and the two that SPDK adds.
pub mod codes {
    /// The bytes are not JSON, or the request is over a limit: the connection ends.
    pub const PARSE_ERROR: i64 = -32700;
    /// JSON, but not a request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters are wrong.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The target failed; SPDK's bdev methods answer it for wrong parameters as well.
    pub const INTERNAL: i64 = -32603;
    /// The method exists, and is not for this phase.
    pub const WRONG_PHASE: i64 = -1;
}

/// The error member of a reply: `{"code", "message"[, "data"]}`.
///
/// `code` is one of [`codes`] or a negative errno. `message` is for people; `data` carries the same as members, for
/// wrong parameters `{"method", "parameter", "value", "accepted"}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RpcError {
    /// What a program switches on.
    pub code: i64,
    /// What a person reads: names the parameter, the value and what would be accepted.
    pub message: String,
    /// Detail as members; left out of the reply when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl RpcError {
    /// An error with any code.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// An error about an object. `errno` is positive (`EEXIST` = 17), the code its negative as SPDK answers it.
    ///
    /// The text starts with the system's own words, which clients of SPDK look for: `File exists: <message>`.
    pub fn errno(errno: i32, message: impl AsRef<str>) -> Self {
        let errno = errno.abs();
        let system = std::io::Error::from_raw_os_error(errno).to_string();
        let system = system.split(" (os error").next().unwrap_or_default();
        let text = match message.as_ref() {
            "" => system.to_owned(),
            detail => format!("{system}: {detail}"),
        };
        Self::new(-i64::from(errno), text)
    }

    /// Wrong parameters (-32602), found by the handler.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(codes::INVALID_PARAMS, message)
    }

    /// The target failed (-32603), which is not the caller's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(codes::INTERNAL, message)
    }

    /// Adds which parameter, which value, and what would be accepted, as `data`. The text stays as it is.
    #[must_use]
    pub fn parameter(
        self,
        name: impl Into<String>,
        value: impl ToString,
        accepted: impl Into<String>,
    ) -> Self {
        self.detail("parameter", name.into())
            .detail("value", value.to_string())
            .detail("accepted", accepted.into())
    }

    /// Adds one member to `data`.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        let mut members = match self.data.take() {
            Some(Value::Object(members)) => members,
            Some(other) => Map::from_iter([("detail".to_owned(), other)]),
            None => Map::new(),
        };
        members.insert(name.to_owned(), value.into());
        self.data = Some(Value::Object(members));
        self
    }
}

impl std::fmt::Display for RpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for RpcError {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errno_is_negative_and_starts_with_the_systems_words() {
        assert_eq!(RpcError::errno(17, ""), RpcError::new(-17, "File exists"));
        assert_eq!(RpcError::errno(-19, "no bdev x"), RpcError::new(-19, "No such device: no bdev x"));
    }

    #[test]
    fn parameter_fills_data_and_no_data_is_left_out() {
        let error = RpcError::invalid_params("bad").parameter("size", 7, "a multiple of 8");
        let expect = json!({"code": -32602, "message": "bad",
            "data": {"parameter": "size", "value": "7", "accepted": "a multiple of 8"}});
        assert_eq!(serde_json::to_value(error).expect("json"), expect);
        let plain = serde_json::to_value(RpcError::internal("x")).expect("json");
        assert_eq!(plain, json!({"code": -32603, "message": "x"}));
    }
}
