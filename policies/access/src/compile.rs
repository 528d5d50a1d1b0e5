//! Checking the rules, and making them fast to apply.

use tollgate_core::apis::ApiId;
use tollgate_core::config::{ConfigErrors, Rejected};
use tollgate_core::credentials::{Credential, CredentialSet};
use tollgate_core::name::Name;
use tollgate_core::policy::{Authenticator, Compile, Mode};
use tollgate_core::text::Text;

use crate::config::{RequirementConfig as Requirement, RuleConfig, TokenRule};
use crate::{Access, Rule};

/// Compiles the section; see [`Access`].
pub(crate) fn compile(section: Vec<RuleConfig>, cx: &mut Compile<'_>) -> Result<Access, Rejected> {
    let default = Requirement::by_default(&cx.authenticators);
    let mut rules: Vec<Rule> = Vec::with_capacity(section.len().saturating_add(1));
    let mut verdict = Ok(());
    for (index, config) in section.into_iter().enumerate() {
        let path = format!("access[{index}]");
        match compile_rule(config, &path, default.as_ref(), cx) {
            Ok(rule) => {
                if let Some(first) = rules.iter().position(|earlier| earlier.hides(&rule)) {
                    let message = format!(
                        "never applies, because access[{first}] comes first and is about the same \
                         requests: put the more specific rule first"
                    );
                    verdict = Err(cx.errors.add(path, message));
                }
                rules.push(rule);
            }
            Err(rejected) => verdict = Err(rejected),
        }
    }
    verdict?;
    // What no rule is about needs everything: forgetting an API must not open it.
    let last = rules.len();
    if !rules.iter().any(Rule::is_about_all) {
        match default {
            Some(requirement) => rules.push(Rule::new(requirement, &cx.authenticators)),
            None if rules.is_empty() => {}
            None => {
                let message = "requests that no rule is about would pass unasked: end the list \
                               with a rule that has neither apis nor methods, as { require: mtls }";
                return Err(cx.errors.add(format!("access[{last}]"), message));
            }
        }
    }
    let tried_out = cx
        .authenticators
        .iter()
        .filter(|authenticator| authenticator.mode == Mode::Shadow)
        .map(|authenticator| CredentialSet::of(authenticator.credential))
        .fold(CredentialSet::NONE, CredentialSet::union);
    let bearer = cx
        .authenticators
        .iter()
        .find(|authenticator| authenticator.credential == Credential::Jwt)
        .map(|authenticator| authenticator.challenge.clone());
    Ok(Access {
        rules,
        tried_out,
        bearer: bearer.unwrap_or_default(),
    })
}

impl Rule {
    fn new(requirement: Requirement, authenticators: &[Authenticator]) -> Self {
        let credentials = requirement.credentials();
        Rule {
            apis: None,
            methods: None,
            challenges: authenticators
                .iter()
                .filter(|authenticator| credentials.contains(authenticator.credential))
                .map(|authenticator| {
                    let challenge = Text::from(authenticator.challenge.clone());
                    (authenticator.credential, challenge.shared())
                })
                .collect(),
            missing: Text::from(format!(
                "This API needs {}, and {} was sent.",
                requirement.describe(),
                match requirement.needs_several() {
                    true => "not all of it",
                    false => "none",
                }
            ))
            .shared(),
            credentials,
            same_client: true,
            requirement,
            allow_preflight: false,
            mode: Mode::Enforce,
        }
    }

    fn is_about_all(&self) -> bool {
        self.apis.is_none() && self.methods.is_none()
    }

    /// Whether this rule, coming first, leaves nothing for another.
    fn hides(&self, other: &Rule) -> bool {
        let apis = match (&self.apis, &other.apis) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|api| own.contains(api)),
        };
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others.iter().all(|other| {
                own.iter()
                    .any(|method| method.takes(other.as_str().as_bytes()))
            }),
        };
        apis && methods
    }
}

fn compile_rule(
    config: RuleConfig,
    path: &str,
    default: Option<&Requirement>,
    cx: &mut Compile<'_>,
) -> Result<Rule, Rejected> {
    let apis = config
        .apis
        .map(|names| resolve_apis(&names, path, cx))
        .transpose();
    let methods = config.methods.map(|methods| methods.0);
    if methods.as_ref().is_some_and(Vec::is_empty) {
        let message = "the list is empty: name methods, or leave it out for all";
        return Err(cx.errors.add(format!("{path}.methods"), message));
    }
    let written = config.require.is_some();
    let Some(mut requirement) = config.require.or_else(|| default.cloned()) else {
        let message = "is missing: the document has no policy that checks credentials, so write \
                       mtls or anonymous, or add jwt_authz or usage_plan";
        return Err(cx.errors.add(format!("{path}.require"), message));
    };
    let mut verdict = Ok(());
    for credential in requirement.credentials().iter() {
        if !cx.credentials.contains(credential) {
            let message = format!(
                "{} is checked by the {} section, which the document lacks: add it (tollgate.wasm \
                 has all policies)",
                credential.name(),
                credential.section()
            );
            verdict = Err(cx.errors.add(format!("{path}.require"), message));
        }
    }
    verdict?;
    let asked = TokenRule {
        scopes: config.scopes,
        claims: config.claims,
    };
    refine(&mut requirement, &asked, path, written, cx.errors)?;
    let mut rule = Rule::new(requirement, &cx.authenticators);
    rule.apis = apis?;
    rule.methods = methods;
    rule.same_client = config.same_client;
    rule.allow_preflight = config.allow_preflight;
    rule.mode = config.mode;
    Ok(rule)
}

/// What is asked of a token must not be passed by with another credential.
fn refine(
    requirement: &mut Requirement,
    asked: &TokenRule,
    path: &str,
    written: bool,
    errors: &mut ConfigErrors,
) -> Result<(), Rejected> {
    let field = match (&asked.scopes, asked.claims.is_empty()) {
        (None, true) => return Ok(()),
        (Some(_), _) => "scopes",
        (None, false) => "claims",
    };
    if !requirement.always_needs(Credential::Jwt) {
        let message = match written {
            true => format!(
                "are asked of tokens, but require also lets requests pass without one: write \
                 {{ jwt: {{ {field}: … }} }} where require names jwt"
            ),
            false => "are asked of tokens, but no token is needed: add jwt to require".to_owned(),
        };
        return Err(errors.add(format!("{path}.{field}"), message));
    }
    requirement.refine(asked).map_err(|_| {
        let message = "are given in require too: keep one of them";
        errors.add(format!("{path}.scopes"), message)
    })
}

fn resolve_apis(names: &[Name], path: &str, cx: &mut Compile<'_>) -> Result<Vec<ApiId>, Rejected> {
    if names.is_empty() {
        let message = "the list is empty: name APIs, or leave it out for all requests";
        return Err(cx.errors.add(format!("{path}.apis"), message));
    }
    let mut apis = Vec::with_capacity(names.len());
    let mut verdict = Ok(());
    for (index, name) in names.iter().enumerate() {
        match cx
            .apis
            .resolve(name.as_str(), format!("{path}.apis[{index}]"), cx.errors)
        {
            Ok(api) => apis.push(api),
            Err(rejected) => verdict = Err(rejected),
        }
    }
    verdict.map(|()| apis)
}
