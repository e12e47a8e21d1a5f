//! Content codings of requests.

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use crate::{Problem, problem::Kind, problem::shown};

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Not at all.
    Identity,
    /// gzip, with any number of members.
    Gzip,
    /// zlib, or the raw deflate that some clients send under this name.
    Deflate,
}

/// The coding of a request.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(Coding::Identity) };
    let coding = coding.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    match coding.as_str() {
        _ if codings.next().is_some() => Err(unsupported("more than one")),
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "deflate" => Ok(Coding::Deflate),
        other => Err(unsupported(&format!("`{}`", shown(other)))),
    }
}

fn unsupported(what: &str) -> Problem {
    let detail = format!("{what} content coding is not read; send gzip, deflate or none");
    Problem::new(Kind::MEDIA_TYPE, detail)
}

/// Unpacks a body, and stops as soon as more than `bytes_max` come out.
pub(crate) fn inflate(coding: Coding, body: Bytes, bytes_max: usize) -> Result<Bytes, Problem> {
    let packed: &[u8] = &body;
    match coding {
        Coding::Identity => Ok(body),
        Coding::Gzip => capped(MultiGzDecoder::new(packed), packed.len(), bytes_max),
        Coding::Deflate if is_zlib(packed) => {
            let mut decoder = ZlibDecoder::new(packed);
            let bytes = capped(&mut decoder, packed.len(), bytes_max)?;
            whole(bytes, decoder.total_in(), packed)
        }
        Coding::Deflate => {
            let mut decoder = DeflateDecoder::new(packed);
            let bytes = capped(&mut decoder, packed.len(), bytes_max)?;
            whole(bytes, decoder.total_in(), packed)
        }
    }
}

/// Whether the data begins with a zlib header (RFC 1950 §2.2).
fn is_zlib(packed: &[u8]) -> bool {
    matches!(packed, [method, flags, ..]
        if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

fn capped(decoder: impl Read, packed: usize, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut bytes = Vec::with_capacity(packed.saturating_mul(4).min(bytes_max));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(limit).read_to_end(&mut bytes).map_err(|error| {
        Problem::malformed("", format!("the body is not packed as `content-encoding` says: {error}"))
    })?;
    if bytes.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(bytes.into())
}

fn whole(bytes: Bytes, read: u64, packed: &[u8]) -> Result<Bytes, Problem> {
    if u64::try_from(packed.len()) == Ok(read) {
        return Ok(bytes);
    }
    Err(Problem::malformed("", "the body goes on after its packed data has ended"))
}

/// A body is larger than this.
pub(crate) fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Kind::TOO_LARGE, format!("the body is larger than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn status(result: Result<Bytes, Problem>) -> u16 {
        result.map_or_else(|problem| problem.kind.0.as_u16(), |_| 200)
    }

    #[test]
    fn each_coding_comes_out_as_it_went_in() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(b"{\"a\":1}").unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(b"{\"a\":1}").unwrap();
        let packed = [
            (Coding::Gzip, gzip(b"{\"a\":1}")),
            (Coding::Deflate, zlib.finish().unwrap().into()),
            (Coding::Deflate, raw.finish().unwrap().into()),
        ];
        for (coding, packed) in packed {
            assert_eq!(inflate(coding, packed, 7).unwrap(), "{\"a\":1}");
        }
    }

    #[test]
    fn the_limit_counts_what_comes_out() {
        let packed = gzip(&[b' '; 1000]);
        assert_eq!(status(inflate(Coding::Gzip, packed.clone(), 1000)), 200);
        assert_eq!(status(inflate(Coding::Gzip, packed, 999)), 413);
    }

    #[test]
    fn a_bomb_is_left_as_soon_as_it_is_too_large() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(status(inflate(Coding::Gzip, bomb, 1 << 20)), 413);
    }

    #[test]
    fn members_add_up() {
        let two = [gzip(&[1; 600]), gzip(&[2; 600])].concat();
        assert_eq!(inflate(Coding::Gzip, two.clone().into(), 1200).unwrap().len(), 1200);
        assert_eq!(status(inflate(Coding::Gzip, two.into(), 1199)), 413);
    }

    #[test]
    fn broken_data_is_refused() {
        let packed = gzip(b"an order of a certain length");
        let cut = packed.slice(..packed.len() - 9);
        let mut flipped = packed.to_vec();
        flipped[12] ^= 0xff;
        let trailed = [&packed[..], b"xx"].concat();
        for broken in [cut, flipped.into(), trailed.into(), Bytes::from_static(b"{}"), Bytes::new()] {
            assert_eq!(status(inflate(Coding::Gzip, broken.clone(), 1 << 20)), 400, "{broken:?}");
        }
        for broken in [&b"\x78\x9c"[..], b"\xff\xff\xff", b""] {
            assert_eq!(status(inflate(Coding::Deflate, broken.to_vec().into(), 1 << 20)), 400, "{broken:?}");
        }
    }

    #[test]
    fn other_codings_are_named_unsupported() {
        for other in ["br", "zstd", "gzip, gzip", "compress"] {
            let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, other.parse().unwrap())]);
            assert_eq!(coding(&headers).unwrap_err().kind, Kind::MEDIA_TYPE, "{other}");
        }
    }
}
