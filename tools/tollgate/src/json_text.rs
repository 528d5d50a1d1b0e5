//! JSON that stands as text in YAML, and where its bytes are in the file.

use std::ops::Range;

use granit_parser::ScalarStyle;

use crate::yaml::{self, Node, Scalar, Value};

/// The nodes of a JSON text, with places in the file around it. Nothing if the text is no JSON, or
/// its places are not known, as within escapes.
pub fn nodes(node: &Node, file: &str) -> Option<Node> {
    let Value::Scalar(scalar) = &node.value else {
        return None;
    };
    let places = places(scalar, node, file)?;
    let mut root = yaml::parse(&scalar.text).ok()?.into_iter().next()?;
    shift(&mut root, &places);
    Some(root)
}

/// Pieces of the text: where each begins in it, and in the file.
type Places = Vec<(usize, usize)>;

fn places(scalar: &Scalar, node: &Node, file: &str) -> Option<Places> {
    let source = file.get(node.span.clone())?;
    match scalar.style {
        ScalarStyle::Literal => lines(&scalar.text, source, node.span.start),
        _ => {
            let start = source.find(scalar.text.as_str())?;
            Some(vec![(0, node.span.start + start)])
        }
    }
}

/// The lines of a literal block, each behind its indentation.
fn lines(text: &str, source: &str, base: usize) -> Option<Places> {
    let mut places = Places::new();
    let mut at = 0;
    let mut outer = source.split_inclusive('\n');
    let mut outer_at = base;
    for line in text.split_inclusive('\n') {
        let wanted = line.trim_end_matches(['\n', '\r']);
        loop {
            let candidate = outer.next()?;
            let content = candidate.trim_end_matches(['\n', '\r']);
            let start = outer_at;
            outer_at += candidate.len();
            if let Some(indent) = content.strip_suffix(wanted)
                && indent.bytes().all(|byte| byte == b' ')
            {
                places.push((at, start + indent.len()));
                break;
            }
        }
        at += line.len();
    }
    Some(places)
}

fn shift(node: &mut Node, places: &Places) {
    node.span = moved(&node.span, places);
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, places)),
        Value::Map(entries) => {
            for (key, value) in entries {
                shift(key, places);
                shift(value, places);
            }
        }
    }
}

fn moved(span: &Range<usize>, places: &Places) -> Range<usize> {
    let at = |offset: usize| {
        let piece = places.iter().rev().find(|(start, _)| *start <= offset);
        piece.map_or(offset, |(start, outer)| outer + (offset - start))
    };
    let start = at(span.start);
    // The end belongs to the piece of the last byte.
    let end = match span.end > span.start {
        true => at(span.end - 1) + 1,
        false => start,
    };
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str) -> Option<String> {
        let root = yaml::parse(file).unwrap().remove(0);
        let inner = nodes(root.get("value").unwrap(), file)?;
        let node = inner.at(&["a", "b"]).unwrap();
        Some(file[node.span.clone()].to_owned())
    }

    #[test]
    fn the_json_is_found_in_the_file() {
        for file in [
            "value: '{\"a\": {\"b\": 17}}'\n",
            "value: |\n  {\n    \"a\": {\n      \"b\": 17\n    }\n  }\n",
            "x:  1\nvalue: |-\n    {\"a\":\n     {\"b\": 17}}\n",
        ] {
            assert_eq!(found(file).as_deref(), Some("17"), "{file}");
        }
        assert_eq!(found("value: \"{\\\"a\\\": {\\\"b\\\": 17}}\"\n"), None);
    }
}
