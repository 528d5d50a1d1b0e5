//! Whether a successor is the version itself.

use tollgate_core::apis::{ApiId, ApiTable, Template};
use tollgate_core::target::{EscapedSlashes, PathOptions, RequestTarget};

use crate::selector::{Place, VersionSelector};
use crate::successor::Successor;

/// Whether the successor of something in an API is in the API again, judged by a path of each of its
/// templates, with its hosts and its methods. Of an absolute URI that is not known: its host may be
/// another.
pub(super) fn leads_back(successor: &Successor, api: ApiId, apis: &ApiTable) -> bool {
    let options = PathOptions {
        escaped_slashes: EscapedSlashes::Keep,
        letter_case: apis.letter_case(),
    };
    !successor.has_origin()
        && apis.templates(api).iter().any(|template| {
            let sample = sample_path(template);
            let Ok(before) = RequestTarget::parse(sample.as_bytes(), &options) else {
                return false;
            };
            let template = std::slice::from_ref(template);
            let Some(uri) = successor.uri(template, &before, std::iter::empty()) else {
                return false;
            };
            RequestTarget::parse(uri.as_bytes(), &options)
                .is_ok_and(|after| both_belong_to(api, apis, &before, &after))
        })
}

/// Whether the API has requests for one target that would still be its own if they were for the
/// other: a client that follows a redirect keeps the host and the method.
fn both_belong_to(
    api: ApiId,
    apis: &ApiTable,
    before: &RequestTarget<'_>,
    after: &RequestTarget<'_>,
) -> bool {
    let mut templates = apis.templates(api).iter();
    // Few successors get past this, so that all hosts and methods are tried for few.
    templates.any(|template| template.captures(after).is_some())
        && apis.samples(api).any(|(host, method)| {
            let host = host.as_deref().map(str::as_bytes);
            let belongs = |target| apis.find(host, method.as_bytes(), target) == Ok(Some(api));
            belongs(before) && belongs(after)
        })
}

/// A path that the template takes, and most likely no more specific one.
pub(super) fn sample_path(template: &Template) -> String {
    let text = template.to_string();
    let segments = text.split('/').map(|segment| match is_wildcard(segment) {
        true => "~",
        false => segment,
    });
    segments.collect::<Vec<_>>().join("/")
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
