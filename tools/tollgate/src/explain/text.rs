//! An explanation for people.

use std::io::{self, Write};

use super::answer::{Explanation, Header};

/// Writes it.
pub(crate) fn write(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", explanation.request)?;
    writeln!(
        out,
        "at {}, judged by {}",
        explanation.at, explanation.plugin
    )?;
    apis(explanation, out)?;
    steps(explanation, out)?;
    repetitions(explanation, out)?;
    for issuer in &explanation.missing_keys {
        writeln!(
            out,
            "\nThe keys of {issuer} were not given, as if it could not be reached: --jwks {issuer}=FILE"
        )?;
    }
    limits(explanation, out)?;
    answer(explanation, out)
}

fn apis(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    if explanation.apis.is_empty() {
        return Ok(());
    }
    heading("APIs", out)?;
    for api in &explanation.apis {
        let mark = if api.matches { "this" } else { "not " };
        writeln!(out, "  {mark} {}: {}", api.name, api.why)?;
    }
    Ok(())
}

fn steps(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    heading("Steps", out)?;
    for event in &explanation.steps {
        for (index, did) in event.did.iter().enumerate() {
            match index {
                0 => writeln!(out, "  {:<13} {:<16} {did}", event.step, event.policy)?,
                _ => writeln!(out, "  {:<13} {:<16} {did}", "", "")?,
            }
        }
    }
    Ok(())
}

fn repetitions(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    if explanation.repetitions.iter().all(|run| run.to == 1) {
        return Ok(());
    }
    heading("Repetitions", out)?;
    for run in &explanation.repetitions {
        writeln!(out, "  {:>6} to {:>6}  {}", run.from, run.to, run.outcome)?;
    }
    Ok(())
}

fn limits(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    if explanation.limits.is_empty() {
        return Ok(());
    }
    heading("Limits", out)?;
    for limit in &explanation.limits {
        writeln!(
            out,
            "  {}: {} of {} left; full again in {} s",
            limit.name, limit.remaining, limit.allowance, limit.reset_seconds
        )?;
    }
    Ok(())
}

fn answer(explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
    let answer = &explanation.answer;
    heading("Answer", out)?;
    match (answer.status, &answer.kind) {
        (Some(status), Some(kind)) => writeln!(out, "  {status} {kind}")?,
        (Some(status), None) => writeln!(out, "  {status}")?,
        (None, _) => writeln!(out, "  forwarded; the upstream's answer gets")?,
    }
    if let Some(why) = &answer.why {
        writeln!(out, "  {why}")?;
    }
    headers(&answer.headers, out)?;
    if let Some(body) = answer.body.as_ref().filter(|body| !body.is_empty()) {
        writeln!(out)?;
        for line in pretty(body).lines() {
            writeln!(out, "  {line}")?;
        }
    }
    if let Some(upstream) = &explanation.upstream {
        heading("The upstream sees", out)?;
        headers(upstream, out)?;
    }
    Ok(())
}

fn headers(headers: &[Header], out: &mut dyn Write) -> io::Result<()> {
    for Header { name, value } in headers {
        writeln!(out, "  {name}: {value}")?;
    }
    Ok(())
}

/// JSON with a line for each member.
fn pretty(body: &str) -> String {
    let json = serde_json::from_str::<serde_json::Value>(body);
    let pretty = json.and_then(|json| serde_json::to_string_pretty(&json));
    pretty.unwrap_or_else(|_| body.to_owned())
}

fn heading(text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{text}")
}
