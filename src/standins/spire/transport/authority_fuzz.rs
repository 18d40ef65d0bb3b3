//! What the fuzz target runs: bytes of a stranger through the mender, and what must hold of what comes out.

use super::*;

/// Takes the first byte as the size of the pieces in which the others come; gives how many sets of header fields came out.
///
/// # Panics
/// When it matters how the bytes are cut, when what comes out is not HTTP/2 any more, or has an authority that is none.
pub fn fuzz(input: &[u8]) -> usize {
    let Some((piece, bytes)) = input.split_first() else {
        return 0;
    };
    let (out, fine) = mended_in(bytes, bytes.len());
    let in_pieces = mended_in(bytes, usize::from(*piece));
    assert!(in_pieces == (out.clone(), fine), "it matters how the bytes are cut");
    assert!(!fine || out.len() >= bytes.len().min(PREFACE), "the preface is gone");
    authorities_in(out.get(PREFACE..).unwrap_or_default())
}

/// What comes out until the first mistake, and whether there was none.
fn mended_in(bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
    let mut mender = Mender::new();
    let mut out = Vec::new();
    let fine = bytes
        .chunks(piece.max(1))
        .all(|part| mender.push(part, &mut out).is_ok());
    (out, fine)
}

/// Reads frames as whoever gets them does: a decoder for the connection, one set of header fields at a time.
fn authorities_in(mut rest: &[u8]) -> usize {
    let mut decoder = Decoder::new();
    let mut block: Option<Vec<u8>> = None;
    let mut sets = 0;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let [l0, l1, l2, kind, flags, ..] = *header;
        let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        // The last frame may not have come whole.
        let Some((payload, after)) = after.split_at_checked(length) else {
            assert!(kind != HEADERS && kind != CONTINUATION, "header fields are cut off");
            break;
        };
        rest = after;
        if kind != HEADERS && kind != CONTINUATION {
            assert!(block.is_none(), "header fields are cut off by another frame");
            continue;
        }
        assert!(length <= LARGEST_FRAME, "a frame of {length} bytes");
        assert_eq!(flags & (PADDED | PRIORITY), 0, "padding and priority are gone");
        assert_eq!(block.is_some(), kind == CONTINUATION, "a set begins with HEADERS");
        let block_read = block.get_or_insert_default();
        block_read.extend_from_slice(payload);
        if flags & END_HEADERS == 0 {
            continue;
        }
        let fields = block.take().unwrap_or_default();
        let read = decoder.decode_with_cb(&fields, |name, value| {
            let authority = name.as_ref() == b":authority";
            assert!(
                !authority || Authority::try_from(value.as_ref()).is_ok(),
                "{value:?} is no authority"
            );
        });
        assert!(read.is_ok(), "{read:?}");
        sets += 1;
    }
    assert!(block.is_none(), "header fields do not end");
    sets
}
