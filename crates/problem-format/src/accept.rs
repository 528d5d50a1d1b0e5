//! Which media type a client understands best (RFC 9110 section 12.5.1).

use mediatype::names::{_STAR, APPLICATION, CHARSET, HTML, JSON, PLAIN, PROBLEM, TEXT, XML};
use mediatype::{MediaType as Parsed, Name};

/// A form in which a problem can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaType {
    /// `application/problem+json` (RFC 9457 section 3).
    #[default]
    ProblemJson,
    /// The same under the name `application/json`.
    Json,
    /// `application/problem+xml` (RFC 9457 appendix B).
    ProblemXml,
    /// A few lines for people.
    Text,
    /// A page for people.
    Html,
}

impl MediaType {
    /// The value of `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            MediaType::ProblemJson => "application/problem+json",
            MediaType::Json => "application/json",
            MediaType::ProblemXml => "application/problem+xml",
            MediaType::Text => "text/plain; charset=utf-8",
            MediaType::Html => "text/html; charset=utf-8",
        }
    }
}

/// Chooses by the values of `Accept`, in the order in which they came.
///
/// The type with the highest weight wins; of several, the one that is named in most detail, so that
/// `application/json, */*` gets JSON; then the first of [`MediaType`]. `application/xml` and
/// `text/xml` ask for problem+xml, unless that is named too. A range with a parameter other than
/// `charset=utf-8` matches nothing.
///
/// It is problem+json where nothing fits, which RFC 9457 section 3 allows, and where a header is
/// absent or does not keep to the grammar.
pub fn choose<'a>(accept: impl Iterator<Item = &'a [u8]>) -> MediaType {
    weigh(accept).and_then(Weights::best).unwrap_or_default()
}

/// `None` where a header does not keep to the grammar.
fn weigh<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Option<Weights> {
    let mut weights = Weights::default();
    for value in accept {
        for element in elements(std::str::from_utf8(value).ok()?) {
            weights.note(&Range::parse(element)?);
        }
    }
    Some(weights)
}

/// The elements of a list (RFC 9110 section 5.6.1), which may be empty, split at the commas that are
/// not in quotes.
fn elements(list: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    list.split(is_separator)
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
}

/// One media range and its weight.
struct Range<'a> {
    range: Parsed<'a>,
    /// In thousandths.
    weight: u16,
    /// Whether it has parameters that nothing of ours has.
    is_foreign: bool,
}

impl<'a> Range<'a> {
    fn parse(element: &'a str) -> Option<Self> {
        let range = Parsed::parse(element).ok()?;
        if range.ty == _STAR && (range.subty != _STAR || range.suffix.is_some()) {
            return None;
        }
        let (mut weight, mut is_foreign) = (None, false);
        for (name, value) in range.params.iter() {
            if name.as_str().eq_ignore_ascii_case("q") {
                if weight.is_some() {
                    return None;
                }
                weight = Some(parse_weight(value.as_str())?);
            } else if weight.is_none() {
                // Those behind the weight were extensions of Accept, which are no more.
                is_foreign |=
                    *name != CHARSET || !value.unquoted_str().eq_ignore_ascii_case("utf-8");
            }
        }
        Some(Range {
            range,
            weight: weight.unwrap_or(1000),
            is_foreign,
        })
    }

    /// How exactly it means a type of ours; `None` if it does not.
    fn fit(&self, served: &Served) -> Option<Fit> {
        let Parsed {
            ty, subty, suffix, ..
        } = &self.range;
        if self.is_foreign {
            None
        } else if *ty == _STAR {
            Some(Fit::Any)
        } else if *subty == _STAR && suffix.is_none() {
            (*ty == served.name.0).then_some(Fit::Type)
        } else if (*ty, *subty, *suffix) == served.name {
            Some(Fit::Name)
        } else {
            let is_alias = served.aliases.contains(&(*ty, *subty, *suffix));
            is_alias.then_some(Fit::Alias)
        }
    }
}

/// `0` to `1` with up to three digits behind the point (RFC 9110 section 12.4.2), in thousandths.
fn parse_weight(text: &str) -> Option<u16> {
    let (whole, fraction) = match text.as_bytes() {
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte & 0x0f));
    let mut thousandths = 0;
    for (index, value) in [100, 10, 1].into_iter().enumerate() {
        let digit = fraction.get(index).map_or(Some(0), digit)?;
        thousandths = digit.checked_mul(value)?.checked_add(thousandths)?;
    }
    match (digit(whole)?, thousandths) {
        (0, _) => Some(thousandths),
        (1, 0) => Some(1000),
        _ => None,
    }
}

/// How exactly a range means a type; what is more exact counts (RFC 9110 section 12.5.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Type,
    Alias,
    Name,
}

/// A type without its parameters.
type Essence = (Name<'static>, Name<'static>, Option<Name<'static>>);

struct Served {
    media: MediaType,
    name: Essence,
    aliases: &'static [Essence],
}

const SERVED: [Served; 5] = [
    Served {
        media: MediaType::ProblemJson,
        name: (APPLICATION, PROBLEM, Some(JSON)),
        aliases: &[],
    },
    Served {
        media: MediaType::Json,
        name: (APPLICATION, JSON, None),
        aliases: &[],
    },
    Served {
        media: MediaType::ProblemXml,
        name: (APPLICATION, PROBLEM, Some(XML)),
        aliases: &[(APPLICATION, XML, None), (TEXT, XML, None)],
    },
    Served {
        media: MediaType::Text,
        name: (TEXT, PLAIN, None),
        aliases: &[],
    },
    Served {
        media: MediaType::Html,
        name: (TEXT, HTML, None),
        aliases: &[],
    },
];

/// For each served type, the most exact range that means it, and its weight.
#[derive(Default)]
struct Weights([Option<(Fit, u16)>; SERVED.len()]);

impl Weights {
    fn note(&mut self, range: &Range<'_>) {
        for (best, served) in self.0.iter_mut().zip(&SERVED) {
            // Of two equally exact ranges, the one with the higher weight.
            *best = (*best).max(range.fit(served).map(|fit| (fit, range.weight)));
        }
    }

    fn best(self) -> Option<MediaType> {
        let acceptable = |(found, served): (Option<(Fit, u16)>, &Served)| {
            found
                .filter(|(_, weight)| *weight > 0)
                .map(|(fit, weight)| ((weight, fit), served.media))
        };
        self.0
            .into_iter()
            .zip(&SERVED)
            .filter_map(acceptable)
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, media)| media)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::MediaType::*;
    use super::*;

    fn chosen(accept: &str) -> MediaType {
        choose([accept.as_bytes()].into_iter())
    }

    #[test]
    fn the_best_type_is_chosen() {
        for (accept, expected) in [
            ("", ProblemJson),
            ("*/*", ProblemJson),
            ("application/*", ProblemJson),
            ("application/problem+json", ProblemJson),
            ("Application/JSON", Json),
            ("application/json; charset=UTF-8", Json),
            ("application/json;charset=\"utf-8\"", Json),
            ("application/json, text/plain, */*", Json),
            ("application/json, application/problem+json", ProblemJson),
            ("application/problem+xml", ProblemXml),
            ("application/xml", ProblemXml),
            ("text/xml", ProblemXml),
            ("text/*", Text),
            ("text/plain;q=0.5, text/*", Html),
            ("text/html", Html),
            (" , ,text/html\t,", Html),
            ("text/html;q=0.1, application/xml;q=0.2", ProblemXml),
            ("text/html;q=0.001, */*;q=0", Html),
            ("text/html;q=0.5;ext=1, text/plain;q=0.4", Html),
            ("text/html, */*", Html),
            ("*/*;q=0.1, text/plain;Q=0.100", Text),
        ] {
            assert_eq!(chosen(accept), expected, "{accept:?}");
        }
        assert_eq!(choose(std::iter::empty()), ProblemJson);
    }

    #[test]
    fn browsers_get_a_page() {
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,\
             */*;q=0.8,application/signed-exchange;v=b3;q=0.7",
        ] {
            assert_eq!(chosen(accept), Html, "{accept}");
        }
    }

    #[test]
    fn the_more_exact_range_counts() {
        assert_eq!(chosen("application/*, application/problem+json;q=0"), Json);
        assert_eq!(chosen("*/*, application/*;q=0"), Text);
        assert_eq!(
            chosen("application/problem+xml;q=0, application/xml, text/html;q=0.1"),
            Html
        );
        assert_eq!(chosen("text/html;q=0, text/*;q=0.5"), Text);
    }

    #[test]
    fn nothing_acceptable_is_problem_json() {
        for accept in [
            "image/png",
            "application/json;q=0",
            "*/*;q=0",
            "text/html;level=1",
            "text/html;charset=utf-16",
            "application/*+json",
        ] {
            assert_eq!(chosen(accept), ProblemJson, "{accept}");
        }
    }

    #[test]
    fn an_invalid_header_is_problem_json() {
        for accept in [
            "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
            "text/html, */json",
            "text/html;q=1.001",
            "text/html;q=2",
            "text/html;q=-1",
            "text/html;q=0.1234",
            "text/html;q=",
            "text/html;q=\"1\"",
            "text/html;q=1;q=0.5",
            "text/html text/plain",
            "text/html;a=\"",
            "text",
        ] {
            assert_eq!(chosen(accept), ProblemJson, "{accept}");
        }
        assert_eq!(choose([&b"text/html, \xff"[..]].into_iter()), ProblemJson);
    }

    #[test]
    fn repeated_headers_are_one_list() {
        let values = [&b"text/html;q=0.2"[..], b"text/plain;q=0.3"];
        assert_eq!(choose(values.into_iter()), Text);
    }

    #[test]
    fn commas_in_quotes_do_not_split() {
        assert_eq!(chosen(r#"text/html;a=",text/plain,\",", text/html"#), Html);
    }

    #[test]
    fn a_huge_header_is_read() {
        let length = 64 << 10;
        for piece in [
            "text/html;q=0.1,",
            ",",
            "a/b;",
            ";a=b",
            "\"",
            "a",
            " ",
            "*/*,",
            "a/b;c=\"\\",
        ] {
            let accept = piece.repeat(length / piece.len());
            chosen(&accept);
            chosen(&format!("text/html{accept}"));
        }
        let accept = "text/html;q=0.1,".repeat(length / 16);
        assert_eq!(chosen(&accept), Html);
    }

    proptest! {
        #[test]
        fn a_named_type_with_weight_is_chosen(
            others in proptest::collection::vec("[a-z]{1,5}/[a-z]{1,5};q=0\\.[0-9]{0,3}", 0..5),
        ) {
            let mut ranges = others;
            ranges.push("text/plain".to_owned());
            for _ in 0..ranges.len() {
                ranges.rotate_left(1);
                prop_assert_eq!(chosen(&ranges.join(", ")), Text);
            }
        }

        #[test]
        fn weights_are_thousandths(weight in 0_u16..=1000) {
            let text = format!("{}.{:03}", weight / 1000, weight % 1000);
            prop_assert_eq!(parse_weight(&text), Some(weight));
        }

        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            choose([value.as_slice()].into_iter());
        }

        #[test]
        fn no_likely_header_makes_it_panic(value in "([*/;,=\"\\\\ qaü+.0-9]|text|html){0,30}") {
            chosen(&value);
        }
    }
}
