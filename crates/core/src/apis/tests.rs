//! The table against a matcher that is slow and obviously right.

use std::cmp::Reverse;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::config::{ConfigErrors, OneOrMany};
use crate::target::{AmbiguousPath, PathOptions, RequestTarget};

/// One host, path and method of one API, in the words of the configuration.
#[derive(Clone, Debug)]
struct Rule {
    api: String,
    host: &'static str,
    template: String,
    method: Option<&'static str>,
}

impl Rule {
    fn takes(&self, host: &str, method: &str, path: &str) -> bool {
        let host_fits = match self.host.strip_prefix("*.") {
            _ if self.host == "*" => true,
            Some(parent) => host.ends_with(&format!(".{parent}")),
            None => host == self.host,
        };
        host_fits && self.method.is_none_or(|own| own == method) && self.takes_path(path)
    }

    fn takes_path(&self, path: &str) -> bool {
        let segments: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let template = self.segments();
        match template.split_last() {
            Some((&"**", before)) if path.is_empty() => before.is_empty(),
            _ if path.is_empty() => false,
            Some((&"**", before)) => {
                before.len() <= segments.len() && fits(before, &segments[..before.len()])
            }
            _ => template.len() == segments.len() && fits(&template, &segments),
        }
    }

    fn segments(&self) -> Vec<&str> {
        self.template
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect()
    }

    /// Smaller is more specific.
    fn specificity(&self) -> impl Ord + use<> {
        let host = match self.host {
            "*" => (2, Reverse(0)),
            wildcard if wildcard.starts_with("*.") => (1, Reverse(wildcard.len())),
            _ => (0, Reverse(0)),
        };
        let path: Vec<u8> = self
            .segments()
            .iter()
            .map(|segment| match *segment {
                "**" => 3,
                "*" => 1,
                name if name.starts_with('{') => 1,
                _ => 0,
            })
            .chain([2])
            .collect();
        (host, path, self.method.is_none())
    }
}

fn fits(template: &[&str], segments: &[&str]) -> bool {
    template.iter().zip(segments).all(|(own, segment)| {
        *own == "*" || own.starts_with('{') || own.replace("%2A", "*") == *segment
    })
}

/// Sorts all rules by how specific they are, and takes the first that fits.
fn reference<'r>(rules: &'r [Rule], host: &str, method: &str, path: &str) -> Option<&'r str> {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort_by_key(|rule| rule.specificity());
    sorted
        .into_iter()
        .find(|rule| rule.takes(host, method, path))
        .map(|rule| rule.api.as_str())
}

fn readings_agree<'r>(
    rules: &'r [Rule],
    host: &str,
    method: &str,
    target: &RequestTarget<'_>,
) -> Result<Option<&'r str>, AmbiguousPath> {
    let mut found: Vec<_> = target
        .readings()
        .map(|path| reference(rules, host, method, path))
        .collect();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(*one),
        _ => Err(AmbiguousPath::DifferentRules),
    }
}

fn template() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "b", "ab", "%2A", "*", "{x}"]);
    (prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        // A name may come once only.
        let mut named = false;
        for segment in &mut segments {
            if *segment == "{x}" && std::mem::replace(&mut named, true) {
                *segment = "*";
            }
        }
        segments.extend(rest.then_some("**"));
        format!("/{}", segments.join("/"))
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let host = select(vec!["*", "*", "*.x", "*.h.x", "h.x", "g.h.x"]);
    let method = select(vec![None, None, Some("GET"), Some("PUT"), Some("POST")]);
    prop::collection::vec((0usize..6, host, template(), method), 0..16).prop_map(|drawn| {
        let mut rules: Vec<Rule> = Vec::new();
        for (api, host, template, method) in drawn {
            let rule = Rule {
                api: format!("api{api}"),
                host,
                template,
                method,
            };
            let shape = |rule: &Rule| rule.template.replace("{x}", "*");
            let same = |other: &Rule| {
                (other.host, shape(other), other.method) == (host, shape(&rule), method)
            };
            if !rules.iter().any(same) {
                rules.push(rule);
            }
        }
        rules
    })
}

fn request_path() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "a", "b", "ab", "c", "*", "%2a", "%61", "a;x", ".", "a;", ";b",
    ]);
    prop_oneof![
        1 => select(vec!["", "*", "/"]).prop_map(str::to_owned),
        9 => (prop::collection::vec(segment, 0..7), any::<bool>()).prop_map(|(segments, slash)| {
            format!("/{}{}", segments.join("/"), if slash { "/" } else { "" })
        }),
    ]
}

fn requests() -> impl Strategy<Value = Vec<(&'static str, &'static str, String)>> {
    let host = select(vec!["h.x", "g.h.x", "i.h.x", "k.g.h.x", "y.x", "x", "z"]);
    let method = select(vec!["GET", "PUT", "POST", "DELETE"]);
    prop::collection::vec((host, method, request_path()), 1..24)
}

fn compile(rules: &[Rule]) -> ApiTable {
    let mut configs: Vec<ApiConfig> = Vec::new();
    for rule in rules {
        let one = |text: &str| Some(OneOrMany(vec![text.to_owned()]));
        let requests = MatchConfig {
            hosts: one(rule.host),
            path: one(&rule.template),
            methods: rule.method.and_then(one),
        };
        match configs.iter_mut().find(|config| config.name == rule.api) {
            Some(config) => config.matches.0.push(requests),
            None => configs.push(ApiConfig {
                name: rule.api.clone(),
                matches: OneOrMany(vec![requests]),
            }),
        }
    }
    let mut errors = ConfigErrors::default();
    let table = ApiTable::compile(configs, &mut errors);
    assert!(errors.is_empty(), "{errors}");
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_table_finds_what_the_reference_finds(
        (rules, shuffled) in rules().prop_flat_map(|rules| {
            (Just(rules.clone()), Just(rules).prop_shuffle())
        }),
        requests in requests(),
    ) {
        let (table, other_order) = (compile(&rules), compile(&shuffled));
        for (host, method, path) in requests {
            let Ok(target) = RequestTarget::parse(path.as_bytes(), &PathOptions::default()) else {
                continue;
            };
            let expected = readings_agree(&rules, host, method, &target);
            let find = |table: &ApiTable| {
                let found = table.find(Some(host.as_bytes()), method.as_bytes(), &target);
                found.map(|api| api.map(|api| table.name(api).to_owned()))
            };
            let expected = expected.map(|api| api.map(str::to_owned));
            prop_assert_eq!(find(&table), expected.clone(), "{} {}{}", method, host, path);
            prop_assert_eq!(find(&other_order), expected, "{} {}{}", method, host, path);
        }
    }

    #[test]
    fn patterns_are_found_as_the_reference_finds_them(rules in rules(), requests in requests()) {
        let rules: Vec<Rule> = rules.into_iter().filter(|rule| rule.host == "*").collect();
        let entries = rules.iter().map(|rule| {
            let text = format!("{} {}", rule.method.unwrap_or_default(), rule.template);
            (text.parse().unwrap(), rule.api.as_str())
        });
        let table = PatternTable::compile(entries).unwrap();
        for (_, method, path) in requests {
            let Ok(target) = RequestTarget::parse(path.as_bytes(), &PathOptions::default()) else {
                continue;
            };
            // Patterns must agree, not only their values.
            if let Ok(found) = table.find(method.as_bytes(), &target) {
                let expected = readings_agree(&rules, "", method, &target);
                prop_assert_eq!(Ok(found.map(|(_, api)| *api)), expected, "{} {}", method, path);
            } else {
                prop_assert!(target.readings().count() > 1);
            }
        }
    }

    #[test]
    fn a_template_captures_exactly_what_it_takes(template in template(), path in request_path()) {
        let rule = Rule { api: String::new(), host: "*", template, method: None };
        let template = Template::parse(&rule.template).unwrap();
        if let Ok(target) = RequestTarget::parse(path.as_bytes(), &PathOptions::default()) {
            let literal = target.readings().next().unwrap().to_owned();
            prop_assert_eq!(template.captures(&target).is_some(), rule.takes_path(&literal));
            if let Some(captures) = template.captures(&target) {
                prop_assert_eq!(template.check_fill(&template), Ok(()));
                let filled = template.fill(&captures).unwrap();
                let again = RequestTarget::parse(filled.as_bytes(), &PathOptions::default()).unwrap();
                prop_assert_eq!(template.captures(&again).unwrap(), captures);
            }
        }
    }
}
