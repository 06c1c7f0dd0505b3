//! Envoy's foreign function `verify_signature`: BoringSSL instead of this module's own arithmetic.
//!
//! A host without it, or one that says anything but a plain yes or no, has given no answer.

use crate::token::{Signatures, Signed};
use prost::Message;
use proxy_wasm::hostcalls;

/// The foreign function.
#[derive(Debug)]
pub struct VerifySignature;

/// `envoy.source.extensions.common.wasm.VerifySignatureResult`.
#[derive(Message)]
struct Verdict {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// What Envoy says of a signature that doesn't hold; a hash or a key that it can't use reads otherwise.
const NO: &str = "Failed to verify digest";

impl Signatures for VerifySignature {
    fn hold(&self, signed: &Signed<'_>) -> Option<bool> {
        let answer = hostcalls::call_foreign_function("verify_signature", Some(&arguments(signed)?)).ok()??;
        let verdict = Verdict::decode(answer.as_slice()).ok()?;
        match (verdict.result, verdict.error.as_str()) {
            (true, "") => Some(true),
            (false, error) if error.starts_with(NO) => Some(false),
            _ => None,
        }
    }
}

/// `envoy.source.extensions.common.wasm.VerifySignatureArguments`: `hash_function`, `public_key`,
/// `signature` and `text`, numbered from 1. None of them is copied but into it.
fn arguments(signed: &Signed<'_>) -> Option<Vec<u8>> {
    let fields = [signed.hash.as_bytes(), signed.key, signed.signature, signed.text];
    let mut message = Vec::with_capacity(fields.iter().map(|field| field.len() + 6).sum());
    for (number, field) in (1u32..).zip(fields) {
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut message);
        prost::encode_length_delimiter(field.len(), &mut message).ok()?;
        message.extend_from_slice(field);
    }
    Some(message)
}
