#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]

mod configuration;
mod cryptography;
mod fetching;
mod forwarding;
mod metrics;
mod places;
mod plans;
mod refusals;
mod remembering;
mod secrecy;
mod shadow;
mod unknown_keys;
mod unnamed_keys;

use std::cell::Cell;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use tollgate_access::Access;
use tollgate_core::chain::Policies;
use tollgate_core::time::Timestamp;
use tollgate_testkit::{Clock, Gateway, Process, Reply, Request, Sent};
use tollgate_usage_plan::UsagePlan;

use super::*;

type Alone = tollgate_core::chain!(JwtAuthz, Access);
type WithPlans = tollgate_core::chain!(JwtAuthz, UsagePlan, Access);
type Plugin = Gateway<Alone>;

const ISSUER: &str = "https://idp.example/";

/// What the clock shows at first, in seconds since the epoch.
const START: u64 = 1_795_176_000;

/// A private key on P-256, and its name.
#[derive(Clone, Copy)]
struct Key {
    kid: &'static str,
    secret: u8,
}

const K1: Key = Key {
    kid: "k1",
    secret: 1,
};
const K2: Key = Key {
    kid: "k2",
    secret: 2,
};

impl Key {
    fn jwk(self) -> Value {
        let point = self.signing_key().verifying_key().to_encoded_point(false);
        let [x, y] = [point.x().unwrap(), point.y().unwrap()].map(base64url);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y })
    }

    /// A token with these claims.
    fn sign(self, claims: &Value) -> String {
        self.sign_as(&json!({ "alg": "ES256", "kid": self.kid }), claims)
    }

    /// A token with this header, signed with ES256 whatever the header says.
    fn sign_as(self, header: &Value, claims: &Value) -> String {
        signed(header, claims, |input| {
            let signature: p256::ecdsa::Signature = self.signing_key().sign(input);
            signature.to_vec()
        })
    }

    fn signing_key(self) -> SigningKey {
        SigningKey::from_slice(&[self.secret; 32]).unwrap()
    }
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| base64url(part.to_string()));
    let input = format!("{header}.{claims}");
    let signature = sign(input.as_bytes());
    format!("{input}.{}", base64url(signature))
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An object with further members; null removes one.
fn with(mut object: Value, more: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => members.remove(name),
            value => members.insert(name.clone(), value.clone()),
        };
    }
    object
}

/// Claims that are accepted for five minutes and the skew, with further ones.
fn claims(more: Value) -> Value {
    let good = json!({
        "iss": ISSUER, "aud": "bank-api", "sub": "alice", "iat": START, "exp": START + 300,
    });
    with(good, more)
}

/// A token that is accepted, with further claims.
fn token(more: Value) -> String {
    K1.sign(&claims(more))
}

fn jwks(keys: &[Key]) -> Value {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() })
}

/// An issuer whose key is written down, changed.
fn provider(more: Value) -> Value {
    let provider = json!({
        "name": "idp",
        "issuer": ISSUER,
        "audiences": ["bank-api"],
        "algorithms": ["ES256"],
        "jwks": { "inline": jwks(&[K1]) },
    });
    with(provider, more)
}

/// The policy with one issuer: the section with further members, and the issuer changed.
fn config(section: Value, issuer: Value) -> Value {
    let section = with(json!({ "providers": [provider(issuer)] }), section);
    json!({ "jwt_authz": section })
}

/// The issuer's keys as its server publishes them, with further members of `jwks`.
fn published(more: Value) -> Value {
    let keys = json!({ "cluster": "idp", "url": "https://idp.example/jwks.json" });
    json!({ "jwks": with(keys, more) })
}

/// The policy with keys that are to be fetched.
fn fetching(more: Value) -> Value {
    config(json!({}), published(more))
}

fn process() -> Process {
    Process::new(Clock::at(Timestamp::from_seconds(START)))
}

/// A worker that knows the issuer's cluster.
fn start_on<P: Policies>(process: &Process, config: &Value) -> Gateway<P> {
    let host = process.worker();
    host.clusters.borrow_mut().push("idp".to_owned());
    Gateway::on(host, config).unwrap_or_else(|errors| panic!("{errors}"))
}

fn start(config: &Value) -> Plugin {
    start_on(&process(), config)
}

fn bearer(path: &str, token: &str) -> Request {
    Request::get(path).header("authorization", format!("Bearer {token}"))
}

fn send(plugin: &Plugin, token: &str) -> Reply {
    plugin.send(bearer("/", token))
}

/// Lets seconds pass, as a worker lives through them.
fn pass<P: Policies>(plugin: &Gateway<P>, seconds: u64) {
    for _ in 0..seconds {
        plugin.clock().advance(Duration::from_secs(1));
        plugin.tick();
    }
}

/// The only callout that was sent since the last look.
fn callout<P: Policies>(plugin: &Gateway<P>) -> Sent {
    let mut callouts = plugin.host.callouts.borrow_mut();
    assert_eq!(callouts.len(), 1, "{callouts:?}");
    callouts.pop_front().unwrap()
}

fn no_callout<P: Policies>(plugin: &Gateway<P>) {
    let callouts = plugin.host.callouts.borrow();
    assert!(callouts.is_empty(), "{callouts:?}");
}

/// The issuer answers with these keys.
fn publish<P: Policies>(plugin: &Gateway<P>, keys: &[Key]) {
    publish_set(plugin, &jwks(keys));
}

/// The issuer answers with this set.
fn publish_set<P: Policies>(plugin: &Gateway<P>, set: &Value) {
    let body = set.to_string();
    plugin.answer(callout(plugin).id, Some(200), &[], body.as_bytes());
}

/// The issuer's server answers with a failure.
fn fail<P: Policies>(plugin: &Gateway<P>) {
    plugin.answer(callout(plugin).id, Some(500), &[], b"");
}

/// A worker that has fetched these keys.
fn start_with_keys(more: Value, keys: &[Key]) -> Plugin {
    let plugin = start(&fetching(more));
    plugin.tick();
    publish(&plugin, keys);
    plugin
}

/// Lets the host count what it is asked to verify, and say this to all of it.
fn count_signatures<P>(plugin: &Gateway<P>, answer: Option<bool>) -> Rc<Cell<u32>> {
    let calls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&calls);
    *plugin.host.signatures.borrow_mut() = Some(Box::new(move |_, _, _, _| {
        counted.set(counted.get() + 1);
        answer
    }));
    calls
}

fn refused(reply: &Reply, status: u16, kind: &str) {
    assert!(reply.status >= 400, "{reply:?}");
    assert_eq!((reply.status, reply.kind()), (status, kind.to_owned()));
    assert_eq!(reply.details, format!("tollgate{{{kind}}}"));
    assert!(reply.upstream.is_none());
}

/// Not now: the issuer's keys can't be had.
fn unavailable(reply: &Reply) {
    refused(reply, 503, "issuer-unavailable");
    let retry_after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    assert_eq!(reply.header("www-authenticate"), None);
}

fn challenges(reply: &Reply) -> Vec<&str> {
    let challenges = reply
        .headers
        .iter()
        .filter(|(name, _)| name == "www-authenticate");
    challenges.map(|(_, value)| value.as_str()).collect()
}
