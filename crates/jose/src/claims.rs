//! What a token must claim to be accepted, here and now (RFC 7519 section 4.1, RFC 9068, RFC 8725).

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Number, Value};
use tollgate_core::time::Timestamp;

use crate::token::Header;

/// How far the issuer's clock may be off, unless configured.
pub const DEFAULT_SKEW: Duration = Duration::from_secs(60);

/// What the tokens of one issuer must claim.
#[derive(Clone, Debug)]
pub struct ClaimRules {
    /// `iss`, exactly.
    pub issuer: String,
    /// Of these, `aud` must name one. Empty: `aud` is not looked at, except that it has a proper
    /// form.
    pub audiences: Vec<String>,
    /// Whether there must be an `exp`. True by default.
    pub require_exp: bool,
    /// The longest time from `iat`, or from now where there is none, to `exp`, in whole
    /// seconds. Where it is set, there must be an `exp`.
    pub max_lifetime: Option<Duration>,
    /// How far the clocks may differ, in whole seconds, [`DEFAULT_SKEW`] by default.
    pub skew: Duration,
    /// Whether the token must be an access token as RFC 9068 profiles it. It keeps ID tokens from
    /// being used as access tokens.
    pub require_at_jwt: bool,
    /// Whether a token is accepted that is bound to a key of its bearer's (`cnf`, RFC 7800), without
    /// that the bearer has proved to have it. False by default: whoever steals such a token must not
    /// be able to use it (RFC 9449 section 7.1, RFC 8705 section 3).
    pub accept_bound: bool,
}

/// When an acceptable token is acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// `exp`, if there is one.
    pub expires: Option<NumericDate>,
    /// `nbf`, if there is one.
    pub not_before: Option<NumericDate>,
    /// From when on the token passes the rules, skew included. A clock that steps back may be
    /// before it.
    pub accepted_from: Timestamp,
    /// From when on it does not any more, skew included. `None`: never.
    pub accepted_until: Option<Timestamp>,
}

impl Validated {
    /// Whether the token passes the rules at `now` as well.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.accepted_from <= now && self.accepted_until.is_none_or(|until| now < until)
    }
}

impl ClaimRules {
    /// The rules for tokens of `issuer`, all others being default.
    pub fn for_issuer(issuer: impl Into<String>) -> Self {
        ClaimRules {
            issuer: issuer.into(),
            audiences: Vec::new(),
            require_exp: true,
            max_lifetime: None,
            skew: DEFAULT_SKEW,
            require_at_jwt: false,
            accept_bound: false,
        }
    }

    /// Checks a token's header and claims.
    ///
    /// Registered claims have their types wherever they occur. `exp` is rounded down and `nbf` up
    /// to whole seconds, and a skew is rounded down, so that rounding never admits a token.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn check(
        &self,
        claims: &Map<String, Value>,
        header: &Header,
        now: Timestamp,
    ) -> Result<Validated, ClaimError> {
        if text(claims, Claim::Iss)? != Some(self.issuer.as_str()) {
            return Err(ClaimError::IssuerUnknown);
        }
        text(claims, Claim::Sub)?;
        text(claims, Claim::Jti)?;
        if claims.contains_key("cnf") && !self.accept_bound {
            return Err(ClaimError::Bound);
        }
        let dates = Dates::read(claims)?;
        self.check_type(claims, header)?;
        self.check_audience(claims)?;
        self.check_dates(dates, now)
    }

    /// RFC 9068 sections 2.1, 2.2 and 4; RFC 8725 section 3.11.
    fn check_type(&self, claims: &Map<String, Value>, header: &Header) -> Result<(), ClaimError> {
        let typ = header.typ().unwrap_or_default().to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        // Whoever types tokens as something else made them for something else: a DPoP proof or a
        // logout token is no access token.
        if typ != "at+jwt" && (self.require_at_jwt || typ.ends_with("+jwt")) {
            return Err(ClaimError::TypeMismatch);
        }
        if !self.require_at_jwt {
            return Ok(());
        }
        text(claims, Claim::ClientId)?;
        let missing = Claim::ALL.into_iter().find(|claim| {
            // The one claim that the profile leaves out.
            *claim != Claim::Nbf && !claims.contains_key(claim.name())
        });
        missing.map_or(Ok(()), |claim| Err(ClaimError::Missing(claim)))
    }

    /// RFC 7519 section 4.1.3.
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), ClaimError> {
        let ours = |audience: &Value| {
            let audience = audience.as_str();
            self.audiences
                .iter()
                .any(|ours| Some(ours.as_str()) == audience)
        };
        let meant = match claims.get(Claim::Aud.name()) {
            None => false,
            Some(audience @ Value::String(_)) => ours(audience),
            Some(Value::Array(audiences)) if audiences.iter().all(Value::is_string) => {
                audiences.iter().any(ours)
            }
            Some(_) => return Err(ClaimError::Malformed(Claim::Aud)),
        };
        match meant || self.audiences.is_empty() {
            true => Ok(()),
            false => Err(ClaimError::AudienceMismatch),
        }
    }

    fn check_dates(&self, dates: Dates, now: Timestamp) -> Result<Validated, ClaimError> {
        let Dates { exp, nbf, iat } = dates;
        if exp.is_none() && (self.require_exp || self.max_lifetime.is_some()) {
            return Err(ClaimError::Missing(Claim::Exp));
        }
        let skew = whole_seconds(self.skew);
        let accepted_until = exp.map(|exp| instant(exp.floor().saturating_add(skew)));
        if accepted_until.is_some_and(|until| now >= until) {
            return Err(ClaimError::Expired);
        }
        let lifetime = self.max_lifetime.map(whole_seconds).zip(exp);
        if let (Some((limit, exp)), Some(iat)) = (lifetime, iat)
            && exp.floor().saturating_sub(iat.floor()) > limit
        {
            return Err(ClaimError::LifetimeTooLong);
        }
        // Without iat the rest of the lifetime counts, which gets shorter.
        let rest = lifetime.filter(|_| iat.is_none());
        let mut accepted_from = Timestamp::default();
        for (bound, error) in [
            (
                nbf.map(|nbf| nbf.ceil().saturating_sub(skew)),
                ClaimError::NotYetValid,
            ),
            (
                iat.map(|iat| iat.ceil().saturating_sub(skew)),
                ClaimError::IssuedInFuture,
            ),
            (
                rest.map(|(limit, exp)| exp.floor().saturating_sub(limit)),
                ClaimError::LifetimeTooLong,
            ),
        ] {
            let bound = bound.map(instant).unwrap_or_default();
            if now < bound {
                return Err(error);
            }
            accepted_from = accepted_from.max(bound);
        }
        Ok(Validated {
            expires: exp,
            not_before: nbf,
            accepted_from,
            accepted_until,
        })
    }
}

/// Seconds since the Unix epoch as an instant, which begins at the epoch and ends in 2554.
fn instant(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0))
}

fn whole_seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// A claim that must be text if it is there.
fn text(claims: &Map<String, Value>, claim: Claim) -> Result<Option<&str>, ClaimError> {
    match claims.get(claim.name()) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ClaimError::Malformed(claim)),
    }
}

#[derive(Clone, Copy)]
struct Dates {
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
}

impl Dates {
    fn read(claims: &Map<String, Value>) -> Result<Self, ClaimError> {
        let date = |claim: Claim| match claims.get(claim.name()) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(NumericDate::from_number(number))),
            Some(_) => Err(ClaimError::Malformed(claim)),
        };
        Ok(Dates {
            exp: date(Claim::Exp)?,
            nbf: date(Claim::Nbf)?,
            iat: date(Claim::Iat)?,
        })
    }
}

/// Seconds since the Unix epoch (RFC 7519 section 2), of any size and sign, perhaps with a
/// fraction.
///
/// What an `i64` can't hold saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumericDate {
    /// The whole seconds, rounded down.
    floor: i64,
    has_fraction: bool,
}

impl NumericDate {
    /// Takes a JSON number, which is never NaN or infinite.
    pub fn from_number(number: &Number) -> Self {
        if let Some(floor) = number.as_i64() {
            return NumericDate {
                floor,
                has_fraction: false,
            };
        }
        // Beyond an i64, or with a point or an exponent. The conversion of a float saturates.
        let seconds = number.as_f64().unwrap_or(f64::MAX);
        NumericDate {
            floor: seconds.floor() as i64,
            has_fraction: seconds.fract() != 0.0,
        }
    }

    /// The last whole second that is not after it.
    pub const fn floor(self) -> i64 {
        self.floor
    }

    /// The first whole second that is not before it.
    pub const fn ceil(self) -> i64 {
        self.floor.saturating_add(self.has_fraction as i64)
    }
}

/// A claim that has rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The issuer.
    Iss,
    /// Who it is about.
    Sub,
    /// Whom it is for.
    Aud,
    /// When it expires.
    Exp,
    /// From when on it is valid.
    Nbf,
    /// When it was issued.
    Iat,
    /// Its own name.
    Jti,
    /// Which client got it.
    ClientId,
}

impl Claim {
    /// All of them.
    pub const ALL: [Claim; 8] = [
        Claim::Iss,
        Claim::Sub,
        Claim::Aud,
        Claim::Exp,
        Claim::Nbf,
        Claim::Iat,
        Claim::Jti,
        Claim::ClientId,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Claim::Iss => "iss",
            Claim::Sub => "sub",
            Claim::Aud => "aud",
            Claim::Exp => "exp",
            Claim::Nbf => "nbf",
            Claim::Iat => "iat",
            Claim::Jti => "jti",
            Claim::ClientId => "client_id",
        }
    }
}

/// The rule that a token breaks. As text: a sentence for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// `iss` is missing or another one.
    IssuerUnknown,
    /// `aud` is missing or names none of the audiences.
    AudienceMismatch,
    /// `exp` has passed.
    Expired,
    /// It is bound to a key, and no proof of that key can be asked for here.
    Bound,
    /// `nbf` lies in the future.
    NotYetValid,
    /// `iat` lies in the future.
    IssuedInFuture,
    /// It is valid for longer than allowed.
    LifetimeTooLong,
    /// `typ` says that it is for something else.
    TypeMismatch,
    /// A claim is missing.
    Missing(Claim),
    /// A claim has the wrong type.
    Malformed(Claim),
}

impl ClaimError {
    /// A stable name.
    pub const fn slug(self) -> &'static str {
        match self {
            ClaimError::IssuerUnknown => "issuer-unknown",
            ClaimError::AudienceMismatch => "audience-mismatch",
            ClaimError::Expired => "token-expired",
            ClaimError::Bound => "token-bound",
            ClaimError::NotYetValid => "token-not-yet-valid",
            ClaimError::IssuedInFuture => "token-issued-in-future",
            ClaimError::LifetimeTooLong => "token-lifetime-too-long",
            ClaimError::TypeMismatch => "token-type-mismatch",
            ClaimError::Missing(_) => "claim-missing",
            ClaimError::Malformed(_) => "claim-malformed",
        }
    }
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::IssuerUnknown => f.write_str("The token's issuer is not accepted here."),
            ClaimError::AudienceMismatch => f.write_str("The token is for another audience."),
            ClaimError::Expired => f.write_str("The token has expired."),
            ClaimError::Bound => {
                f.write_str("The token is bound to a key, which can not be proved here.")
            }
            ClaimError::NotYetValid => f.write_str("The token is not valid yet."),
            ClaimError::IssuedInFuture => f.write_str("The token is issued in the future."),
            ClaimError::LifetimeTooLong => {
                f.write_str("The token is valid for longer than is accepted here.")
            }
            ClaimError::TypeMismatch => f.write_str("The token's typ is not accepted here."),
            ClaimError::Missing(claim) => {
                write!(f, "The token's {} claim is missing.", claim.name())
            }
            ClaimError::Malformed(claim) => {
                write!(f, "The token's {} claim has the wrong type.", claim.name())
            }
        }
    }
}

impl std::error::Error for ClaimError {}
