//! The syntax of NGINX's configuration: directives, their words, and blocks.
//!
//! The one parser crate for it has not been released for years, and its grammar is of four tokens.

use anyhow::bail;

/// A directive, and what is in its block if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) name: String,
    pub(crate) words: Vec<String>,
    pub(crate) block: Vec<Directive>,
    pub(crate) line: usize,
}

/// Reads a configuration.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Directive>> {
    let tokens = tokens(text)?;
    let mut open: Vec<(Vec<Directive>, Vec<String>, usize)> = Vec::new();
    let mut block = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut began = 1;
    for (token, line) in tokens {
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    began = line;
                }
                words.push(word);
            }
            Token::End => block.extend(directive(std::mem::take(&mut words), Vec::new(), began)),
            Token::Open => {
                if open.len() > MOST_DEPTH {
                    bail!("line {line}: nested more than {MOST_DEPTH} deep");
                }
                let outer = std::mem::take(&mut block);
                open.push((outer, std::mem::take(&mut words), began));
            }
            Token::Close => {
                let Some((outer, words, began)) = open.pop() else {
                    bail!("line {line}: a brace is closed that was not opened");
                };
                let inner = std::mem::replace(&mut block, outer);
                block.extend(directive(words, inner, began));
            }
        }
    }
    match (open.is_empty(), words.is_empty()) {
        (true, true) => Ok(block),
        (true, false) => bail!("line {began}: the directive has no semicolon"),
        (false, _) => bail!("a brace is not closed"),
    }
}

const MOST_DEPTH: usize = 100;

fn directive(mut words: Vec<String>, block: Vec<Directive>, line: usize) -> Option<Directive> {
    (!words.is_empty()).then(|| Directive {
        name: words.remove(0),
        words,
        block,
        line,
    })
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> anyhow::Result<Vec<(Token, usize)>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    let mut line = 1;
    while let Some(next) = chars.next() {
        match next {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' => tokens.push((Token::End, line)),
            '{' => tokens.push((Token::Open, line)),
            '}' => tokens.push((Token::Close, line)),
            quote @ ('"' | '\'') => {
                let began = line;
                let mut word = String::new();
                loop {
                    match chars.next() {
                        None => bail!("line {began}: a quote is not closed"),
                        Some('\\') => {
                            let escaped = chars.next().unwrap_or_default();
                            // Only these lose their backslash; a regular expression keeps it.
                            if !matches!(escaped, '"' | '\'' | '\\') {
                                word.push('\\');
                            }
                            word.push(escaped);
                        }
                        Some(c) if c == quote => break,
                        Some(c) => {
                            line += usize::from(c == '\n');
                            word.push(c);
                        }
                    }
                }
                tokens.push((Token::Word(word), began));
            }
            first => {
                let mut word = String::from(first);
                while let Some(c) =
                    chars.next_if(|c| !c.is_whitespace() && !matches!(c, ';' | '{' | '}'))
                {
                    word.push(c);
                    // `${name}` is one word.
                    if c == '$' && chars.next_if_eq(&'{').is_some() {
                        word.push('{');
                        word.extend(std::iter::from_fn(|| chars.next_if(|c| *c != '}')));
                    }
                }
                tokens.push((Token::Word(word), line));
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_have_words_and_blocks() {
        let text = "# c\nhttp {\n  a 'x y' \"q\\\"\";\n  location ~ \\.php$ { deny all; }\n}\n";
        let parsed = parse(text).unwrap();
        let http = &parsed[0];
        assert_eq!((http.name.as_str(), http.line), ("http", 2));
        assert_eq!(http.block[0].words, ["x y", "q\""]);
        assert_eq!(http.block[1].words, ["~", "\\.php$"]);
        assert_eq!(http.block[1].block[0].words, ["all"]);
    }

    #[test]
    fn what_is_not_closed_is_refused() {
        for text in ["a {", "a }", "a 'x;", "a b", &"a {".repeat(1000)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
