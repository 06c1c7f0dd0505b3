//! Tokens as attackers and broken libraries write them.

use super::*;

/// Every key there is, so that a forgery has the widest choice.
fn everyone() -> Auth {
    let providers: Vec<Value> = SIGNERS.iter().map(|signer| signer.provider(json!({}))).collect();
    auth(&providers)
}

fn malformed(token: impl AsRef<[u8]>) {
    let shown = String::from_utf8_lossy(token.as_ref()).into_owned();
    assert_eq!(verified(token, &everyone()), Err(Rejection::TokenMalformed), "{shown}");
}

/// In DER, as ECDSA signatures are written nearly everywhere but in a JWS.
pub(super) fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        let zeros = half.iter().take_while(|&&b| b == 0).count().min(half.len() - 1);
        let sign = if half[zeros] < 0x80 { vec![] } else { vec![0] };
        let number = [&sign[..], &half[zeros..]].concat();
        [&[2, number.len() as u8], &number[..]].concat()
    };
    let (r, s) = signature.split_at_checked(signature.len() / 2).unwrap();
    let both = [integer(r), integer(s)].concat();
    [&[0x30, both.len() as u8], &both[..]].concat()
}

/// The bytes of a PEM's base64.
pub(super) fn pem_body(pem: &str) -> Vec<u8> {
    use jwt_simple::reexports::ct_codecs::Base64;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Base64::decode_to_vec(body, None).unwrap()
}

#[test]
fn a_token_without_a_signature_is_refused_however_none_is_spelt() {
    for none in ["none", "None", "NONE", "nOnE", "NonE", "none ", " none", "none\\u0000", "\\u006eone", "null", "", "0"] {
        let header = format!(r#"{{"alg":"{none}","typ":"JWT"}}"#);
        let signed = format!("{}.{}", encode(&header), encode(good().to_string()));
        let empty_key = hs256(&header, &good().to_string(), b"");
        for token in [format!("{signed}."), format!("{signed}.AAAA"), empty_key, signed_hs256(&header, &good().to_string())] {
            assert_eq!(verified(&token, &everyone()), Err(Rejection::TokenAlgorithm), "{header}");
        }
    }
}

#[test]
fn an_algorithm_in_another_case_is_another_algorithm() {
    for name in ["hs256", "Hs256", "HS256 ", "HS-256", "HMACSHA256", "HS1", "ES256K", "RS1", "ML-DSA-44"] {
        let token = signed_hs256(&format!(r#"{{"alg":"{name}"}}"#), &good().to_string());
        assert_eq!(verified(token, &everyone()), Err(Rejection::TokenAlgorithm), "{name}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    for public in SIGNERS.iter().filter(|signer| signer.source.get("public_key_pem").is_some()) {
        let pem = public.source["public_key_pem"].as_str().unwrap();
        let der = pem_body(pem);
        let crlf = pem.replace('\n', "\r\n");
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), crlf.as_bytes(), &der, encode(&der).as_bytes(), b""] {
            for algorithm in ["HS256", public.algorithm] {
                let token = hs256(&format!(r#"{{"alg":"{algorithm}"}}"#), &good().to_string(), secret);
                let refused = if algorithm == "HS256" { Rejection::TokenAlgorithm } else { Rejection::TokenSignature };
                assert_eq!(verified(&token, &public.auth()), Err(refused), "{algorithm} for {}", public.algorithm);
                assert!(verified(&token, &everyone()).is_err());
            }
        }
    }
}

#[test]
fn an_ecdsa_signature_of_zeros_is_none() {
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
        0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let signer = signer("ES256");
    let token = signer.token(&good());
    for r in [zero, one, order, [0xff; 32]] {
        for s in [zero, one, order, [0xff; 32]] {
            assert_eq!(verified(resigned(&token, &[r, s].concat()), &signer.auth()), Err(Rejection::TokenSignature), "{r:?} {s:?}");
        }
    }
    for signer in [self::signer("ES384"), self::signer("EdDSA"), self::signer("RS256"), self::signer("PS256")] {
        let token = signer.token(&good());
        let zeros = vec![0; decode(parts(&token)[2]).len()];
        assert_eq!(verified(resigned(&token, &zeros), &signer.auth()), Err(Rejection::TokenSignature), "{}", signer.algorithm);
    }
}

#[test]
fn an_ecdsa_signature_in_der_is_not_a_jws_signature() {
    for signer in [signer("ES256"), signer("ES384")] {
        let token = signer.token(&good());
        let der = der(&decode(parts(&token)[2]));
        assert_eq!(verified(resigned(&token, &der), &signer.auth()), Err(Rejection::TokenSignature), "{}", signer.algorithm);
    }
}

#[test]
fn a_compact_jws_has_three_parts_and_nothing_after() {
    let token = signer("HS256").token(&good());
    let [header, payload, signature] = parts(&token);
    for parts in [0, 1, 2, 4, 5, 6, 100] {
        malformed(vec!["e30"; parts].join("."));
    }
    malformed(format!("{token}."));
    malformed(format!("{token}.{signature}"));
    malformed(format!(".{token}"));
    malformed(format!("{header}.{payload}"));
    // JWE: five parts, the second of which may be empty.
    malformed(format!("{}.{}", encode(r#"{"alg":"dir","enc":"A256GCM"}"#), "..AAAA.AAAA.AAAA".trim_start_matches('.')));
    malformed(format!("{header}..{payload}.{signature}.{signature}"));
    for nothing in ["..", &format!(".{payload}.{signature}"), &format!("{header}..{signature}")] {
        malformed(nothing);
    }
}

#[test]
fn every_character_is_one_of_base64url_without_padding() {
    let token = signer("HS256").token(&good());
    let [header, payload, signature] = parts(&token);
    for junk in ["=", "==", "+", "/", "%", "!", " ", "\t", "\n", "\0", "\u{e4}", "\u{ff}"] {
        malformed(format!("{header}{junk}.{payload}.{signature}"));
        malformed(format!("{header}.{payload}{junk}.{signature}"));
        malformed(format!("{token}{junk}"));
        malformed(format!("{header}.{payload}.{junk}{signature}"));
    }
    malformed(format!("{token},Bearer {token}"));
    malformed(format!("{token} {token}"));
    malformed(b"\x80\xff.\xc3\x28.\xa0");
    malformed([token.as_bytes(), &[0xff]].concat());
}

#[test]
fn two_ways_to_write_the_same_signature_are_one_too_many() {
    // 32 bytes leave two bits unused in the last character: with those set it would be the same bytes.
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut token = signer("HS256").token(&good()).into_bytes();
    let last = token.pop().unwrap();
    let last = alphabet.iter().position(|&c| c == last).unwrap();
    for unused in 1..4 {
        let other = [&token[..], &[alphabet[last + unused]]].concat();
        assert!(verified(other, &everyone()).is_err());
    }
    let same = [&token[..], &[alphabet[last]]].concat();
    assert!(verified(same, &everyone()).is_ok());
}

#[test]
fn json_serialisation_is_not_the_compact_one() {
    let token = signer("HS256").token(&good());
    let [protected, payload, signature] = parts(&token);
    let flattened = json!({"protected": protected, "payload": payload, "signature": signature});
    let general = json!({"payload": payload, "signatures": [{"protected": protected, "signature": signature}]});
    for json in [flattened, general] {
        malformed(json.to_string());
        malformed(encode(json.to_string()));
        malformed(format!("{}..", encode(json.to_string())));
    }
}

#[test]
fn a_header_is_an_object_that_names_an_algorithm() {
    for header in [
        "",
        "[]",
        r#"["HS256"]"#,
        r#"[{"alg":"HS256"}]"#,
        "null",
        "1",
        r#""HS256""#,
        "{",
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":1}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256"}{}"#,
        r#"{"alg":"HS256",}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"{"alg":"HS256","kid":{"a":1}}"#,
        "{\"alg\":\"HS256\"}\0",
        "\u{feff}{\"alg\":\"HS256\"}",
    ] {
        malformed(signed_hs256(header, &good().to_string()));
    }
    malformed(signed_hs256(&format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)), &good().to_string()));
}

#[test]
fn a_payload_is_an_object() {
    for payload in
        ["", "[]", r#"[{"sub":"alice"}]"#, "null", "1", r#""alice""#, "{", "{}{}", "{\"sub\":\"\u{0}\"}", r#"{"exp":1e400,"sub":"alice"}"#]
    {
        malformed(signed_hs256(HS256, payload));
    }
    malformed(signed_hs256(HS256, &format!("{}{}", r#"{"a":"#.repeat(800), "}".repeat(800))));
    let not_utf8 = format!("{}.{}", encode(HS256), encode(b"{\"sub\":\"\xff\"}"));
    malformed(format!("{not_utf8}.{}", encode(HS256Key::from_bytes(SECRET.as_bytes()).authentication_tag(not_utf8.as_bytes()))));
}

#[test]
fn a_header_that_changes_what_is_signed_is_refused_though_the_signature_holds() {
    for extension in [
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""crit":["exp"],"exp":1"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":"b64""#,
    ] {
        malformed(signed_hs256(&format!(r#"{{"alg":"HS256",{extension}}}"#), &good().to_string()));
    }
}

#[test]
fn keys_and_addresses_in_the_header_are_never_followed() {
    let stranger = Ed25519KeyPair::generate().public_key();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(stranger.to_bytes())});
    let own = json!({"kty": "oct", "k": encode(b"the attacker's own secret, 32 bytes")});
    for offer in [
        json!({"jwk": own}),
        json!({"jwk": own.to_string()}),
        json!({"jwk": jwk}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"x5c": [encode(b"certificate")]}),
        json!({"kid": "https://evil.example/keys"}),
    ] {
        let header = merge(&[json!({"alg": "HS256"}), offer]).to_string();
        let forged = hs256(&header, &good().to_string(), b"the attacker's own secret, 32 bytes");
        assert!(verified(forged, &everyone()).is_err(), "{header}");
    }
    for offer in [r#""jku":"https://evil.example""#, r#""x5u":"https://evil.example""#, r#""x5c":["AAAA"]"#] {
        let signed = signed_hs256(&format!(r#"{{"alg":"HS256",{offer}}}"#), &good().to_string());
        assert!(verified(signed, &everyone()).is_ok(), "{offer}: the known key vouches for it");
    }
}

#[test]
fn a_kid_is_a_name_and_nothing_else() {
    for kid in
        ["../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "key'; DROP TABLE keys; --", "|whoami", "", "\u{0}", "a\"b", "\u{1f511}"]
    {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        assert!(verified(signed_hs256(&header, &good().to_string()), &everyone()).is_ok(), "the only key has no id of its own: {kid:?}");
        assert!(verified(hs256(&header, &good().to_string(), b""), &everyone()).is_err(), "{kid:?}");
    }
    let header = json!({"alg": "HS256", "kid": "k".repeat(10_240)}).to_string();
    assert_eq!(verified(signed_hs256(&header, &good().to_string()), &everyone()), Err(Rejection::TokenTooLong));
}

#[test]
fn a_token_has_at_most_eight_kilobytes() {
    let mut longest = 0;
    for padding in 5_900..6_200 {
        let token = signed_hs256(HS256, &good_with(json!({"padding": "p".repeat(padding)})).to_string());
        let expected = if token.len() > LONGEST { Some(Rejection::TokenTooLong) } else { None };
        assert_eq!(verified(&token, &everyone()).err(), expected, "{}", token.len());
        longest = longest.max(if expected.is_none() { token.len() } else { 0 });
    }
    assert!((LONGEST - 1..=LONGEST).contains(&longest));
    assert_eq!(verified(vec![b'.'; 60 * 1024], &everyone()), Err(Rejection::TokenTooLong));
    assert_eq!(verified(vec![0xff; 60 * 1024], &everyone()), Err(Rejection::TokenTooLong));
}
