//! All the ways in which a token is refused, as one type.

use std::fmt;

use crate::claims::ClaimError;
use crate::set::NoKey;
use crate::token::{AlgorithmNotAllowed, MalformedToken};
use crate::verify::SignatureInvalid;

/// Why a token is refused.
///
/// As text it is a sentence for the client: printable ASCII without `"` and `\`, so that it can be
/// an `error_description` (RFC 6750 section 3), and it repeats nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidToken {
    /// The bytes are no token.
    Malformed(MalformedToken),
    /// Its algorithm is not allowed.
    Algorithm(AlgorithmNotAllowed),
    /// What it claims is not acceptable here or now.
    Claims(ClaimError),
    /// No key may verify it.
    Key(NoKey),
    /// Its signature is wrong.
    Signature(SignatureInvalid),
}

impl InvalidToken {
    /// A stable name, as `token-expired`.
    pub const fn slug(self) -> &'static str {
        match self {
            InvalidToken::Malformed(error) => error.slug(),
            InvalidToken::Algorithm(error) => error.slug(),
            InvalidToken::Claims(error) => error.slug(),
            InvalidToken::Key(error) => error.slug(),
            InvalidToken::Signature(error) => error.slug(),
        }
    }
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidToken::Malformed(error) => error.fmt(f),
            InvalidToken::Algorithm(error) => error.fmt(f),
            InvalidToken::Claims(error) => error.fmt(f),
            InvalidToken::Key(error) => error.fmt(f),
            InvalidToken::Signature(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InvalidToken {}

impl From<MalformedToken> for InvalidToken {
    fn from(error: MalformedToken) -> Self {
        InvalidToken::Malformed(error)
    }
}

impl From<AlgorithmNotAllowed> for InvalidToken {
    fn from(error: AlgorithmNotAllowed) -> Self {
        InvalidToken::Algorithm(error)
    }
}

impl From<ClaimError> for InvalidToken {
    fn from(error: ClaimError) -> Self {
        InvalidToken::Claims(error)
    }
}

impl From<NoKey> for InvalidToken {
    fn from(error: NoKey) -> Self {
        InvalidToken::Key(error)
    }
}

impl From<SignatureInvalid> for InvalidToken {
    fn from(error: SignatureInvalid) -> Self {
        InvalidToken::Signature(error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::{Claim, CriticalFault, InvalidObject, Part};

    fn all() -> Vec<InvalidToken> {
        use InvalidObject::{NotAnObject, RepeatedMember, Syntax, TooDeep};
        let mut all: Vec<InvalidToken> = vec![
            MalformedToken::TooLong.into(),
            MalformedToken::Segments.into(),
            MalformedToken::EmptySegment.into(),
            MalformedToken::Encrypted.into(),
            MalformedToken::Alg.into(),
            MalformedToken::Kid.into(),
            MalformedToken::Typ.into(),
            MalformedToken::Cty.into(),
            MalformedToken::UnencodedPayload.into(),
            AlgorithmNotAllowed.into(),
            SignatureInvalid.into(),
            NoKey::UnknownKid.into(),
            NoKey::Ambiguous.into(),
            NoKey::NoFittingKey.into(),
            ClaimError::IssuerUnknown.into(),
            ClaimError::AudienceMismatch.into(),
            ClaimError::Expired.into(),
            ClaimError::Bound.into(),
            ClaimError::NotYetValid.into(),
            ClaimError::IssuedInFuture.into(),
            ClaimError::LifetimeTooLong.into(),
            ClaimError::TypeMismatch.into(),
        ];
        for part in [Part::Header, Part::Payload, Part::Signature] {
            all.push(MalformedToken::Encoding(part).into());
            all.extend(
                [Syntax, RepeatedMember, TooDeep, NotAnObject]
                    .map(|fault| InvalidToken::from(MalformedToken::Json(part, fault))),
            );
        }
        all.extend(
            [
                CriticalFault::NotAList,
                CriticalFault::Empty,
                CriticalFault::NotText,
                CriticalFault::Repeated,
                CriticalFault::Standard,
                CriticalFault::Absent,
                CriticalFault::NotUnderstood,
            ]
            .map(|fault| InvalidToken::from(MalformedToken::Critical(fault))),
        );
        for claim in Claim::ALL {
            all.push(ClaimError::Missing(claim).into());
            all.push(ClaimError::Malformed(claim).into());
        }
        all
    }

    #[test]
    fn sentences_can_be_error_descriptions() {
        let mut sentences = BTreeSet::new();
        for refusal in all() {
            let text = refusal.to_string();
            assert!(
                text.bytes()
                    .all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'),
                "{text}"
            );
            assert!(text.ends_with('.') && text.len() < 100, "{text}");
            assert!(sentences.insert(text.clone()), "{text} is there twice");
        }
    }

    #[test]
    fn slugs_are_kebab_case_and_stable() {
        let slugs: BTreeSet<&str> = all().iter().map(|refusal| refusal.slug()).collect();
        assert_eq!(
            slugs.into_iter().collect::<Vec<_>>(),
            [
                "algorithm-not-allowed",
                "audience-mismatch",
                "claim-malformed",
                "claim-missing",
                "issuer-unknown",
                "key-ambiguous",
                "key-unfit",
                "key-unknown",
                "signature-invalid",
                "token-bound",
                "token-encrypted",
                "token-expired",
                "token-extension-unsupported",
                "token-issued-in-future",
                "token-lifetime-too-long",
                "token-malformed",
                "token-not-yet-valid",
                "token-too-long",
                "token-type-mismatch",
            ]
        );
    }
}
