//! Signatures: every algorithm, known answers, and what happens when a bit is wrong.

use super::*;
use proptest::prelude::*;

/// Claims that can be read, and claims that jwt-simple itself can't read: no other path may be weaker.
fn payloads() -> [Value; 2] {
    [good(), json!({"sub": 7, "exp": (SECONDS + 600) as f64 + 0.5, "iss": null, "aud": 1})]
}

#[test]
fn each_algorithm_verifies_its_own_tokens_and_nobody_elses() {
    let tokens: Vec<String> = SIGNERS.iter().map(|signer| signer.token(&good())).collect();
    for (i, provider) in SIGNERS.iter().enumerate() {
        let auth = provider.auth();
        for (j, token) in tokens.iter().enumerate() {
            let expected = if i == j { Ok("alice".to_owned()) } else { Err(Rejection::TokenAlgorithm) };
            let verified = verified(token, &auth).map(|claims| claims.subject);
            assert_eq!(verified, expected, "{} for {}", SIGNERS[j].algorithm, provider.algorithm);
        }
    }
}

#[test]
fn a_provider_takes_each_of_its_algorithms_and_no_more() {
    let rsa = ["RS256", "PS384"];
    let auth = auth(&[signer("RS256").provider(json!({"algorithms": rsa}))]);
    for signer in SIGNERS.iter().filter(|signer| signer.source == self::signer("RS256").source) {
        let expected = if rsa.contains(&signer.algorithm) { None } else { Some(Rejection::TokenAlgorithm) };
        assert_eq!(verified(signer.token(&good()), &auth).err(), expected, "{}", signer.algorithm);
    }
}

#[test]
fn another_key_of_the_same_kind_is_refused() {
    let stranger = Ed25519KeyPair::generate();
    let token = stranger.sign(JWTClaims { custom: Payload(good().as_object().unwrap().clone()), ..JWTClaims::new() }).unwrap();
    assert_eq!(verified(token, &signer("EdDSA").auth()), Err(Rejection::TokenSignature));
    assert_eq!(verified(hs256(HS256, &good().to_string(), &[b'x'; 64]), &signer("HS256").auth()), Err(Rejection::TokenSignature));
}

#[test]
fn an_algorithm_that_is_renamed_to_another_of_the_same_key_is_refused() {
    for (from, to) in [("RS256", "PS256"), ("PS256", "RS256"), ("RS256", "RS512"), ("HS512", "HS256"), ("HS256", "HS384")] {
        let token = signer(from).token(&good());
        let [_, payload, signature] = parts(&token);
        let renamed = format!("{}.{payload}.{signature}", encode(format!(r#"{{"alg":"{to}"}}"#)));
        assert_eq!(verified(renamed, &signer(to).auth()), Err(Rejection::TokenSignature), "{from} as {to}");
    }
}

#[test]
fn one_bit_at_any_byte_of_the_signature_is_enough() {
    for signer in SIGNERS.iter() {
        let auth = signer.auth();
        for payload in payloads() {
            let token = signer.token(&payload);
            assert!(verified(&token, &auth).is_ok(), "{}", signer.algorithm);
            let signature = decode(parts(&token)[2]);
            for i in 0..signature.len() {
                let mut flipped = signature.clone();
                flipped[i] ^= 1 << (i % 8);
                let refused = verified(resigned(&token, &flipped), &auth);
                assert_eq!(refused, Err(Rejection::TokenSignature), "{} byte {i}", signer.algorithm);
            }
        }
    }
}

#[test]
fn a_signature_that_is_empty_cut_or_longer_is_refused() {
    for signer in SIGNERS.iter() {
        let auth = signer.auth();
        for payload in payloads() {
            let token = signer.token(&payload);
            let signature = decode(parts(&token)[2]);
            let (longer, leading) = ([&signature[..], &[0]].concat(), [&[0], &signature[..]].concat());
            for other in [&[][..], &signature[..1], &signature[1..], &signature[..signature.len() - 1], &longer, &leading] {
                assert_eq!(verified(resigned(&token, other), &auth), Err(Rejection::TokenSignature), "{}", signer.algorithm);
            }
        }
    }
}

#[test]
fn the_key_vouches_for_header_and_claims() {
    for signer in SIGNERS.iter() {
        let token = signer.token(&good());
        let [header, payload, signature] = parts(&token);
        let promoted = encode(good_with(json!({"sub": "root"})).to_string());
        assert_eq!(verified(format!("{header}.{promoted}.{signature}"), &signer.auth()), Err(Rejection::TokenSignature));
        let header = encode(format!(r#"{{"alg":"{}"}}"#, signer.algorithm));
        assert_eq!(verified(format!("{header}.{payload}.{signature}"), &signer.auth()), Err(Rejection::TokenSignature));
    }
}

/// The tokens of RFC 7515, appendix A.1 to A.3: one payload, written with line breaks.
const RFC_7515_PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RFC_7515_EXPIRES: Duration = Duration::from_secs(1_300_819_380);

#[test]
fn the_tokens_of_rfc_7515_are_verified_with_the_keys_of_rfc_7515() {
    let hmac = json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"});
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOW",
        "vG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9k",
        "G4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    )});
    let ec = json!({"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let hs256 = ("HS256", "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let rs256 = (
        "RS256",
        "eyJhbGciOiJSUzI1NiJ9",
        concat!(
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4",
            "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv",
            "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
    );
    let es256 = ("ES256", "eyJhbGciOiJFUzI1NiJ9", "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
    for (key, (algorithm, header, signature)) in [(hmac, hs256), (rsa, rs256), (ec, es256)] {
        let provider = json!({"name": "p", "algorithms": [algorithm], "local_jwks": {"keys": [key]}, "subject_claim": "iss"});
        let auth = auth(&[provider]);
        let token = format!("{header}.{RFC_7515_PAYLOAD}.{signature}");
        let claims = verified_at(&token, &auth, RFC_7515_EXPIRES).unwrap();
        assert_eq!((claims.subject.as_str(), claims.expires), ("joe", Some(RFC_7515_EXPIRES)), "{algorithm}");
        assert_eq!(verified(&token, &auth), Err(Rejection::TokenExpired), "{algorithm}");
        let mut flipped = decode(signature);
        flipped[0] ^= 1;
        assert_eq!(verified_at(resigned(&token, &flipped), &auth, RFC_7515_EXPIRES), Err(Rejection::TokenSignature), "{algorithm}");
    }
}

#[test]
fn what_was_verified_once_is_remembered_and_a_changed_token_is_not() {
    let auth = signer("ES256").auth();
    let mut keyring = Keyring::new(&auth, 0);
    let token = signer("ES256").token(&good());
    let Verdict::Verified(claims) = verify(token.as_bytes(), &auth, &mut keyring, NOW) else { panic!() };
    assert_eq!(verify(token.as_bytes(), &auth, &mut keyring, NOW), Verdict::Remembered(claims));
    let mut signature = decode(parts(&token)[2]);
    signature[0] ^= 1;
    let changed = resigned(&token, &signature);
    for _ in 0..2 {
        assert_eq!(verify(changed.as_bytes(), &auth, &mut keyring, NOW), Verdict::Refused(Rejection::TokenSignature));
    }
    let expired = NOW + Duration::from_secs(660);
    assert_eq!(verify(token.as_bytes(), &auth, &mut keyring, expired), Verdict::Refused(Rejection::TokenExpired));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn no_token_survives_the_change_of_one_byte(
        signer in 0..SIGNERS.len(),
        payload in 0..2_usize,
        place in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), "[A-Za-z0-9_.-]".prop_map(|c| c.as_bytes()[0])],
    ) {
        let signer = &SIGNERS[signer];
        let mut token = signer.token(&payloads()[payload]).into_bytes();
        let i = place.index(token.len());
        prop_assume!(token[i] != byte);
        token[i] = byte;
        prop_assert!(verified(&token, &signer.auth()).is_err(), "{}", String::from_utf8_lossy(&token));
    }

    #[test]
    fn any_bytes_are_refused_and_no_trap(token in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[A-Za-z0-9_=-]{0,30}\\.[A-Za-z0-9_=-]{0,60}\\.[A-Za-z0-9_=-]{0,60}".prop_map(String::into_bytes),
        ("\\PC{0,40}", "\\PC{0,40}", any::<[u8; 32]>()).prop_map(|(a, b, c)| format!("{}.{}.{}", encode(a), encode(b), encode(c)).into_bytes()),
    ]) {
        for signer in SIGNERS.iter() {
            prop_assert!(verified(&token, &signer.auth()).is_err());
        }
    }
}
