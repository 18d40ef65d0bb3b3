//! Frames as clients send them, whole, cut into pieces, and malformed.

use super::*;

const CLIENT_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [.., l0, l1, l2] = payload.len().to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

/// What a decoder reads of the HEADERS frames that come out.
fn fields(out: &[u8]) -> Vec<Vec<(String, String)>> {
    let mut decoder = Decoder::new();
    let mut rest = &out[PREFACE..];
    let mut found = Vec::new();
    let mut block = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let (kind, flags) = (rest[3], rest[4]);
        if kind == HEADERS || kind == CONTINUATION {
            block.extend_from_slice(&rest[HEADER..HEADER + length]);
            if flags & END_HEADERS != 0 {
                let read = decoder.decode(&std::mem::take(&mut block)).unwrap();
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                found.push(
                    read.into_iter()
                        .map(|(name, value)| (text(name), text(value)))
                        .collect(),
                );
            }
        }
        rest = &rest[HEADER + length..];
    }
    found
}

fn pushed(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let mut mender = Mender::new();
    let mut out = Vec::new();
    for part in bytes.chunks(piece) {
        mender.push(part, &mut out)?;
    }
    Ok(out)
}

fn encoded(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut encoder = loona_hpack::Encoder::new();
    encoder.encode(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

#[test]
fn a_socket_path_as_authority_becomes_localhost_however_the_bytes_are_cut() {
    let headers = encoded(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        (":authority", "%2Frun%2Fspire%2Fagent.sock"),
        ("workload.spiffe.io", "true"),
    ]);
    let mut bytes = CLIENT_PREFACE.to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &headers));
    bytes.extend(frame(0, END_STREAM, 1, &[0, 0, 0, 0, 0]));
    for piece in [1, 2, 7, 4096] {
        let out = pushed(&bytes, piece).unwrap();
        let read = fields(&out);
        assert!(read[0].contains(&(":authority".into(), "localhost".into())), "{read:?}");
        assert!(
            read[0].contains(&("workload.spiffe.io".into(), "true".into())),
            "{read:?}"
        );
        assert!(
            out.ends_with(&frame(0, END_STREAM, 1, &[0, 0, 0, 0, 0])),
            "the data goes on as it was"
        );
    }
}

#[test]
fn a_field_that_is_named_again_by_its_index_is_mended_each_time() {
    // A literal with incremental indexing, name :authority (static index 1), then the entry it made (index 62).
    let path = b"/run/agent.sock";
    let mut first = vec![0x41, path.len() as u8];
    first.extend_from_slice(path);
    let mut bytes = CLIENT_PREFACE.to_vec();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &first));
    bytes.extend(frame(HEADERS, END_HEADERS, 3, &[0x80 | 62]));
    let read = fields(&pushed(&bytes, 4096).unwrap());
    let mended: Vec<(String, String)> = vec![(":authority".into(), "localhost".into())];
    assert_eq!(read, [mended.clone(), mended]);
}

#[test]
fn an_authority_that_is_one_stays_and_padding_priority_and_continuations_are_understood() {
    let headers = encoded(&[(":authority", "localhost:8081"), ("x", "y")]);
    let (one, two) = headers.split_at(3);
    let mut payload = vec![4, 0, 0, 0, 0, 16];
    payload.extend_from_slice(one);
    payload.extend_from_slice(&[0; 4]);
    let mut bytes = CLIENT_PREFACE.to_vec();
    bytes.extend(frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &payload));
    bytes.extend(frame(CONTINUATION, END_HEADERS, 1, two));
    let out = pushed(&bytes, 5).unwrap();
    assert_eq!(
        fields(&out)[0],
        [(":authority".into(), "localhost:8081".into()), ("x".into(), "y".into())]
    );
    assert_eq!(out[PREFACE + 4] & END_STREAM, END_STREAM);
}

#[test]
fn fields_of_more_than_a_frame_are_continued() {
    let long = "v".repeat(20_000);
    let headers = encoded(&[("x-long", &long)]);
    let mut bytes = CLIENT_PREFACE.to_vec();
    for (at, part) in headers.chunks(10_000).enumerate() {
        let last = (at + 1) * 10_000 >= headers.len();
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        bytes.extend(frame(kind, if last { END_HEADERS } else { 0 }, 1, part));
    }
    assert_eq!(fields(&pushed(&bytes, 4096).unwrap())[0], [("x-long".into(), long)]);
}

#[test]
fn malformed_frames_end_the_connection() {
    let cases: [(&str, Vec<u8>); 6] = [
        (
            "padding beyond the frame",
            frame(HEADERS, PADDED | END_HEADERS, 1, &[9, 0]),
        ),
        (
            "priority beyond the frame",
            frame(HEADERS, PRIORITY | END_HEADERS, 1, &[0]),
        ),
        (
            "an index that is not there",
            frame(HEADERS, END_HEADERS, 1, &[0x80 | 100]),
        ),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[])),
        (
            "another frame in between",
            [frame(HEADERS, 0, 1, &[]), frame(0, 0, 1, &[])].concat(),
        ),
        (
            "another stream's continuation",
            [frame(HEADERS, 0, 1, &[]), frame(CONTINUATION, 0, 3, &[])].concat(),
        ),
    ];
    for (what, frames) in cases {
        let bytes = [CLIENT_PREFACE, &frames].concat();
        assert!(pushed(&bytes, 4096).is_err(), "{what}");
    }
}

#[test]
fn a_small_message_that_decodes_to_a_large_one_is_refused() {
    let value = [b'v'; 3000];
    let mut block = vec![0x40, 1, b'n', 0x7f];
    // 3000 = 127 + 2873, in groups of seven bits.
    block.extend_from_slice(&[(2873 & 0x7f) as u8 | 0x80, (2873 >> 7) as u8]);
    block.extend_from_slice(&value);
    block.extend(std::iter::repeat_n(0x80 | 62, 10_000));
    let bytes = [CLIENT_PREFACE, &frame(HEADERS, END_HEADERS, 1, &block)].concat();
    assert!(pushed(&bytes, 4096).is_err());
}

/// The first byte of a seed says in which pieces the others come.
#[test]
fn the_seeds_of_the_fuzz_target_come_through_it() {
    for (name, seed) in seeds() {
        let sets = fuzz(&seed);
        assert!(sets > 0, "{name}: nothing behind the first mistake would be tried");
        let committed = std::fs::read(corpus().join(name));
        assert!(
            committed.is_ok_and(|bytes| bytes == seed),
            "{name}: `write_seeds` makes the seeds"
        );
    }
}

#[test]
#[ignore = "writes the seeds of the fuzz target"]
fn write_seeds() {
    std::fs::create_dir_all(corpus()).unwrap();
    for (name, seed) in seeds() {
        std::fs::write(corpus().join(name), seed).unwrap();
    }
}

fn corpus() -> std::path::PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../../fuzz/corpus/authority"]
        .iter()
        .collect()
}

/// Calls as gRPC for Python, for Go, and with all that the frames of a set can have.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let call = |authority: &str| {
        encoded(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("workload.spiffe.io", "true"),
        ])
    };
    let settings = frame(4, 0, 0, &[]);
    let data = frame(0, END_STREAM, 1, &[0; 5]);
    let seed = |piece: u8, frames: &[&[u8]]| [&[piece], CLIENT_PREFACE, &frames.concat()].concat();
    let of_path = frame(HEADERS, END_HEADERS, 1, &call("%2Frun%2Fspire%2Fagent.sock"));
    let of_name = frame(HEADERS, END_HEADERS, 1, &call("localhost"));
    let literal = [&[0x41, 4][..], b"/a/b"].concat();
    let again = [
        frame(HEADERS, END_HEADERS, 1, &literal),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x80 | 62]),
    ];
    let fields = call("/run/agent.sock");
    let (one, two) = fields.split_at(20);
    let padded = [&[2, 0, 0, 0, 0, 16][..], one, &[0; 2]].concat();
    let parted = [
        frame(HEADERS, PADDED | PRIORITY, 1, &padded),
        frame(CONTINUATION, END_HEADERS, 1, two),
    ];
    vec![
        ("path", seed(7, &[&settings, &of_path, &data])),
        ("name", seed(255, &[&settings, &of_name, &data])),
        ("again", seed(1, &[&again.concat()])),
        ("parted", seed(16, &[&settings, &parted.concat(), &data])),
    ]
}

#[test]
fn any_bytes_are_survived() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..2000 {
        let mut bytes = CLIENT_PREFACE.to_vec();
        for _ in 0..64 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes.push((seed >> 32) as u8 & if bytes.len().is_multiple_of(3) { 0xff } else { 0x0f });
        }
        let _ = pushed(&bytes, 9);
    }
}
