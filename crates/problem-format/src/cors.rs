//! Problems for scripts of other origins (Fetch section 3.3): without the headers that allow it, a
//! browser does not show them the answer, not even its status.
//!
//! A gateway leaves CORS to a filter of its own. This is for the answers that such a filter does not
//! see, and stands back where somebody has spoken already.

use deserr::Deserr;
use tollgate_core::config::{ConfigErrors, Rejected, quote};
use tollgate_core::headers::{FieldName, HeaderName};
use tollgate_core::problem::RenderContext;
use tollgate_core::text::Text;

use crate::origin::AllowedOrigin;

/// The field `cors` of the section `problem_details`, as it is written.
#[derive(Clone, Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct CorsConfig {
    /// The origins whose scripts may read problems.
    pub allow_origins: Vec<AllowedOrigin>,
    /// Whether they may do so for requests with credentials: cookies, certificates of the client.
    #[deserr(default)]
    pub allow_credentials: bool,
    /// Headers that they may read beside those that the problem has by itself.
    #[deserr(default)]
    pub expose_headers: Vec<FieldName>,
}

/// Who may read problems from another origin.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Vec<AllowedOrigin>,
    credentials: bool,
    exposed: Vec<FieldName>,
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";

impl Cors {
    /// Checks the field that stands at `path`. Every mistake is recorded.
    pub(crate) fn compile(
        config: CorsConfig,
        path: &str,
        errors: &mut ConfigErrors,
    ) -> Result<Self, Rejected> {
        let before = errors.len();
        check_origins(&config, path, errors);
        check_exposed(&config.expose_headers, path, errors);
        errors.none_since(before).map(|()| Cors {
            origins: config.allow_origins,
            credentials: config.allow_credentials,
            exposed: config.expose_headers,
        })
    }

    /// Whether the answer differs by the origin of who asks, so that caches must keep them apart.
    pub fn varies(&self) -> bool {
        !self.origins.contains(&AllowedOrigin::Any)
    }

    /// Adds to the headers of a problem what lets the script read it that has asked, if it may.
    pub fn allow(&self, context: &RenderContext<'_>, headers: &mut Vec<(HeaderName, Text)>) {
        let has = |name: &str| headers.iter().any(|(own, _)| own == name);
        let is_decided = has(ALLOW_ORIGIN)
            || context
                .replaces
                .is_some_and(|replaced| replaced.get(ALLOW_ORIGIN).is_some());
        let allowed = context.origin.and_then(|origin| self.find(origin));
        let Some(allowed) = allowed.filter(|_| !is_decided) else {
            return;
        };
        let exposed = self.exposed(headers);
        headers.push((ALLOW_ORIGIN.into(), allowed.to_owned().into()));
        if self.credentials {
            headers.push((ALLOW_CREDENTIALS.into(), "true".into()));
        }
        headers.retain(|(name, _)| name != EXPOSE_HEADERS);
        if !exposed.is_empty() {
            headers.push((EXPOSE_HEADERS.into(), exposed.join(", ").into()));
        }
    }

    /// What `Access-Control-Allow-Origin` says to an origin that is allowed.
    fn find<'a>(&self, origin: &'a [u8]) -> Option<&'a str> {
        let origin = std::str::from_utf8(origin).ok()?;
        let mut origins = self.origins.iter();
        match origins.find(|allowed| allowed.takes(origin))? {
            AllowedOrigin::Any => Some("*"),
            _ => Some(origin),
        }
    }

    /// The names of the headers that may be read: those that are exposed already, those that the
    /// answer has, and those that the operator wants.
    fn exposed(&self, headers: &[(HeaderName, Text)]) -> Vec<String> {
        let told = headers.iter().filter(|(name, _)| name == EXPOSE_HEADERS);
        let told = told.flat_map(|(_, value)| value.split(',').map(str::trim));
        let own = headers.iter().map(|(name, _)| name.as_str());
        let own = own.filter(|name| !is_readable_anyway(name) && !is_never_read(name));
        let wanted = self.exposed.iter().map(FieldName::as_str);
        let mut names: Vec<String> = Vec::new();
        for name in told.chain(own).chain(wanted) {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// Whether a script may read a header without being told so (Fetch section 2.2.2,
/// "CORS-safelisted response-header name").
fn is_readable_anyway(name: &str) -> bool {
    const SAFELISTED: [&str; 7] = [
        "cache-control",
        "content-language",
        "content-length",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    ];
    SAFELISTED.contains(&name)
}

/// Whether a header is for the browser and not for the script.
fn is_never_read(name: &str) -> bool {
    is_forbidden(name)
        || name.starts_with("access-control-")
        || matches!(name, "content-security-policy" | "vary")
}

/// Whether a script never gets to see a header (Fetch section 2.2.2, "forbidden response-header
/// name").
fn is_forbidden(name: &str) -> bool {
    matches!(name, "set-cookie" | "set-cookie2")
}

fn check_origins(config: &CorsConfig, path: &str, errors: &mut ConfigErrors) {
    let CorsConfig {
        allow_origins: origins,
        allow_credentials,
        ..
    } = config;
    let place = format!("{path}.allow_origins");
    if origins.is_empty() {
        let message = "the list is empty: name the origins, or leave cors out";
        errors.add(place.as_str(), message);
    }
    for (index, origin) in origins.iter().enumerate() {
        if origins.iter().take(index).any(|other| other == origin) {
            let message = "is there already, write it once";
            errors.add(format!("{place}[{index}]"), message);
        }
    }
    if origins.contains(&AllowedOrigin::Any) {
        if origins.iter().any(|origin| *origin != AllowedOrigin::Any) {
            let message = "\"*\" allows every origin, so the others do nothing: remove them, or it";
            errors.add(place, message);
        }
        if *allow_credentials {
            let message = "does not go together with the origin \"*\", which browsers refuse for \
                           requests with credentials: name the origins, or remove this";
            errors.add(format!("{path}.allow_credentials"), message);
        }
    }
}

fn check_exposed(names: &[FieldName], path: &str, errors: &mut ConfigErrors) {
    for (index, name) in names.iter().enumerate() {
        let name = name.as_str();
        let cure = match name {
            "*" => "is no name with credentials and not needed without: write the headers' names",
            name if is_forbidden(name) => "is never shown to scripts: leave it out",
            _ => continue,
        };
        let path = format!("{path}.expose_headers[{index}]");
        errors.add(path, format!("{} {cure}", quote(name)));
    }
}

#[cfg(test)]
mod tests {
    use deserr::{IntoValue, ValuePointerRef};
    use serde_json::{Value, json};
    use tollgate_core::headers::Headers;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn compile(config: Value) -> Result<Cors, String> {
        let origin = ValuePointerRef::Origin;
        let config = CorsConfig::deserialize_from_value(config.into_value(), origin.push_key("c"))
            .map_err(|errors: ConfigErrors| errors.to_string())?;
        let mut errors = ConfigErrors::default();
        let cors = Cors::compile(config, "c", &mut errors);
        assert_eq!(cors.is_ok(), errors.is_empty());
        cors.map_err(|_| errors.to_string())
    }

    fn allowed(
        config: Value,
        origin: &str,
        own: &[(&'static str, &str)],
        replaced: Option<&[(&str, &str)]>,
    ) -> Vec<(String, String)> {
        let replaced = replaced.map(|headers| Headers::from_pairs(headers.iter().copied()));
        let context = RenderContext {
            origin: Some(origin.as_bytes()),
            replaces: replaced.as_ref(),
            ..RenderContext::default()
        };
        let mut headers: Vec<(HeaderName, Text)> = own
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).to_owned().into()))
            .collect();
        compile(config).unwrap().allow(&context, &mut headers);
        let added = headers
            .into_iter()
            .filter(|(name, _)| name.starts_with("access-control-"));
        added
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    const APP: &str = "https://app.bank.example";

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = expected.iter();
        owned
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_origin_that_is_allowed_may_read_what_the_problem_has() {
        let config = json!({
            "allow_origins": [APP],
            "allow_credentials": true,
            "expose_headers": ["X-Team", "retry-after"],
        });
        let own = [
            ("content-type", "application/problem+json"),
            ("retry-after", "5"),
            ("vary", "accept"),
            ("set-cookie", "a=b"),
            (EXPOSE_HEADERS, "RateLimit, Retry-After"),
            ("x-request-id", "1"),
        ];
        let expected = [
            (ALLOW_ORIGIN, APP),
            (ALLOW_CREDENTIALS, "true"),
            (
                EXPOSE_HEADERS,
                "RateLimit, Retry-After, x-request-id, x-team",
            ),
        ];
        assert_eq!(allowed(config, APP, &own, None), pairs(&expected));
    }

    #[test]
    fn others_are_told_nothing() {
        let config = json!({ "allow_origins": [APP] });
        for origin in [
            "https://bank.example",
            "null",
            "",
            "https://app.bank.example/",
        ] {
            assert_eq!(allowed(config.clone(), origin, &[], None), []);
        }
        let all = json!({ "allow_origins": ["*"] });
        for origin in ["https://bank.example", "null"] {
            let expected = [(ALLOW_ORIGIN, "*")];
            assert_eq!(allowed(all.clone(), origin, &[], None), pairs(&expected));
        }
        assert!(!compile(all).unwrap().varies());
        assert!(compile(config).unwrap().varies());
    }

    #[test]
    fn what_somebody_has_said_already_stays() {
        let config = json!({ "allow_origins": [APP] });
        let other = [(ALLOW_ORIGIN, "https://b.example")];
        assert_eq!(allowed(config.clone(), APP, &other, None), pairs(&other));
        assert_eq!(allowed(config.clone(), APP, &[], Some(&other)), []);
        let none = [("vary", "origin")];
        assert_eq!(
            allowed(config, APP, &[], Some(&none)),
            pairs(&[(ALLOW_ORIGIN, APP)])
        );
    }

    #[test]
    fn mistakes_have_a_place_and_a_cure() {
        for (config, expected) in [
            (json!({}), "c: "),
            (
                json!({ "allow_origins": [] }),
                "c.allow_origins: the list is empty: name",
            ),
            (
                json!({ "allow_origins": ["*"], "allow_credentials": true }),
                "c.allow_credentials: does not go together with the origin \"*\"",
            ),
            (
                json!({ "allow_origins": ["*", APP] }),
                "c.allow_origins: \"*\" allows every origin, so the others do nothing: remove",
            ),
            (
                json!({ "allow_origins": [APP, "https://APP.bank.example"] }),
                "c.allow_origins[1]: is there already, write it once",
            ),
            (
                json!({ "allow_origins": [APP, "https://a.example/"] }),
                "c.allow_origins[1]: ",
            ),
            (
                json!({ "allow_origins": [APP], "expose_headers": ["a", "*"] }),
                "c.expose_headers[1]: \"*\" is no name with credentials",
            ),
            (
                json!({ "allow_origins": [APP], "expose_headers": ["Set-Cookie"] }),
                "c.expose_headers[0]: \"set-cookie\" is never shown to scripts: leave it out",
            ),
            (
                json!({ "allow_origins": [APP], "allow_methods": ["GET"] }),
                "allow_methods",
            ),
        ] {
            let error = compile(config).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
