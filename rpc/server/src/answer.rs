//! From one request's text to its answer's: envelope, batch, notification.

use rpc_registry::{Asker, MAX_RESULT_BYTES, Registry, RpcError, Scope, codes, to_ascii};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::time::Instant;
use tgt_env::probe;

/// The members of a request. Others are refused, and so is a member given twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    method: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "given")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    id: Option<&'a RawValue>,
}

/// Keeps a `null` that was given apart from a member left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The text that answers `request` (one whole JSON value), with a newline; none for notifications that succeeded.
pub(crate) fn answer(registry: &Registry, asker: &Asker, scope: &Scope, request: &str) -> Option<String> {
    let mut reply = if request.trim_start().starts_with('[') {
        batch(registry, asker, scope, request)?
    } else {
        single(registry, asker, scope, request)?
    };
    reply.push('\n');
    Some(reply)
}

/// The answer to bytes that are no JSON, after which the connection ends.
pub(crate) fn broken(why: &str) -> String {
    let mut reply = refusal("null", &RpcError::new(codes::PARSE_ERROR, format!("Parse error: {why}")));
    reply.push('\n');
    reply
}

/// An answer to nothing in particular, with a newline.
pub(crate) fn unasked(error: &RpcError) -> String {
    format!("{}\n", refusal("null", error))
}

fn batch(registry: &Registry, asker: &Asker, scope: &Scope, request: &str) -> Option<String> {
    let elements: Vec<&RawValue> = match serde_json::from_str(request) {
        Ok(elements) => elements,
        Err(why) => return Some(invalid("null", &why.to_string())),
    };
    if elements.is_empty() {
        return Some(invalid("null", "an empty batch"));
    }
    let mut replies = String::new();
    for element in elements {
        let Some(reply) = single(registry, asker, scope, element.get()) else { continue };
        let fits = replies.len() + reply.len() < MAX_RESULT_BYTES;
        replies.push(if replies.is_empty() { '[' } else { ',' });
        replies.push_str(&if fits { reply } else { too_long(element.get()) });
    }
    (!replies.is_empty()).then(|| replies + "]")
}

/// The method ran; only its answer has no room left.
fn too_long(request: &str) -> String {
    let id = serde_json::from_str::<Envelope<'_>>(request).ok().and_then(|envelope| id_text(envelope.id));
    let text =
        format!("the answers of this batch are longer than {MAX_RESULT_BYTES} bytes; this call was made");
    refusal(&id.unwrap_or("null".to_owned()), &RpcError::internal(text))
}

fn single(registry: &Registry, asker: &Asker, scope: &Scope, request: &str) -> Option<String> {
    if !request.starts_with('{') {
        return Some(invalid("null", "a request is an object, or an array of objects"));
    }
    let envelope: Envelope<'_> = match serde_json::from_str(request) {
        Ok(envelope) => envelope,
        Err(why) => return Some(invalid("null", &plain(&why))),
    };
    let Some(id) = id_text(envelope.id) else {
        return Some(invalid("null", "\"id\" must be a string, a number or null"));
    };
    let method = match envelope.method() {
        Ok(method) => method,
        Err(why) => return Some(invalid(&id, why)),
    };
    match call(registry, asker, scope, &method, envelope.params) {
        Ok(_) if id == "null" => None,
        Ok(result) => Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)),
        Err(error) => Some(refusal(&id, &error)),
    }
}

/// Calls a method, between its two probes.
fn call(
    registry: &Registry,
    asker: &Asker,
    scope: &Scope,
    method: &str,
    params: Option<&RawValue>,
) -> Result<String, RpcError> {
    let (address, length) = (method.as_ptr() as usize, method.len());
    probe::rpc_call(address, length);
    let began = Instant::now();
    let outcome = registry.call_for(asker, scope, method, params);
    let code = outcome.as_ref().map_or_else(|error| error.code, |_| 0);
    probe::rpc_done(address, length, code, began.elapsed().as_nanos() as u64);
    outcome
}

impl Envelope<'_> {
    /// The method's name, when all members are what they must be.
    fn method(&self) -> Result<String, &'static str> {
        if self.jsonrpc.is_some_and(|version| string(version).as_deref() != Some("2.0")) {
            return Err("\"jsonrpc\" must be \"2.0\" or left out");
        }
        let method = string(self.method).ok_or("\"method\" must be a string")?;
        match self.params.and_then(first) {
            None | Some(b'{' | b'[' | b'n') => Ok(method),
            Some(_) => Err("\"params\" must be an object, an array or null"),
        }
    }
}

/// The id as it goes back: a number just as it came, a string in ASCII. None when it is neither, nor null.
fn id_text(id: Option<&RawValue>) -> Option<String> {
    let Some(id) = id else { return Some("null".to_owned()) };
    match first(id)? {
        b'"' => to_ascii(&string(id)?, usize::MAX).ok(),
        b'-' | b'0'..=b'9' | b'n' => Some(id.get().to_owned()),
        _ => None,
    }
}

/// The first byte tells the kind of value.
fn first(raw: &RawValue) -> Option<u8> {
    raw.get().bytes().next()
}

fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn invalid(id: &str, why: &str) -> String {
    refusal(id, &RpcError::new(codes::INVALID_REQUEST, format!("Invalid request: {why}")))
}

fn refusal(id: &str, error: &RpcError) -> String {
    let text = to_ascii(error, MAX_RESULT_BYTES).unwrap_or_else(|why| {
        format!(r#"{{"code":{},"message":"the error is lost: {why}"}}"#, codes::INTERNAL)
    });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{text}}}"#)
}

/// Serde's words without the position, which means nothing to a caller.
fn plain(why: &serde_json::Error) -> String {
    let text = why.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}
