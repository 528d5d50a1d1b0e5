//! Mistakes, and the piece of the file that each is about.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use tollgate_core::config::{ConfigError, quote};

use crate::input::Input;
use crate::path::{self, Found};
use crate::section::Section;
use crate::yaml::{Node, Value};

/// A mistake, and where it stands.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// The plugin whose document it is in; none if the file can't be read at all.
    pub plugin: Option<&'static str>,
    /// Where in the document.
    pub path: String,
    /// What was found, what was expected, and how to mend it.
    pub message: String,
    /// Where in the file, in bytes.
    pub span: Range<usize>,
}

/// Finds the place of a mistake in the file.
pub fn locate(error: &ConfigError, section: &Section) -> Mistake {
    let steps = path::parse(&error.path);
    let span = match &section.nodes {
        Some(root) => {
            let found = path::follow(root, &steps);
            marked(&found, &error.message)
        }
        None => section.place.clone(),
    };
    Mistake {
        plugin: Some(section.plugin),
        path: error.path.clone(),
        message: error.message.clone(),
        span,
    }
}

/// What of a node is marked: its key where the mistake is about the key or the node is a block, and
/// the node itself otherwise.
fn marked(found: &Found<'_>, message: &str) -> Range<usize> {
    let value = found.node.span.clone();
    let Some(key) = found.key else {
        return value;
    };
    let is_scalar = matches!(found.node.value, Value::Scalar(_));
    let about_key = message.starts_with("unknown field")
        || message.contains("has no such section")
        || message.contains("the key is there twice")
        || key.text().is_some_and(|key| names(message, key)) && !names_node(message, found.node);
    match found.is_short || !is_scalar || value.is_empty() || about_key {
        true => key.span.clone(),
        false => value,
    }
}

fn names(message: &str, text: &str) -> bool {
    message.contains(&quote(text))
}

fn names_node(message: &str, node: &Node) -> bool {
    node.text().is_some_and(|text| names(message, text))
}

/// Where in a document keys of clients may stand, by mistake in place of their digests. Messages do
/// not repeat what is there, and the lines that are shown, as in the log of a build, must not either.
pub fn secrets(document: &Node) -> Vec<Range<usize>> {
    let consumers = document.at(&["usage_plan", "consumers"]);
    let keys = consumers.map_or(&[][..], Node::items).iter();
    let mut spans = Vec::new();
    for keys in keys.filter_map(|consumer| consumer.get("keys")) {
        hide(keys, "", &mut spans);
    }
    spans
}

fn hide(node: &Node, name: &str, spans: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Scalar(_) if matches!(name, "expires" | "not_before") => {}
        Value::Scalar(scalar) if is_digest(&scalar.text) => {}
        Value::Scalar(_) => spans.push(node.span.clone()),
        Value::List(items) => items.iter().for_each(|item| hide(item, "", spans)),
        Value::Map(entries) => {
            for (key, value) in entries {
                let name = key.text().unwrap_or_default();
                if name.len() >= SHORTEST_SECRET {
                    spans.push(key.span.clone());
                }
                hide(value, name, spans);
            }
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Shorter than this, a word is no secret worth the name.
const SHORTEST_SECRET: usize = 16;

/// Shows a mistake with the line that it is in, in colour. What is in `secrets` is not shown.
pub fn render(mistake: &Mistake, input: &Input, secrets: &[Range<usize>]) -> String {
    let (headline, cure) = split(&mistake.message);
    let title = match mistake.path.as_str() {
        "" => headline.to_owned(),
        path => format!("{path}: {headline}"),
    };
    let text = &input.text;
    let start = mistake.span.start.min(text.len());
    let first = text
        .get(..start)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |at| at + 1);
    let rest = text.get(first..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default();
    // A block is shown by its first line.
    let end = mistake
        .span
        .end
        .clamp(start, (first + line.len()).max(start));
    let shown = masked(line, first, mistake, text, secrets);
    let (number, _) = position(text, start);
    let annotation = AnnotationKind::Primary
        .span(start - first..end - first)
        .label(cure);
    let snippet = Snippet::source(shown)
        .path(input.name.as_str())
        .line_start(number)
        .annotation(annotation);
    let report = &[Level::ERROR.primary_title(title).element(snippet)];
    let width = 140;
    Renderer::styled().term_width(width).render(report)
}

/// Splits a message into what was found and what to do about it.
fn split(message: &str) -> (&str, Option<&str>) {
    const JOINTS: [&str; 4] = [", did you mean", ", expected", "; ", ": "];
    let cut = JOINTS.iter().filter_map(|joint| {
        let at = outside_quotes(message, joint)?;
        let skipped = joint.len() - joint.trim_start_matches([',', ';', ':', ' ']).len();
        Some((at, at + skipped))
    });
    match cut.min() {
        Some((at, rest)) => (
            message.get(..at).unwrap_or(message),
            message.get(rest..).filter(|rest| !rest.is_empty()),
        ),
        None => (message, None),
    }
}

fn outside_quotes(message: &str, joint: &str) -> Option<usize> {
    let mut places = message.match_indices(joint).map(|(at, _)| at);
    places.find(|at| {
        let before = message.get(..*at).unwrap_or_default();
        before.matches('"').count() % 2 == 0
    })
}

/// The line with stars for what may be a secret.
fn masked(
    line: &str,
    first: usize,
    mistake: &Mistake,
    text: &str,
    secrets: &[Range<usize>],
) -> String {
    let marked = text.get(mistake.span.clone()).unwrap_or_default();
    let is_word = marked.len() >= SHORTEST_SECRET && !marked.contains(char::is_whitespace);
    // The plugin repeats in its messages what can't be a secret.
    let word = marked.trim_matches(['"', '\'']);
    let is_harmless = mistake.message.contains(word) || mistake.path.contains(word);
    let own = (is_word && !is_harmless && mistake.plugin.is_some()).then_some(&mistake.span);
    let hidden: Vec<&Range<usize>> = secrets.iter().chain(own).collect();
    let star = |(at, byte): (usize, u8)| {
        let at = first + at;
        match hidden.iter().any(|span| span.contains(&at)) {
            true => b'*',
            false => byte,
        }
    };
    let bytes: Vec<u8> = line.bytes().enumerate().map(star).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Line and column of a byte, both from 1; columns are characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_where_the_cure_begins() {
        for (message, expected) in [
            (
                "unknown value \"a, expected\", did you mean \"b\"? (expected one of b, c)",
                (
                    "unknown value \"a, expected\"",
                    Some("did you mean \"b\"? (expected one of b, c)"),
                ),
            ),
            (
                "found text, expected a whole number",
                ("found text", Some("expected a whole number")),
            ),
            (
                "found nothing: give it a value",
                ("found nothing", Some("give it a value")),
            ),
            ("is empty", ("is empty", None)),
        ] {
            assert_eq!(split(message), expected);
        }
    }

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("ab\nçd", 0), (1, 1));
        assert_eq!(position("ab\nçd", 5), (2, 2));
        assert_eq!(position("ab\n", 99), (2, 1));
    }
}
