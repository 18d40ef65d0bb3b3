//! What is shown of an HTTP message.

use super::{
    head::{Field, Head, parse_trailer},
    inflate::inflate,
};
use crate::{buffer::Collected, jwt, leak, sink::Draft, text::one_line};

pub(super) fn size_note(body: &Collected) -> String {
    match body.total + body.missing {
        0 => String::new(),
        bytes => format!(" ({bytes} bytes)"),
    }
}

pub(super) fn show_head(draft: &mut Draft, head: &Collected, parsed: &Head) {
    draft.note(head);
    let mut at = 0;
    for Field { name, place, .. } in &parsed.fields {
        if place.start < at {
            continue;
        }
        draft.text.bytes(head, at..place.start);
        let shown = draft.text.bytes(head, place.clone());
        leak::in_header(name, draft.text.as_str(), shown, &mut draft.found);
        at = place.end;
    }
    draft.text.bytes(head, at..head.bytes.len());
}

/// The body as text; without its compression where that can be undone.
pub(super) fn show_body(draft: &mut Draft, body: &Collected, parsed: &Head) {
    let coding = parsed
        .field("content-encoding")
        .filter(|coding| !coding.eq_ignore_ascii_case("identity"));
    match coding {
        Some(coding) if body.total > 0 => {
            draft.note(body);
            let limit = draft.text.room_left();
            let shown = one_line(coding.as_bytes());
            match inflate(&coding, &body.bytes, limit) {
                Some(inflated) => {
                    draft.text.derived(&inflated.bytes, body);
                    draft.text.truncated |= inflated.cut;
                    draft
                        .text
                        .line(&format!("[decompressed from {} bytes, {shown}]", body.total));
                }
                None => {
                    draft.text.say(&format!("[{} bytes, {shown}]", body.total));
                }
            }
        }
        _ => {
            draft.show(body);
        }
    }
    draft.text.truncated |= body.cut();
    if body.missing > 0 {
        draft
            .text
            .line(&format!("[{} bytes of this body were not captured]", body.missing));
    }
}

/// The fields behind a chunked body, RFC 9112 §7.1.2.
pub(super) fn show_trailers(draft: &mut Draft, trailer: &Collected) {
    draft.note(trailer);
    for Field { name, place, .. } in parse_trailer(&trailer.bytes) {
        draft.text.line(&format!("{} (trailer): ", one_line(name.as_bytes())));
        let shown = draft.text.bytes(trailer, place);
        leak::in_header(&name, draft.text.as_str(), shown, &mut draft.found);
    }
}

/// The JSON Web Tokens of a head, decoded.
pub(super) fn show_tokens(draft: &mut Draft, parsed: &Head) {
    for jwt in parsed.fields.iter().filter_map(|field| jwt::within(&field.value)) {
        for line in jwt.lines() {
            draft.text.line(&line);
        }
    }
}
