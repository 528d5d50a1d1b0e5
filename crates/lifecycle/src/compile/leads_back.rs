//! Whether a successor is the version itself.

use std::cmp::Ordering;

use tollgate_core::apis::{ApiId, ApiTable, Template};
use tollgate_core::target::{EscapedSlashes, PathOptions, RequestTarget};

use crate::selector::{Place, VersionSelector};
use crate::successor::Successor;

/// Whether the successor of something in an API is in the API again, judged by a path of each of its
/// templates. Of an absolute URI that is not known: its host may be another.
pub(super) fn leads_back(successor: &Successor, api: ApiId, apis: &ApiTable) -> bool {
    let options = PathOptions {
        escaped_slashes: EscapedSlashes::Keep,
        letter_case: apis.letter_case(),
    };
    !successor.has_origin()
        && apis.templates(api).iter().any(|template| {
            let sample = sample_path(template);
            let uri = RequestTarget::parse(sample.as_bytes(), &options)
                .ok()
                .and_then(|target| {
                    successor.uri(std::slice::from_ref(template), &target, std::iter::empty())
                });
            uri.is_some_and(|uri| belongs_to(&uri, api, apis, &options))
        })
}

/// Whether the API has a template for a path that is more specific than those of all other APIs.
fn belongs_to(uri: &str, api: ApiId, apis: &ApiTable, options: &PathOptions) -> bool {
    let Ok(target) = RequestTarget::parse(uri.as_bytes(), options) else {
        return false;
    };
    let best = |id: ApiId| {
        let taken = apis
            .templates(id)
            .iter()
            .filter(|template| template.captures(&target).is_some());
        taken.map(specificity).min()
    };
    let Some(own) = best(api) else {
        return false;
    };
    let mut others = apis
        .iter()
        .filter(|(id, _)| *id != api)
        .filter_map(|(id, _)| best(id));
    others.all(|other| own.cmp(&other) == Ordering::Less)
}

/// A path that the template takes.
fn sample_path(template: &Template) -> String {
    let text = template.to_string();
    let segments = text.split('/').map(|segment| match is_wildcard(segment) {
        true => "x",
        false => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Orders templates that take a path in common: the smaller is the more specific, as in
/// [`tollgate_core::apis`].
fn specificity(template: &Template) -> Vec<u8> {
    let text = template.to_string();
    let segments = text.split('/').skip(1).map(|segment| match segment {
        "**" => 3,
        _ if segment.ends_with("=**}") => 3,
        _ if is_wildcard(segment) => 1,
        _ => 0,
    });
    let mut ranks: Vec<u8> = segments.collect();
    if ranks.last() != Some(&3) {
        ranks.push(2);
    }
    ranks
}

/// Templates show the characters themselves as escapes.
fn is_wildcard(segment: &str) -> bool {
    segment.starts_with(['*', '{'])
}

/// Whether a request that follows the successor back to its own API is for this version again: what
/// it has in its headers it keeps, of its query only what is not a version.
pub(super) fn redirects_forever(successor: &Successor, selector: &VersionSelector) -> bool {
    selector.places.iter().any(|place| match place {
        Place::Header(..) | Place::MediaType(_) => true,
        Place::Query(name, versions) => {
            let mut given = successor.query_values(name).peekable();
            match given.peek() {
                Some(_) => given.any(|value| versions.contains(&value)),
                None => selector.is_default,
            }
        }
    })
}
