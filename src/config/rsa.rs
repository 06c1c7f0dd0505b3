//! Which RSA moduli verify nothing: those that are too short, and those that can be factored.
//!
//! A leaf: bytes in, what is wrong with them out.

/// What is wrong with a modulus, big-endian, if anything is.
pub(super) fn fault(modulus: &[u8]) -> Option<&'static str> {
    if bits(modulus) < 2048 {
        return Some("an RSA key must have at least 2048 bits");
    }
    has_roca(modulus).then_some("is an RSA key whose private half can be computed from it (ROCA, CVE-2017-15361)")
}

/// The length of a big-endian number in bits.
fn bits(number: &[u8]) -> usize {
    let significant: &[u8] = number.iter().position(|&b| b != 0).and_then(|zeros| number.get(zeros..)).unwrap_or(&[]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// The primes up to 167 modulo which not every number is a power of 65537.
const TELLING: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Whether Infineon's chips have made it: both factors of such a modulus, and so itself, are a power
/// of 65537 modulo each small prime. Of other moduli that is true of one in 240 million.
fn has_roca(modulus: &[u8]) -> bool {
    TELLING.into_iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, &byte| (rest * 256 + u32::from(byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65_537 % prime));
        powers.take(prime as usize).any(|power| power == rest)
    })
}
