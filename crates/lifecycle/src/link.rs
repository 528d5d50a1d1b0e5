//! Links (RFC 8288): where a version's documentation and successors are.

use std::borrow::Cow;
use std::fmt;

use tollgate_core::syntax::Cursor;

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// What there is to know about the deprecation (RFC 9745 section 3).
    Deprecation,
    /// What there is to know about the sunset (RFC 8594 section 6).
    Sunset,
    /// The same thing in the next version (RFC 5829 section 3.4).
    SuccessorVersion,
    /// The same thing in the latest version (RFC 5829 section 3.2).
    LatestVersion,
}

impl Relation {
    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Deprecation => "deprecation",
            Relation::Sunset => "sunset",
            Relation::SuccessorVersion => "successor-version",
            Relation::LatestVersion => "latest-version",
        }
    }
}

/// A link from the resource of the request. Shown as a member of the `Link` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// Only characters of a URI, so that nothing of it needs escaping.
    target: Cow<'a, str>,
    relation: Relation,
}

impl<'a> Link<'a> {
    pub(crate) fn new(relation: Relation, target: Cow<'a, str>) -> Self {
        Link { target, relation }
    }

    /// The URI or path that it leads to.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// What is there.
    pub fn relation(&self) -> Relation {
        self.relation
    }
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>; rel=\"{}\"", self.target, self.relation.name())
    }
}

/// The value of a `Link` field to be added beside those of the upstream, if any: the links that the
/// upstream has not set. One that it has set has the same target, letter by letter, and among others
/// the same relation; one from another [anchor](https://www.rfc-editor.org/rfc/rfc8288#section-3.2)
/// is a different link.
pub fn merge_links<'a>(
    own: impl IntoIterator<Item = Link<'a>>,
    upstream: &[&[u8]],
) -> Option<String> {
    let missing = own
        .into_iter()
        .filter(|link| !upstream.iter().any(|field| has_link(field, link)));
    let mut value = String::new();
    for link in missing {
        // Written out, for it is done for every response, and a formatter costs ten times as much.
        if value.is_empty() {
            value.reserve(TYPICAL_FIELD);
        } else {
            value.push_str(", ");
        }
        value.push('<');
        value.push_str(&link.target);
        value.push_str(">; rel=\"");
        value.push_str(link.relation.name());
        value.push('"');
    }
    (!value.is_empty()).then_some(value)
}

/// About how many bytes four links have.
const TYPICAL_FIELD: usize = 320;

/// Whether a link is in a field (RFC 8288 appendix B.2). What is malformed is passed over.
fn has_link(field: &[u8], link: &Link<'_>) -> bool {
    let mut cursor = Cursor::new(field);
    loop {
        cursor.skip_empty_members();
        if cursor.is_at_end() {
            return false;
        }
        if is_link(&mut cursor, link) {
            return true;
        }
        cursor.end_link();
    }
}

fn is_link(cursor: &mut Cursor<'_>, link: &Link<'_>) -> bool {
    if !cursor.eat(b'<') {
        return false;
    }
    let Some(target) = cursor.take_until(b'>') else {
        return false;
    };
    let (mut relations, mut anchored) = (None, false);
    while let Some(parameter) = cursor.parameter() {
        if parameter.name.eq_ignore_ascii_case(b"anchor") {
            anchored = true;
        } else if parameter.name.eq_ignore_ascii_case(b"rel") {
            // The first counts (RFC 8288 section 3.3).
            relations = relations.or(parameter.value);
        }
    }
    let relations = relations.unwrap_or_default();
    let mut relations = relations.split(u8::is_ascii_whitespace);
    let name = link.relation.name().as_bytes();
    !anchored
        && target.trim_ascii() == link.target.as_bytes()
        && relations.any(|relation| relation.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const V2: &str = "/v2/a,b;c?d=e";
    const OWN: &str = r#"</v2/a,b;c?d=e>; rel="successor-version""#;

    fn successor() -> Link<'static> {
        Link::new(Relation::SuccessorVersion, V2.into())
    }

    #[test]
    fn links_are_added_beside_those_of_the_upstream() {
        let docs = Link::new(Relation::Deprecation, "https://dev.example/v2".into());
        let links = [docs, successor()];
        let both = format!(r#"<https://dev.example/v2>; rel="deprecation", {OWN}"#);
        assert_eq!(merge_links(links.clone(), &[]), Some(both.clone()));
        assert_eq!(
            merge_links(
                links.clone(),
                &[
                    OWN.as_bytes(),
                    br#"<https://dev.example/v2>;rel=deprecation"#
                ]
            ),
            None
        );
        assert_eq!(merge_links(links.clone(), &[both.as_bytes()]), None);
        assert_eq!(merge_links([], &[OWN.as_bytes()]), None);
        let other = br#"<https://dev.example/v2>;rel=sunset"#;
        assert_eq!(
            merge_links(links.clone(), &[&other[..], OWN.as_bytes()]).unwrap(),
            r#"<https://dev.example/v2>; rel="deprecation""#
        );
    }

    #[test]
    fn a_link_of_the_same_target_and_relation_is_not_repeated() {
        for (upstream, same) in [
            (OWN, true),
            ("</v2/a,b;c?d=e>;rel=Successor-Version", true),
            (
                "</x>; rel=next, , </v2/a,b;c?d=e> ; title=\"a, <b>; \\\" c\"; REL = \"next successor-version\"",
                true,
            ),
            ("garbage, </v2/a,b;c?d=e>;rel=successor-version", true),
            ("</x, </v2/a,b;c?d=e>;rel=successor-version", false),
            ("</v2/a,b;c?d=e>", false),
            ("</v2/a,b;c?d=e>;rel", false),
            ("</v2/a,b;c?d=e>;rel=next;rel=successor-version", false),
            ("</v2/a,b;c?d=e>;rel=successor-version;anchor=\"#a\"", false),
            ("</v2/a,b;c?d=e>;rel=successor-versions", false),
            ("</v2/a>;rel=successor-version", false),
            ("</V2/a,b;c?d=e>;rel=successor-version", false),
            (
                "</x>;title=\"</v2/a,b;c?d=e>;rel=successor-version\"",
                false,
            ),
            ("</v2/a,b;c?d=e", false),
            ("", false),
        ] {
            let merged = merge_links([successor()], &[upstream.as_bytes()]);
            assert_eq!(merged.is_none(), same, "{upstream}");
            assert!(same || merged.as_deref() == Some(OWN));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_again(
            targets in prop::collection::vec("/[a-z,;=?&'()*]{0,9}", 1..5),
            before in "[a-z<>;,=\" ]{0,9}",
        ) {
            let links: Vec<_> = targets
                .iter()
                .map(|target| Link::new(Relation::LatestVersion, target.as_str().into()))
                .collect();
            let written = merge_links(links.clone(), &[]).unwrap();
            prop_assert_eq!(merge_links(links.clone(), &[before.as_bytes(), written.as_bytes()]), None);
        }

        #[test]
        fn no_field_panics(field in prop::collection::vec(any::<u8>(), 0..40)) {
            merge_links([successor()], &[&field]);
        }
    }
}
