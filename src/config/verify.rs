//! jwt-simple as the judge of a token: once for each kind of key, not once for each algorithm.
//!
//! Its `verify_token` is generic over the type of the key, and each instance is 6 KB that V8 compiles at
//! start. The traits for HMAC and RSA let an algorithm be a value instead, but for its name and its
//! hash, which they ask of the type: those are those of the key that is being judged, in a cell that
//! [`holds`] alone sets. What it says wrongly can only fail: the name is compared with the token's.

use super::Algorithm;
use super::keys::Material;
use jwt_simple::Error;
use jwt_simple::prelude::{
    Duration, ECDSAP256PublicKeyLike, ECDSAP384PublicKeyLike, EdDSAPublicKeyLike, HMACKey, JWTClaims, KeyMetadata, MACLike, NoCustomClaims,
    RSAPublicKey, RSAPublicKeyLike, UnixTimeStamp, VerificationOptions,
};
use std::cell::Cell;
use superboring::hash::MessageDigest;
use superboring::rsa::Padding;

thread_local! {
    static JUDGED: Cell<Algorithm> = const { Cell::new(Algorithm::Hs256) };
}

type Verdict = Result<JWTClaims<NoCustomClaims>, Error>;

/// Options under which jwt-simple judges header and signature and lets all dates pass: its dates wrap at
/// 2^32 seconds and its defaults are 15 minutes of skew and no `exp`, so `token::claims` judges them, in
/// full range and by name. Made where they are used, so that what they leave out is left out of the code.
#[inline(always)]
fn signature_alone() -> Option<VerificationOptions> {
    Some(VerificationOptions {
        accept_future: true,
        artificial_time: Some(UnixTimeStamp::from_secs(0)),
        time_tolerance: Some(Duration::from_secs(0)),
        ..VerificationOptions::default()
    })
}

/// Whether header, algorithm and signature of a compact JWS hold.
pub(super) fn holds(algorithm: Algorithm, material: &Material, token: &str) -> bool {
    JUDGED.set(algorithm);
    let verdict = match material {
        Material::Hs256(key) => secret(key, &|text| key.authentication_tag(text), token),
        Material::Hs384(key) => secret(key, &|text| key.authentication_tag(text), token),
        Material::Hs512(key) => secret(key, &|text| key.authentication_tag(text), token),
        Material::Rs256(key) => rsa(key.public_key(), key.padding_scheme(), token),
        Material::Rs384(key) => rsa(key.public_key(), key.padding_scheme(), token),
        Material::Rs512(key) => rsa(key.public_key(), key.padding_scheme(), token),
        Material::Ps256(key) => rsa(key.public_key(), key.padding_scheme(), token),
        Material::Ps384(key) => rsa(key.public_key(), key.padding_scheme(), token),
        Material::Ps512(key) => rsa(key.public_key(), key.padding_scheme(), token),
        Material::Es256(key) => p256(key, token),
        Material::Es384(key) => p384(key, token),
        Material::EdDsa(key) => ed25519(key, token),
    };
    match verdict {
        Ok(_) => true,
        // The claims come after the signature: where they alone can't be read (a number for a
        // subject), it held. Anything before it fails with an error of another type, the
        // header aside, which is why that has been read already. A test pins this.
        Err(error) => error.is::<serde_json::Error>(),
    }
}

// Each out of line: V8 needs memory for a whole function at once, and keeps it.

#[inline(never)]
fn secret(key: &impl MACLike, tag: &dyn Fn(&[u8]) -> Vec<u8>, token: &str) -> Verdict {
    Secret { key: key.key(), tag }.verify_token(token, signature_alone())
}

#[inline(never)]
fn rsa(key: &RSAPublicKey, padding: Padding, token: &str) -> Verdict {
    Rsa { key, padding }.verify_token(token, signature_alone())
}

#[inline(never)]
fn p256(key: &impl ECDSAP256PublicKeyLike, token: &str) -> Verdict {
    key.verify_token(token, signature_alone())
}

#[inline(never)]
fn p384(key: &impl ECDSAP384PublicKeyLike, token: &str) -> Verdict {
    key.verify_token(token, signature_alone())
}

#[inline(never)]
fn ed25519(key: &impl EdDSAPublicKeyLike, token: &str) -> Verdict {
    key.verify_token(token, signature_alone())
}

/// A secret and how its algorithm tags a text.
struct Secret<'a> {
    key: &'a HMACKey,
    tag: &'a dyn Fn(&[u8]) -> Vec<u8>,
}

impl MACLike for Secret<'_> {
    fn jwt_alg_name() -> &'static str {
        JUDGED.get().name()
    }

    fn key(&self) -> &HMACKey {
        self.key
    }

    fn key_id(&self) -> &Option<String> {
        &None
    }

    fn set_key_id(&mut self, _: String) {}

    fn metadata(&self) -> &Option<KeyMetadata> {
        &None
    }

    fn attach_metadata(&mut self, _: KeyMetadata) -> Result<(), Error> {
        Ok(())
    }

    fn authentication_tag(&self, authenticated: &[u8]) -> Vec<u8> {
        (self.tag)(authenticated)
    }
}

/// An RSA key and how its algorithm pads.
struct Rsa<'a> {
    key: &'a RSAPublicKey,
    padding: Padding,
}

impl RSAPublicKeyLike for Rsa<'_> {
    fn jwt_alg_name() -> &'static str {
        JUDGED.get().name()
    }

    fn public_key(&self) -> &RSAPublicKey {
        self.key
    }

    fn key_id(&self) -> &Option<String> {
        &None
    }

    fn set_key_id(&mut self, _: String) {}

    fn hash() -> MessageDigest {
        match JUDGED.get() {
            Algorithm::Rs384 | Algorithm::Ps384 => MessageDigest::sha384(),
            Algorithm::Rs512 | Algorithm::Ps512 => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        }
    }

    fn padding_scheme(&self) -> Padding {
        self.padding
    }
}
