//! The REST interface of Upstash: a pipeline, which is an array of commands, each an array of words.
//!
//! Exchanges that follow one another and are about one consumer are one command: all its keys are
//! in one slot of a cluster. Each command is answered by `{"result":…}` or `{"error":"…"}`; if the
//! front itself refuses, there is one `{"error":"…"}` for all, and a status that is not 200.

use serde_json::Value;

use super::{Nonce, Script, arguments, read_reply};
use crate::{Exchange, Outcome, StoreError};

pub(super) fn encode(batch: &[Exchange], nonce: Nonce, script: Script) -> String {
    let commands: Vec<Value> = commands(batch)
        .map(|batch| command(batch, nonce, script))
        .collect();
    Value::from(commands).to_string()
}

/// The exchanges of each command.
fn commands(batch: &[Exchange]) -> impl Iterator<Item = &[Exchange]> {
    batch.chunk_by(|left, right| left.key.consumer() == right.key.consumer())
}

fn command(batch: &[Exchange], nonce: Nonce, script: Script) -> Value {
    let mut words = vec![
        script.command().to_owned(),
        script.text().to_owned(),
        batch.len().to_string(),
    ];
    words.extend(
        batch
            .iter()
            .map(|exchange| exchange.key.as_str().to_owned()),
    );
    words.extend(batch.iter().flat_map(arguments));
    words.push(nonce.to_string());
    Value::from(words)
}

pub(super) fn decode(
    batch: &[Exchange],
    nonce: Nonce,
    status: u16,
    body: &[u8],
) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let error = answer.as_ref().and_then(|answer| answer.get("error"));
    if status != 200 {
        return Err(refusal(status, error, body));
    }
    if let Some(error) = error.and_then(Value::as_str) {
        return Err(StoreError::redis(error));
    }
    let garbled = || StoreError::garbled("an array of results, one for each command", body);
    let answers = answer
        .as_ref()
        .and_then(Value::as_array)
        .ok_or_else(garbled)?;
    if answers.len() != commands(batch).count() {
        return Err(garbled());
    }
    let results = commands(batch).zip(answers);
    Ok(results
        .flat_map(|(batch, answer)| decode_command(batch, nonce, answer))
        .collect())
}

/// What a status other than 200 means: the front hands on errors of Redis with status 400.
fn refusal(status: u16, error: Option<&Value>, body: &[u8]) -> StoreError {
    match error.and_then(Value::as_str) {
        Some(error) if status == 400 => StoreError::redis(error),
        Some(error) => StoreError::http(status, error.as_bytes()),
        None => StoreError::http(status, body),
    }
}

fn decode_command(
    batch: &[Exchange],
    nonce: Nonce,
    answer: &Value,
) -> Vec<Result<Outcome, StoreError>> {
    let error = match (answer.get("result"), answer.get("error")) {
        (_, Some(Value::String(error))) => StoreError::redis(error),
        (Some(Value::Array(replies)), _) if replies.len() == batch.len() => {
            let result = |(exchange, reply): (&Exchange, &Value)| match reply.as_str() {
                Some(reply) => read_reply(exchange, nonce, reply),
                None => Err(garbled(reply)),
            };
            return batch.iter().zip(replies).map(result).collect();
        }
        _ => garbled(answer),
    };
    batch.iter().map(|_| Err(error.clone())).collect()
}

fn garbled(found: &Value) -> StoreError {
    StoreError::garbled("a result for each exchange", found.to_string().as_bytes())
}
