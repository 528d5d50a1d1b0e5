//! Which media type a client understands best (RFC 9110 section 12.5.1).

use tollgate_core::accept::{MediaRange, media_ranges};

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
/// Where nothing fits, it is the first of [`MediaType`] that the client has not excluded with a weight
/// of 0, and problem+json where all are, which RFC 9457 section 3 allows. A malformed range is passed
/// over.
pub fn choose<'a>(accept: impl Iterator<Item = &'a [u8]>) -> MediaType {
    let mut weights = Weights::default();
    for range in accept.flat_map(media_ranges).flatten() {
        weights.note(&range);
    }
    weights
        .best()
        .or_else(|| weights.first_left())
        .unwrap_or_default()
}

/// How exactly a range means a type of ours; `None` if it does not.
fn fit(range: &MediaRange<'_>, served: &Served) -> Option<Fit> {
    let names = |name: &Essence| {
        range.kind.eq_ignore_ascii_case(name.0.as_bytes())
            && range.subtype.eq_ignore_ascii_case(name.1.as_bytes())
    };
    if is_foreign(range) {
        None
    } else if range.kind == b"*" {
        Some(Fit::Any)
    } else if range.subtype == b"*" {
        let is_kind = range.kind.eq_ignore_ascii_case(served.name.0.as_bytes());
        is_kind.then_some(Fit::Type)
    } else if names(&served.name) {
        Some(Fit::Name)
    } else {
        served.aliases.iter().any(names).then_some(Fit::Alias)
    }
}

/// Whether a range has parameters that nothing of ours has. Those behind the weight were extensions
/// of `Accept`, which are no more.
fn is_foreign(range: &MediaRange<'_>) -> bool {
    let mut parameters = range.parameters.iter().take_while(|it| !it.is_weight());
    parameters.any(|it| {
        let value = it.value.as_deref().unwrap_or_default();
        !it.name.eq_ignore_ascii_case(b"charset") || !value.eq_ignore_ascii_case(b"utf-8")
    })
}

/// How exactly a range means a type; what is more exact counts (RFC 9110 section 12.5.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Type,
    Alias,
    Name,
}

/// A type without its parameters: `("text", "html")`.
type Essence = (&'static str, &'static str);

struct Served {
    media: MediaType,
    name: Essence,
    aliases: &'static [Essence],
}

const SERVED: [Served; 5] = [
    Served {
        media: MediaType::ProblemJson,
        name: ("application", "problem+json"),
        aliases: &[],
    },
    Served {
        media: MediaType::Json,
        name: ("application", "json"),
        aliases: &[],
    },
    Served {
        media: MediaType::ProblemXml,
        name: ("application", "problem+xml"),
        aliases: &[("application", "xml"), ("text", "xml")],
    },
    Served {
        media: MediaType::Text,
        name: ("text", "plain"),
        aliases: &[],
    },
    Served {
        media: MediaType::Html,
        name: ("text", "html"),
        aliases: &[],
    },
];

/// For each served type, the most exact range that means it, and its weight.
#[derive(Default)]
struct Weights([Option<(Fit, u16)>; SERVED.len()]);

impl Weights {
    fn note(&mut self, range: &MediaRange<'_>) {
        let weight = range.weight();
        for (best, served) in self.0.iter_mut().zip(&SERVED) {
            // Of two equally exact ranges, the one with the higher weight.
            *best = (*best).max(fit(range, served).map(|fit| (fit, weight)));
        }
    }

    fn best(&self) -> Option<MediaType> {
        let acceptable = |(found, served): (Option<(Fit, u16)>, &Served)| {
            found
                .filter(|(_, weight)| *weight > 0)
                .map(|(fit, weight)| ((weight, fit), served.media))
        };
        self.0
            .iter()
            .copied()
            .zip(&SERVED)
            .filter_map(acceptable)
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, media)| media)
    }

    /// The first that is not excluded, where none is asked for.
    fn first_left(&self) -> Option<MediaType> {
        let mut served = self.0.iter().zip(&SERVED);
        let left = served.find(|(found, _)| found.is_none());
        left.map(|(_, served)| served.media)
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
    fn what_is_excluded_is_not_sent_while_something_else_is_left() {
        for (accept, expected) in [
            ("application/problem+json;q=0, image/png", Json),
            ("application/*;q=0", Text),
            ("application/*;q=0, text/plain;q=0, image/png", Html),
            ("*/*;q=0", ProblemJson),
            ("*/*;q=0, image/png", ProblemJson),
            ("application/problem+json;q=0, */*;q=0.1", Json),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_malformed_range_spoils_no_other() {
        for accept in [
            "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
            "text/html, */json",
            "text/html;;q=0.9",
            "text/html, x/y;a=b~c",
            "text/html, text/plain text/xml",
            "text, text/html",
        ] {
            assert_eq!(chosen(accept), Html, "{accept}");
        }
        assert_eq!(choose([&b"text/html, \xff"[..]].into_iter()), Html);
        for accept in ["text/html text/plain", "text/html;a=\"", "text", "*/html"] {
            assert_eq!(chosen(accept), ProblemJson, "{accept}");
        }
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
        fn no_header_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            choose([value.as_slice()].into_iter());
        }

        #[test]
        fn no_likely_header_makes_it_panic(value in "([*/;,=\"\\\\ qaü+.0-9]|text|html){0,30}") {
            chosen(&value);
        }
    }
}
