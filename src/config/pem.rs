//! A public key in PEM (RFC 7468): which kind it is, and the numbers it is made of.
//!
//! Whether they are a good key is not judged here. A leaf: text in, a [`PublicKey`] out.

use super::der::{self, BIT_STRING, INTEGER, SEQUENCE};
use jwt_simple::reexports::ct_codecs::{Base64, Decoder};

/// What a PEM holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// A point on P-256, as SEC 1 (2.3.3) writes it.
    P256(Vec<u8>),
    /// A point on P-384.
    P384(Vec<u8>),
    /// The bytes of a key for Ed25519.
    Ed25519(Vec<u8>),
}

/// The key of a text in PEM: a `SubjectPublicKeyInfo`, or PKCS #1's `RSAPublicKey`; `None`: it is
/// neither, for something else, or there is something behind it, such as another key that would never
/// be used.
pub(super) fn public_key(pem: &str) -> Option<PublicKey> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (base64, rest) = rest.split_once("-----END ")?;
    if !rest.strip_prefix(label)?.strip_prefix("-----")?.trim().is_empty() {
        return None;
    }
    let bytes = Base64::decode_to_vec(base64, Some(b" \t\r\n")).ok()?;
    match label {
        "PUBLIC KEY" => spki(&bytes),
        "RSA PUBLIC KEY" => rsa(&bytes),
        _ => None,
    }
}

/// `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
fn spki(bytes: &[u8]) -> Option<PublicKey> {
    let [key] = der::elements(bytes, [SEQUENCE])?;
    let [algorithm, bits] = der::elements(key, [SEQUENCE, BIT_STRING])?;
    // The number of bits that the last byte doesn't use.
    let (0, key) = bits.split_first()? else { return None };
    match algorithm {
        der::RSA => rsa(key),
        der::P256 => Some(PublicKey::P256(key.to_vec())),
        der::P384 => Some(PublicKey::P384(key.to_vec())),
        der::ED25519 => Some(PublicKey::Ed25519(key.to_vec())),
        _ => None,
    }
}

/// `RSAPublicKey` (RFC 8017, A.1.1).
fn rsa(bytes: &[u8]) -> Option<PublicKey> {
    let [key] = der::elements(bytes, [SEQUENCE])?;
    let [n, e] = der::elements(key, [INTEGER, INTEGER])?;
    Some(PublicKey::Rsa { n: der::natural(n)?.to_vec(), e: der::natural(e)?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jwt_simple::prelude::*;

    fn armour(label: &str, bytes: &[u8]) -> String {
        let base64 = Base64::encode_to_string(bytes).unwrap();
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    /// A key for each algorithm's family as jwt-simple writes it, and what it is made of.
    fn keys() -> Vec<(Vec<u8>, PublicKey)> {
        let rsa = RS256KeyPair::generate(2048).unwrap().public_key();
        let RSAPublicKeyComponents { n, e } = rsa.to_components();
        let p256 = ES256KeyPair::generate().public_key();
        let p384 = ES384KeyPair::generate().public_key();
        let ed25519 = Ed25519KeyPair::generate().public_key();
        vec![
            (RSAPublicKeyLike::public_key(&rsa).to_der().unwrap(), PublicKey::Rsa { n, e }),
            (p256.public_key().to_der().unwrap(), PublicKey::P256(p256.public_key().to_bytes_uncompressed())),
            (p384.public_key().to_der().unwrap(), PublicKey::P384(p384.public_key().to_bytes_uncompressed())),
            (ed25519.to_der(), PublicKey::Ed25519(ed25519.to_bytes())),
        ]
    }

    /// What jwt-simple itself, whose readers know all of DER, makes of a PEM.
    fn as_jwt_simple_reads(pem: &str) -> Option<PublicKey> {
        let rsa = RSAPublicKey::from_pem(pem).ok().map(|key| key.to_components()).map(|key| PublicKey::Rsa { n: key.n, e: key.e });
        let p256 = ES256PublicKey::from_pem(pem).ok().map(|key| PublicKey::P256(key.public_key().to_bytes_uncompressed()));
        let p384 = ES384PublicKey::from_pem(pem).ok().map(|key| PublicKey::P384(key.public_key().to_bytes_uncompressed()));
        let ed25519 = Ed25519PublicKey::from_pem(pem).ok().map(|key| PublicKey::Ed25519(key.to_bytes()));
        rsa.or(p256).or(p384).or(ed25519)
    }

    #[test]
    fn a_key_is_what_jwt_simple_wrote() {
        for (der, expected) in keys() {
            let pem = armour("PUBLIC KEY", &der);
            assert_eq!(as_jwt_simple_reads(&pem).as_ref(), Some(&expected));
            assert_eq!(public_key(&pem), Some(expected));
        }
    }

    #[test]
    fn pkcs1_is_rsa() {
        let (der, expected) = keys().into_iter().next().unwrap();
        let pem = armour("RSA PUBLIC KEY", &der[24..]);
        assert_eq!(as_jwt_simple_reads(&pem).as_ref(), Some(&expected));
        assert_eq!(public_key(&pem), Some(expected));
        assert_eq!(public_key(&armour("PUBLIC KEY", &der[24..])), None);
    }

    #[test]
    fn a_compressed_point_is_one() {
        let key = ES256KeyPair::generate().public_key();
        let point = key.public_key().to_bytes();
        let der = [b"\x30\x39\x30\x13", der::P256, b"\x03\x22\x00", &point[..]].concat();
        let pem = armour("PUBLIC KEY", &der);
        assert!(ES256PublicKey::from_pem(&pem).is_ok());
        assert_eq!(public_key(&pem), Some(PublicKey::P256(point)));
    }

    #[test]
    fn what_is_cut_off_or_has_more_is_none() {
        for (der, _) in keys() {
            for end in 0..der.len() {
                assert_eq!(public_key(&armour("PUBLIC KEY", &der[..end])), None);
            }
            assert_eq!(public_key(&armour("PUBLIC KEY", &[&der[..], &[0]].concat())), None);
            assert_eq!(public_key(&armour("CERTIFICATE", &der)), None);
            let pem = armour("PUBLIC KEY", &der);
            assert_eq!(public_key(&pem.replace("END PUBLIC", "END RSA PUBLIC")), None);
            assert_eq!(public_key(pem.trim_end().trim_end_matches('-')), None);
            assert_eq!(public_key(&pem.repeat(2)), None, "which of them?");
            assert_eq!(public_key(&format!("{pem}junk")), None);
            assert!(public_key(&format!(" {pem} \r\n")).is_some());
        }
    }

    #[test]
    fn one_byte_changed_is_no_key_that_jwt_simple_would_refuse_to_read() {
        for (der, expected) in keys() {
            for (i, changed) in (0..der.len()).flat_map(|i| [0x01, 0x80, 0xff].map(|bits| (i, bits))) {
                let mut bytes = der.clone();
                bytes[i] ^= changed;
                let pem = armour("PUBLIC KEY", &bytes);
                // Numbers that jwt-simple judges besides are read by both, or by this code alone.
                if let Some(theirs) = as_jwt_simple_reads(&pem) {
                    assert_eq!(public_key(&pem), Some(theirs), "{i}");
                } else if i < 20 && !matches!(expected, PublicKey::Ed25519(_)) {
                    assert_eq!(public_key(&pem), None, "{i}");
                }
            }
        }
    }
}
