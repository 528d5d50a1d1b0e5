//! Paths of mistakes, as `usage_plan.plans["a b"].quota[0]`, and the nodes they lead to.

use std::iter::Peekable;
use std::str::Chars;

use crate::yaml::Node;

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list.
    Index(usize),
}

/// Reads a path as [`tollgate_core::config::key_path`] writes it. What is none is read as far as it
/// goes.
pub fn parse(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut chars = path.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '.' => {}
            '[' if chars.next_if_eq(&'"').is_some() => match quoted(&mut chars) {
                Some(key) => steps.push(Step::Key(key)),
                None => break,
            },
            '[' => {
                let digits: String =
                    std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).collect();
                match (digits.parse(), chars.next()) {
                    (Ok(index), Some(']')) => steps.push(Step::Index(index)),
                    _ => break,
                }
            }
            first => {
                let mut key = String::from(first);
                key.extend(std::iter::from_fn(|| {
                    chars.next_if(|next| !matches!(next, '.' | '['))
                }));
                steps.push(Step::Key(key));
            }
        }
    }
    steps
}

/// The rest of a key in quotes, with the closing bracket, as Rust's `Debug` writes it.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut key = String::new();
    loop {
        match chars.next()? {
            '"' => return chars.next_if_eq(&']').map(|_| key),
            '\\' => key.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => unicode(chars)?,
                other => other,
            }),
            other => key.push(other),
        }
    }
}

fn unicode(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    chars.next_if_eq(&'{')?;
    let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_hexdigit)).collect();
    chars.next_if_eq(&'}')?;
    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
}

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The key in front of the node, if it is the value of one.
    pub key: Option<&'a Node>,
    /// The node.
    pub node: &'a Node,
    /// Whether the path goes on beyond it.
    pub is_short: bool,
}

/// Follows a path from a node as far as it goes.
pub fn follow<'a>(root: &'a Node, steps: &[Step]) -> Found<'a> {
    let mut found = Found {
        key: None,
        node: root,
        is_short: false,
    };
    for step in steps {
        let next = match step {
            Step::Key(key) => found.node.entry(key).map(|(key, node)| (Some(key), node)),
            Step::Index(index) => found.node.items().get(*index).map(|item| (None, item)),
        };
        // Where one item stands for a list of one, the path has an index that the text has not.
        let next = match (next, step) {
            (None, Step::Index(0)) => Some((found.key, found.node)),
            (next, _) => next,
        };
        match next {
            Some((key, node)) => {
                found.key = key;
                found.node = node;
            }
            None => {
                found.is_short = true;
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use tollgate_core::config::key_path;

    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        let keys = [
            "plans",
            "a b",
            "POST /v1/**",
            "q\"uo\\te",
            "tab\t",
            "é",
            "\u{7f}",
            "a]b",
            "",
        ];
        let mut path = String::new();
        let mut expected = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            path = format!("{}[{index}]", key_path(&path, key));
            expected.extend([Step::Key((*key).to_owned()), Step::Index(index)]);
        }
        assert_eq!(parse(&path), expected, "{path}");
        assert_eq!(parse(""), []);
    }

    #[test]
    fn a_path_is_followed_as_far_as_it_goes() {
        let text = "a:\n- b: {c: 1}\n";
        let root = crate::yaml::parse(text).unwrap().remove(0);
        let at = |path| {
            let found = follow(&root, &parse(path));
            (&text[found.node.span.clone()], found.is_short)
        };
        assert_eq!(at("a[0].b.c"), ("1", false));
        assert_eq!(at("a[0].b.d"), ("{c: 1}", true));
        assert_eq!(at("a[0].b[0].c"), ("1", false));
        assert_eq!(at("a[1]"), ("b: {c: 1}", true));
    }
}
