//! Webdis: the words of a command divided by slashes, and the answer as an object by the command.
//!
//! Redis' errors come with status 200 as `{"EVALSHA":[false,"NOSCRIPT …"]}`. Webdis takes what
//! follows a dot in the last word for a format (`.json`, `.txt`); the last word here has none.

use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::{Nonce, Script, arguments, read_reply};
use crate::counter::ESCAPED;
use crate::{Exchange, Outcome, StoreError};

pub(super) fn encode(batch: &[Exchange], nonce: Nonce, script: Script) -> String {
    let mut body = format!("{}/", script.command());
    body.extend(utf8_percent_encode(script.text(), ESCAPED));
    body.push('/');
    body.push_str(&batch.len().to_string());
    for exchange in batch {
        body.push('/');
        body.extend(utf8_percent_encode(exchange.key.as_str(), ESCAPED));
    }
    let arguments = batch.iter().flat_map(arguments);
    for argument in arguments.chain([nonce.to_string()]) {
        body.push('/');
        body.push_str(&argument);
    }
    body
}

pub(super) fn decode(
    batch: &[Exchange],
    nonce: Nonce,
    status: u16,
    body: &[u8],
) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
    if status != 200 {
        return Err(StoreError::http(status, body));
    }
    let garbled = || StoreError::garbled("the answer of Webdis to EVALSHA or EVAL", body);
    let answer: Value = serde_json::from_slice(body).map_err(|_| garbled())?;
    let answer = answer.get("EVALSHA").or_else(|| answer.get("EVAL"));
    let replies = answer.and_then(Value::as_array).ok_or_else(garbled)?;
    if let [Value::Bool(false), Value::String(error)] = replies.as_slice() {
        return Err(StoreError::redis(error));
    }
    if replies.len() != batch.len() {
        return Err(garbled());
    }
    let result = |(exchange, reply): (&Exchange, &Value)| {
        let reply = reply.as_str().ok_or_else(garbled)?;
        read_reply(exchange, nonce, reply)
    };
    Ok(batch.iter().zip(replies).map(result).collect())
}
