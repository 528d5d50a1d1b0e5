mod configuration;
mod decisions;
mod waiting;

use std::sync::Arc;

use deserr::Deserr;
use serde_json::{Map, Value, json};
use tollgate_core::config::ConfigErrors;
use tollgate_core::credentials::Evidence;
use tollgate_core::host::PeerCertificate;
use tollgate_core::policy::Authenticator;
use tollgate_core::problem::Kind;
use tollgate_core::time::Timestamp;
use tollgate_core::token::Token;
use tollgate_testkit::{Gateway, Reply, Request, Submitted};

use super::*;

type Plugin = Gateway<tollgate_core::chain!(Tokens, Keys, Access)>;

static BAD_TOKEN: Kind = Kind {
    name: "token-expired",
    status: 401,
    registered: None,
};
static MALFORMED_TOKEN: Kind = Kind {
    name: "token-malformed",
    status: 400,
    registered: None,
};
static NO_ISSUER: Kind = Kind {
    name: "issuer-unavailable",
    status: 503,
    registered: None,
};
static BAD_KEY: Kind = Kind {
    name: "api-key-unknown",
    status: 401,
    registered: None,
};

#[derive(Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct StandIn {
    #[deserr(default)]
    mode: Mode,
    #[deserr(default)]
    admits_anonymous: bool,
}

/// Stands for the policy that checks tokens: a token is the JSON of its claims, or the word for what
/// is wrong with it. The token `awaited` can't be checked before [`KEYS_COME`], and is good then.
struct Tokens;

/// When the keys come, in seconds.
const KEYS_COME: u64 = 2_000_000_000;

const AWAITED_CLAIMS: &str = r#"{"client_id":"acme","scope":"read"}"#;

impl Policy for Tokens {
    const SECTION: &'static str = "jwt_authz";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    const CREDENTIAL: Option<Credential> = Some(Credential::Jwt);
    type Section = StandIn;
    type Stream = ();

    fn compile(section: StandIn, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        cx.authenticators.push(Authenticator {
            credential: Credential::Jwt,
            challenge: "Bearer realm=\"api\"".to_owned(),
            admits_anonymous: section.admits_anonymous,
            providers: Vec::new(),
            mode: section.mode,
        });
        Ok(Tokens)
    }

    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        if step != Step::Authenticate || !x.credentials.wanted.contains(Credential::Jwt) {
            return Ok(());
        }
        let invalid = |kind| {
            let problem = Problem::new(kind, "By the test.");
            Evidence::Invalid(Box::new(match kind.status {
                401 => problem.with_header(
                    "www-authenticate",
                    "Bearer realm=\"api\", error=\"invalid_token\"",
                ),
                _ => problem,
            }))
        };
        let evidence = match x.request.get_str("token") {
            None => Evidence::Absent,
            Some("expired") => invalid(&BAD_TOKEN),
            Some("malformed") => invalid(&MALFORMED_TOKEN),
            Some("unchecked") => invalid(&NO_ISSUER),
            Some("awaited") if x.now < Timestamp::from_seconds(KEYS_COME) => {
                Evidence::Awaited(Box::new(Problem::new(&NO_ISSUER, "By the test.")))
            }
            Some(claims) => {
                let claims = match claims {
                    "awaited" => AWAITED_CLAIMS,
                    claims => claims,
                };
                let claims: Map<String, Value> = serde_json::from_str(claims).unwrap();
                x.facts.token = Some(Arc::new(Token {
                    provider: "idp".into(),
                    subject: None,
                    client: claims["client_id"].as_str().map(Into::into),
                    claims,
                    expires: None,
                }));
                Evidence::Valid
            }
        };
        x.credentials.note(Credential::Jwt, evidence);
        Ok(())
    }
}

/// Stands for the policy that checks keys: a key is the name of its consumer.
struct Keys;

impl Policy for Keys {
    const SECTION: &'static str = "usage_plan";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    const CREDENTIAL: Option<Credential> = Some(Credential::ApiKey);
    type Section = StandIn;
    type Stream = ();

    fn compile(section: StandIn, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        cx.authenticators.push(Authenticator {
            credential: Credential::ApiKey,
            challenge: "ApiKey realm=\"api\"".to_owned(),
            admits_anonymous: section.admits_anonymous,
            providers: Vec::new(),
            mode: section.mode,
        });
        Ok(Keys)
    }

    fn step<H: Host>(&self, step: Step, (): &mut (), x: &mut Exchange<'_, H>) -> StepResult {
        if step != Step::Authenticate || !x.credentials.wanted.contains(Credential::ApiKey) {
            return Ok(());
        }
        let evidence = match x.request.get_str("key") {
            None => Evidence::Absent,
            Some("unknown") => Evidence::Invalid(Box::new(
                Problem::new(&BAD_KEY, "By the test.")
                    .with_header("www-authenticate", "ApiKey realm=\"api\""),
            )),
            Some(consumer) => {
                let client = x.facts.token.as_ref().map(|token| &token.client);
                x.credentials.same_client =
                    client.map(|client| client.as_deref() == Some(consumer));
                Evidence::Valid
            }
        };
        x.credentials.note(Credential::ApiKey, evidence);
        Ok(())
    }
}

fn apis() -> Value {
    json!([
        { "name": "accounts", "match": [{ "path": "/accounts/**" }] },
        { "name": "status", "match": [{ "path": "/status" }] },
    ])
}

/// Tokens and keys, with these rules.
fn config(rules: Value) -> Value {
    json!({ "apis": apis(), "jwt_authz": {}, "usage_plan": {}, "access": rules })
}

fn start(config: &Value) -> Plugin {
    Plugin::start(config).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What a request sends.
#[derive(Clone, Copy, Default)]
struct Sent<'a> {
    token: Option<&'a str>,
    key: Option<&'a str>,
}

const NOTHING: Sent<'static> = Sent {
    token: None,
    key: None,
};
const TOKEN: Sent<'static> = Sent {
    token: Some(r#"{"client_id":"acme","scope":"read"}"#),
    key: None,
};
const KEY: Sent<'static> = Sent {
    token: None,
    key: Some("acme"),
};
const BOTH: Sent<'static> = Sent {
    token: TOKEN.token,
    key: KEY.key,
};

fn request(path: &str, sent: Sent<'_>) -> Request {
    let mut request = Request::get(path);
    if let Some(token) = sent.token {
        request = request.header("token", token);
    }
    if let Some(key) = sent.key {
        request = request.header("key", key);
    }
    request
}

fn send(plugin: &Plugin, path: &str, sent: Sent<'_>) -> Reply {
    plugin.send(request(path, sent))
}

/// The status, and the kind of a refusal.
fn outcome(reply: &Reply) -> (u16, String) {
    match reply.status {
        200 => (200, String::new()),
        status => (status, reply.kind()),
    }
}

fn challenges(reply: &Reply) -> Vec<&str> {
    let challenges = reply
        .headers
        .iter()
        .filter(|(name, _)| name == "www-authenticate");
    challenges.map(|(_, value)| value.as_str()).collect()
}
