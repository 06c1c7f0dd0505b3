use super::*;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use std::io::Write;

const MOST: usize = 1_048_576;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn bare(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn named(content_encoding: &str) -> Result<Vec<Coding>, Rejection> {
    codings(Some(content_encoding.as_bytes()))
}

#[test]
fn codings_are_named_in_any_case_and_identity_is_none() {
    use Coding::{Deflate, Gzip};
    assert_eq!(codings(None), Ok(vec![]));
    for (name, expected) in [
        ("", vec![]),
        ("identity", vec![]),
        ("Identity , identity", vec![]),
        ("gzip", vec![Gzip]),
        (" GZip ", vec![Gzip]),
        ("x-gzip", vec![Gzip]),
        ("deflate", vec![Deflate]),
        ("deflate, gzip", vec![Deflate, Gzip]),
        ("identity,gzip,,identity", vec![Gzip]),
        ("gzip,gzip,gzip,gzip", vec![Gzip; 4]),
    ] {
        assert_eq!(named(name), Ok(expected), "{name:?}");
    }
    for name in ["br", "zstd", "compress", "gzip, br", "gzip;q=1", "gzip gzip", "*", "gzip,gzip,gzip,gzip,gzip", "g\u{fc}zip"] {
        assert_eq!(named(name), Err(Rejection::EncodingUnsupported), "{name:?}");
    }
}

#[test]
fn each_coding_is_undone_and_so_are_several() {
    let body = br#"{"logs":[{"message":"hello hello hello hello"}]}"#;
    for (encoded, names) in [
        (body.to_vec(), "identity"),
        (gzip(body), "gzip"),
        (zlib(body), "deflate"),
        (bare(body), "deflate"),
        (gzip(&zlib(body)), "deflate, gzip"),
        (bare(&gzip(body)), "gzip, deflate"),
        (gzip(&gzip(&gzip(&gzip(body)))), "gzip, gzip, gzip, gzip"),
        ([gzip(&body[..20]), gzip(&body[20..])].concat(), "gzip"),
        (gzip(b""), "gzip"),
    ] {
        let expected: &[u8] = if encoded == gzip(b"") { b"" } else { body };
        assert_eq!(decode(&encoded, &named(names).unwrap(), MOST).as_deref(), Ok(expected), "{names}");
    }
}

#[test]
fn as_much_as_the_bound_comes_out_and_not_a_byte_more() {
    let body = vec![b' '; 5_000];
    for (encoded, coding) in [(gzip(&body), Coding::Gzip), (zlib(&body), Coding::Deflate), (bare(&body), Coding::Deflate)] {
        assert_eq!(decode(&encoded, &[coding], 5_000).as_deref(), Ok(&*body));
        assert_eq!(decode(&encoded, &[coding], 4_999), Err(Rejection::BodyTooLarge), "{coding:?}");
    }
}

#[test]
fn a_bomb_is_too_large_and_no_more_than_the_bound_is_held() {
    let bomb = gzip(&vec![0; 256 * 1024 * 1024]);
    assert!(bomb.len() < 300_000);
    assert_eq!(decode(&bomb, &[Coding::Gzip], MOST), Err(Rejection::BodyTooLarge));
    // In a bomb: the outer one is small, the inner is not.
    assert_eq!(decode(&gzip(&bomb), &[Coding::Gzip, Coding::Gzip], MOST), Err(Rejection::BodyTooLarge));
    // The last four bytes say that four gigabytes come out.
    let mut liar = gzip(b"{}");
    let end = liar.len() - 4;
    liar[end..].fill(0xff);
    assert_eq!(decode(&liar, &[Coding::Gzip], MOST), Err(Rejection::BodyCorrupt));
}

#[test]
fn what_no_coding_has_made_is_corrupt() {
    let body = br#"{"logs":[{"message":"x"},{"message":"y"}]}"#;
    for (encoded, coding) in [(gzip(body), Coding::Gzip), (zlib(body), Coding::Deflate), (bare(body), Coding::Deflate)] {
        for end in 0..encoded.len() {
            assert_eq!(decode(&encoded[..end], &[coding], MOST), Err(Rejection::BodyCorrupt), "{coding:?}, cut at {end}");
        }
        assert_eq!(decode(body, &[coding], MOST), Err(Rejection::BodyCorrupt));
    }
    let mut changed = gzip(body);
    let crc = changed.len() - 8;
    changed[crc] ^= 1;
    assert_eq!(decode(&changed, &[Coding::Gzip], MOST), Err(Rejection::BodyCorrupt), "the checksum");
    assert_eq!(decode(&[gzip(body), b"junk".to_vec()].concat(), &[Coding::Gzip], MOST), Err(Rejection::BodyCorrupt));
}

proptest! {
    #[test]
    fn whatever_comes_the_bound_holds(body in prop::collection::vec(any::<u8>(), 0..2_000), most in 0..3_000usize) {
        for encoded in [gzip(&body), zlib(&body), bare(&body), body.clone()] {
            for codings in [&[Coding::Gzip][..], &[Coding::Deflate], &[Coding::Gzip, Coding::Deflate]] {
                if let Ok(out) = decode(&encoded, codings, most) {
                    prop_assert!(out.len() <= most);
                }
            }
        }
    }

    #[test]
    fn what_was_encoded_comes_back(body in prop::collection::vec(any::<u8>(), 0..5_000)) {
        prop_assert_eq!(decode(&gzip(&body), &[Coding::Gzip], MOST).unwrap(), &body[..]);
        prop_assert_eq!(decode(&zlib(&body), &[Coding::Deflate], MOST).unwrap(), &body[..]);
        prop_assert_eq!(decode(&bare(&body), &[Coding::Deflate], MOST).unwrap(), &body[..]);
    }
}
