//! YAML with the place of every node in its text.

pub mod scalar;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// A node, and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// The bytes of the text that it takes; for a block of lists or mappings from its first entry.
    pub span: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text that may mean a number, a truth value or nothing.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<(Node, Node)>),
}

/// A scalar, as it was written.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// Its text, with quotes and escapes resolved.
    pub text: String,
    /// How it was written.
    pub style: ScalarStyle,
    /// Whether a tag says that it is text.
    pub is_text: bool,
}

/// The text is no YAML that can be read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidYaml {
    /// What is wrong.
    pub message: String,
    /// Where, as a byte of the text.
    pub offset: usize,
}

impl fmt::Display for InvalidYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidYaml {}

/// Deeper than any document of ours, and shallow enough to be walked by recursion.
const MOST_DEPTH: usize = 100;

/// Aliases repeat what they refer to, and can do so without end.
const MOST_NODES: usize = 1 << 20;

/// Reads every document of a text.
pub fn parse(text: &str) -> Result<Vec<Node>, InvalidYaml> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_error(text, &error))?;
        let range = bytes(&span, text);
        let start = range.start;
        tree.take(event, range).map_err(|message| InvalidYaml {
            message,
            offset: start,
        })?;
    }
    Ok(tree.documents)
}

fn scan_error(text: &str, error: &ScanError) -> InvalidYaml {
    let marker = error.marker();
    InvalidYaml {
        message: error.info().to_string(),
        offset: byte_of(marker.byte_offset(), marker.index(), text),
    }
}

fn bytes(span: &Span, text: &str) -> Range<usize> {
    let at = |marker: &granit_parser::Marker| byte_of(marker.byte_offset(), marker.index(), text);
    let (start, end) = (at(&span.start), at(&span.end));
    start..end.max(start)
}

fn byte_of(byte: Option<usize>, character: usize, text: &str) -> usize {
    byte.unwrap_or_else(|| {
        text.char_indices()
            .nth(character)
            .map_or(text.len(), |(byte, _)| byte)
    })
    .min(text.len())
}

/// Nodes under construction.
#[derive(Default)]
struct Tree {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A list or a mapping that has not ended.
struct Open {
    anchor: usize,
    node: Node,
    /// The key of a mapping whose value has not come.
    key: Option<Node>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let scalar = Scalar {
                    text: text.into_owned(),
                    style,
                    is_text,
                };
                let node = Node {
                    span,
                    value: Value::Scalar(scalar),
                };
                self.add(anchor, node)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(anchor, span, Value::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.begin(anchor, span, Value::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open {
                    anchor, mut node, ..
                }) = self.open.pop()
                else {
                    return Ok(());
                };
                node.span.end = end_of(&node, &span);
                self.add(anchor, node)
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned();
                let mut node = target.ok_or("an alias refers to what it is part of")?;
                self.nodes = self.nodes.saturating_add(count(&node));
                // Mistakes are shown where the alias stands.
                move_to(&mut node, &span);
                self.add(0, node)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, span: Range<usize>, value: Value) -> Result<(), String> {
        if self.open.len() >= MOST_DEPTH {
            return Err(format!("nested more than {MOST_DEPTH} deep"));
        }
        self.open.push(Open {
            anchor,
            node: Node { span, value },
            key: None,
        });
        Ok(())
    }

    fn add(&mut self, anchor: usize, node: Node) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MOST_NODES {
            return Err(format!("more than {MOST_NODES} nodes, aliases included"));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => open.key = Some(node),
            },
            Value::Scalar(_) => {}
        }
        Ok(())
    }
}

/// Where a list or mapping ends: with its bracket, or with its last entry if it is a block. The end
/// of a block takes no space, and is where the next thing begins.
fn end_of(node: &Node, end: &Range<usize>) -> usize {
    if !end.is_empty() {
        return end.end;
    }
    let last = match &node.value {
        Value::List(items) => items.last(),
        Value::Map(entries) => entries.last().map(|(_, value)| value),
        Value::Scalar(_) => None,
    };
    last.map_or(end.end, |last| last.span.end.max(node.span.start))
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 1,
        Value::List(items) => items.iter().map(count).sum::<usize>().saturating_add(1),
        Value::Map(entries) => entries
            .iter()
            .map(|(_, value)| count(value).saturating_add(1))
            .sum::<usize>()
            .saturating_add(1),
    }
}

fn move_to(node: &mut Node, span: &Range<usize>) {
    node.span = span.clone();
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| move_to(item, span)),
        Value::Map(entries) => {
            for (key, value) in entries {
                move_to(key, span);
                move_to(value, span);
            }
        }
    }
}

impl Node {
    /// The value of a key; the last one, if the key is there several times.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key and its value.
    pub fn entry(&self, key: &str) -> Option<(&Node, &Node)> {
        let entries = self.entries().iter().rev();
        let mut found = entries.filter(|(found, _)| found.text() == Some(key));
        found.next().map(|(key, value)| (key, value))
    }

    /// The value behind several keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The text behind several keys.
    pub fn text_at(&self, keys: &[&str]) -> Option<&str> {
        self.at(keys)?.text()
    }

    /// The items of a list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a mapping.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The nodes in it: itself, and what is in lists and under keys.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Node) -> bool) {
        if !visit(self) {
            return;
        }
        for item in self.items() {
            item.walk(visit);
        }
        for (_, value) in self.entries() {
            value.walk(visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1);
        documents.remove(0)
    }

    fn source<'a>(text: &'a str, node: &Node) -> &'a str {
        &text[node.span.clone()]
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let text =
            "é: [a, {b: 'x y'}]\nblock:\n- one\n- two: 3\n  # comment\nlast: |\n  l1\n  l2\n";
        let root = one(text);
        assert_eq!(source(text, root.get("é").unwrap()), "[a, {b: 'x y'}]");
        let inner = &root.get("é").unwrap().items()[1];
        assert_eq!(source(text, inner.get("b").unwrap()), "'x y'");
        assert_eq!(source(text, root.get("block").unwrap()), "one\n- two: 3");
        let two = &root.get("block").unwrap().items()[1];
        assert_eq!(source(text, two), "two: 3");
        assert_eq!(root.text_at(&["last"]), Some("l1\nl2\n"));
    }

    #[test]
    fn a_text_may_have_several_documents() {
        assert_eq!(parse("a: 1\n---\nb: 2\n").unwrap().len(), 2);
        assert_eq!(parse("").unwrap().len(), 0);
    }

    #[test]
    fn aliases_stand_where_they_are_written() {
        let text = "a: &x {b: 1}\nc: *x\n";
        let root = one(text);
        let c = root.get("c").unwrap();
        assert_eq!(c.text_at(&["b"]), Some("1"));
        assert_eq!(source(text, c.get("b").unwrap()), "*x");
    }

    #[test]
    fn aliases_without_end_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let previous = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
        }
        assert!(parse(&text).unwrap_err().message.contains("more than"));
        let deep = "[".repeat(1000);
        assert!(parse(&deep).is_err());
    }

    #[test]
    fn what_is_no_yaml_has_a_place() {
        let error = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(error.offset >= 5, "{error:?}");
    }
}
