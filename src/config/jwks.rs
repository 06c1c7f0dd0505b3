//! A JSON Web Key Set (RFC 7517, 7518, 8037) → keys, each bound to the algorithms it is for.
//!
//! jwt-simple reads single keys and leaves the set to its caller. A key that is for something else
//! (`use`, `key_ops`, `alg`, `kty`, `crv`) verifies nothing. What is wrong with one key is a fault
//! of that key alone, so that a set from elsewhere can be used as far as it is good.

use super::keys::{Algorithm, Family, Key};
use super::make::{ed25519_key, hmac, p256_key, p384_key, rsa_key};
use super::rsa;
use jwt_simple::reexports::ct_codecs::{Base64UrlSafeNoPadding, Decoder};
use serde_json::{Map, Value};

/// What a key set holds for a provider.
#[derive(Debug, Default)]
pub struct Set {
    /// The usable keys, in the order of the set.
    pub keys: Vec<Key>,
    /// What is wrong: where, as `keys[1].n`, and what.
    pub faults: Vec<(String, String)>,
}

/// More keys than any provider publishes; each is one more to try for a token without `kid`.
const MOST: usize = 100;

/// Reads a key set for a provider that accepts `algorithms`.
///
/// A key for another algorithm, or for encryption, is passed over and no fault.
pub fn parse(set: &Value, algorithms: &[Algorithm]) -> Set {
    let mut parsed = Set::default();
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        parsed.fault("keys", "is required: a list of JSON Web Keys");
        return parsed;
    };
    if keys.len() > MOST {
        parsed.fault("keys", &format!("has more than {MOST} keys"));
        return parsed;
    }
    for (i, jwk) in keys.iter().enumerate() {
        let path = format!("keys[{i}]");
        let Some(jwk) = jwk.as_object() else {
            parsed.fault(&path, "must be an object");
            continue;
        };
        match read(jwk, algorithms) {
            // Only a key that can be used takes its id: a broken one must not keep out a good one.
            Ok(keys) => {
                let (twice, keys): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| parsed.has_namesake(key));
                if !twice.is_empty() {
                    parsed.fault(&format!("{path}.kid"), "stands twice in the set, for the same algorithm");
                }
                parsed.keys.extend(keys);
            }
            Err((field, what)) => parsed.fault(&format!("{path}.{field}"), what),
        }
    }
    parsed
}

impl Set {
    /// Whether a token could mean that key and another one. Of those that share an id and no
    /// algorithm, as RFC 7517 (4.5) allows, its `alg` says which.
    fn has_namesake(&self, key: &Key) -> bool {
        key.kid().is_some() && self.keys.iter().any(|other| (other.kid(), other.algorithm()) == (key.kid(), key.algorithm()))
    }

    fn fault(&mut self, path: &str, what: &str) {
        self.faults.push((path.to_owned(), what.to_owned()));
    }
}

/// The field that is wrong, and what about it.
type Fault = (&'static str, &'static str);

/// One key for each accepted algorithm that the JWK is for.
fn read(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Result<Vec<Key>, Fault> {
    let family = family(jwk)?;
    if !verifies(jwk)? {
        return Ok(Vec::new());
    }
    let named = match jwk.get("alg") {
        None => None,
        Some(Value::String(alg)) => Some(alg.as_str()),
        Some(_) => return Err(("alg", "must be a string")),
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(("kid", "must be a string")),
    };
    let accepted = algorithms.iter().copied();
    let fits = accepted.filter(|algorithm| Some(algorithm.family()) == family && named.is_none_or(|named| named == algorithm.name()));
    let id = id(jwk);
    fits.map(|algorithm| Ok(key(jwk, algorithm)?.with_kid(kid.clone(), id))).collect()
}

/// The same for the same JWK, whatever the order of its members.
fn id(jwk: &Map<String, Value>) -> u64 {
    let canonical = Value::Object(jwk.clone()).to_string();
    let hash = hmac_sha256::Hash::hash(canonical.as_bytes());
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What the key can be used with; `None`: nothing known here.
fn family(jwk: &Map<String, Value>) -> Result<Option<Family>, Fault> {
    let kty = jwk.get("kty").and_then(Value::as_str).ok_or(("kty", "is required: a string"))?;
    let crv = jwk.get("crv").and_then(Value::as_str);
    Ok(match (kty, crv) {
        ("RSA", _) => Some(Family::Rsa),
        ("oct", _) => Some(Family::Hmac),
        ("EC", Some("P-256")) => Some(Family::P256),
        ("EC", Some("P-384")) => Some(Family::P384),
        ("OKP", Some("Ed25519")) => Some(Family::Ed25519),
        ("EC" | "OKP", None) => return Err(("crv", "is required: a string")),
        _ => None,
    })
}

/// Whether the key is meant for verifying signatures.
fn verifies(jwk: &Map<String, Value>) -> Result<bool, Fault> {
    let used = match jwk.get("use") {
        None => true,
        Some(Value::String(usage)) => usage == "sig",
        Some(_) => return Err(("use", "must be a string")),
    };
    let operates = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => return Err(("key_ops", "must be a list")),
    };
    Ok(used && operates)
}

fn key(jwk: &Map<String, Value>, algorithm: Algorithm) -> Result<Key, Fault> {
    match algorithm.family() {
        Family::Hmac => {
            let secret = bytes(jwk, "k")?;
            hmac(algorithm, &secret).ok_or(("k", "is shorter than the algorithm's hash"))
        }
        Family::Rsa => {
            let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
            if let Some(fault) = rsa::fault(&n) {
                return Err(("n", fault));
            }
            rsa_key(algorithm, &n, &e).ok_or(("n", "is no RSA key that can be used"))
        }
        Family::P256 => {
            let point = point::<32>(jwk)?;
            p256_key(&point).ok_or(("x", "is no point on P-256"))
        }
        Family::P384 => {
            let point = point::<48>(jwk)?;
            p384_key(&point).ok_or(("x", "is no point on P-384"))
        }
        Family::Ed25519 => ed25519_key(&bytes(jwk, "x")?).ok_or(("x", "is no Ed25519 key")),
    }
}

/// An uncompressed point: 4, then both coordinates in full length.
fn point<const N: usize>(jwk: &Map<String, Value>) -> Result<Vec<u8>, Fault> {
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        let bytes = bytes(jwk, coordinate)?;
        if bytes.len() != N {
            return Err((coordinate, "has not the length of a coordinate of its curve"));
        }
        point.extend(bytes);
    }
    Ok(point)
}

fn bytes(jwk: &Map<String, Value>, field: &'static str) -> Result<Vec<u8>, Fault> {
    let text = jwk.get(field).and_then(Value::as_str).ok_or((field, "is required: a string"))?;
    Base64UrlSafeNoPadding::decode_to_vec(text, None).map_err(|_| (field, "is not base64url without padding"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use jwt_simple::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;

    /// Public halves of keys made for these tests; RSA takes its time.
    static KEYS: LazyLock<Value> = LazyLock::new(|| {
        let encode = |bytes: &[u8]| Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap();
        let rsa = RS256KeyPair::generate(2048).unwrap().public_key().to_components();
        let point = |bytes: Vec<u8>| (encode(&bytes[1..bytes.len() / 2 + 1]), encode(&bytes[bytes.len() / 2 + 1..]));
        let uncompressed = |sec1: &[u8]| p256(sec1);
        let (x, y) = point(uncompressed(&ES256KeyPair::generate().public_key().to_der().unwrap()));
        json!({
            "rsa": {"kty": "RSA", "n": encode(&rsa.n), "e": encode(&rsa.e)},
            "ec": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
            "okp": {"kty": "OKP", "crv": "Ed25519", "x": encode(&Ed25519KeyPair::generate().public_key().to_bytes())},
            "oct": {"kty": "oct", "k": encode(&[7; 64])},
        })
    });

    /// The point at the end of a P-256 key in DER.
    fn p256(der: &[u8]) -> Vec<u8> {
        der[der.len() - 65..].to_vec()
    }

    fn with(key: &str, changes: Value) -> Value {
        let mut jwk = KEYS[key].clone();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    }

    fn set(keys: &[Value]) -> Set {
        parse(&json!({"keys": keys}), Algorithm::ALL)
    }

    fn algorithms(keys: &[Value]) -> Vec<&'static str> {
        let set = set(keys);
        assert_eq!(set.faults, []);
        set.keys.iter().map(|key| key.algorithm().name()).collect()
    }

    fn fault(key: Value) -> String {
        let set = set(&[key]);
        assert!(set.keys.is_empty());
        set.faults.into_iter().map(|(path, what)| format!("{path}: {what}")).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_key_is_for_the_algorithms_of_its_kind() {
        assert_eq!(algorithms(&[KEYS["rsa"].clone()]), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
        assert_eq!(algorithms(&[KEYS["ec"].clone()]), ["ES256"]);
        assert_eq!(algorithms(&[KEYS["okp"].clone()]), ["EdDSA"]);
        assert_eq!(algorithms(&[KEYS["oct"].clone()]), ["HS256", "HS384", "HS512"]);
    }

    #[test]
    fn alg_use_and_key_ops_narrow_it() {
        assert_eq!(algorithms(&[with("rsa", json!({"alg": "PS384", "use": "sig", "key_ops": ["verify"]}))]), ["PS384"]);
        for elsewhere in [
            json!({"use": "enc"}),
            json!({"key_ops": ["encrypt", "sign"]}),
            json!({"alg": "RSA-OAEP"}),
            json!({"alg": "HS256"}),
            json!({"kty": "new"}),
        ] {
            assert_eq!(algorithms(&[with("rsa", elsewhere.clone())]), [""; 0], "{elsewhere}");
        }
        assert_eq!(algorithms(&[with("ec", json!({"crv": "secp256k1"}))]), [""; 0]);
    }

    #[test]
    fn what_the_provider_does_not_accept_is_not_made_a_key() {
        let set = parse(&json!({"keys": [KEYS["rsa"], KEYS["oct"]]}), &[Algorithm::Rs256]);
        assert_eq!((set.keys.len(), set.faults.len()), (1, 0));
    }

    #[test]
    fn a_bad_key_is_a_fault_of_its_own_and_a_good_one_beside_it_works() {
        let short = Base64UrlSafeNoPadding::encode_to_string([0xff; 128]).unwrap();
        for (key, expected) in [
            (with("rsa", json!({"n": short})), "keys[0].n: an RSA key must have at least 2048 bits"),
            (with("rsa", json!({"n": "!"})), "keys[0].n: is not base64url without padding"),
            (with("rsa", json!({"e": null})), "keys[0].e: is required: a string"),
            (with("ec", json!({"y": KEYS["ec"]["x"]})), "keys[0].x: is no point on P-256"),
            (with("ec", json!({"x": "AA"})), "keys[0].x: has not the length of a coordinate of its curve"),
            (with("okp", json!({"x": "AA"})), "keys[0].x: is no Ed25519 key"),
            (with("oct", json!({"k": "AAAA", "alg": "HS256"})), "keys[0].k: is shorter than the algorithm's hash"),
            (with("ec", json!({"kty": 1})), "keys[0].kty: is required: a string"),
            (with("ec", json!({"use": 1})), "keys[0].use: must be a string"),
            (with("ec", json!({"key_ops": "verify"})), "keys[0].key_ops: must be a list"),
            (with("ec", json!({"kid": 1})), "keys[0].kid: must be a string"),
            (json!(5), "keys[0]: must be an object"),
        ] {
            assert_eq!(fault(key.clone()), expected);
            let both = set(&[key, KEYS["okp"].clone()]);
            assert_eq!((both.keys.len(), both.faults.len()), (1, 1), "{expected}");
        }
    }

    #[test]
    fn a_kid_stands_once() {
        let other = Base64UrlSafeNoPadding::encode_to_string(Ed25519KeyPair::generate().public_key().to_bytes()).unwrap();
        let both = set(&[with("okp", json!({"kid": "a"})), with("okp", json!({"kid": "a", "x": other})), with("okp", json!({"kid": "b"}))]);
        assert_eq!(both.faults, [("keys[1].kid".to_owned(), "stands twice in the set, for the same algorithm".to_owned())]);
        let kids: Vec<Option<&str>> = both.keys.iter().map(Key::kid).collect();
        assert_eq!(kids, [Some("a"), Some("b")]);
        assert_eq!(both.keys[0].id(), set(&[with("okp", json!({"kid": "a"}))]).keys[0].id(), "the first one counts");
    }

    #[test]
    fn a_kid_may_stand_once_for_each_algorithm() {
        let of = |key, alg| with(key, json!({"kid": "a", "alg": alg}));
        assert_eq!(algorithms(&[of("rsa", "RS256"), of("rsa", "PS256"), of("ec", "ES256")]), ["RS256", "PS256", "ES256"]);
        let any = set(&[of("rsa", "RS256"), with("rsa", json!({"kid": "a"}))]);
        assert_eq!((any.keys.len(), any.faults.len()), (6, 1), "what the second one is for besides");
        assert_eq!(set(&[KEYS["okp"].clone(), KEYS["okp"].clone()]).faults, [], "without an id there is none to share");
    }

    /// As Infineon's chips would have made it, but for the factors: a power of 65537.
    pub(in crate::config) fn power_of_65537(exponent: u32) -> Vec<u8> {
        // Times 65537 is the number shifted by two bytes and added to itself.
        (0..exponent).fold(vec![1], |number, _| {
            let longer = [&[0, 0][..], &number].concat();
            let shifted = [&number[..], &[0, 0]].concat();
            let mut sum = vec![0; longer.len()];
            let mut carry = 0;
            for i in (0..sum.len()).rev() {
                let digit = u32::from(longer[i]) + u32::from(shifted[i]) + carry;
                (sum[i], carry) = (digit as u8, digit >> 8);
            }
            sum
        })
    }

    #[test]
    fn a_key_whose_private_half_can_be_computed_is_none() {
        let of = |modulus: &[u8]| with("rsa", json!({"n": Base64UrlSafeNoPadding::encode_to_string(modulus).unwrap()}));
        for exponent in [128, 129, 191, 255] {
            let mut modulus = power_of_65537(exponent);
            let roca = "keys[0].n: is an RSA key whose private half can be computed from it (ROCA, CVE-2017-15361)";
            assert_eq!(fault(of(&modulus)), roca);
            let both = set(&[of(&modulus), KEYS["rsa"].clone()]);
            assert_eq!((both.keys.len(), both.faults.len()), (6, 1));
            // Two more is no power of it any longer, modulo some prime.
            *modulus.last_mut().unwrap() += 2;
            assert_eq!(set(&[of(&modulus)]).keys.len(), 6, "{exponent}");
        }
    }

    #[test]
    fn a_set_has_a_list_of_at_most_a_hundred_keys() {
        for none in [json!({}), json!([]), json!({"keys": {}}), json!(null)] {
            assert_eq!(parse(&none, Algorithm::ALL).faults.len(), 1);
        }
        let many = set(&vec![KEYS["okp"].clone(); 101]);
        assert_eq!((many.keys.len(), many.faults.len()), (0, 1));
    }
}
