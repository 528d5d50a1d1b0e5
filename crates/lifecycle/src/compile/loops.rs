//! Whether redirects lead round in a circle: from one version by way of others back to it, for ever
//! once all have ended.

use form_urlencoded::byte_serialize;
use tollgate_core::apis::{ApiId, ApiTable};
use tollgate_core::config::{ConfigErrors, quote};
use tollgate_core::headers::Headers;
use tollgate_core::target::{EscapedSlashes, PathOptions, RequestTarget};

use super::LifecycleTable;
use super::leads_back::sample_path;
use crate::config::AfterSunset;
use crate::lifecycle::Lifecycle;
use crate::selector::{Place, VersionSelector};
use crate::successor::Successor;

/// Refuses circles of two and more versions, each once; `paths` are where the lives stand in the
/// document. Whether a version leads back to itself is found with its
/// [successor](super::leads_back).
///
/// They are found by requests: a path of each template of each version that redirects, with each host
/// and method that its API tells apart, and with the headers that name the versions on the way. They
/// are followed as a client follows them, which keeps host, method and headers.
pub(super) fn check(
    table: &LifecycleTable,
    paths: &[String],
    apis: &ApiTable,
    errors: &mut ConfigErrors,
) {
    let mut known: Vec<Vec<usize>> = Vec::new();
    let walker = Walker { table, apis };
    for request in walker.first_requests() {
        let Some(hops) = walker.find_circle(request) else {
            continue;
        };
        let hops = from_first(&hops);
        let lives: Vec<usize> = hops.iter().map(|hop| hop.life).collect();
        if lives.len() < 2 || known.contains(&lives) {
            continue;
        }
        known.push(lives);
        let path = hops.first().and_then(|hop| paths.get(hop.life));
        if let Some(path) = path {
            errors.add(format!("{path}.successor"), message(&hops, paths));
        }
    }
}

/// The same circle, from the version that is written first on.
fn from_first(hops: &[Hop]) -> Vec<&Hop> {
    let lives = hops.iter().map(|hop| hop.life).enumerate();
    let first = lives.min_by_key(|(_, life)| *life).map_or(0, |(at, _)| at);
    let circle = hops.iter().cycle().skip(first);
    circle.take(hops.len()).collect()
}

fn message(hops: &[&Hop], paths: &[String]) -> String {
    let hops = hops.iter().map(|hop| {
        let path = paths.get(hop.life).map_or("", String::as_str);
        format!("{} ({path})", quote(&hop.uri))
    });
    let way = hops.collect::<Vec<_>>().join(" to ");
    format!(
        "leads round in a circle, from {way} and back, and a client would follow it for ever once \
         all have ended: lead one of them to a version that lives, or write gone there"
    )
}

/// A request, so far as it matters to where it leads.
#[derive(Clone)]
struct Request {
    uri: String,
    host: Option<String>,
    method: String,
    headers: Vec<(String, String)>,
}

/// A redirect: what was asked for, and the version that it was for.
struct Hop {
    uri: String,
    life: usize,
}

/// Where a request leads.
enum End {
    Circle(Vec<Hop>),
    /// Nowhere, unless it names another version of this API.
    Api(ApiId),
    Nowhere,
}

/// How many ways to name versions are tried for a request.
const MOST_TRIED: usize = 64;

struct Walker<'a> {
    table: &'a LifecycleTable,
    apis: &'a ApiTable,
}

impl<'a> Walker<'a> {
    /// A request of each kind for each version that redirects.
    fn first_requests(&self) -> Vec<Request> {
        let mut requests = Vec::new();
        for (api, _) in self.apis.iter() {
            for (life, _) in self.redirects_of(api) {
                for template in self.apis.templates(api) {
                    let path = sample_path(template);
                    for (host, method) in self.apis.samples(api) {
                        let request =
                            |(query, header): (String, Option<(String, String)>)| Request {
                                uri: format!("{path}{query}"),
                                host: host.clone(),
                                method: method.to_owned(),
                                headers: header.into_iter().collect(),
                            };
                        requests.extend(names_of(&life.selector).into_iter().map(request));
                    }
                }
            }
        }
        requests
    }

    /// The versions of an API that redirect after their end, and where to.
    fn redirects_of(&self, api: ApiId) -> impl Iterator<Item = (&'a Lifecycle, &'a Successor)> {
        let versions = self.table.by_api.get(api.index());
        let lives = versions.into_iter().flatten();
        lives.filter_map(|index| redirect(self.table.get(*index)?))
    }

    /// Follows a request, and where it ends at an API some of whose versions redirect, also one that
    /// names these.
    fn find_circle(&self, request: Request) -> Option<Vec<Hop>> {
        let mut requests = vec![request];
        for _ in 0..MOST_TRIED {
            let request = requests.pop()?;
            match self.follow(&request) {
                End::Circle(hops) => return Some(hops),
                End::Nowhere => {}
                End::Api(api) => {
                    let selectors = self.redirects_of(api).map(|(life, _)| &life.selector);
                    let names = selectors
                        .flat_map(names_of)
                        .filter_map(|(_, header)| header);
                    for (name, value) in names {
                        if request.headers.iter().any(|(known, _)| *known == name) {
                            continue;
                        }
                        let mut next = request.clone();
                        next.headers.push((name, value));
                        requests.push(next);
                    }
                }
            }
        }
        None
    }

    fn follow(&self, request: &Request) -> End {
        let options = PathOptions {
            escaped_slashes: EscapedSlashes::Keep,
            letter_case: self.apis.letter_case(),
        };
        let headers =
            Headers::from_pairs(request.headers.iter().map(|(name, value)| (name, value)));
        let host = request.host.as_deref().map(str::as_bytes);
        let mut uri = request.uri.clone();
        let mut hops: Vec<Hop> = Vec::new();
        loop {
            let Ok(target) = RequestTarget::parse(uri.as_bytes(), &options) else {
                return End::Nowhere;
            };
            let Ok(Some(api)) = self.apis.find(host, request.method.as_bytes(), &target) else {
                return End::Nowhere;
            };
            let place = self.table.find_place(api, &headers, target.query());
            let found = place.and_then(|place| Some((place, redirect(self.table.get(place)?)?)));
            let Some((place, (life, successor))) = found else {
                return End::Api(api);
            };
            if let Some(again) = hops.iter().position(|hop| hop.life == place) {
                return End::Circle(hops.split_off(again));
            }
            let left_out = life.selector.query_names();
            let next = successor.uri(self.apis.templates(api), &target, left_out);
            // Of another host it is not known whether it leads here.
            let Some(next) = next.filter(|_| !successor.has_origin()) else {
                return End::Nowhere;
            };
            hops.push(Hop { uri, life: place });
            uri = next;
        }
    }
}

fn redirect(life: &Lifecycle) -> Option<(&Lifecycle, &Successor)> {
    let successor = life.successor.as_ref()?;
    (life.after_sunset == AfterSunset::Redirect).then_some((life, successor))
}

/// The ways to ask for a version: each a query, perhaps empty, and a header.
fn names_of(selector: &VersionSelector) -> Vec<(String, Option<(String, String)>)> {
    let mut names = Vec::new();
    if selector.takes_all() || selector.is_default {
        names.push((String::new(), None));
    }
    for place in &selector.places {
        match place {
            Place::Header(name, values) => names.extend(values.iter().map(|value| {
                let header = (name.as_str().to_owned(), value.clone());
                (String::new(), Some(header))
            })),
            Place::Query(name, values) => names.extend(values.iter().map(|value| {
                let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                (format!("?{}={}", encode(name), encode(value)), None)
            })),
            Place::MediaType(range) => {
                let header = ("accept".to_owned(), range.to_string());
                names.push((String::new(), Some(header)));
            }
        }
    }
    names
}
