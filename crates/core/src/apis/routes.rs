//! The router: which of a set of method and path pairs takes a request most specifically.
//!
//! The tree is `matchit`'s. It gives a literal segment precedence over a wildcard and goes back
//! when that leads nowhere, which is the precedence wanted, but it does not allow `{x}` and
//! `{*rest}` at the same position. So no route has a `{*rest}`: there is a router for each number
//! of segments, in which a `**` is laid out as so many wildcards of one segment as are missing.
//! Beyond the deepest template only `**` can take a segment, so one number more is enough; a longer
//! path is cut to that.
//!
//! In such a router every route is made of literals and one-segment wildcards. Where two templates
//! become the same route, the more specific one has it. Where they don't, the first difference is
//! one of a literal and a wildcard, and it is at the same place in the templates or behind where
//! the less specific one has its `**`; so the order of the routes is that of the templates.
//!
//! Methods for which the same templates lead to the same are one class, those that are named nowhere
//! are another, and each class has routers of its own. So whatever a router finds takes the method
//! too, and a template that does not take it can't hide one that does.

use std::collections::{BTreeMap, BTreeSet};

use matchit::{InsertError, Router};

use super::{Method, Template};
use crate::order;

/// One pair, and what it leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'t, V> {
    /// None takes all methods.
    pub(super) method: Option<&'t Method>,
    pub(super) template: &'t Template,
    pub(super) value: V,
}

/// Why a route takes a method, from the most specific reason to the most general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Named,
    /// By a name that [implies](Method::implies) it.
    Implied,
    /// It takes all.
    All,
}

impl<V> Route<'_, V> {
    /// Why it takes a method, if it does; none is one that is named nowhere.
    fn takes(&self, method: Option<&Method>) -> Option<Reason> {
        match (self.method, method) {
            (None, _) => Some(Reason::All),
            (Some(own), Some(method)) if own == method => Some(Reason::Named),
            (Some(own), Some(method)) if own.implies(method) => Some(Reason::Implied),
            (Some(_), _) => None,
        }
    }

    fn takes_the_paths_of(&self, other: &Self) -> bool {
        self.template.cmp_specificity(other.template).is_eq()
    }
}

/// The routers of every class of methods.
#[derive(Clone, Debug)]
pub(super) struct Routes<V> {
    /// The first is that of the methods that are named nowhere.
    classes: Vec<Class<V>>,
    /// The named methods, and the index of their class.
    methods: Vec<(Method, usize)>,
}

impl<V: Copy + PartialEq> Routes<V> {
    /// Lays routes out. Where two have the same method and templates that take the same paths, the
    /// first has it.
    ///
    /// # Errors
    ///
    /// The router does not fail on routes made of templates; if it did, a rule would be missing.
    pub(super) fn compile(routes: &[Route<'_, V>]) -> Result<Self, InsertError> {
        let mut classes = vec![members(routes, None)];
        let mut methods = Vec::new();
        for method in named(routes) {
            let class = members(routes, Some(&method));
            let known = classes
                .iter()
                .position(|known| lead_to_the_same(known, &class));
            let index = known.unwrap_or_else(|| {
                classes.push(class);
                classes.len().saturating_sub(1)
            });
            methods.push((method, index));
        }
        let classes = classes.iter().map(|class| Class::compile(class));
        Ok(Routes {
            classes: classes.collect::<Result<_, _>>()?,
            methods,
        })
    }

    /// Whether any route takes some methods and not others.
    pub(super) fn name_methods(&self) -> bool {
        !self.methods.is_empty()
    }

    /// What the most specific route leads to that takes the method and the path, which is a
    /// [reading](crate::target::RequestTarget::readings).
    pub(super) fn find(&self, method: &[u8], path: &str) -> Option<V> {
        let named = self
            .methods
            .iter()
            .find(|(named, _)| named.as_str().as_bytes() == method);
        let class = named.map_or(0, |(_, class)| *class);
        self.classes.get(class)?.find(path)
    }
}

/// The methods that routes name, or imply by those they name.
fn named<V>(routes: &[Route<'_, V>]) -> BTreeSet<Method> {
    let mut named = BTreeSet::new();
    // One by one: collecting would sort them, for which a plugin has one routine already.
    named.extend(routes.iter().filter_map(|route| route.method.cloned()));
    let head = Method::head();
    if named.iter().any(|method| method.implies(&head)) {
        named.insert(head);
    }
    named
}

/// The routes that take a method, or the methods named nowhere, from specific to general: of those
/// with templates that take the same paths the one that takes the method most specifically.
fn members<'r, 't, V>(
    routes: &'r [Route<'t, V>],
    method: Option<&Method>,
) -> Vec<&'r Route<'t, V>> {
    let takes = |route: &'r Route<'t, V>| Some((route.takes(method)?, route));
    let mut members: Vec<_> = routes.iter().filter_map(takes).collect();
    order::sort_by(&mut members, |(reason, route), (other_reason, other)| {
        let by_template = route.template.cmp_specificity(other.template);
        by_template.then(reason.cmp(other_reason))
    });
    members.dedup_by(|(_, later), (_, earlier)| later.takes_the_paths_of(earlier));
    members.into_iter().map(|(_, route)| route).collect()
}

fn lead_to_the_same<V: PartialEq>(a: &[&Route<'_, V>], b: &[&Route<'_, V>]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.value == b.value && a.takes_the_paths_of(b))
}

/// The routers of one class of methods.
#[derive(Clone, Debug)]
struct Class<V> {
    /// What takes requests for no path.
    everything: Option<V>,
    /// By number of segments; the last is for more, too.
    depths: Vec<Router<V>>,
}

impl<V: Copy> Class<V> {
    /// Lays out routes that are sorted from specific to general.
    fn compile(routes: &[&Route<'_, V>]) -> Result<Self, InsertError> {
        let everything = routes
            .iter()
            .find(|route| route.template.takes_everything());
        let deepest = routes.iter().map(|route| route.template.depth()).max();
        let last = deepest.map_or(0, |deepest| deepest.saturating_add(1));
        let depths = (0..=last).map(|depth| {
            let mut router = Router::new();
            let mut taken = BTreeMap::new();
            for route in routes
                .iter()
                .filter(|route| route.template.takes_depth(depth))
            {
                taken
                    .entry(route.template.route(depth))
                    .or_insert(route.value);
            }
            for (route, value) in taken {
                router.insert(route, value)?;
            }
            Ok(router)
        });
        Ok(Class {
            everything: everything.map(|route| route.value),
            depths: depths.collect::<Result<_, _>>()?,
        })
    }

    fn find(&self, path: &str) -> Option<V> {
        if path.is_empty() {
            return self.everything;
        }
        let path = path
            .strip_suffix('/')
            .filter(|path| !path.is_empty())
            .unwrap_or(path);
        let last = self.depths.len().saturating_sub(1);
        let depth = match path {
            "/" => 0,
            _ => path.bytes().filter(|byte| *byte == b'/').count(),
        };
        let (depth, path) = match depth > last {
            true => (last, first_segments(path, last)?),
            false => (depth, path),
        };
        self.depths
            .get(depth)?
            .at(path)
            .ok()
            .map(|found| *found.value)
    }
}

/// The first segments of a path that has more.
fn first_segments(path: &str, count: usize) -> Option<&str> {
    let (end, _) = path.match_indices('/').nth(count)?;
    path.get(..end)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn find(templates: &[&str], path: &str) -> Option<usize> {
        let templates: Vec<Template> = templates
            .iter()
            .map(|text| Template::parse(text).unwrap())
            .collect();
        let routes = templates
            .iter()
            .enumerate()
            .map(|(value, template)| Route {
                method: None,
                template,
                value,
            })
            .collect::<Vec<_>>();
        Routes::compile(&routes).unwrap().find(b"GET", path)
    }

    #[test]
    fn a_literal_that_leads_nowhere_is_given_up() {
        let templates = ["/a/b/c", "/a/*/d", "/*/b/**", "/**"];
        for (path, expected) in [
            ("/a/b/c", 0),
            ("/a/b/d", 1),
            ("/a/x/d", 1),
            ("/a/b/e", 2),
            ("/x/b", 2),
            ("/x/b/c/d/e/f", 2),
            ("/a/x/e", 3),
            ("/", 3),
            ("", 3),
            ("/a/x/d/e/f/g/h", 3),
        ] {
            assert_eq!(find(&templates, path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_trailing_slash_makes_no_difference() {
        for (template, path, taken) in [
            ("/a", "/a/", true),
            ("/a/*", "/a/", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a", true),
            ("/a/**", "/ab", false),
            ("/", "/", true),
            ("/*", "/", false),
        ] {
            assert_eq!(
                find(&[template], path).is_some(),
                taken,
                "{template} {path}"
            );
        }
    }

    #[test]
    fn the_deepest_templates_can_be_laid_out() {
        let wildcards = "/*".repeat(24);
        let rest = format!("{wildcards}/**");
        let long = "/x".repeat(1000);
        let templates = [wildcards.as_str(), &rest, "/**"];
        assert_eq!(find(&templates, &"/x".repeat(23)), Some(2));
        assert_eq!(find(&templates, &"/x".repeat(24)), Some(0));
        assert_eq!(find(&templates, &"/x".repeat(25)), Some(1));
        assert_eq!(find(&templates, &long), Some(1));
        assert_eq!(find(&["/**"], &long), Some(0));
        assert_eq!(find(&[&wildcards], &long), None);
        assert_eq!(find(&[], "/a"), None);
    }

    #[test]
    fn methods_named_by_the_same_templates_share_routers() {
        let template = Template::parse("/a/**").unwrap();
        let methods: Vec<Method> = ["GET", "HEAD", "PUT"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let named = methods.iter().take(2).map(|method| Route {
            method: Some(method),
            template: &template,
            value: 1,
        });
        let all = Template::everything();
        let others = [
            Route {
                method: methods.last(),
                template: &all,
                value: 2,
            },
            Route {
                method: None,
                template: &all,
                value: 3,
            },
        ];
        let routes = Routes::compile(&named.chain(others).collect::<Vec<_>>()).unwrap();
        assert!(routes.name_methods());
        assert_eq!(routes.classes.len(), 3);
        for (method, path, expected) in [
            ("GET", "/a", 1),
            ("HEAD", "/a/b", 1),
            ("HEAD", "/b", 3),
            ("PUT", "/a", 2),
            ("POST", "/a", 3),
            ("", "", 3),
        ] {
            assert_eq!(
                routes.find(method.as_bytes(), path),
                Some(expected),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn head_is_implied_by_get_and_shares_its_routers() {
        let all = Template::everything();
        let get: Method = "GET".parse().unwrap();
        let route = |method, value| Route {
            method,
            template: &all,
            value,
        };
        let routes = Routes::compile(&[route(None, 1), route(Some(&get), 2)]).unwrap();
        assert_eq!(routes.classes.len(), 2);
        assert_eq!(routes.find(b"HEAD", "/a"), Some(2));
        let head = Method::head();
        let both = [route(Some(&get), 2), route(Some(&head), 3)];
        let routes = Routes::compile(&both).unwrap();
        assert_eq!(routes.find(b"HEAD", "/a"), Some(3));
        assert_eq!(routes.find(b"GET", "/a"), Some(2));
        let routes = Routes::compile(&[route(Some(&head), 3)]).unwrap();
        assert_eq!(routes.find(b"GET", "/a"), None);
        let routes = Routes::compile(&[route(None, 1)]).unwrap();
        assert!(!routes.name_methods());
    }
}
