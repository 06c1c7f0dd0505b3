//! Compression of what goes out, as gzip (RFC 1952).
//!
//! The compressor's tables are some 300 KB: to make them anew takes longer than to compress a small
//! batch, so they are kept. Touches the bytes that it is given.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// A compressor that is used again and again.
#[derive(Debug, Default)]
pub struct Gzip(Option<Compress>);

/// Deflate; no name, no time, fastest algorithm, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Room for what is left to be written, where there is none.
const MORE: usize = 4 * 1024;

impl Gzip {
    /// Compresses the parts, joined. Level 1: in wasm, level 6 takes four times as long for a few percent.
    ///
    /// `None` if the compressor fails, which is not known to happen.
    pub fn compress<'p>(&mut self, parts: impl Iterator<Item = &'p [u8]> + Clone) -> Option<Vec<u8>> {
        let deflate = self.0.get_or_insert_with(|| Compress::new(Compression::fast(), false));
        deflate.reset();
        let mut crc = Crc::new();
        let bytes: usize = parts.clone().map(<[u8]>::len).sum();
        let mut out = Vec::with_capacity(bytes / 4 + 128);
        out.extend_from_slice(&HEADER);
        for part in parts {
            crc.update(part);
            let mut rest = part;
            while !rest.is_empty() {
                rest = rest.get(step(deflate, rest, &mut out, FlushCompress::None)?.1..)?;
            }
        }
        while step(deflate, &[], &mut out, FlushCompress::Finish)?.0 != Status::StreamEnd {}
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        Some(out)
    }
}

/// Writes as much as there is room for, and makes room. The status, and how many bytes were taken.
fn step(deflate: &mut Compress, bytes: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Option<(Status, usize)> {
    if out.len() == out.capacity() {
        out.reserve(MORE);
    }
    let (taken, written) = (deflate.total_in(), out.len());
    let status = deflate.compress_vec(bytes, out, flush).ok()?;
    let taken = (deflate.total_in() - taken) as usize;
    // Neither read nor written though there was room: it would go on like that.
    if taken == 0 && out.len() == written && status != Status::StreamEnd {
        return None;
    }
    Some((status, taken))
}
