//! Credentials: what a caller can show to say who it is, which of them a request needs, and what
//! came of checking them.
//!
//! The policies that check credentials refuse nothing by themselves. Each notes what it found; the
//! one policy that knows what an API requires [decides](crate::policy::Policy::DECIDES_ACCESS).

use crate::problem::Problem;

/// A sort of credential that a policy checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A signed token (RFC 7519).
    Jwt,
    /// An API key.
    ApiKey,
}

impl Credential {
    /// All sorts, in the order in which answers name them.
    pub const ALL: [Credential; 2] = [Credential::Jwt, Credential::ApiKey];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Credential::Jwt => "jwt",
            Credential::ApiKey => "api_key",
        }
    }

    /// The section of the policy that checks it.
    pub fn section(self) -> &'static str {
        match self {
            Credential::Jwt => "jwt_authz",
            Credential::ApiKey => "usage_plan",
        }
    }
}

/// Some sorts of credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialSet(u8);

impl CredentialSet {
    /// None of them.
    pub const NONE: CredentialSet = CredentialSet(0);

    /// The set of one.
    pub const fn of(credential: Credential) -> Self {
        match credential {
            Credential::Jwt => CredentialSet(1),
            Credential::ApiKey => CredentialSet(2),
        }
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: CredentialSet) -> Self {
        CredentialSet(self.0 | other.0)
    }

    /// Whether it is in the set.
    pub const fn contains(self, credential: Credential) -> bool {
        self.0 & CredentialSet::of(credential).0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in the set.
    pub fn iter(self) -> impl Iterator<Item = Credential> {
        Credential::ALL
            .into_iter()
            .filter(move |credential| self.contains(*credential))
    }
}

/// What checking a credential has shown.
#[derive(Debug, Default)]
pub enum Evidence {
    /// Nothing was sent.
    #[default]
    Absent,
    /// It is good.
    Valid,
    /// It is not good, or can't be checked: the answer if nothing else lets the request pass.
    Invalid(Box<Problem>),
    /// It can't be checked yet, but soon: the answer to a request that is not let wait for that.
    Awaited(Box<Problem>),
}

/// The credentials of a request.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Those that count for this request, from [`Step::Authenticate`](crate::policy::Step) on. Others
    /// are not looked at, so a bad one does no harm where none is asked for.
    pub wanted: CredentialSet,
    /// Whether the token and the API key are one client's, where both are good.
    pub same_client: Option<bool>,
    jwt: Evidence,
    api_key: Evidence,
}

impl Credentials {
    /// What became of one.
    pub fn evidence(&self, credential: Credential) -> &Evidence {
        match credential {
            Credential::Jwt => &self.jwt,
            Credential::ApiKey => &self.api_key,
        }
    }

    /// Notes what became of one.
    pub fn note(&mut self, credential: Credential, evidence: Evidence) {
        match credential {
            Credential::Jwt => self.jwt = evidence,
            Credential::ApiKey => self.api_key = evidence,
        }
    }

    /// Whether one that counts was sent and is good.
    pub fn is_valid(&self, credential: Credential) -> bool {
        matches!(self.evidence(credential), Evidence::Valid)
    }

    /// Whether one can't be checked yet.
    pub fn is_awaited(&self, credential: Credential) -> bool {
        matches!(self.evidence(credential), Evidence::Awaited(_))
    }

    /// The answer for one that is not good.
    pub fn problem(&self, credential: Credential) -> Option<&Problem> {
        match self.evidence(credential) {
            Evidence::Invalid(problem) | Evidence::Awaited(problem) => Some(problem),
            Evidence::Absent | Evidence::Valid => None,
        }
    }
}
