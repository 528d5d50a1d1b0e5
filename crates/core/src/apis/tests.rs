//! The table against a matcher that is slow and obviously right.

use std::cmp::Reverse;

use proptest::prelude::*;
use proptest::sample::select;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::config::{ConfigErrors, OneOrMany};
use crate::target::{LetterCase, PathOptions, RequestTarget};

/// One host, path and method of one API, in the words of the configuration.
#[derive(Clone, Debug)]
struct Rule {
    api: String,
    host: &'static str,
    template: String,
    method: Option<&'static str>,
}

/// A request by one of the readings of its host and of its path.
#[derive(Clone, Copy, Debug)]
struct Reading<'r> {
    host: &'r str,
    method: &'r str,
    path: &'r str,
    letter_case: LetterCase,
}

impl Rule {
    fn takes(&self, request: Reading<'_>) -> bool {
        let host_fits = match self.host.strip_prefix("*.") {
            _ if self.host == "*" => true,
            Some(parent) => request.host.ends_with(&format!(".{parent}")),
            None => request.host == self.host,
        };
        let method_fits = self
            .method
            .is_none_or(|own| own == request.method || (own == "GET" && request.method == "HEAD"));
        host_fits && method_fits && self.takes_path(request.path, request.letter_case)
    }

    fn takes_path(&self, path: &str, letter_case: LetterCase) -> bool {
        let segments: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let fits = |template: &[&str], segments: &[&str]| {
            let mut pairs = template.iter().zip(segments);
            pairs.all(|(own, segment)| fits(own, segment, letter_case))
        };
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

    /// Smaller is more specific, of the rules that take a method.
    fn specificity(&self, method: &str) -> impl Ord + use<> {
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
        let method = match self.method {
            Some(own) if own == method => 0,
            Some(_) => 1,
            None => 2,
        };
        (host, path, method)
    }
}

fn fits(own: &str, segment: &str, letter_case: LetterCase) -> bool {
    let literal = own.replace("%2A", "*");
    own == "*"
        || own.starts_with('{')
        || match letter_case {
            LetterCase::Exact => literal == segment,
            LetterCase::Ignore => literal.to_lowercase() == segment.to_lowercase(),
        }
}

/// Sorts all rules by how specific they are, and takes the first that fits.
fn reference<'r>(rules: &'r [Rule], request: Reading<'_>) -> Option<&'r str> {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort_by_key(|rule| rule.specificity(request.method));
    sorted
        .into_iter()
        .find(|rule| rule.takes(request))
        .map(|rule| rule.api.as_str())
}

/// The authority as it stands, without its port, without its dot.
fn host_readings(authority: &str, ports: Ports) -> Vec<String> {
    let literal = authority.to_lowercase();
    let without_port = literal.split(':').next().unwrap().to_owned();
    let without_dot = without_port.trim_end_matches('.').to_owned();
    match ports {
        Ports::Reject => vec![without_dot, without_port, literal],
        Ports::Ignore => vec![without_dot, without_port],
    }
}

/// What all readings of a request agree on, if they do.
fn readings_agree<'r>(
    rules: &'r [Rule],
    hosts: &[String],
    method: &str,
    paths: &RequestTarget<'_>,
    letter_case: LetterCase,
) -> Option<Option<&'r str>> {
    let mut found: Vec<_> = hosts
        .iter()
        .flat_map(|host| paths.readings().map(move |path| (host, path)))
        .map(|(host, path)| {
            let request = Reading {
                host,
                method,
                path,
                letter_case,
            };
            reference(rules, request)
        })
        .collect();
    found.dedup();
    match found.as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

fn template() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "A", "b", "ab", "%2A", "*", "{x}"]);
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

fn letter_case() -> impl Strategy<Value = LetterCase> {
    select(vec![LetterCase::Exact, LetterCase::Ignore])
}

/// Rules of which no two take the same requests.
fn rules(letter_case: LetterCase) -> impl Strategy<Value = Vec<Rule>> {
    let host = select(vec!["*", "*", "*.x", "*.h.x", "h.x", "g.h.x"]);
    let method = select(vec![None, None, Some("GET"), Some("HEAD"), Some("POST")]);
    prop::collection::vec((0usize..6, host, template(), method), 0..16).prop_map(move |drawn| {
        let mut rules: Vec<Rule> = Vec::new();
        for (api, host, template, method) in drawn {
            let rule = Rule {
                api: format!("api{api}"),
                host,
                template,
                method,
            };
            let shape = |rule: &Rule| {
                let shape = rule.template.replace("{x}", "*");
                match letter_case {
                    LetterCase::Exact => shape,
                    LetterCase::Ignore => shape.to_lowercase(),
                }
            };
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

fn rules_and_case() -> impl Strategy<Value = (Vec<Rule>, LetterCase)> {
    letter_case().prop_flat_map(|letter_case| (rules(letter_case), Just(letter_case)))
}

fn request_path() -> impl Strategy<Value = String> {
    let segment = select(vec![
        "a", "A", "b", "ab", "aB", "c", "*", "%2a", "%61", "%41", "a;x", ".", "a;", ";b",
    ]);
    prop_oneof![
        1 => select(vec!["", "*", "/"]).prop_map(str::to_owned),
        9 => (prop::collection::vec(segment, 0..7), any::<bool>()).prop_map(|(segments, slash)| {
            format!("/{}{}", segments.join("/"), if slash { "/" } else { "" })
        }),
    ]
}

fn authority() -> impl Strategy<Value = String> {
    let host = select(vec![
        "h.x", "H.x", "g.h.x", "i.h.x", "k.g.h.x", "y.x", "x", "z",
    ]);
    let port = select(vec!["", "", "", ":80", ".", ".:80"]);
    (host, port).prop_map(|(host, port)| format!("{host}{port}"))
}

fn requests() -> impl Strategy<Value = Vec<(String, &'static str, String)>> {
    let method = select(vec!["GET", "HEAD", "POST", "DELETE"]);
    prop::collection::vec((authority(), method, request_path()), 1..24)
}

fn compile(rules: &[Rule], ports: Ports, letter_case: LetterCase) -> ApiTable {
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
    let table = ApiTable::compile(
        configs,
        HostOptions { ports },
        path_options(letter_case),
        &mut errors,
    );
    assert!(errors.is_empty(), "{errors}");
    table
}

fn path_options(letter_case: LetterCase) -> PathOptions {
    PathOptions {
        letter_case,
        ..PathOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_table_finds_what_the_reference_finds(
        (rules, shuffled, letter_case) in rules_and_case().prop_flat_map(|(rules, letter_case)| {
            (Just(rules.clone()), Just(rules).prop_shuffle(), Just(letter_case))
        }),
        ports in select(vec![Ports::Reject, Ports::Ignore]),
        requests in requests(),
    ) {
        let table = compile(&rules, ports, letter_case);
        let other_order = compile(&shuffled, ports, letter_case);
        for (authority, method, path) in requests {
            // The reference compares the unfolded readings.
            let Ok(exact) = RequestTarget::parse(path.as_bytes(), &PathOptions::default()) else {
                continue;
            };
            let options = path_options(letter_case);
            let target = RequestTarget::parse(path.as_bytes(), &options).unwrap();
            let hosts = host_readings(&authority, ports);
            let expected = readings_agree(&rules, &hosts, method, &exact, letter_case);
            let find = |table: &ApiTable| {
                let found = table.find(Some(authority.as_bytes()), method.as_bytes(), &target);
                found.ok().map(|api| api.map(|api| table.name(api).to_owned()))
            };
            let expected = expected.map(|api| api.map(str::to_owned));
            prop_assert_eq!(find(&table), expected.clone(), "{} {}{}", method, authority, path);
            prop_assert_eq!(find(&other_order), expected, "{} {}{}", method, authority, path);
        }
    }

    #[test]
    fn patterns_are_found_as_the_reference_finds_them(
        (rules, letter_case) in rules_and_case(),
        requests in requests(),
    ) {
        let rules: Vec<Rule> = rules.into_iter().filter(|rule| rule.host == "*").collect();
        let entries = rules.iter().map(|rule| {
            let text = format!("{} {}", rule.method.unwrap_or_default(), rule.template);
            (text.parse().unwrap(), rule.api.as_str())
        });
        let table = PatternTable::compile(entries, letter_case).unwrap();
        for (_, method, path) in requests {
            let Ok(exact) = RequestTarget::parse(path.as_bytes(), &PathOptions::default()) else {
                continue;
            };
            let options = path_options(letter_case);
            let target = RequestTarget::parse(path.as_bytes(), &options).unwrap();
            // Patterns must agree, not only their values.
            if let Ok(found) = table.find(method.as_bytes(), &target) {
                let expected = readings_agree(
                    &rules,
                    &[String::new()],
                    method,
                    &exact,
                    letter_case,
                );
                let found = Some(found.map(|(_, api)| *api));
                prop_assert_eq!(found, expected, "{} {}", method, path);
            } else {
                prop_assert!(target.readings().count() > 1);
            }
        }
    }

    #[test]
    fn a_template_captures_exactly_what_it_takes(
        template in template(),
        path in request_path(),
        letter_case in letter_case(),
    ) {
        let rule = Rule { api: String::new(), host: "*", template, method: None };
        let template = Template::parse(&rule.template).unwrap();
        let options = path_options(letter_case);
        if let Ok(target) = RequestTarget::parse(path.as_bytes(), &options) {
            let literal = target.readings().next().unwrap().to_owned();
            let taken = rule.takes_path(&literal, letter_case);
            prop_assert_eq!(template.captures(&target).is_some(), taken);
            let folded = template.clone().folded(letter_case);
            prop_assert_eq!(folded.captures(&target), template.captures(&target));
            if let Some(captures) = template.captures(&target) {
                prop_assert_eq!(template.check_fill(&template), Ok(()));
                let filled = template.fill(&captures).unwrap();
                let again = RequestTarget::parse(filled.as_bytes(), &options).unwrap();
                prop_assert_eq!(template.captures(&again).unwrap(), captures);
            }
        }
    }

    #[test]
    fn no_request_panics(authority: Vec<u8>, method: Vec<u8>, path: Vec<u8>) {
        let rule = Rule { api: "a".to_owned(), host: "h.x", template: "/a".to_owned(), method: Some("GET") };
        let table = compile(&[rule], Ports::Reject, LetterCase::Ignore);
        if let Ok(target) = RequestTarget::parse(&path, &path_options(LetterCase::Ignore)) {
            let _ = table.find(Some(&authority), &method, &target);
        }
    }
}
