//! The form of a token: the compact serialisation of JWS (RFC 7515 section 7.1) around a JWT
//! (RFC 7519).

use std::fmt;

use memchr::memchr_iter;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::encoding::{InvalidObject, base64url, object};
use crate::key::MAX_KID_BYTES;

/// The length of a token that is enough for everybody, in bytes.
pub const DEFAULT_MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token in which nothing is believed yet.
///
/// It is read as a whole before anything of it is used: which issuer it names means nothing as
/// long as a second `iss` may follow.
pub struct Jws<'a> {
    /// The first two segments and the dot between them, as they were received.
    signing_input: &'a [u8],
    signature: Vec<u8>,
    header: Header,
    claims: Map<String, Value>,
}

impl<'a> Jws<'a> {
    /// Reads a token of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// Whatever isn't exactly as RFC 7515, RFC 7519 and RFC 8725 want it, [`MalformedToken`].
    pub fn parse(token: &'a [u8], max_bytes: usize) -> Result<Self, MalformedToken> {
        if token.len() > max_bytes {
            return Err(MalformedToken::TooLong);
        }
        let [header, payload, signature] = segments(token)?;
        let header = Header::from_object(part(header, Part::Header)?)?;
        let claims = part(payload, Part::Payload)?;
        let before_signature = token.len().saturating_sub(signature.len());
        Ok(Jws {
            signing_input: token
                .get(..before_signature.saturating_sub(1))
                .unwrap_or_default(),
            signature: base64url(signature).ok_or(MalformedToken::Encoding(Part::Signature))?,
            header,
            claims,
        })
    }

    /// What the token says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The `iss` claim, if it is there and is text.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// What the token claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// What the token claims, to be kept.
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }

    /// The bytes that are signed.
    pub fn signing_input(&self) -> &'a [u8] {
        self.signing_input
    }

    /// The signature, decoded.
    pub(crate) fn signature(&self) -> &Vec<u8> {
        &self.signature
    }
}

/// Tells nothing of the token, which is a secret of its bearer.
impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws").finish_non_exhaustive()
    }
}

/// Splits a token at its dots.
fn segments(token: &[u8]) -> Result<[&[u8]; 3], MalformedToken> {
    let mut dots = memchr_iter(b'.', token);
    let (Some(first), Some(second)) = (dots.next(), dots.next()) else {
        return Err(MalformedToken::Segments);
    };
    let three = [
        token.get(..first).unwrap_or_default(),
        token
            .get(first.saturating_add(1)..second)
            .unwrap_or_default(),
        token.get(second.saturating_add(1)..).unwrap_or_default(),
    ];
    match dots.count() {
        0 if three.iter().any(|segment| segment.is_empty()) => Err(MalformedToken::EmptySegment),
        0 => Ok(three),
        // JWE, RFC 7516 section 7.1.
        2 => Err(MalformedToken::Encrypted),
        _ => Err(MalformedToken::Segments),
    }
}

fn part(segment: &[u8], part: Part) -> Result<Map<String, Value>, MalformedToken> {
    let text = base64url(segment).ok_or(MalformedToken::Encoding(part))?;
    object(&text).map_err(|fault| MalformedToken::Json(part, fault))
}

/// The header of a token: what is used of it. Keys and addresses of keys that it carries (`jwk`,
/// `jku`, `x5c`, `x5u`) are not: whoever sends a token does not choose what verifies it.
#[derive(Clone, Debug)]
pub struct Header {
    /// `None` if the name is none of ours.
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    typ: Option<String>,
}

impl Header {
    /// Reads a header (RFC 7515 section 4.1).
    fn from_object(mut header: Map<String, Value>) -> Result<Self, MalformedToken> {
        refuse_critical(&header).map_err(MalformedToken::Critical)?;
        // RFC 7797; absent is true.
        if header
            .get("b64")
            .is_some_and(|b64| *b64 != Value::Bool(true))
        {
            return Err(MalformedToken::UnencodedPayload);
        }
        if header.contains_key("enc") || header.contains_key("zip") {
            return Err(MalformedToken::Encrypted);
        }
        let alg = text(&mut header, "alg", MalformedToken::Alg)?.ok_or(MalformedToken::Alg)?;
        let kid = text(&mut header, "kid", MalformedToken::Kid)?;
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(MalformedToken::Kid);
        }
        let typ = text(&mut header, "typ", MalformedToken::Typ)?;
        text(&mut header, "cty", MalformedToken::Cty)?;
        Ok(Header {
            algorithm: Algorithm::from_name(&alg),
            kid,
            typ,
        })
    }

    /// The algorithm of the signature, if it is one of those `allowed`.
    pub fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, AlgorithmNotAllowed> {
        self.algorithm
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(AlgorithmNotAllowed)
    }

    /// The algorithm that the token names, if it is one at all.
    pub(crate) fn named_algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// Which key is meant, at most [`MAX_KID_BYTES`] long.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The media type, `JWT` or `at+jwt`, in any letter case.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }
}

/// Takes a member that must be text if it is there.
fn text(
    header: &mut Map<String, Value>,
    name: &str,
    otherwise: MalformedToken,
) -> Result<Option<String>, MalformedToken> {
    match header.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(otherwise),
    }
}

/// Members that RFC 7515, 7516, 7518 and 7519 define: none may be listed in `crit`.
const STANDARD_MEMBERS: [&str; 23] = [
    "alg", "apu", "apv", "aud", "crit", "cty", "enc", "epk", "iss", "iv", "jku", "jwk", "kid",
    "p2c", "p2s", "sub", "tag", "typ", "x5c", "x5t", "x5t#S256", "x5u", "zip",
];

/// `crit` lists extensions that must be understood (RFC 7515 section 4.1.11). None is understood
/// here, so the header must not have it; what is wrong with it beyond that is told first.
fn refuse_critical(header: &Map<String, Value>) -> Result<(), CriticalFault> {
    let names = match header.get("crit") {
        None => return Ok(()),
        Some(Value::Array(names)) => names,
        Some(_) => return Err(CriticalFault::NotAList),
    };
    if names.is_empty() {
        return Err(CriticalFault::Empty);
    }
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        let name = name.as_str().ok_or(CriticalFault::NotText)?;
        if seen.contains(&name) {
            return Err(CriticalFault::Repeated);
        }
        if STANDARD_MEMBERS.contains(&name) {
            return Err(CriticalFault::Standard);
        }
        if !header.contains_key(name) {
            return Err(CriticalFault::Absent);
        }
        // More names than any header has: what follows needs no better reason.
        if seen.len() >= 16 {
            break;
        }
        seen.push(name);
    }
    Err(CriticalFault::NotUnderstood)
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first segment.
    Header,
    /// The second segment, the claims.
    Payload,
    /// The third segment.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Header => "header",
            Part::Payload => "payload",
            Part::Signature => "signature",
        })
    }
}

/// What is wrong with a `crit` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CriticalFault {
    /// It is not an array.
    NotAList,
    /// It is an empty array.
    Empty,
    /// It has an item that is not text.
    NotText,
    /// It has a name twice.
    Repeated,
    /// It names a member that every implementation knows.
    Standard,
    /// It names a member that the header does not have.
    Absent,
    /// It names an extension, and none is understood.
    NotUnderstood,
}

/// The bytes are no token. As text: a sentence for the client, which repeats nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedToken {
    /// It is longer than allowed.
    TooLong,
    /// It has not three segments.
    Segments,
    /// A segment is empty, as the signature of an unsigned token.
    EmptySegment,
    /// It is encrypted or compressed (JWE).
    Encrypted,
    /// A segment is not base64url in its only form.
    Encoding(Part),
    /// The header or the payload is no proper JSON object.
    Json(Part, InvalidObject),
    /// `alg` is missing or not text.
    Alg,
    /// `kid` is not text or longer than [`MAX_KID_BYTES`].
    Kid,
    /// `typ` is not text.
    Typ,
    /// `cty` is not text.
    Cty,
    /// The header has `crit`.
    Critical(CriticalFault),
    /// The header has `b64`, and not as true.
    UnencodedPayload,
}

impl MalformedToken {
    /// A stable name.
    pub const fn slug(self) -> &'static str {
        match self {
            MalformedToken::TooLong => "token-too-long",
            MalformedToken::Encrypted => "token-encrypted",
            MalformedToken::Critical(_) | MalformedToken::UnencodedPayload => {
                "token-extension-unsupported"
            }
            _ => "token-malformed",
        }
    }
}

impl fmt::Display for MalformedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MalformedToken::TooLong => f.write_str("The token is too long."),
            MalformedToken::Segments => {
                f.write_str("The token does not have three segments separated by dots.")
            }
            MalformedToken::EmptySegment => f.write_str("A segment of the token is empty."),
            MalformedToken::Encrypted => f.write_str("Encrypted tokens are not accepted."),
            MalformedToken::Encoding(part) => {
                write!(f, "The token's {part} is not base64url without padding.")
            }
            MalformedToken::Json(part, fault) => match fault {
                InvalidObject::Syntax => write!(f, "The token's {part} is not JSON."),
                InvalidObject::RepeatedMember => {
                    write!(f, "The token's {part} has a member twice.")
                }
                InvalidObject::TooDeep => write!(f, "The token's {part} is nested too deeply."),
                InvalidObject::NotAnObject => {
                    write!(f, "The token's {part} is not a JSON object.")
                }
            },
            MalformedToken::Alg => f.write_str("The token's header has no alg that is text."),
            MalformedToken::Kid => write!(
                f,
                "The token's kid is not text of at most {MAX_KID_BYTES} bytes."
            ),
            MalformedToken::Typ => f.write_str("The token's typ is not text."),
            MalformedToken::Cty => f.write_str("The token's cty is not text."),
            MalformedToken::Critical(fault) => f.write_str(match fault {
                CriticalFault::NotAList => "The token's crit is not a list.",
                CriticalFault::Empty => "The token's crit is empty.",
                CriticalFault::NotText => "The token's crit has an item that is not text.",
                CriticalFault::Repeated => "The token's crit has a name twice.",
                CriticalFault::Standard => "The token's crit names a standard member.",
                CriticalFault::Absent => "The token's crit names a member that is not there.",
                CriticalFault::NotUnderstood => {
                    "The token has a critical extension that is not understood."
                }
            }),
            MalformedToken::UnencodedPayload => {
                f.write_str("Tokens with an unencoded payload are not accepted.")
            }
        }
    }
}

impl std::error::Error for MalformedToken {}

/// The token is signed with an algorithm that is not allowed here, or with none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmNotAllowed;

impl AlgorithmNotAllowed {
    /// A stable name.
    pub const fn slug(self) -> &'static str {
        "algorithm-not-allowed"
    }
}

impl fmt::Display for AlgorithmNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The token's signature algorithm is not accepted here.")
    }
}

impl std::error::Error for AlgorithmNotAllowed {}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#;

    fn token(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let [header, payload] =
            [header.as_ref(), payload.as_ref()].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}.AAAA")
    }

    fn fault(token: impl AsRef<[u8]>) -> MalformedToken {
        Jws::parse(token.as_ref(), 1000).unwrap_err()
    }

    #[test]
    fn a_token_is_read() {
        let text = token(HEADER, r#"{"iss":"i","n":1.5}"#);
        let jws = Jws::parse(text.as_bytes(), text.len()).unwrap();
        assert_eq!(
            jws.header().algorithm(&Algorithm::ALL),
            Ok(Algorithm::Es256)
        );
        assert_eq!(
            jws.header().algorithm(&[Algorithm::Rs256]),
            Err(AlgorithmNotAllowed)
        );
        assert_eq!(jws.header().algorithm(&[]), Err(AlgorithmNotAllowed));
        assert_eq!(jws.header().kid(), Some("k"));
        assert_eq!(jws.header().typ(), Some("JWT"));
        assert_eq!(jws.issuer(), Some("i"));
        assert_eq!(jws.claims().get("n"), Some(&Value::from(1.5)));
        assert_eq!(
            jws.signing_input(),
            text.strip_suffix(".AAAA").unwrap().as_bytes()
        );
        assert_eq!(jws.signature(), &[0, 0, 0]);
        assert_eq!(format!("{jws:?}"), "Jws { .. }");
        assert_eq!(jws.into_claims().len(), 2);
    }

    #[test]
    fn its_length_is_capped() {
        let text = token(HEADER, "{}");
        let max_bytes = text.len() - 1;
        assert_eq!(
            Jws::parse(text.as_bytes(), max_bytes).unwrap_err(),
            MalformedToken::TooLong
        );
    }

    #[test]
    fn there_are_three_segments() {
        let good = token(HEADER, "{}");
        for (bad, expected) in [
            (String::new(), MalformedToken::Segments),
            ("abc".to_owned(), MalformedToken::Segments),
            (".".to_owned(), MalformedToken::Segments),
            ("..".to_owned(), MalformedToken::EmptySegment),
            (format!(".{good}"), MalformedToken::Segments),
            (format!("{good}."), MalformedToken::Segments),
            (good.replacen('.', "..", 1), MalformedToken::Segments),
            (good.replace("AAAA", ""), MalformedToken::EmptySegment),
            (format!("{good}.a.b"), MalformedToken::Encrypted),
            (format!("{good}.a.b.c"), MalformedToken::Segments),
        ] {
            assert_eq!(fault(&bad), expected, "{bad}");
        }
    }

    #[test]
    fn segments_are_canonical_base64url() {
        let good = token(HEADER, "{}");
        let signed = |signature: &str| good.replace("AAAA", signature);
        for bad in [
            "AA==", "AB", "A", "AAA A", "AAAA\n", " AAAA", "AA+A", "\u{e9}AA",
        ] {
            assert_eq!(
                fault(signed(bad)),
                MalformedToken::Encoding(Part::Signature),
                "{bad}"
            );
        }
        assert_eq!(
            fault(format!(" {good}")),
            MalformedToken::Encoding(Part::Header)
        );
        assert_eq!(
            fault(good.replace(".", ".=")),
            MalformedToken::Encoding(Part::Payload)
        );
    }

    #[test]
    fn header_and_payload_are_json_objects() {
        for (json, expected) in [
            ("[]", InvalidObject::NotAnObject),
            ("{", InvalidObject::Syntax),
            (
                r#"{"alg":"ES256","alg":"none"}"#,
                InvalidObject::RepeatedMember,
            ),
            (
                r#"{"a":{"iss":"a","iss":"b"}}"#,
                InvalidObject::RepeatedMember,
            ),
        ] {
            assert_eq!(
                fault(token(json, "{}")),
                MalformedToken::Json(Part::Header, expected)
            );
            assert_eq!(
                fault(token(HEADER, json)),
                MalformedToken::Json(Part::Payload, expected)
            );
        }
        assert_eq!(
            fault(token(HEADER, b"{\"a\":\"\xff\"}")),
            MalformedToken::Json(Part::Payload, InvalidObject::Syntax)
        );
    }

    #[test]
    fn members_of_the_header_have_their_types() {
        let long = format!(
            r#"{{"alg":"ES256","kid":"{}"}}"#,
            "k".repeat(MAX_KID_BYTES + 1)
        );
        for (header, expected) in [
            ("{}", MalformedToken::Alg),
            (r#"{"alg":null}"#, MalformedToken::Alg),
            (r#"{"alg":["ES256"]}"#, MalformedToken::Alg),
            (r#"{"Alg":"ES256"}"#, MalformedToken::Alg),
            (r#"{"alg":"ES256","kid":1}"#, MalformedToken::Kid),
            (&long, MalformedToken::Kid),
            (r#"{"alg":"ES256","typ":null}"#, MalformedToken::Typ),
            (r#"{"alg":"ES256","cty":{}}"#, MalformedToken::Cty),
            (
                r#"{"alg":"ES256","b64":false}"#,
                MalformedToken::UnencodedPayload,
            ),
            (
                r#"{"alg":"ES256","b64":"true"}"#,
                MalformedToken::UnencodedPayload,
            ),
            (r#"{"alg":"ES256","zip":"DEF"}"#, MalformedToken::Encrypted),
            (
                r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#,
                MalformedToken::Encrypted,
            ),
        ] {
            assert_eq!(fault(token(header, "{}")), expected, "{header}");
        }
        let ignored = r#"{"alg":"ES256","b64":true,"cty":"x","jku":"https://evil.example/",
            "jwk":{"kty":"oct"},"x5u":"https://evil.example/","x5c":["AA"],"extra":[1]}"#;
        assert!(Jws::parse(token(ignored, "{}").as_bytes(), 1000).is_ok());
    }

    #[test]
    fn algorithms_that_are_none_of_ours_are_never_allowed() {
        for alg in [
            "none", "None", "HS256", "HS512", "ES512", "RS256 ", "rs256", "",
        ] {
            let text = token(format!(r#"{{"alg":"{alg}"}}"#), "{}");
            let jws = Jws::parse(text.as_bytes(), 1000).unwrap();
            assert_eq!(
                jws.header().algorithm(&Algorithm::ALL),
                Err(AlgorithmNotAllowed),
                "{alg}"
            );
        }
    }

    #[test]
    fn critical_extensions_are_refused() {
        for (crit, expected) in [
            (r#""exp""#, CriticalFault::NotAList),
            ("null", CriticalFault::NotAList),
            ("{}", CriticalFault::NotAList),
            ("[]", CriticalFault::Empty),
            (r#"["x",1]"#, CriticalFault::NotText),
            (r#"["x","x"]"#, CriticalFault::Repeated),
            (r#"["alg"]"#, CriticalFault::Standard),
            (r#"["x","kid"]"#, CriticalFault::Standard),
            (r#"["crit"]"#, CriticalFault::Standard),
            (r#"["y"]"#, CriticalFault::Absent),
            (r#"["x"]"#, CriticalFault::NotUnderstood),
            (r#"["b64"]"#, CriticalFault::NotUnderstood),
        ] {
            let header = format!(r#"{{"alg":"ES256","kid":"k","x":1,"b64":true,"crit":{crit}}}"#);
            assert_eq!(
                fault(token(&header, "{}")),
                MalformedToken::Critical(expected),
                "{header}"
            );
        }
    }
}
