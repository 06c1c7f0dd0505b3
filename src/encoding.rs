//! A body's Content-Encoding, undone with a bound on what comes out.
//!
//! gzip and deflate (RFC 9110, 8.4.1), several of them too. `deflate` is zlib (RFC 1950), and from
//! some clients the bare stream inside it (RFC 1951); both are taken. Nothing more than the bound is
//! ever held of what comes out, so a bomb costs no more than a large body. Touches body bytes alone.

use crate::rejection::Rejection;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Read;

/// One coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` and `x-gzip`.
    Gzip,
    /// `deflate`.
    Deflate,
}

/// A list longer than this is no client's.
const MOST_CODINGS: usize = 4;

/// What a coding in between may make longer than the bound: the body within still has to fit.
const OVERHEAD: usize = 64 * 1024;

/// The codings that a Content-Encoding names, in the order in which they were applied.
///
/// # Errors
/// One that isn't undone here, or too many.
pub fn codings(content_encoding: Option<&[u8]>) -> Result<Vec<Coding>, Rejection> {
    let mut codings = Vec::new();
    for name in content_encoding.unwrap_or_default().split(|&b| b == b',') {
        codings.push(match name.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => continue,
            b"gzip" | b"x-gzip" => Coding::Gzip,
            b"deflate" => Coding::Deflate,
            _ => return Err(Rejection::EncodingUnsupported),
        });
    }
    if codings.len() > MOST_CODINGS { Err(Rejection::EncodingUnsupported) } else { Ok(codings) }
}

/// Undoes the codings, the last first. At most `most` bytes may come out.
///
/// # Errors
/// More than that, or bytes that the coding can't have made.
pub fn decode(body: &[u8], codings: &[Coding], most: usize) -> Result<Vec<u8>, Rejection> {
    let mut inner: Option<Vec<u8>> = None;
    for (left, coding) in codings.iter().enumerate().rev() {
        let bound = if left == 0 { most } else { most.saturating_add(OVERHEAD) };
        inner = Some(undo(inner.as_deref().unwrap_or(body), *coding, bound)?);
    }
    Ok(inner.unwrap_or_else(|| body.to_vec()))
}

fn undo(body: &[u8], coding: Coding, most: usize) -> Result<Vec<u8>, Rejection> {
    match coding {
        Coding::Gzip => read(MultiGzDecoder::new(body), expected(body), most),
        Coding::Deflate if is_zlib(body) => match read(ZlibDecoder::new(body), several_times(body), most) {
            // A bare stream can begin with what looks like a header of zlib.
            Err(Rejection::BodyCorrupt) => read(DeflateDecoder::new(body), several_times(body), most),
            read => read,
        },
        Coding::Deflate => read(DeflateDecoder::new(body), several_times(body), most),
    }
}

/// RFC 1950, 2.2: deflate with a window of 32 KB at most, and a checksum of five bits.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [cmf, flg, ..] => cmf & 0x0f == 8 && cmf >> 4 <= 7 && (u16::from(*cmf) << 8 | u16::from(*flg)).is_multiple_of(31),
        _ => false,
    }
}

/// The length of what comes out as gzip's last four bytes have it: a hint, and often true.
fn expected(body: &[u8]) -> usize {
    body.last_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize)
}

fn several_times(body: &[u8]) -> usize {
    body.len().saturating_mul(8)
}

fn read(mut decoder: impl Read, expected: usize, most: usize) -> Result<Vec<u8>, Rejection> {
    // One allocation where the hint is true; one more byte, to see the end without another.
    let mut out = Vec::with_capacity(expected.min(most).saturating_add(1));
    match decoder.by_ref().take((most as u64).saturating_add(1)).read_to_end(&mut out) {
        Ok(_) if out.len() > most => Err(Rejection::BodyTooLarge),
        Ok(_) => Ok(out),
        Err(_) => Err(Rejection::BodyCorrupt),
    }
}

#[cfg(test)]
mod tests;
