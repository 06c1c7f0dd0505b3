//! What a token says, once its signature holds.

use super::*;
use crate::config::Distinction;
use proptest::prelude::*;

const SKEW: u64 = 60;

/// The claims, signed and judged by a provider that has nothing against them but what `provider` adds.
fn judged_by(provider: Value, claims: &str) -> Result<Claims, Rejection> {
    verified(signed_hs256(HS256, claims), &auth(&[signer("HS256").provider(provider)]))
}

fn judged(claims: Value) -> Result<Claims, Rejection> {
    judged_by(json!({}), &claims.to_string())
}

/// Good claims with one more, or another, given as JSON text.
fn with(claim: &str, json: &str) -> Result<Claims, Rejection> {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(claim);
    let rest = claims.to_string();
    judged_by(json!({}), &format!(r#"{{"{claim}":{json},{}"#, rest.strip_prefix('{').unwrap()))
}

#[test]
fn a_good_token_says_who_where_and_until_when() {
    let claims = good_with(json!({"iss": "https://id.example.com", "sid": "login 1", "aud": ["x"], "iat": SECONDS, "nbf": SECONDS}));
    let expected = Claims {
        // Worked out elsewhere, as the next one.
        sender: 0x2cfd_e153_fdd1_b80d,
        issuer: "https://id.example.com".to_owned(),
        subject: "alice".to_owned(),
        session: Some("login 1".to_owned()),
        expires: Some(Duration::from_secs(SECONDS + 600)),
        distinction: None,
    };
    assert_eq!(judged(claims), Ok(expected));
    let expires = Some(NOW + Duration::from_secs(600));
    let expected = Claims {
        sender: 0x0cf7_37a6_cada_5512,
        issuer: String::new(),
        subject: "alice".to_owned(),
        session: None,
        expires,
        distinction: None,
    };
    assert_eq!(judged(good()), Ok(expected));
}

#[test]
fn exp_is_past_when_the_skew_is_used_up() {
    assert_eq!(judged(good_with(json!({"exp": SECONDS - SKEW}))), Err(Rejection::TokenExpired));
    assert_eq!(judged(good_with(json!({"exp": SECONDS - SKEW - 1}))), Err(Rejection::TokenExpired));
    assert!(judged(good_with(json!({"exp": SECONDS - SKEW + 1}))).is_ok());
    let token = signed_hs256(HS256, &good_with(json!({"exp": SECONDS - SKEW})).to_string());
    assert!(verified_at(&token, &signer("HS256").auth(), NOW - Duration::from_nanos(1)).is_ok(), "to the nanosecond");
}

#[test]
fn nbf_and_iat_may_be_ahead_by_the_skew() {
    for claim in ["nbf", "iat"] {
        assert!(judged(good_with(json!({claim: SECONDS + SKEW - 1}))).is_ok(), "{claim}");
        assert!(judged(good_with(json!({claim: SECONDS + SKEW}))).is_ok(), "{claim}");
        assert_eq!(judged(good_with(json!({claim: SECONDS + SKEW + 1}))), Err(Rejection::TokenNotYetValid), "{claim}");
        assert!(judged(good_with(json!({claim: 0}))).is_ok(), "{claim}");
        assert!(judged(good_with(json!({claim: -86_400}))).is_ok(), "{claim}: before 1970 is long ago");
    }
}

#[test]
fn the_skew_is_what_is_configured() {
    let auth = |skew: u64| auth_with(json!({"clock_skew_seconds": skew, "providers": [signer("HS256").provider(json!({}))]}));
    let token = |claims: Value| signed_hs256(HS256, &good_with(claims).to_string());
    assert_eq!(verified(token(json!({"exp": SECONDS})), &auth(0)), Err(Rejection::TokenExpired));
    assert!(verified(token(json!({"exp": SECONDS + 1, "nbf": SECONDS})), &auth(0)).is_ok());
    assert_eq!(verified(token(json!({"nbf": SECONDS + 1})), &auth(0)), Err(Rejection::TokenNotYetValid));
    assert!(verified(token(json!({"exp": SECONDS - 299, "nbf": SECONDS + 300})), &auth(300)).is_ok());
}

#[test]
fn a_token_without_exp_is_refused_unless_that_is_allowed() {
    assert_eq!(judged(json!({"sub": "alice"})), Err(Rejection::TokenWithoutExpiration));
    let lenient = auth_with(json!({"require_expiration": false, "providers": [signer("HS256").provider(json!({}))]}));
    let claims = verified(signed_hs256(HS256, r#"{"sub":"alice"}"#), &lenient).unwrap();
    assert_eq!(claims.expires, None);
    let expired = signed_hs256(HS256, r#"{"sub":"alice","exp":1}"#);
    assert_eq!(verified(expired, &lenient), Err(Rejection::TokenExpired), "an exp that is there counts");
}

#[test]
fn a_date_is_a_number_and_nothing_else() {
    for claim in ["exp", "nbf", "iat"] {
        for json in [&format!("\"{SECONDS}\""), "\"\"", "null", "true", "[]", "{}", &format!("[{SECONDS}]"), "\"2026-02-06T12:00:00Z\""] {
            assert_eq!(with(claim, json), Err(Rejection::TokenMalformed), "{claim}: {json}");
        }
    }
}

#[test]
fn a_date_may_have_a_fraction_or_be_huge_or_negative() {
    assert_eq!(with("exp", &format!("{SECONDS}.5")).unwrap().expires, Some(NOW + Duration::from_millis(500)));
    assert_eq!(with("exp", &format!("{}e0", SECONDS)).unwrap().expires, Some(NOW));
    assert_eq!(with("exp", &format!("{}.999", SECONDS - SKEW - 1)), Err(Rejection::TokenExpired));
    for far in
        ["1e300", "1.7e308", "18446744073709551615", "18446744073709551616", "9223372036854775808", "4294967296", "1e19", &"9".repeat(300)]
    {
        let expires = with("exp", far).unwrap().expires.unwrap();
        assert!(expires >= Duration::from_secs(4_294_967_296), "{far} is {expires:?}");
        assert_eq!(with("nbf", far), Err(Rejection::TokenNotYetValid), "{far}");
        assert_eq!(with("iat", far), Err(Rejection::TokenNotYetValid), "{far}");
    }
    for past in ["0", "-1", "-0", "-0.5", "-1e300", "-9223372036854775808", "1e-300", "1"] {
        assert_eq!(with("exp", past), Err(Rejection::TokenExpired), "{past}");
        assert!(with("nbf", past).is_ok(), "{past}");
    }
    // Not even JSON's own readers agree on what is beyond a double.
    for claim in ["exp", "nbf", "iat"] {
        assert_eq!(with(claim, "1e400"), Err(Rejection::TokenMalformed));
        assert_eq!(with(claim, "-1e400"), Err(Rejection::TokenMalformed));
    }
}

#[test]
fn one_audience_of_several_is_enough() {
    let aud = |json: &str| {
        judged_by(json!({"audiences": ["app", "desk"]}), &format!(r#"{{"sub":"alice","exp":{},"aud":{json}}}"#, SECONDS + 600)).map(|_| ())
    };
    for good in [r#""app""#, r#""desk""#, r#"["app"]"#, r#"["other","desk"]"#, r#"[1,null,"app"]"#] {
        assert_eq!(aud(good), Ok(()), "{good}");
    }
    for bad in [
        r#""other""#,
        r#""App""#,
        r#""app ""#,
        r#""""#,
        "[]",
        r#"["other"]"#,
        r#"[["app"]]"#,
        "1",
        "null",
        "true",
        r#"{"app":1}"#,
        r#""app,desk""#,
    ] {
        assert_eq!(aud(bad), Err(Rejection::TokenAudience), "{bad}");
    }
    assert_eq!(judged_by(json!({"audiences": ["app"]}), &good().to_string()), Err(Rejection::TokenAudience), "no aud at all");
    assert!(judged(good_with(json!({"aud": "anything"}))).is_ok(), "nothing is asked for");
}

#[test]
fn the_subject_is_a_string_with_something_in_it_or_the_digits_of_a_number() {
    for (json, subject) in [
        ("\"alice\"", "alice"),
        ("42", "42"),
        ("-7", "-7"),
        ("18446744073709551615", "18446744073709551615"),
        ("\"\u{fc} \u{1f469}\"", "\u{fc} \u{1f469}"),
    ] {
        assert_eq!(with("sub", json).unwrap().subject, subject, "{json}");
    }
    for json in ["\"\"", "null", "true", "[]", "{}", "[\"alice\"]", "1.5", "1e300", "18446744073709551616"] {
        assert_eq!(with("sub", json), Err(Rejection::TokenSubject), "{json}");
    }
    assert_eq!(judged(json!({"exp": SECONDS + 600})), Err(Rejection::TokenSubject));
}

#[test]
fn subject_and_session_come_from_the_claims_that_are_configured() {
    let names = json!({"subject_claim": "uid", "session_claim": "https://example.com/session"});
    let claims = good_with(json!({"uid": 42, "sid": "not this", "https://example.com/session": "s"})).to_string();
    let claims = judged_by(names.clone(), &claims).unwrap();
    assert_eq!((claims.subject.as_str(), claims.session.as_deref()), ("42", Some("s")));
    assert_eq!(judged_by(names, &good().to_string()), Err(Rejection::TokenSubject), "sub is not asked for");
}

#[test]
fn a_session_that_cannot_be_read_is_no_session() {
    for (json, session) in [("\"s\"", Some("s")), ("7", Some("7")), ("\"\"", None), ("null", None), ("[]", None), ("1.5", None)] {
        assert_eq!(with("sid", json).unwrap().session.as_deref(), session, "{json}");
    }
}

#[test]
fn of_duplicate_claims_the_last_counts() {
    let claims = |json: &str| judged_by(json!({}), json);
    let exp = SECONDS + 600;
    assert_eq!(claims(&format!(r#"{{"sub":"alice","exp":{exp},"sub":"bob"}}"#)).unwrap().subject, "bob");
    assert_eq!(claims(&format!(r#"{{"exp":{exp},"sub":"alice","exp":1}}"#)), Err(Rejection::TokenExpired));
    assert_eq!(claims(&format!(r#"{{"exp":{exp},"sub":"alice","sub":""}}"#)), Err(Rejection::TokenSubject));
    // The issuer that chose the provider is the issuer that is reported.
    let two = auth(&[signer("HS256").provider(json!({"issuer": "a"})), signer("HS384").provider(json!({"issuer": "b"}))]);
    let token = |issuers: &str| signed_hs256(HS256, &format!(r#"{{{issuers},"sub":"alice","exp":{exp}}}"#));
    assert_eq!(verified(token(r#""iss":"b","iss":"a""#), &two).unwrap().issuer, "a");
    assert_eq!(verified(token(r#""iss":"a","iss":"b""#), &two), Err(Rejection::TokenAlgorithm));
}

#[test]
fn other_claims_may_be_whatever_they_like() {
    let odd =
        json!({"jti": 1, "nonce": null, "amr": [1, "a", {}], "cnf": {"jkt": "x"}, "": "", "email_verified": true, "auth_time": -1.5e10});
    assert!(judged(good_with(odd)).is_ok());
    assert!(judged(good_with(json!({"iss": 7}))).is_ok_and(|claims| claims.issuer == "7"));
}

proptest! {
    #[test]
    fn any_number_is_a_date(claim in prop_oneof![Just("exp"), Just("nbf"), Just("iat")], json in prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        prop::num::f64::NORMAL.prop_map(|n| format!("{n:e}")),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,20})?",
    ]) {
        let seconds: f64 = json.parse().unwrap();
        prop_assume!((seconds - SECONDS as f64).abs() > 61.0);
        let past = seconds < SECONDS as f64;
        let expected = match (claim, past) {
            ("exp", true) => Some(Rejection::TokenExpired),
            ("nbf" | "iat", false) => Some(Rejection::TokenNotYetValid),
            _ => None,
        };
        prop_assert_eq!(with(claim, &json).err(), expected, "{} {}", claim, json);
    }

    #[test]
    fn any_claims_are_judged_without_a_trap(claim in "exp|nbf|iat|iss|sub|aud|sid|jti", json in prop_oneof![
        Just("null".to_owned()), Just("true".to_owned()), any::<f64>().prop_map(|n| json!(n).to_string()),
        "\\PC{0,20}".prop_map(|text| json!(text).to_string()), "\\PC{0,20}".prop_map(|text| json!([[text], {}]).to_string()),
    ]) {
        let verdict = with(&claim, &json);
        if let Ok(claims) = verdict {
            prop_assert!(!claims.subject.is_empty() && claims.expires.unwrap().saturating_add(Duration::from_secs(SKEW)) > NOW);
        }
    }
}

#[test]
fn the_first_distinction_that_a_claim_fits_is_the_senders() {
    let mut auth = auth(&[signer("HS256").provider(json!({}))]);
    let mut told = |distinctions: &[(&str, Value)], claims: Value| {
        let distinction = |(claim, value): &(&str, Value)| Distinction { claim: (*claim).to_owned(), value: value.clone() };
        auth.distinctions = distinctions.iter().map(distinction).collect();
        verified(signed_hs256(HS256, &good_with(claims).to_string()), &auth).unwrap().distinction
    };
    let two = [("channel", json!("beta")), ("support", json!(true))];
    assert_eq!(told(&two, json!({})), None);
    assert_eq!(told(&two, json!({"channel": "stable", "support": false})), None);
    assert_eq!(told(&two, json!({"channel": "beta", "support": true})), Some(0));
    assert_eq!(told(&two, json!({"support": true})), Some(1));
    assert_eq!(told(&two, json!({"support": "true"})), None, "another type");
    let roles = [("realm_access.roles", json!("loud"))];
    assert_eq!(told(&roles, json!({"realm_access": {"roles": ["quiet", "loud"]}})), Some(0));
    assert_eq!(told(&roles, json!({"realm_access": {"roles": ["louder"]}})), None);
    assert_eq!(told(&roles, json!({"realm_access": "loud"})), None);
    assert_eq!(told(&roles, json!({"realm_access.roles": "loud"})), Some(0), "a name may have dots");
    for version in [json!(7), json!(7.0)] {
        assert_eq!(told(&[("version", json!(7))], json!({"version": version})), Some(0));
    }
    assert_eq!(told(&[("version", json!(7))], json!({"version": 8})), None);
}
