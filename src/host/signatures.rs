//! Envoy's foreign function `verify_signature`: BoringSSL instead of this module's own arithmetic.
//!
//! A host without it, or one that says anything but a plain yes or no, has given no answer.

use crate::token::{Signatures, Signed};
use prost::Message;
use proxy_wasm::hostcalls;

/// The foreign function.
#[derive(Debug)]
pub struct VerifySignature;

/// `envoy.source.extensions.common.wasm.VerifySignatureArguments`.
#[derive(Message)]
struct Arguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

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
        let arguments = Arguments {
            hash_function: signed.hash.to_owned(),
            public_key: signed.key.to_vec(),
            signature: signed.signature.to_vec(),
            text: signed.text.to_vec(),
        };
        let answer = hostcalls::call_foreign_function("verify_signature", Some(&arguments.encode_to_vec())).ok()??;
        let verdict = Verdict::decode(answer.as_slice()).ok()?;
        match (verdict.result, verdict.error.as_str()) {
            (true, "") => Some(true),
            (false, error) if error.starts_with(NO) => Some(false),
            _ => None,
        }
    }
}
