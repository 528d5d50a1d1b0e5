//! Which credentials a request needs, and what they must grant: any or all of a token, an API key
//! and a client certificate, with scopes and conditions on claims.
//!
//! ```yaml
//! access:
//! - { apis: [status], require: anonymous }
//! - { apis: [payments-v2], methods: [GET], scopes: [payments:read] }
//! - { apis: [payments-v2], require: { all_of: [jwt, api_key] }, scopes: [payments:write] }
//! - require: { any_of: [jwt, { mtls: { uris: ["spiffe://bank.example/ns/batch/*"] } }] }
//! ```
//!
//! The policies in front of it check what was sent and only note what they found; this one decides.
//! It is in force without a section too: then every credential that the document has a policy for
//! is needed everywhere.

mod certificate;
mod compile;
mod config;
pub mod problems;
mod requirement;

use std::cell::OnceCell;

use tollgate_core::apis::{ApiId, Method, check_method};
use tollgate_core::config::Rejected;
use tollgate_core::credentials::{Credential, CredentialSet};
use tollgate_core::host::Host;
use tollgate_core::policy::{
    Callbacks, Compile, Exchange, Halt, Mode, Policy, Step, StepResult, TargetUse,
};
use tollgate_core::problem::{CREDENTIALS_MISSING, Kind, Problem, REQUEST_AMBIGUOUS};
use tollgate_core::text::Text;

pub use config::RuleConfig;
use config::{RequirementConfig as Requirement, TokenRule};
use problems::*;
use requirement::{Case, Grant, Lack};

/// The policy; see the crate's documentation.
pub struct Access {
    /// In the order in which they are tried.
    rules: Vec<Rule>,
    /// The credentials whose policies are only tried out.
    tried_out: CredentialSet,
    /// The challenge that asks for a token.
    bearer: String,
}

/// What some requests need.
struct Rule {
    /// All, and requests that belong to none, if absent.
    apis: Option<Vec<ApiId>>,
    /// All if absent.
    methods: Option<Vec<Method>>,
    requirement: Requirement,
    /// The credentials that it names.
    credentials: CredentialSet,
    /// The challenges that ask for them.
    challenges: Vec<(Credential, Text)>,
    /// What is answered if they are missing.
    missing: Text,
    /// Whether a token and an API key that are both needed must be one client's.
    same_client: bool,
    allow_preflight: bool,
    mode: Mode,
}

/// What the policy remembers of a request: the rule that applies, by its place.
#[derive(Default)]
pub struct Stream {
    rule: Option<usize>,
}

impl Policy for Access {
    const SECTION: &'static str = "access";
    const CALLBACKS: Callbacks = Callbacks::REQUEST_HEADERS;
    const DECIDES_ACCESS: bool = true;
    const DEFAULT_SECTION: Option<fn() -> Vec<RuleConfig>> = Some(Vec::new);
    type Section = Vec<RuleConfig>;
    type Stream = Stream;

    fn kinds(kinds: &mut Vec<&'static Kind>) {
        problems::all(kinds);
    }

    fn compile(section: Vec<RuleConfig>, cx: &mut Compile<'_>) -> Result<Self, Rejected> {
        compile::compile(section, cx)
    }

    fn target_use(&self) -> TargetUse {
        // Which rule applies decides what is enforced, so one rule about APIs is enough.
        let about_apis = self.rules.iter().any(|rule| rule.apis.is_some());
        let enforces = self.rules.iter().any(|rule| rule.mode == Mode::Enforce);
        let mode = match enforces {
            true => Mode::Enforce,
            false => Mode::Shadow,
        };
        TargetUse::of(mode, about_apis)
    }

    fn step<H: Host>(
        &self,
        step: Step,
        stream: &mut Stream,
        x: &mut Exchange<'_, H>,
    ) -> StepResult {
        match step {
            Step::Require => {
                self.check_method(x)?;
                self.require(stream, x);
                Ok(())
            }
            Step::Authenticate => match stream.rule.and_then(|rule| self.rules.get(rule)) {
                Some(rule) => self.decide(rule, x),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Rule {
    /// A rule that lets preflights pass is about those that ask for its methods.
    fn is_about<H>(&self, x: &Exchange<'_, H>) -> bool {
        let of_api = match (&self.apis, x.api) {
            (None, _) => true,
            (Some(apis), Some(api)) => apis.contains(&api),
            (Some(_), None) => false,
        };
        of_api
            && self.methods.as_ref().is_none_or(|methods| {
                let asked = preflight(x).filter(|_| self.allow_preflight);
                let takes = |wanted| methods.iter().any(|method| method.takes(wanted));
                takes(x.method()) || asked.is_some_and(takes)
            })
    }
}

impl Access {
    /// Refuses a method that a server may take for another, where the method decides on the rule.
    fn check_method<H>(&self, x: &mut Exchange<'_, H>) -> StepResult {
        if !self.rules.iter().any(|rule| rule.methods.is_some()) {
            return Ok(());
        }
        let Err(ambiguous) = check_method(x.method()) else {
            return Ok(());
        };
        let problem = Problem::new(&REQUEST_AMBIGUOUS, ambiguous.explanation());
        match self.rules.iter().any(|rule| rule.mode == Mode::Enforce) {
            true => Mode::Enforce.refuse(problem, x),
            false => Mode::Shadow.refuse(problem, x),
        }
    }

    /// Finds the rule of a request, and with it the credentials that count.
    fn require<H>(&self, stream: &mut Stream, x: &mut Exchange<'_, H>) {
        let rule = self.rules.iter().position(|rule| rule.is_about(x));
        let Some((place, rule)) = rule.and_then(|place| Some((place, self.rules.get(place)?)))
        else {
            return;
        };
        if rule.allow_preflight && preflight(x).is_some() {
            return;
        }
        stream.rule = Some(place);
        x.credentials.wanted = rule.credentials;
    }

    fn decide<H: Host>(&self, rule: &Rule, x: &mut Exchange<'_, H>) -> StepResult {
        let certificate = OnceCell::new();
        let all = Case {
            host: x.host,
            credentials: &x.credentials,
            token: x.facts.token.as_deref(),
            left_out: CredentialSet::NONE,
            ignored: CredentialSet::NONE,
            same_client: rule.same_client,
            certificate: &certificate,
        };
        // What is only tried out decides nothing, neither for nor against a request.
        let enforced = Case {
            left_out: self.tried_out,
            ..all
        };
        if let Err(lack) = rule.requirement.check(&enforced) {
            // Nobody is kept waiting by what is only tried out.
            if let Lack::Bad(credential, _) = lack
                && rule.mode == Mode::Enforce
                && x.credentials.is_awaited(credential)
            {
                return Err(Halt::AwaitOthers);
            }
            let problem = self.refusal(rule, lack, x);
            return rule.mode.refuse(problem, x);
        }
        if !self.tried_out.is_empty()
            && let Err(lack) = rule.requirement.check(&all)
        {
            let problem = self.refusal(rule, lack, x);
            x.note_would_deny(problem.kind());
        }
        Ok(())
    }

    fn refusal<H>(&self, rule: &Rule, lack: Lack<'_>, x: &Exchange<'_, H>) -> Problem {
        match lack {
            Lack::Bad(credential, _) => {
                let problem = match x.credentials.problem(credential) {
                    Some(problem) => problem.clone(),
                    None => missing(rule),
                };
                // Whoever sent something bad may send something else instead.
                match problem.kind().status {
                    401 => challenge(rule, Some(credential), problem),
                    _ => problem,
                }
            }
            Lack::Missing => missing(rule),
            // RFC 9110 section 15.5.2: a 401 comes with a challenge, and certificates have none.
            Lack::NoCertificate => Problem::new(
                &CLIENT_CERTIFICATE_MISSING,
                "This API needs a client certificate, and none was shown.",
            ),
            Lack::OtherCertificate => Problem::new(
                &CLIENT_CERTIFICATE_NOT_ALLOWED,
                "This client certificate may not call this API.",
            ),
            Lack::Grant(token, grant) => self.insufficient(token, grant),
            Lack::SameClient => Problem::new(
                &CLIENT_MISMATCH,
                "The token was issued to another client than the API key.",
            ),
        }
    }

    /// RFC 6750 section 3.1, `insufficient_scope`; for claims there is no error of their own.
    fn insufficient(&self, rule: &TokenRule, grant: Grant) -> Problem {
        match (&rule.scopes, grant) {
            (Some(scopes), Grant::Scopes) => {
                let challenge = format!(
                    "{}, error=\"insufficient_scope\", error_description=\"The token lacks a scope \
                     that this API needs\", scope=\"{}\"",
                    self.bearer,
                    scopes.challenge()
                );
                Problem::new(
                    &SCOPE_INSUFFICIENT,
                    "The token lacks a scope that this API needs.",
                )
                .with("scope", scopes.challenge().into())
                .with_header("www-authenticate", challenge)
            }
            _ => Problem::new(
                &CLAIMS_INSUFFICIENT,
                "The token's claims do not allow to call this API.",
            ),
        }
    }
}

fn missing(rule: &Rule) -> Problem {
    challenge(
        rule,
        None,
        Problem::new(&CREDENTIALS_MISSING, rule.missing.clone()),
    )
}

/// Adds the challenges that ask for what may be sent, one for each scheme.
fn challenge(rule: &Rule, but: Option<Credential>, problem: Problem) -> Problem {
    rule.challenges
        .iter()
        .filter(|(credential, _)| Some(*credential) != but)
        .fold(problem, |problem, (_, challenge)| {
            problem.with_header("www-authenticate", challenge.clone())
        })
}

/// The method that a CORS preflight asks for; its own says nothing about what will be done.
fn preflight<'a, H>(x: &Exchange<'a, H>) -> Option<&'a [u8]> {
    let has_origin = x.method() == b"OPTIONS" && x.request.get("origin").is_some();
    has_origin
        .then(|| x.request.get("access-control-request-method"))
        .flatten()
}

#[cfg(test)]
mod tests;
