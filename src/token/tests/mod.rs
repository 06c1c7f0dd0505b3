//! Tokens made by hand, good and bad, against providers configured as an operator would.

mod claims;
mod forged;
mod native;
mod providers;
mod signed;

use super::*;
use crate::config::Config;
use jwt_simple::prelude::{
    Deserialize, ECDSAP256KeyPairLike, ECDSAP384KeyPairLike, ES256KeyPair, ES384KeyPair, Ed25519KeyPair, EdDSAKeyPairLike, HS256Key,
    HS384Key, HS512Key, JWTClaims, MACLike, PS256KeyPair, PS384KeyPair, PS512KeyPair, RS256KeyPair, RS384KeyPair, RS512KeyPair,
    RSAKeyPairLike, Serialize,
};
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder, Encoder};
use serde_json::json;
use std::sync::LazyLock;

const SECONDS: u64 = 1_770_379_200;
const NOW: Duration = Duration::from_secs(SECONDS);
const SECRET: &str = "sixty-four characters of a secret that is known to nobody else!!";

type Sign = Box<dyn Fn(Payload) -> String + Send + Sync>;

/// The payload of a token, as it is.
#[derive(Clone, Default, Deserialize, Serialize)]
struct Payload(Map<String, Value>);

/// Somebody who signs with one algorithm.
struct Signer {
    algorithm: &'static str,
    /// Field and value of the provider that knows the other half.
    source: Value,
    sign: Sign,
}

/// One for each algorithm. RSA takes its time, so its six share a key, made once.
static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    macro_rules! signer {
        ($algorithm:literal, $source:expr, $key:expr, $sign:ident) => {{
            let (source, key) = ($source, $key);
            Signer {
                algorithm: $algorithm,
                source,
                sign: Box::new(move |payload| key.$sign(JWTClaims { custom: payload, ..JWTClaims::new() }).unwrap()),
            }
        }};
    }
    let secret = || json!({"hmac_secret_env": "SECRET"});
    let public = |pem: String| json!({"public_key_pem": pem});
    let rsa = RS256KeyPair::generate(2048).unwrap();
    let (pem, rsa_public) = (rsa.to_pem().unwrap(), || public(rsa.public_key().to_pem().unwrap()));
    let (p256, p384, ed25519) = (ES256KeyPair::generate(), ES384KeyPair::generate(), Ed25519KeyPair::generate());
    vec![
        signer!("HS256", secret(), HS256Key::from_bytes(SECRET.as_bytes()), authenticate),
        signer!("HS384", secret(), HS384Key::from_bytes(SECRET.as_bytes()), authenticate),
        signer!("HS512", secret(), HS512Key::from_bytes(SECRET.as_bytes()), authenticate),
        signer!("RS256", rsa_public(), RS256KeyPair::from_pem(&pem).unwrap(), sign),
        signer!("RS384", rsa_public(), RS384KeyPair::from_pem(&pem).unwrap(), sign),
        signer!("RS512", rsa_public(), RS512KeyPair::from_pem(&pem).unwrap(), sign),
        signer!("PS256", rsa_public(), PS256KeyPair::from_pem(&pem).unwrap(), sign),
        signer!("PS384", rsa_public(), PS384KeyPair::from_pem(&pem).unwrap(), sign),
        signer!("PS512", rsa_public(), PS512KeyPair::from_pem(&pem).unwrap(), sign),
        signer!("ES256", public(p256.public_key().to_pem().unwrap()), p256, sign),
        signer!("ES384", public(p384.public_key().to_pem().unwrap()), p384, sign),
        signer!("EdDSA", public(ed25519.public_key().to_pem()), ed25519, sign),
    ]
});

fn signer(algorithm: &str) -> &'static Signer {
    SIGNERS.iter().find(|signer| signer.algorithm == algorithm).unwrap()
}

impl Signer {
    fn token(&self, payload: &Value) -> String {
        (self.sign)(Payload(payload.as_object().unwrap().clone()))
    }

    /// The provider that takes this signer's tokens, with further fields.
    fn provider(&self, fields: Value) -> Value {
        merge(&[json!({"name": self.algorithm, "algorithms": [self.algorithm]}), self.source.clone(), fields])
    }

    fn auth(&self) -> Auth {
        auth(&[self.provider(json!({}))])
    }
}

fn merge(objects: &[Value]) -> Value {
    let fields = objects.iter().flat_map(|object| object.as_object().unwrap().clone());
    Value::Object(fields.collect())
}

fn auth(providers: &[Value]) -> Auth {
    auth_with(json!({"providers": providers}))
}

fn auth_with(auth: Value) -> Auth {
    let config = json!({"auth": auth, "export": {"cluster": "c", "authority": "a"}}).to_string();
    Config::read(config.as_bytes(), &|name| (name == "SECRET").then(|| SECRET.to_owned())).unwrap().auth
}

/// Claims that nothing is wrong with.
fn good() -> Value {
    json!({"sub": "alice", "exp": SECONDS + 600})
}

fn good_with(claims: Value) -> Value {
    merge(&[good(), claims])
}

/// What a worker that sees the token for the first time makes of it.
fn verified(token: impl AsRef<[u8]>, auth: &Auth) -> Result<Claims, Rejection> {
    verified_at(token, auth, NOW)
}

fn verified_at(token: impl AsRef<[u8]>, auth: &Auth, now: Duration) -> Result<Claims, Rejection> {
    match verify(token.as_ref(), auth, &mut Keyring::new(auth, 0), now) {
        Verdict::Verified(claims) => Ok(Claims::clone(&claims)),
        Verdict::Refused(rejection) => Err(rejection),
        other => panic!("{other:?}"),
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

fn decode(part: &str) -> Vec<u8> {
    Base64UrlSafeNoPadding::decode_to_vec(part, None).unwrap()
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

/// The same token with another signature.
fn resigned(token: &str, signature: &[u8]) -> String {
    let [header, payload, _] = parts(token);
    format!("{header}.{payload}.{}", encode(signature))
}

/// A compact JWS of whatever stands in its header and payload, with HS256.
fn hs256(header: &str, payload: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let tag = HS256Key::from_bytes(secret).authentication_tag(signed.as_bytes());
    format!("{signed}.{}", encode(tag))
}

/// With the right secret, so that the signature is never what is wrong.
fn signed_hs256(header: &str, payload: &str) -> String {
    hs256(header, payload, SECRET.as_bytes())
}

const HS256: &str = r#"{"alg":"HS256"}"#;
