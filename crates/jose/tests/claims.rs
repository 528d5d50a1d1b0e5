//! Which claims are accepted, at a time that is given.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't go on has failed"
)]

mod common;

use std::time::Duration;

use common::{base64url, with};
use serde_json::{Value, json};
use tollgate_core::time::Timestamp;
use tollgate_jose::{Claim, ClaimError, ClaimRules, Jws, NumericDate, Validated};
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

const ISSUER: &str = "https://idp.example/";
const NOW: i64 = 1_800_000_000;

fn check_at(
    rules: &ClaimRules,
    header: &Value,
    claims: &Value,
    now: Timestamp,
) -> Result<Validated, ClaimError> {
    let [header, claims] = [header, claims].map(|part| base64url(part.to_string()));
    let token = format!("{header}.{claims}.AAAA");
    let jws = Jws::parse(token.as_bytes(), 10_000).unwrap();
    rules.check(jws.claims(), jws.header(), now)
}

fn check(rules: &ClaimRules, claims: &Value) -> Result<Validated, ClaimError> {
    let now = Timestamp::from_seconds(NOW as u64);
    check_at(rules, &json!({"alg": "ES256"}), claims, now)
}

fn rules() -> ClaimRules {
    ClaimRules::for_issuer(ISSUER)
}

fn claims(more: Value) -> Value {
    with(json!({"iss": ISSUER, "exp": NOW + 300}), more)
}

#[test]
fn the_issuer_is_exact() {
    assert!(check(&rules(), &claims(json!({}))).is_ok());
    for other in [
        "https://idp.example",
        "https://IDP.example/",
        "https://idp.example/ ",
        "",
    ] {
        assert_eq!(
            check(&rules(), &claims(json!({ "iss": other }))),
            Err(ClaimError::IssuerUnknown)
        );
    }
    assert_eq!(
        check(&rules(), &json!({"exp": NOW + 9})),
        Err(ClaimError::IssuerUnknown)
    );
    assert_eq!(
        check(&rules(), &claims(json!({"iss": [ISSUER]}))),
        Err(ClaimError::Malformed(Claim::Iss))
    );
}

#[test]
fn one_audience_is_enough() {
    let ours = ClaimRules {
        audiences: vec!["a".to_owned(), "b".to_owned()],
        ..rules()
    };
    for good in [json!("a"), json!("b"), json!(["x", "b"]), json!(["a", "b"])] {
        assert!(
            check(&ours, &claims(json!({ "aud": good }))).is_ok(),
            "{good}"
        );
    }
    for other in [
        json!("x"),
        json!("A"),
        json!("a b"),
        json!([]),
        json!(["x"]),
        json!(""),
    ] {
        let claims = claims(json!({ "aud": other }));
        assert_eq!(
            check(&ours, &claims),
            Err(ClaimError::AudienceMismatch),
            "{other}"
        );
        assert!(check(&rules(), &claims).is_ok());
    }
    assert_eq!(
        check(&ours, &claims(json!({}))),
        Err(ClaimError::AudienceMismatch)
    );
    for bad in [
        json!(1),
        json!({"a": "a"}),
        json!(null),
        json!(true),
        json!(["a", 1]),
        json!([["a"]]),
    ] {
        for rules in [&ours, &rules()] {
            assert_eq!(
                check(rules, &claims(json!({ "aud": bad }))),
                Err(ClaimError::Malformed(Claim::Aud)),
                "{bad}"
            );
        }
    }
}

#[test]
fn times_are_kept_to_the_second() {
    let expired = Err(ClaimError::Expired);
    let early = Err(ClaimError::NotYetValid);
    let future = Err(ClaimError::IssuedInFuture);
    let accepted = Ok(());
    for (more, expected) in [
        // now >= exp + 60 is too late.
        (json!({"exp": NOW - 59}), accepted),
        (json!({"exp": NOW - 60}), expired),
        (json!({"exp": NOW as f64 - 59.5}), expired),
        (json!({"exp": NOW as f64 - 58.5}), accepted),
        (json!({"exp": 0}), expired),
        (json!({"exp": -1}), expired),
        (json!({"exp": -1e300}), expired),
        (json!({"exp": i64::MIN}), expired),
        (json!({"exp": 1e300}), accepted),
        (json!({"exp": u64::MAX}), accepted),
        (json!({"exp": i64::MAX}), accepted),
        // now + 60 < nbf is too early.
        (json!({"nbf": NOW + 60}), accepted),
        (json!({"nbf": NOW + 61}), early),
        (json!({"nbf": NOW as f64 + 60.5}), early),
        (json!({"nbf": NOW as f64 + 59.5}), accepted),
        (json!({"nbf": 1e300}), early),
        (json!({"nbf": u64::MAX}), early),
        (json!({"nbf": -1e300}), accepted),
        (json!({"nbf": i64::MIN}), accepted),
        (json!({"iat": NOW + 60}), accepted),
        (json!({"iat": NOW + 61}), future),
        (json!({"iat": NOW as f64 + 60.5}), future),
        (json!({"iat": 1e300}), future),
        (json!({"iat": -5}), accepted),
    ] {
        let claims = claims(more);
        assert_eq!(check(&rules(), &claims).map(|_| ()), expected, "{claims}");
    }
}

#[test]
fn fractions_of_now_count() {
    let at = |nanos: u64, claims: Value| {
        let now = Timestamp::from_nanos(NOW as u64 * 1_000_000_000 + nanos);
        let strict = ClaimRules {
            skew: Duration::ZERO,
            ..rules()
        };
        check_at(&strict, &json!({"alg": "ES256"}), &claims, now).map(|_| ())
    };
    let soon = claims(json!({"exp": NOW + 1}));
    assert_eq!(at(999_999_999, soon.clone()), Ok(()));
    assert_eq!(at(1_000_000_000, soon), Err(ClaimError::Expired));
    let later = claims(json!({"nbf": NOW + 1}));
    assert_eq!(at(999_999_999, later.clone()), Err(ClaimError::NotYetValid));
    assert_eq!(at(1_000_000_000, later), Ok(()));
}

#[test]
fn exp_is_required_unless_configured() {
    let without = json!({ "iss": ISSUER });
    assert_eq!(
        check(&rules(), &without),
        Err(ClaimError::Missing(Claim::Exp))
    );
    let lax = ClaimRules {
        require_exp: false,
        ..rules()
    };
    let validated = check(&lax, &without).unwrap();
    assert_eq!((validated.expires, validated.accepted_until), (None, None));
    assert!(validated.holds_at(Timestamp::from_nanos(u64::MAX)));
    assert_eq!(
        check(&lax, &claims(json!({"exp": NOW - 60}))),
        Err(ClaimError::Expired)
    );
    // What never expires lives too long.
    let capped = ClaimRules {
        max_lifetime: Some(Duration::MAX),
        ..lax
    };
    assert_eq!(
        check(&capped, &without),
        Err(ClaimError::Missing(Claim::Exp))
    );
}

#[test]
fn claims_have_their_types() {
    for (claim, bad) in [
        (Claim::Exp, json!("1900000000")),
        (Claim::Exp, json!(null)),
        (Claim::Exp, json!(true)),
        (Claim::Exp, json!([NOW])),
        (Claim::Nbf, json!("0")),
        (Claim::Iat, json!("0")),
        (Claim::Iat, json!({})),
        (Claim::Sub, json!(1)),
        (Claim::Jti, json!(["a"])),
    ] {
        assert_eq!(
            check(&rules(), &claims(json!({ claim.name(): bad }))),
            Err(ClaimError::Malformed(claim))
        );
    }
}

#[test]
fn lifetimes_are_capped() {
    let hour = ClaimRules {
        max_lifetime: Some(Duration::from_secs(3600)),
        ..rules()
    };
    let too_long = Err(ClaimError::LifetimeTooLong);
    for (more, expected) in [
        (json!({"iat": NOW - 10, "exp": NOW + 3590}), Ok(())),
        (json!({"iat": NOW - 10, "exp": NOW + 3591}), too_long),
        (
            json!({"iat": NOW as f64 - 0.5, "exp": NOW as f64 + 3599.5}),
            Ok(()),
        ),
        (
            json!({"iat": NOW as f64 - 0.5, "exp": NOW as f64 + 3600.5}),
            too_long,
        ),
        (json!({"iat": i64::MIN, "exp": i64::MAX}), too_long),
        (json!({"iat": NOW, "exp": NOW - 30}), Ok(())),
        (json!({"exp": NOW + 3600}), Ok(())),
        (json!({"exp": NOW + 3601}), too_long),
        (json!({"exp": 1e300}), too_long),
    ] {
        let claims = claims(more);
        assert_eq!(check(&hour, &claims).map(|_| ()), expected, "{claims}");
    }
}

#[test]
fn tokens_made_for_something_else_are_refused() {
    let at_jwt = ClaimRules {
        require_at_jwt: true,
        ..rules()
    };
    let full = claims(json!({
        "aud": "a", "sub": "s", "client_id": "c", "iat": NOW, "jti": "j"
    }));
    let now = Timestamp::from_seconds(NOW as u64);
    let by = |rules: &ClaimRules, typ: Option<&str>| {
        let header = match typ {
            Some(typ) => json!({"alg": "ES256", "typ": typ}),
            None => json!({"alg": "ES256"}),
        };
        check_at(rules, &header, &full, now).map(|_| ())
    };
    let mismatch = Err(ClaimError::TypeMismatch);
    for typ in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/At+Jwt",
    ] {
        assert_eq!(by(&at_jwt, Some(typ)), Ok(()));
        assert_eq!(by(&rules(), Some(typ)), Ok(()));
    }
    for typ in [
        None,
        Some("JWT"),
        Some("jwt"),
        Some("application/jwt"),
        Some("JOSE"),
        Some(""),
    ] {
        assert_eq!(by(&at_jwt, typ), mismatch);
        assert_eq!(by(&rules(), typ), Ok(()));
    }
    for typ in [
        "dpop+jwt",
        "logout+JWT",
        "application/secevent+jwt",
        "xat+jwt",
        " at+jwt",
    ] {
        assert_eq!(by(&at_jwt, Some(typ)), mismatch);
        assert_eq!(by(&rules(), Some(typ)), mismatch);
    }
}

#[test]
fn an_access_token_has_all_claims_of_its_profile() {
    let lax = ClaimRules {
        require_at_jwt: true,
        require_exp: false,
        ..rules()
    };
    let header = json!({"alg": "ES256", "typ": "at+jwt"});
    let now = Timestamp::from_seconds(NOW as u64);
    let full = claims(json!({
        "aud": ["a"], "sub": "s", "client_id": "c", "iat": NOW, "jti": "j"
    }));
    assert!(check_at(&lax, &header, &full, now).is_ok());
    for claim in ["exp", "aud", "sub", "client_id", "iat", "jti"] {
        let mut less = full.clone();
        less.as_object_mut().unwrap().remove(claim);
        match check_at(&lax, &header, &less, now) {
            Err(ClaimError::Missing(missing)) => assert_eq!(missing.name(), claim),
            other => panic!("{claim}: {other:?}"),
        }
        let wrong = with(full.clone(), json!({ claim: {} }));
        match check_at(&lax, &header, &wrong, now) {
            Err(ClaimError::Malformed(malformed)) => assert_eq!(malformed.name(), claim),
            other => panic!("{claim}: {other:?}"),
        }
    }
}

#[test]
fn what_is_accepted_is_accepted_for_the_time_it_says() {
    let hour = ClaimRules {
        max_lifetime: Some(Duration::from_secs(3600)),
        ..rules()
    };
    for (rules, more) in [
        (&rules(), json!({})),
        (
            &rules(),
            json!({"nbf": NOW - 10, "iat": NOW as f64 - 20.5, "exp": NOW as f64 + 0.5}),
        ),
        (&rules(), json!({"nbf": NOW as f64 + 30.25})),
        (&hour, json!({"exp": NOW + 3600})),
        (&hour, json!({"iat": NOW - 5})),
    ] {
        let claims = claims(more);
        let validated = check(rules, &claims).unwrap();
        for seconds in (NOW - 4000..NOW + 8000).step_by(10) {
            for now in [seconds - 1, seconds, seconds + 1] {
                let now = Timestamp::from_seconds(now as u64);
                let again = check_at(rules, &json!({"alg": "ES256"}), &claims, now);
                assert_eq!(again.is_ok(), validated.holds_at(now), "{claims} {now:?}");
                assert!(again.is_err() || again == Ok(validated));
            }
        }
    }
}

#[test]
fn dates_of_any_size_are_rounded_to_whole_seconds() {
    for (number, floor, ceil) in [
        (json!(5), 5, 5),
        (json!(-5), -5, -5),
        (json!(1.5), 1, 2),
        (json!(-0.5), -1, 0),
        (json!(1e3), 1000, 1000),
        (json!(u64::MAX), i64::MAX, i64::MAX),
        (json!(i64::MIN), i64::MIN, i64::MIN),
        (json!(1e300), i64::MAX, i64::MAX),
        (json!(-1e300), i64::MIN, i64::MIN),
    ] {
        let Value::Number(number) = number else {
            panic!("{number} is no number");
        };
        let date = NumericDate::from_number(&number);
        assert_eq!((date.floor(), date.ceil()), (floor, ceil), "{number}");
    }
}
