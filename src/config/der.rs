//! As much of DER (X.690) as keys and signatures take: written for a host that verifies natively, read
//! from the configuration. A leaf.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const SEQUENCE: u8 = 0x30;

/// What stands in an `AlgorithmIdentifier`: rsaEncryption, NULL (RFC 3279, 2.3.1).
pub(super) const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// id-ecPublicKey, secp256r1 (RFC 5480, 2.1.1).
pub(super) const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// id-ecPublicKey, secp384r1.
pub(super) const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
/// id-Ed25519 (RFC 8410, 3).
pub(super) const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// The `SubjectPublicKeyInfo` of an RSA key, of its modulus and exponent, big-endian.
pub fn rsa_key(n: &[u8], e: &[u8]) -> Vec<u8> {
    public_key(RSA, &element(SEQUENCE, &[integer(n), integer(e)].concat()))
}

/// That of a key on P-256, of its point, uncompressed.
pub fn p256_key(point: &[u8]) -> Vec<u8> {
    public_key(P256, point)
}

/// That of a key on P-384, of its point, uncompressed.
pub fn p384_key(point: &[u8]) -> Vec<u8> {
    public_key(P384, point)
}

fn public_key(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = element(BIT_STRING, &[&[0], key].concat());
    element(SEQUENCE, &[element(SEQUENCE, algorithm), bits].concat())
}

/// The contents of elements of these tags, which are all that there is.
pub(super) fn elements<const N: usize>(mut der: &[u8], tags: [u8; N]) -> Option<[&[u8]; N]> {
    let mut contents = [&[][..]; N];
    for (content, tag) in contents.iter_mut().zip(tags) {
        let (&found, rest) = der.split_first()?;
        let (&short, rest) = rest.split_first()?;
        // Two bytes of length are enough for any key. The shortest form is the only one.
        let (length, rest) = match short {
            0x81 => rest.split_first().map(|(&length, rest)| (length.into(), rest)).filter(|&(length, _)| length >= 0x80)?,
            0x82 => {
                rest.split_first_chunk().map(|(&length, rest)| (u16::from_be_bytes(length), rest)).filter(|&(length, _)| length >= 0x100)?
            }
            length => (length.into(), rest),
        };
        let taken = found == tag && short <= 0x82 && short != 0x80;
        (*content, der) = rest.split_at_checked(length.into()).filter(|_| taken)?;
    }
    der.is_empty().then_some(contents)
}

/// The bytes of an `INTEGER` that isn't negative, without its sign; `None`: it is another, or longer
/// than it must be.
pub(super) fn natural(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|&first| first >= 0x80) => Some(rest),
        [0] | [1..0x80, ..] => Some(integer),
        _ => None,
    }
}

/// An ECDSA signature of a JWS, which is r and s in `N` bytes each (RFC 7518, 3.4), as
/// `SEQUENCE { INTEGER r, INTEGER s }`; `None` if it has another length.
pub fn signature<const N: usize>(jws: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = jws.split_first_chunk::<N>()?;
    (s.len() == N).then(|| element(SEQUENCE, &[integer(r), integer(s)].concat()))
}

/// A number that isn't negative, in as few bytes as it can be.
fn integer(number: &[u8]) -> Vec<u8> {
    let digits = number.iter().position(|&b| b != 0).and_then(|zeros| number.get(zeros..)).unwrap_or(&[0]);
    // The first bit is the sign.
    let sign: &[u8] = if digits.first().is_some_and(|&first| first >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[sign, digits].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = length.iter().position(|&b| b != 0).and_then(|zeros| length.get(zeros..)).unwrap_or(&[0]);
    let mut der = vec![tag];
    if content.len() >= 0x80 {
        der.push(0x80 | length.len() as u8);
    }
    der.extend_from_slice(length);
    der.extend_from_slice(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use jwt_simple::prelude::*;
    use proptest::prelude::*;

    #[test]
    fn keys_as_jwt_simple_writes_them() {
        let rsa = RS256KeyPair::generate(2048).unwrap().public_key();
        let RSAPublicKeyComponents { n, e } = rsa.to_components();
        assert_eq!(rsa_key(&n, &e), RSAPublicKeyLike::public_key(&rsa).to_der().unwrap());
        assert_eq!(rsa_key(&[&[0, 0], &n[..]].concat(), &e), rsa_key(&n, &e));
        let p256 = ES256KeyPair::generate().public_key();
        assert_eq!(p256_key(&p256.public_key().to_bytes_uncompressed()), p256.public_key().to_der().unwrap());
        let p384 = ES384KeyPair::generate().public_key();
        assert_eq!(p384_key(&p384.public_key().to_bytes_uncompressed()), p384.public_key().to_der().unwrap());
    }

    #[test]
    fn lengths_are_as_short_as_can_be() {
        for (length, expected) in [(0, vec![0]), (127, vec![127]), (128, vec![0x81, 128]), (255, vec![0x81, 255]), (256, vec![0x82, 1, 0])]
        {
            assert_eq!(element(4, &vec![9; length])[1..], [&expected[..], &vec![9; length]].concat(), "{length}");
        }
    }

    /// The two numbers of a signature in DER, as strict as DER is; `None`: it is none.
    fn numbers(der: &[u8]) -> Option<[Vec<u8>; 2]> {
        let (&[0x30, length], mut rest) = der.split_first_chunk::<2>()? else { return None };
        if rest.len() != usize::from(length) || length >= 0x80 {
            return None;
        }
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (&[0x02, length], behind) = rest.split_first_chunk::<2>()? else { return None };
            let (number, behind) = behind.split_at_checked(length.into())?;
            let minimal = match number {
                [] => false,
                [0, second, ..] => *second >= 0x80,
                [first, ..] => *first < 0x80,
            };
            if !minimal {
                return None;
            }
            found.push(number.iter().copied().skip_while(|&b| b == 0).collect());
            rest = behind;
        }
        found.try_into().ok()
    }

    fn trimmed(number: &[u8]) -> Vec<u8> {
        number.iter().copied().skip_while(|&b| b == 0).collect()
    }

    #[test]
    fn the_signature_of_rfc_7515_in_der() {
        let raw = Base64UrlSafeNoPadding::decode_to_vec(
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            None,
        )
        .unwrap();
        // r begins with 0x0e, s with 0xc5: only s takes a zero in front.
        let expected = [&[0x30, 69, 0x02, 32], &raw[..32], &[0x02, 33, 0], &raw[32..]].concat();
        assert_eq!(signature::<32>(&raw), Some(expected));
    }

    #[test]
    fn numbers_are_as_short_as_can_be() {
        let (mut r, mut s) = ([0u8; 32], [0u8; 32]);
        assert_eq!(signature::<32>(&[r, s].concat()), Some(vec![0x30, 6, 2, 1, 0, 2, 1, 0]));
        (r[31], s[31]) = (0x7f, 0x80);
        assert_eq!(signature::<32>(&[r, s].concat()), Some(vec![0x30, 7, 2, 1, 0x7f, 2, 2, 0, 0x80]));
        assert_eq!(signature::<48>(&[0xff; 96]).map(|der| der.len()), Some(2 + 2 * (2 + 49)));
    }

    #[test]
    fn another_length_is_no_signature() {
        for length in (0..=200).filter(|length| *length != 64) {
            assert_eq!(signature::<32>(&vec![1; length]), None, "{length}");
        }
        assert_eq!((signature::<48>(&[1; 64]), signature::<48>(&[1; 95])), (None, None));
    }

    proptest! {
        #[test]
        fn a_strict_reader_reads_back_both_numbers(zeros in 0..48_usize, mut raw in prop::collection::vec(any::<u8>(), 96)) {
            raw[..zeros].fill(0);
            raw[48..48 + zeros / 2].fill(0);
            prop_assert_eq!(numbers(&signature::<48>(&raw).unwrap()), Some([trimmed(&raw[..48]), trimmed(&raw[48..])]));
            let short = &raw[16..80];
            prop_assert_eq!(numbers(&signature::<32>(short).unwrap()), Some([trimmed(&short[..32]), trimmed(&short[32..])]));
        }
    }
}
