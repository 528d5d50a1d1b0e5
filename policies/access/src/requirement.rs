//! What a request needs, and whether it has it.

use std::cell::OnceCell;

use tollgate_claims::scopes;
use tollgate_core::credentials::{Credential, CredentialSet, Credentials, Evidence};
use tollgate_core::host::{Host, PeerCertificate};
use tollgate_core::policy::Authenticator;
use tollgate_core::token::Token;

use crate::config::{RequirementConfig as Requirement, TokenRule};

impl Requirement {
    /// What is needed where no rule says so: everything that the document has a policy for.
    /// `None` if there is no such policy.
    pub(crate) fn by_default(authenticators: &[Authenticator]) -> Option<Requirement> {
        let mut all: Vec<Requirement> = authenticators
            .iter()
            .map(|authenticator| {
                let needed = match authenticator.credential {
                    Credential::Jwt => Requirement::Jwt(TokenRule::default()),
                    Credential::ApiKey => Requirement::ApiKey,
                };
                match authenticator.admits_anonymous {
                    true => Requirement::AnyOf(vec![needed, Requirement::Anonymous]),
                    false => needed,
                }
            })
            .collect();
        match all.len() {
            0 | 1 => all.pop(),
            _ => Some(Requirement::AllOf(all)),
        }
    }

    /// The credentials that it names.
    pub(crate) fn credentials(&self) -> CredentialSet {
        match self {
            Requirement::Jwt(_) => CredentialSet::of(Credential::Jwt),
            Requirement::ApiKey => CredentialSet::of(Credential::ApiKey),
            Requirement::Mtls(_) | Requirement::Anonymous => CredentialSet::NONE,
            Requirement::AnyOf(parts) | Requirement::AllOf(parts) => parts
                .iter()
                .map(Requirement::credentials)
                .fold(CredentialSet::NONE, CredentialSet::union),
        }
    }

    /// Whether nobody passes without this credential.
    pub(crate) fn always_needs(&self, credential: Credential) -> bool {
        match self {
            Requirement::Jwt(_) => credential == Credential::Jwt,
            Requirement::ApiKey => credential == Credential::ApiKey,
            Requirement::Mtls(_) | Requirement::Anonymous => false,
            Requirement::AnyOf(parts) => parts.iter().all(|part| part.always_needs(credential)),
            Requirement::AllOf(parts) => parts.iter().any(|part| part.always_needs(credential)),
        }
    }

    /// Whether one credential may not be enough.
    pub(crate) fn needs_several(&self) -> bool {
        match self {
            Requirement::AllOf(parts) => parts.len() > 1,
            Requirement::AnyOf(parts) => parts.iter().any(Requirement::needs_several),
            _ => false,
        }
    }

    /// Asks the same of the token wherever one is needed.
    pub(crate) fn refine(&mut self, rule: &TokenRule) -> Result<(), ScopesTwice> {
        match self {
            Requirement::Jwt(own) => {
                if rule.scopes.is_some() && own.scopes.is_some() {
                    return Err(ScopesTwice);
                }
                own.scopes = own.scopes.take().or_else(|| rule.scopes.clone());
                own.claims.extend_from_slice(&rule.claims);
                Ok(())
            }
            Requirement::ApiKey | Requirement::Mtls(_) | Requirement::Anonymous => Ok(()),
            Requirement::AnyOf(parts) | Requirement::AllOf(parts) => {
                parts.iter_mut().try_for_each(|part| part.refine(rule))
            }
        }
    }

    /// In words, for whoever has sent too little.
    pub(crate) fn describe(&self) -> String {
        match self {
            Requirement::Jwt(_) => "a bearer token".to_owned(),
            Requirement::ApiKey => "an API key".to_owned(),
            Requirement::Mtls(_) => "a client certificate".to_owned(),
            Requirement::Anonymous => "nothing".to_owned(),
            Requirement::AnyOf(parts) => {
                // Who is asked for credentials learns which there are.
                let named = parts
                    .iter()
                    .filter(|part| !matches!(part, Requirement::Anonymous));
                join(named, " or ")
            }
            Requirement::AllOf(parts) => join(parts.iter(), " and "),
        }
    }

    /// Whether the request has what is needed; if not, what is to be answered.
    pub(crate) fn check<'a, H: Host>(&'a self, case: &Case<'a, H>) -> Result<(), Lack<'a>> {
        self.judge(case).map(drop)
    }

    fn judge<'a, H: Host>(&'a self, case: &Case<'a, H>) -> Result<Met, Lack<'a>> {
        match self {
            Requirement::Jwt(_) if case.left_out.contains(Credential::Jwt) => Ok(Met::LeftOut),
            Requirement::ApiKey if case.left_out.contains(Credential::ApiKey) => Ok(Met::LeftOut),
            Requirement::Jwt(rule) => {
                case.has(Credential::Jwt)?;
                // A good token was read.
                let token = case.token.ok_or(Lack::Missing)?;
                grants(token, rule).map(|()| Met::By(CredentialSet::of(Credential::Jwt)))
            }
            Requirement::ApiKey => {
                case.has(Credential::ApiKey)?;
                Ok(Met::By(CredentialSet::of(Credential::ApiKey)))
            }
            Requirement::Mtls(rule) => match case.certificate() {
                None => Err(Lack::NoCertificate),
                Some(certificate) if rule.admits(certificate) => Ok(Met::By(CredentialSet::NONE)),
                Some(_) => Err(Lack::OtherCertificate),
            },
            Requirement::Anonymous => {
                case.has_nothing_bad()?;
                Ok(Met::By(CredentialSet::NONE))
            }
            Requirement::AnyOf(parts) => {
                let mut worst = None;
                for part in parts {
                    match part.judge(case) {
                        Ok(Met::By(credentials)) => return Ok(Met::By(credentials)),
                        Ok(Met::LeftOut) => {}
                        Err(lack) => worst = most_telling(worst, lack, Lack::rank_of_any),
                    }
                }
                worst.map_or(Ok(Met::LeftOut), Err)
            }
            Requirement::AllOf(parts) => {
                let (mut worst, mut met) = (None, Met::LeftOut);
                for part in parts {
                    match part.judge(case) {
                        Ok(part) => met = met.and(part),
                        Err(lack) => worst = most_telling(worst, lack, Lack::rank_of_all),
                    }
                }
                match (worst, met) {
                    (Some(lack), _) => Err(lack),
                    (None, Met::By(credentials)) if case.are_of_two_clients(credentials) => {
                        // One of the two, with something else, may be enough by itself.
                        let without = |credential| {
                            let ignored = case.ignored.union(CredentialSet::of(credential));
                            self.judge(&Case { ignored, ..*case })
                        };
                        without(Credential::Jwt)
                            .or_else(|_| without(Credential::ApiKey))
                            .map_err(|_| Lack::SameClient)
                    }
                    (None, met) => Ok(met),
                }
            }
        }
    }
}

/// How a requirement is met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// With these credentials, and what is not counted among them.
    By(CredentialSet),
    /// It is as if it had not been written: all that it names is left out.
    LeftOut,
}

impl Met {
    fn and(self, other: Met) -> Met {
        match (self, other) {
            (Met::By(own), Met::By(others)) => Met::By(own.union(others)),
            (Met::LeftOut, met) | (met, Met::LeftOut) => met,
        }
    }
}

fn join<'a>(parts: impl Iterator<Item = &'a Requirement>, word: &str) -> String {
    parts
        .map(Requirement::describe)
        .collect::<Vec<_>>()
        .join(word)
}

/// Scopes are given for a token and once more for the whole rule.
#[derive(Debug)]
pub(crate) struct ScopesTwice;

/// What a request has.
pub(crate) struct Case<'a, H> {
    pub(crate) host: &'a H,
    pub(crate) credentials: &'a Credentials,
    pub(crate) token: Option<&'a Token>,
    /// Credentials that count as if no requirement named them.
    pub(crate) left_out: CredentialSet,
    /// Credentials that count as if they had not been sent.
    pub(crate) ignored: CredentialSet,
    /// Whether a token and an API key that are both needed must be one client's.
    pub(crate) same_client: bool,
    pub(crate) certificate: &'a OnceCell<Option<PeerCertificate>>,
}

impl<'a, H: Host> Case<'a, H> {
    fn has(&self, credential: Credential) -> Result<(), Lack<'a>> {
        match self.credentials.evidence(credential) {
            _ if self.ignored.contains(credential) => Err(Lack::Missing),
            Evidence::Valid => Ok(()),
            Evidence::Absent => Err(Lack::Missing),
            Evidence::Invalid(problem) | Evidence::Awaited(problem) => {
                Err(Lack::Bad(credential, problem.kind().status))
            }
        }
    }

    /// Whether a token and an API key are among these, and are not one client's.
    fn are_of_two_clients(&self, credentials: CredentialSet) -> bool {
        self.same_client
            && credentials.contains(Credential::Jwt)
            && credentials.contains(Credential::ApiKey)
            && self.credentials.same_client != Some(true)
    }

    /// Whoever sends something bad is not taken for somebody who sends nothing: a client whose token
    /// has just expired wants to know.
    fn has_nothing_bad(&self) -> Result<(), Lack<'a>> {
        let counted = |credential: &Credential| !self.left_out.contains(*credential);
        for credential in self.credentials.wanted.iter().filter(counted) {
            match self.has(credential) {
                Ok(()) | Err(Lack::Missing) => {}
                Err(bad) => return Err(bad),
            }
        }
        Ok(())
    }

    fn certificate(&self) -> Option<&'a PeerCertificate> {
        self.certificate
            .get_or_init(|| self.host.peer_certificate())
            .as_ref()
    }
}

/// What a request lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lack<'a> {
    /// A credential was not sent.
    Missing,
    /// A credential is not good, or can't be checked; the status of its answer.
    Bad(Credential, u16),
    /// The token lacks scopes, or its claims are not right.
    Grant(&'a TokenRule, Grant),
    /// No client certificate was shown.
    NoCertificate,
    /// A client certificate was shown that is none of those.
    OtherCertificate,
    /// The token and the API key are good, and not one client's.
    SameClient,
}

/// What a token does not grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Scopes,
    Claims,
}

impl Lack<'_> {
    /// Where all are needed: what no second try mends is told first.
    fn rank_of_all(&self) -> u8 {
        match self {
            Lack::Bad(_, 400) => 6,
            Lack::Bad(_, 503) => 1,
            Lack::Bad(..) => 5,
            Lack::Grant(..) | Lack::OtherCertificate | Lack::SameClient => 4,
            Lack::Missing => 3,
            Lack::NoCertificate => 2,
        }
    }

    /// Where one is enough: what a second try may mend is told first, so that a client with a good
    /// token does not throw it away.
    fn rank_of_any(&self) -> u8 {
        match self {
            Lack::Bad(_, 503) => 7,
            _ => self.rank_of_all(),
        }
    }
}

fn most_telling<'a>(
    known: Option<Lack<'a>>,
    other: Lack<'a>,
    rank: impl Fn(&Lack<'a>) -> u8,
) -> Option<Lack<'a>> {
    match known {
        Some(known) if rank(&known) >= rank(&other) => Some(known),
        _ => Some(other),
    }
}

fn grants<'a>(token: &Token, rule: &'a TokenRule) -> Result<(), Lack<'a>> {
    if let Some(needed) = &rule.scopes
        && !needed.is_satisfied(&scopes(&token.claims))
    {
        return Err(Lack::Grant(rule, Grant::Scopes));
    }
    match rule
        .claims
        .iter()
        .all(|claim| claim.is_satisfied(&token.claims))
    {
        true => Ok(()),
        false => Err(Lack::Grant(rule, Grant::Claims)),
    }
}
