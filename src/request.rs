//! Request headers → what the later stages need of them, and nothing else.
//!
//! Header values are bytes: Envoy lets any byte from 0x80 pass, so nothing here assumes UTF-8.
//! Touches bytes alone. The order of the checks is the order of the answers: path, method, token,
//! then the body's encoding and length.

use crate::config::Config;
use crate::encoding;
use crate::rejection::Rejection;

/// The request headers that the filter looks at, as the host has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// `:method`.
    pub method: Option<&'a [u8]>,
    /// `:path`, with its query.
    pub path: Option<&'a [u8]>,
    /// `authorization`; Envoy joins several with a comma.
    pub authorization: Option<&'a [u8]>,
    /// `content-length`.
    pub content_length: Option<&'a [u8]>,
    /// `content-encoding`; several joined by commas ([`codings`]).
    pub content_encoding: Option<&'a [u8]>,
    /// `content-type`. Any will do; but see [`is_grpc`].
    pub content_type: Option<&'a [u8]>,
    /// `traceparent`.
    pub traceparent: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// Of a header map as proxy-wasm's ABI has it: the number of pairs, the two lengths of each, then
    /// name and value of each, both ended by a zero byte. Numbers are 32 bits, little-endian.
    ///
    /// Of several headers with the same name the first counts; of `content-encoding` see [`codings`].
    pub fn read(map: &'a [u8]) -> Headers<'a> {
        let mut headers = Headers::default();
        for (name, value) in pairs(map) {
            let header = match name {
                b":method" => &mut headers.method,
                b":path" => &mut headers.path,
                b"authorization" => &mut headers.authorization,
                b"content-length" => &mut headers.content_length,
                b"content-encoding" => &mut headers.content_encoding,
                b"content-type" => &mut headers.content_type,
                b"traceparent" => &mut headers.traceparent,
                _ => continue,
            };
            header.get_or_insert(value);
        }
        headers
    }
}

/// The values of all `content-encoding` headers in a map: each is a coding to undo.
pub fn codings(map: &[u8]) -> Vec<u8> {
    let values: Vec<&[u8]> = pairs(map).filter(|(name, _)| *name == b"content-encoding").map(|(_, value)| value).collect();
    values.join(&b","[..])
}

/// The pairs of a header map; none where it isn't whole.
fn pairs(map: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (lengths, text) = sections(map).unwrap_or_default();
    let mut rest = text;
    let mut part = move |length: &[u8; 4]| {
        let (part, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after.strip_prefix(b"\0")?;
        Some(part)
    };
    lengths.as_chunks::<2>().0.iter().map_while(move |[name, value]| Some((part(name)?, part(value)?)))
}

/// The lengths and what they are the lengths of.
fn sections(map: &[u8]) -> Option<(&[[u8; 4]], &[u8])> {
    let (count, rest) = map.split_first_chunk::<4>()?;
    let (lengths, text) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(8)?)?;
    Some((lengths.as_chunks::<4>().0, text))
}

/// The client's trace context (W3C Trace Context, section 3.2), if it is well-formed.
pub fn traceparent(headers: &Headers<'_>) -> Option<String> {
    let text = std::str::from_utf8(headers.traceparent?).ok()?;
    let mut parts = text.split('-');
    let (version, trace, span) = (hex(parts.next(), 2)?, hex(parts.next(), 32)?, hex(parts.next(), 16)?);
    hex(parts.next(), 2)?;
    // Later versions may have more parts; version 00 hasn't.
    let sound = version != "ff" && !(version == "00" && parts.next().is_some());
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    (sound && !zero(trace) && !zero(span) && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}

/// So many lower-case hex digits.
fn hex(part: Option<&str>, length: usize) -> Option<&str> {
    part.filter(|part| part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// Whether Envoy takes the request for gRPC, and so turns any local reply into a 200 with the status
/// in `grpc-status`: a refusal would look like an acceptance.
pub fn is_grpc(headers: &Headers<'_>) -> bool {
    let content_type = headers.content_type.unwrap_or_default();
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether the path, its query aside, is the ingest path.
pub fn is_ingest(path: Option<&[u8]>, config: &Config) -> bool {
    let path = path.unwrap_or_default();
    path.split(|&b| b == b'?').next() == Some(config.path.as_bytes())
}

/// Whether the method is the one that the ingest path has.
///
/// # Errors
/// Any other than POST, or none that can be read.
pub fn method(headers: &Headers<'_>) -> Result<(), Rejection> {
    match headers.method {
        Some(b"POST") => Ok(()),
        Some(_) => Err(Rejection::MethodNotAllowed),
        // There is no such request: the host hasn't let its headers be read.
        None => Err(Rejection::BodyUnavailable),
    }
}

/// The token of a request: what stands behind `Bearer`, unverified.
///
/// # Errors
/// No single bearer token.
pub fn token<'a>(headers: &Headers<'a>) -> Result<&'a [u8], Rejection> {
    bearer(headers.authorization)
}

/// What the headers say of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// Nothing against it: a length within the limit, or none.
    Acceptable,
    /// A length over the limit, in bytes.
    TooLarge(u64),
}

/// Whether the announced body can be taken. Asked after the token: a refusal here makes the client
/// throw its records away, and only a client that is known may be told to.
///
/// # Errors
/// A Content-Encoding that isn't undone here.
pub fn announced(headers: &Headers<'_>, config: &Config) -> Result<Announced, Rejection> {
    encoding::codings(headers.content_encoding)?;
    match content_length(headers) {
        Some(length) if length > config.max_body_bytes as u64 => Ok(Announced::TooLarge(length)),
        _ => Ok(Announced::Acceptable),
    }
}

/// The announced length of the body in bytes; `None` where there is none that can be read.
fn content_length(headers: &Headers<'_>) -> Option<u64> {
    let digits = headers.content_length?.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // A length that doesn't fit is still a length: the largest.
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX))
}

/// RFC 6750: the scheme in any case, one space or more, what is to be one token.
fn bearer(authorization: Option<&[u8]>) -> Result<&[u8], Rejection> {
    let value = authorization.unwrap_or_default().trim_ascii();
    if value.is_empty() {
        return Err(Rejection::TokenMissing);
    }
    let (scheme, rest) = value.split_at_checked(6).ok_or(Rejection::TokenMalformed)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") || rest.first() != Some(&b' ') {
        return Err(Rejection::TokenMalformed);
    }
    let token = rest.trim_ascii();
    if token.is_empty() { Err(Rejection::TokenMalformed) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &[u8]) -> Result<&[u8], Rejection> {
        bearer(Some(value))
    }

    fn map(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut map = (headers.len() as u32).to_le_bytes().to_vec();
        map.extend(headers.iter().flat_map(|(name, value)| [name.len(), value.len()]).flat_map(|length| (length as u32).to_le_bytes()));
        map.extend(headers.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()));
        map
    }

    #[test]
    fn headers_are_read_from_a_map_and_the_first_of_several_counts() {
        let map = map(&[
            (":path", "/p"),
            ("x-other", "no\0\0"),
            (":method", "POST"),
            ("content-encoding", "gzip"),
            ("content-encoding", "deflate, gzip"),
            ("content-length", ""),
            ("content-length", "2"),
            ("content-type", "t"),
            ("authorization", "a"),
            ("traceparent", "00"),
        ]);
        let headers = Headers::read(&map);
        let values = [headers.path, headers.method, headers.content_encoding, headers.content_length];
        assert_eq!(values, [Some(&b"/p"[..]), Some(b"POST"), Some(b"gzip"), Some(b"")]);
        assert_eq!([headers.content_type, headers.authorization, headers.traceparent], [Some(&b"t"[..]), Some(b"a"), Some(b"00")]);
        assert_eq!(codings(&map), b"gzip,deflate, gzip");
        // Whatever is missing at its end, nothing is made up.
        for end in 0..map.len() {
            let read: Vec<_> = pairs(&map[..end]).collect();
            assert!(read.len() < 10 && pairs(&map).take(read.len()).eq(read));
        }
        assert_eq!(pairs(&[0xff; 64]).count(), 0);
    }

    #[test]
    fn headers_that_can_not_be_read_are_nobodys_fault() {
        assert_eq!(method(&Headers::default()), Err(Rejection::BodyUnavailable));
    }

    #[test]
    fn bearer_in_any_case_with_any_number_of_spaces() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c "] {
            assert_eq!(token(value.as_bytes()), Ok(&b"a.b.c"[..]), "{value:?}");
        }
    }

    #[test]
    fn anything_else_is_no_bearer_token() {
        let bad: [&[u8]; 5] = [b"Basic YTpi", b"Bearer", b"Bearer\ta.b.c", b"Bearera.b.c", b"a.b.c"];
        for value in bad {
            assert_eq!(token(value), Err(Rejection::TokenMalformed), "{value:?}");
        }
        assert_eq!(bearer(None), Err(Rejection::TokenMissing));
        assert_eq!(token(b""), Err(Rejection::TokenMissing));
        assert_eq!(token(b"  "), Err(Rejection::TokenMissing));
    }

    #[test]
    fn content_length_is_digits_and_may_be_too_large_for_a_number() {
        let length = |value: &'static [u8]| content_length(&Headers { content_length: Some(value), ..Headers::default() });
        assert_eq!(length(b"0"), Some(0));
        assert_eq!(length(b" 12 "), Some(12));
        assert_eq!(length(b"99999999999999999999999"), Some(u64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1e3", b"\xff"] {
            assert_eq!(content_length(&Headers { content_length: Some(bad), ..Headers::default() }), None);
        }
    }
}
