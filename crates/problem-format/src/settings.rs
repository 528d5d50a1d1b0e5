//! The section `problem_details`, checked and ready to be applied.

use std::borrow::Cow;

use serde_json::Value;
use tollgate_core::config::{ConfigErrors, Rejected, expected_one_of, key_path, quote};
use tollgate_core::headers::HeaderName;
use tollgate_core::order;
use tollgate_core::problem::Kind;
use tollgate_core::text::Text;

use crate::cors::Cors;
use crate::document::{ABOUT_BLANK, Document};
use crate::section::{Override, Section, Wrap};
use crate::status;
use crate::values::TypeBase;

/// What an operator has set about problems.
#[derive(Clone, Debug)]
pub struct Settings {
    type_base: Option<TypeBase>,
    language: Text,
    wrap: Vec<Wrap>,
    cors: Option<Cors>,
    default_4xx: Rule,
    default_5xx: Rule,
    /// Nothing is set for what is neither.
    neither: Rule,
    /// The kinds that have an override, in the order of their names, with the defaults behind it.
    kinds: Vec<(&'static str, Rule)>,
}

/// An override with what it inherits.
#[derive(Clone, Debug, Default)]
struct Rule {
    status: Option<u16>,
    type_uri: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    members: Vec<(String, Value)>,
    headers: Vec<(HeaderName, Text)>,
}

const DEFAULT_4XX: &str = "default_4xx";
const DEFAULT_5XX: &str = "default_5xx";

impl Settings {
    /// Checks the section that stands at `path` in the configuration. `kinds` are all that can
    /// occur. Every mistake is recorded.
    pub fn compile(
        section: Section,
        kinds: &[&'static Kind],
        path: &str,
        errors: &mut ConfigErrors,
    ) -> Result<Self, Rejected> {
        let cors = section
            .cors
            .map(|cors| Cors::compile(cors, &key_path(path, "cors"), errors))
            .transpose();
        let path = key_path(path, "overrides");
        let mut verdict = Ok(());
        let mut default = |name: &str| match section.overrides.get(name) {
            Some(found) => {
                Rule::of(found, &key_path(&path, name), errors).unwrap_or_else(|error| {
                    verdict = Err(error);
                    Rule::default()
                })
            }
            None => Rule::default(),
        };
        let mut settings = Settings {
            default_4xx: default(DEFAULT_4XX),
            default_5xx: default(DEFAULT_5XX),
            neither: Rule::default(),
            type_base: section.type_base,
            language: Text::from(section.language.as_str().to_owned()).shared(),
            wrap: section.wrap.unwrap_or_else(|| vec![Wrap::Gateway]),
            cors: None,
            kinds: Vec::new(),
        };
        for (name, found) in section.overrides.iter() {
            let place = key_path(&path, name);
            if [DEFAULT_4XX, DEFAULT_5XX].contains(&name) {
                // It may stand for any kind, so it is judged without regard to one.
                let rule = settings.default_of(if name == DEFAULT_4XX { 400 } else { 500 });
                if let Err(error) = rule.check_status(None, &place, errors) {
                    verdict = Err(error);
                }
                continue;
            }
            let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
                verdict = Err(errors.add(&path, unknown_kind(name, kinds)));
                continue;
            };
            match Rule::of(found, &place, errors) {
                Ok(rule) => {
                    let rule = rule.or(settings.default_of(kind.status));
                    if let Err(error) = rule.check_status(Some(kind), &place, errors) {
                        verdict = Err(error);
                    }
                    settings.kinds.push((kind.name, rule));
                }
                Err(error) => verdict = Err(error),
            }
        }
        verdict?;
        settings.cors = cors?;
        Ok(settings)
    }

    /// Words a problem as the operator has it. The kind's own override counts first, then that for
    /// its status; then the type is the base with the kind's name, if there is a base.
    ///
    /// Where the type is `about:blank`, the title is the phrase of the status; a type that says more
    /// has the kind's name in words. A title that was set wins over both.
    pub fn apply<'a>(&'a self, kind: &Kind, document: &mut Document<'a>) {
        let rule = self.rule(kind);
        if let Some(status) = rule.status {
            document.status = status;
        }
        let base = self.type_base.as_ref();
        let type_uri = match &rule.type_uri {
            Some(uri) => Some(Cow::Borrowed(uri.as_str())),
            None => base.map(|base| Cow::Owned(base.join(kind.name))),
        };
        if let Some(uri) = type_uri {
            document.type_uri = uri;
            document.title = in_words(kind.name).into();
        }
        if document.type_uri == ABOUT_BLANK {
            document.title = status::phrase(document.status).into();
        }
        if let Some(title) = &rule.title {
            document.title = title.into();
        }
        if let Some(detail) = &rule.detail {
            document.detail = detail.into();
        }
        for (name, value) in &rule.members {
            document.extend(name, Cow::Borrowed(value));
        }
    }

    /// The headers that the operator has set for a kind. Each replaces all of its name.
    pub fn headers(&self, kind: &Kind) -> &[(HeaderName, Text)] {
        &self.rule(kind).headers
    }

    /// The language of titles and details, for `content-language`.
    pub fn language(&self) -> &Text {
        &self.language
    }

    /// Whether such answers become problems.
    pub fn wraps(&self, wrap: Wrap) -> bool {
        self.wrap.contains(&wrap)
    }

    /// Whose scripts may read problems from another origin.
    pub fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    fn rule(&self, kind: &Kind) -> &Rule {
        self.kinds
            .binary_search_by(|(name, _)| (*name).cmp(kind.name))
            .ok()
            .and_then(|index| self.kinds.get(index))
            .map_or_else(|| self.default_of(kind.status), |(_, rule)| rule)
    }

    fn default_of(&self, status: u16) -> &Rule {
        match status {
            400..500 => &self.default_4xx,
            500.. => &self.default_5xx,
            // A redirect is no error.
            _ => &self.neither,
        }
    }
}

impl Rule {
    fn of(found: &Override, path: &str, errors: &mut ConfigErrors) -> Result<Self, Rejected> {
        let mut headers: Vec<(HeaderName, Text)> = Vec::new();
        let mut verdict = Ok(());
        for (header, value) in &found.headers.0 {
            let name = header.name();
            if headers.iter().any(|(other, _)| other == name) {
                let message = format!("{} is there twice, remove one of them", quote(name));
                verdict = Err(errors.add(key_path(path, "headers"), message));
            }
            headers.push((name.clone(), Text::from(value.as_str().to_owned()).shared()));
        }
        let members = found.members.0.iter();
        let members = members.map(|(name, value)| (name.as_str().to_owned(), value.clone()));
        let rule = Rule {
            status: found.status.map(|status| status.get()),
            type_uri: found.type_uri.as_ref().map(|uri| uri.as_str().to_owned()),
            title: found.title.as_ref().map(|title| title.as_str().to_owned()),
            detail: found.detail.as_ref().map(|line| line.as_str().to_owned()),
            members: members.collect(),
            headers,
        };
        verdict.map(|()| rule)
    }

    /// What is not said here is as `default` has it.
    fn or(mut self, default: &Rule) -> Rule {
        for (name, value) in &default.members {
            if !self.members.iter().any(|(own, _)| own == name) {
                self.members.push((name.clone(), value.clone()));
            }
        }
        for (name, value) in &default.headers {
            if !self.headers.iter().any(|(own, _)| own == name) {
                self.headers.push((name.clone(), value.clone()));
            }
        }
        Rule {
            status: self.status.or(default.status),
            type_uri: self.type_uri.or_else(|| default.type_uri.clone()),
            title: self.title.or_else(|| default.title.clone()),
            detail: self.detail.or_else(|| default.detail.clone()),
            members: self.members,
            headers: self.headers,
        }
    }

    /// Refuses a status that needs a header which only a problem of that status by itself has, or none.
    fn check_status(
        &self,
        kind: Option<&Kind>,
        path: &str,
        errors: &mut ConfigErrors,
    ) -> Result<(), Rejected> {
        let Some(status) = self.status else {
            return Ok(());
        };
        let is_own = kind.is_some_and(|kind| kind.status == status);
        if status == UPGRADE_REQUIRED && !is_own {
            let message = "426 needs the header upgrade, which goes with the connection and can't \
                           be set here: choose another status";
            return Err(errors.add(key_path(path, "status"), message));
        }
        let needed = HEADER_OF_STATUS.iter().find(|(of, _)| *of == status);
        let has = |needed: &str| self.headers.iter().any(|(name, _)| name == needed);
        match needed {
            Some((_, header)) if !has(header) && !is_own => {
                let message = format!(
                    "{status} needs the header {header}: set it under headers, or choose another \
                     status"
                );
                Err(errors.add(key_path(path, "status"), message))
            }
            _ => Ok(()),
        }
    }
}

/// Headers without which an answer must not have a status (RFC 9110 sections 15.5.2, 15.5.6 and
/// 15.5.8).
const HEADER_OF_STATUS: [(u16, &str); 3] = [
    (401, "www-authenticate"),
    (405, "allow"),
    (407, "proxy-authenticate"),
];

/// Must tell what to upgrade to (RFC 9110 section 15.5.22).
const UPGRADE_REQUIRED: u16 = 426;

fn unknown_kind(name: &str, kinds: &[&Kind]) -> String {
    let mut names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    order::sort(&mut names);
    names.dedup();
    names.extend([DEFAULT_4XX, DEFAULT_5XX]);
    format!(
        "unknown kind {}{}",
        quote(name),
        expected_one_of(name, &names)
    )
}

/// `API key expired`, of `api-key-expired`.
fn in_words(kind: &str) -> String {
    let mut words = String::with_capacity(kind.len());
    for word in kind.split('-') {
        let is_first = words.is_empty();
        if !is_first {
            words.push(' ');
        }
        match word {
            "api" | "http" | "jwt" => words.push_str(&word.to_ascii_uppercase()),
            word if is_first => {
                let mut chars = word.chars();
                words.extend(chars.next().map(|c| c.to_ascii_uppercase()));
                words.push_str(chars.as_str());
            }
            word => words.push_str(word),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use deserr::{Deserr, IntoValue, ValuePointerRef};
    use serde_json::json;
    use tollgate_core::problem::{CREDENTIALS_MISSING, GATEWAY_FAULT, QUOTA_EXCEEDED_TYPE};
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::accept::MediaType;

    static QUOTA_EXCEEDED: Kind = Kind {
        name: "quota-exceeded",
        status: 429,
        registered: Some(QUOTA_EXCEEDED_TYPE),
    };
    static API_KEY_EXPIRED: Kind = Kind {
        name: "api-key-expired",
        status: 401,
        registered: None,
    };
    static KNOWN: [&Kind; 4] = [
        &QUOTA_EXCEEDED,
        &API_KEY_EXPIRED,
        &CREDENTIALS_MISSING,
        &GATEWAY_FAULT,
    ];

    fn compile(section: Value) -> Result<Settings, String> {
        let origin = ValuePointerRef::Origin;
        let place = origin.push_key("problem_details");
        let section = Section::deserialize_from_value(section.into_value(), place)
            .map_err(|errors: ConfigErrors| errors.to_string())?;
        let mut errors = ConfigErrors::default();
        let settings = Settings::compile(section, &KNOWN, "problem_details", &mut errors);
        assert_eq!(settings.is_ok(), errors.is_empty());
        settings.map_err(|_| errors.to_string())
    }

    fn applied(settings: &Settings, kind: &'static Kind) -> Value {
        let mut document = Document::new(kind, "Of this time.");
        settings.apply(kind, &mut document);
        let json = document.render(MediaType::ProblemJson, settings.language());
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn nothing_set_changes_nothing() {
        let settings = compile(json!({})).unwrap();
        for kind in KNOWN {
            let document = Document::new(kind, "Of this time.");
            let mut changed = document.clone();
            settings.apply(kind, &mut changed);
            assert_eq!(changed, document);
            assert!(settings.headers(kind).is_empty());
        }
        assert_eq!(settings.language(), "en");
        assert!(settings.wraps(Wrap::Gateway));
        assert!(!settings.wraps(Wrap::UpstreamBare5xx));
    }

    #[test]
    fn a_kind_is_worded_as_the_operator_has_it() {
        let settings = compile(json!({ "overrides": { "quota-exceeded": {
            "status": 403,
            "title": "Kontingent aufgebraucht",
            "type": "https://bank.example/quota",
            "detail": "Morgen wieder.",
            "members": { "support": "https://bank.example/help", "retries": [1, 2] },
            "headers": { "X-Foo": "bar" },
        }}}))
        .unwrap();
        assert_eq!(
            applied(&settings, &QUOTA_EXCEEDED),
            json!({
                "type": "https://bank.example/quota",
                "title": "Kontingent aufgebraucht",
                "status": 403,
                "detail": "Morgen wieder.",
                "kind": "quota-exceeded",
                "support": "https://bank.example/help",
                "retries": [1, 2],
            })
        );
        let headers = settings.headers(&QUOTA_EXCEEDED);
        assert_eq!(headers, [("x-foo".into(), "bar".into())]);
        assert!(settings.headers(&API_KEY_EXPIRED).is_empty());
    }

    #[test]
    fn a_kinds_own_override_comes_before_that_of_its_status() {
        let settings = compile(json!({ "overrides": {
            "quota-exceeded": {
                "title": "Own",
                "members": { "support": "own" },
                "headers": { "x-a": "own" },
            },
            "default_4xx": {
                "status": 400,
                "title": "Default",
                "detail": "Default.",
                "members": { "support": "default", "contact": "default" },
                "headers": { "X-A": "default", "x-b": "default" },
            },
            "default_5xx": { "detail": "Later." },
        }}))
        .unwrap();
        let own = applied(&settings, &QUOTA_EXCEEDED);
        assert_eq!(own["title"], "Own");
        assert_eq!(own["detail"], "Default.");
        assert_eq!(own["status"], 400);
        assert_eq!(own["support"], "own");
        assert_eq!(own["contact"], "default");
        let headers = settings.headers(&QUOTA_EXCEEDED);
        let expected = [("x-a", "own"), ("x-b", "default")];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
        let default = applied(&settings, &API_KEY_EXPIRED);
        assert_eq!(default["title"], "Default");
        assert_eq!(default["support"], "default");
        let server = applied(&settings, &GATEWAY_FAULT);
        assert_eq!(server["detail"], "Later.");
        assert_eq!(server["title"], "Service Unavailable");
        // A kind that is not among the known ones has the defaults too.
        assert_eq!(
            applied(&settings, &crate::kinds::NO_ROUTE)["title"],
            "Default"
        );
    }

    #[test]
    fn types_have_a_base_and_titles_of_their_own() {
        let settings = compile(json!({
            "type_base": "https://errors.bank.example/",
            "language": "de-ch",
            "overrides": {
                "quota-exceeded": { "type": "about:blank", "status": 403 },
                "gateway-fault": { "title": "Störung" },
            },
        }))
        .unwrap();
        let typed = |kind| {
            let problem = applied(&settings, kind);
            let text = |member: &str| problem[member].as_str().unwrap().to_owned();
            (text("type"), text("title"))
        };
        let pair = |uri: &str, title: &str| (uri.to_owned(), title.to_owned());
        assert_eq!(
            typed(&API_KEY_EXPIRED),
            pair(
                "https://errors.bank.example/api-key-expired",
                "API key expired"
            )
        );
        assert_eq!(typed(&QUOTA_EXCEEDED), pair("about:blank", "Forbidden"));
        assert_eq!(
            typed(&GATEWAY_FAULT),
            pair("https://errors.bank.example/gateway-fault", "Störung")
        );
        assert_eq!(settings.language(), "de-CH");
    }

    #[test]
    fn the_title_of_a_blank_type_follows_the_status() {
        let settings = compile(json!({ "overrides": { "api-key-expired": { "status": 403 } } }));
        let settings = settings.unwrap();
        assert_eq!(applied(&settings, &API_KEY_EXPIRED)["title"], "Forbidden");
        let mut document = Document::new(&GATEWAY_FAULT, "");
        document.status = 502;
        settings.apply(&GATEWAY_FAULT, &mut document);
        assert_eq!(document.title, "Bad Gateway");
    }

    #[test]
    fn mistakes_are_told_with_their_cure() {
        for (section, expected) in [
            (
                json!({ "overrides": { "quota-exceded": {} } }),
                "problem_details.overrides: unknown kind \"quota-exceded\", did you mean \
                 \"quota-exceeded\"? (expected one of api-key-expired, credentials-missing, \
                 gateway-fault, quota-exceeded, default_4xx, default_5xx)",
            ),
            (
                json!({ "overrides": { "quota-exceeded": { "status": 200 } } }),
                "problem_details.overrides.quota-exceeded.status: found 200, expected the status \
                 of an error, 400 to 599",
            ),
            (
                json!({ "overrides": { "quota-exceeded": { "members": { "status": 1 } } } }),
                "problem_details.overrides.quota-exceeded.members.status: every problem has the \
                 member \"status\" by itself, choose another name",
            ),
            (
                json!({ "overrides": { "quota-exceeded": { "headers": { "Content-Length": "1" } } } }),
                "problem_details.overrides.quota-exceeded.headers.Content-Length: the header \
                 \"Content-Length\" goes with the body or the connection and is set by the \
                 gateway, leave it out",
            ),
            (
                json!({ "overrides": { "quota-exceeded": { "headers": { "X-A": "1", "x-a": "2" } } } }),
                "problem_details.overrides.quota-exceeded.headers: \"x-a\" is there twice, remove \
                 one of them",
            ),
            (
                json!({ "overrides": { "quota-exceeded": { "status": 401 } } }),
                "problem_details.overrides.quota-exceeded.status: 401 needs the header \
                 www-authenticate: set it under headers, or choose another status",
            ),
            (
                json!({ "overrides": { "default_4xx": { "status": 405 } } }),
                "problem_details.overrides.default_4xx.status: 405 needs the header allow: set it \
                 under headers, or choose another status",
            ),
            (
                json!({ "overrides": { "quota-exceeded": { "status": 426 } } }),
                "problem_details.overrides.quota-exceeded.status: 426 needs the header upgrade, \
                 which goes with the connection and can't be set here: choose another status",
            ),
            (
                json!({ "overrides": { "default_4xx": { "status": 426 } } }),
                "problem_details.overrides.default_4xx.status: 426 needs the header upgrade, which \
                 goes with the connection and can't be set here: choose another status",
            ),
            (
                json!({ "wrap": ["gateways"] }),
                "problem_details.wrap[0]: unknown value \"gateways\", did you mean \"gateway\"? \
                 (expected one of gateway, upstream_bare_4xx, upstream_bare_5xx, upstream_grpc)",
            ),
        ] {
            assert_eq!(compile(section).unwrap_err(), expected);
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let errors = compile(json!({
            "overrides": {
                "a": {},
                "default_4xx": { "headers": { "x-a": "1", "X-A": "2" } },
                "quota-exceeded": { "status": 401 },
            },
        }))
        .unwrap_err();
        assert_eq!(errors.lines().count(), 3, "{errors}");
        let errors = compile(json!({
            "type_base": "errors",
            "language": "?",
            "overrides": { "a": { "type": "x", "title": "\n", "title_": 1 } },
            "other": 1,
        }))
        .unwrap_err();
        assert_eq!(errors.lines().count(), 6, "{errors}");
    }

    #[test]
    fn a_status_that_needs_a_header_may_have_it() {
        let with_header = json!({ "overrides": {
            "default_4xx": { "headers": { "www-authenticate": "ApiKey" } },
            "quota-exceeded": { "status": 401 },
        }});
        assert!(compile(with_header).is_ok());
        let by_itself = json!({ "overrides": { "api-key-expired": { "status": 401 } } });
        assert!(compile(by_itself).is_ok());
    }
}
