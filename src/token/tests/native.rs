//! Signatures that a host judges, and when its word counts.

use super::*;
use std::cell::{Cell, RefCell};

/// Hash, key, signature and text.
type Question = (&'static str, Vec<u8>, Vec<u8>, Vec<u8>);

/// A host that says what it is told to, and remembers what it was asked.
#[derive(Debug, Default)]
struct Script {
    says: Cell<Option<bool>>,
    asked: RefCell<Vec<Question>>,
}

impl Signatures for Rc<Script> {
    fn hold(&self, signed: &Signed<'_>) -> Option<bool> {
        self.asked.borrow_mut().push((signed.hash, signed.key.to_vec(), signed.signature.to_vec(), signed.text.to_vec()));
        self.says.get()
    }
}

/// A worker in such a host, which remembers no tokens.
struct Worker {
    auth: Auth,
    keyring: Keyring,
    host: Rc<Script>,
}

impl Worker {
    fn new(provider: Value) -> Worker {
        let auth = auth_with(json!({"providers": [provider], "cache_entries": 0}));
        let host = Rc::new(Script::default());
        let keyring = Keyring::new(&auth, 0).with_signatures(Box::new(Rc::clone(&host)));
        Worker { auth, keyring, host }
    }

    /// Whether the token is good, and how many signatures the host has judged for that.
    fn judges(&mut self, token: &str, says: Option<bool>) -> (Result<(), Rejection>, u64) {
        self.host.says.set(says);
        let verdict = match verify(token.as_bytes(), &self.auth, &mut self.keyring, NOW) {
            Verdict::Verified(_) => Ok(()),
            Verdict::Refused(rejection) => Err(rejection),
            other => panic!("{other:?}"),
        };
        (verdict, self.keyring.judged_by_host())
    }

    fn asked(&self) -> usize {
        self.host.asked.take().len()
    }
}

fn broken(token: &str) -> String {
    let mut signature = decode(parts(token)[2]);
    signature[7] ^= 1;
    resigned(token, &signature)
}

const NO: Result<(), Rejection> = Err(Rejection::TokenSignature);

#[test]
fn its_yes_counts_at_once_and_its_no_after_a_yes() {
    for algorithm in ["RS256", "RS384", "RS512", "ES256", "ES384"] {
        let signer = signer(algorithm);
        let mut worker = Worker::new(signer.provider(json!({})));
        let good = signer.token(&good());
        // A no that may only mean that the question was wrong: jwt-simple has the last word.
        assert_eq!(worker.judges(&good, Some(false)), (Ok(()), 0), "{algorithm}");
        assert_eq!(worker.judges(&broken(&good), Some(false)), (NO, 0), "{algorithm}");
        // jwt-simple would refuse it: the yes is taken as it is.
        assert_eq!(worker.judges(&broken(&good), Some(true)), (Ok(()), 1), "{algorithm}");
        assert_eq!(worker.judges(&good, Some(false)), (NO, 1), "{algorithm}");
        assert_eq!(worker.asked(), 4);
    }
}

#[test]
fn without_a_plain_answer_jwt_simple_judges() {
    for signer in SIGNERS.iter() {
        let mut worker = Worker::new(signer.provider(json!({})));
        let good = signer.token(&good());
        assert_eq!(worker.judges(&good, None), (Ok(()), 0), "{}", signer.algorithm);
        assert_eq!(worker.judges(&broken(&good), None), (NO, 0), "{}", signer.algorithm);
    }
}

#[test]
fn it_is_not_asked_about_algorithms_that_it_gets_wrong() {
    for algorithm in ["HS256", "HS384", "HS512", "PS256", "PS384", "PS512", "EdDSA"] {
        let signer = signer(algorithm);
        let mut worker = Worker::new(signer.provider(json!({})));
        let good = signer.token(&good());
        assert_eq!(worker.judges(&broken(&good), Some(true)), (NO, 0), "{algorithm}");
        assert_eq!(worker.judges(&good, Some(false)), (Ok(()), 0), "{algorithm}");
        assert_eq!(worker.asked(), 0, "{algorithm}");
    }
}

#[test]
fn it_is_asked_in_its_own_terms() {
    for (algorithm, hash) in [("RS256", "sha256"), ("RS384", "sha384"), ("RS512", "sha512"), ("ES256", "sha256"), ("ES384", "sha384")] {
        let signer = signer(algorithm);
        let mut worker = Worker::new(signer.provider(json!({})));
        let token = signer.token(&good());
        assert_eq!(worker.judges(&token, Some(true)), (Ok(()), 1));
        let asked = worker.host.asked.take();
        let [(name, key, signature, text)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(*name, hash);
        assert_eq!(*key, forged::pem_body(signer.source["public_key_pem"].as_str().unwrap()), "{algorithm}");
        let raw = decode(parts(&token)[2]);
        assert_eq!(*signature, if algorithm.starts_with('E') { forged::der(&raw) } else { raw }, "{algorithm}");
        assert_eq!(*text, token.rsplit_once('.').unwrap().0.as_bytes());
    }
}

/// What a yes to the arithmetic must not carry along.
#[test]
fn its_yes_vouches_for_nothing_but_the_signature() {
    let signer = signer("ES256");
    let mut worker = Worker::new(signer.provider(json!({})));
    let token = |header: &str, payload: &Value| format!("{}.{}.{}", encode(header), encode(payload.to_string()), encode([1; 64]));
    let header = r#"{"alg":"ES256"}"#;
    let yes = Some(true);
    assert_eq!(worker.judges(&token(header, &good()), yes), (Ok(()), 1));
    for (claims, refused) in [
        (json!({"exp": SECONDS - 600}), Rejection::TokenExpired),
        (json!({"nbf": SECONDS + 600}), Rejection::TokenNotYetValid),
        (json!({"sub": ""}), Rejection::TokenSubject),
    ] {
        assert_eq!(worker.judges(&token(header, &good_with(claims)), yes).0, Err(refused));
    }
    worker.asked();
    for header in [r#"{"alg":"ES384"}"#, r#"{"alg":"HS256"}"#, r#"{"alg":"none"}"#, r#"{"alg":"RS256"}"#] {
        assert_eq!(worker.judges(&token(header, &good()), yes), (Err(Rejection::TokenAlgorithm), 0), "{header}");
    }
    for header in [r#"{"alg":"ES256","crit":["exp"]}"#, r#"{"alg":"ES256","b64":false}"#] {
        assert_eq!(worker.judges(&token(header, &good()), yes), (Err(Rejection::TokenMalformed), 0), "{header}");
    }
    // jwt-simple refuses these for their headers, so it is left to it.
    for header in [r#"{"alg":"ES256","typ":"JOSE"}"#, r#"{"alg":"ES256","salt":"!"}"#] {
        assert_eq!(worker.judges(&token(header, &good()), yes), (NO, 0), "{header}");
    }
    let signatures = [&[][..], &[1; 63], &[1; 65], &[1; 96], &forged::der(&[1; 64])];
    for signature in signatures {
        assert_eq!(worker.judges(&resigned(&token(header, &good()), signature), yes), (NO, 0), "{} bytes", signature.len());
    }
    assert_eq!(worker.judges(&format!("{}=", token(header, &good())), yes), (Err(Rejection::TokenMalformed), 0));
    assert_eq!(worker.asked(), 0);
}

#[test]
fn a_no_about_one_key_says_nothing_about_another() {
    let (first, second) = (ES256KeyPair::generate(), ES256KeyPair::generate());
    let jwk = |key: &ES256KeyPair, kid: &str| {
        let point = forged::pem_body(&key.public_key().to_pem().unwrap());
        let (x, y) = point[point.len() - 64..].split_at_checked(32).unwrap();
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(x), "y": encode(y)})
    };
    let keys = json!([jwk(&first, "1"), jwk(&second, "2")]);
    let mut worker = Worker::new(json!({"name": "p", "algorithms": ["ES256"], "local_jwks": {"keys": keys}}));
    let token = |key: ES256KeyPair, kid: &str| {
        key.with_key_id(kid).sign(JWTClaims { custom: Payload(good().as_object().unwrap().clone()), ..JWTClaims::new() }).unwrap()
    };
    let (first, second) = (token(first, "1"), token(second, "2"));
    assert_eq!(worker.judges(&first, Some(true)), (Ok(()), 1));
    assert_eq!(worker.judges(&second, Some(false)), (Ok(()), 0), "this key is not proven yet");
    assert_eq!(worker.judges(&first, Some(false)), (NO, 1));
}

proptest::proptest! {
    /// The host is asked about what is decoded here, and jwt-simple decodes for itself.
    #[test]
    fn a_part_is_decoded_as_jwt_simple_decodes_it(part in "[A-Za-z0-9_-]{0,12}[A-Za-z0-9_+/= \n-]{0,2}") {
        proptest::prop_assert_eq!(decoded(&part).ok(), Base64UrlSafeNoPadding::decode_to_vec(&part, None).ok());
    }
}
