//! What is shown of an HTTP message.

use super::{
    head::{Field, Head, at, parse_trailer},
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
    let mut shown = 0;
    for Field { name, value } in &parsed.fields {
        let name = at(&head.bytes, name);
        if value.start < shown || !leak::gives_away(name) {
            continue;
        }
        draft.text.bytes(head, shown..value.start);
        let place = draft.text.bytes(head, value.clone());
        leak::in_header(name, draft.text.as_str(), place, &mut draft.found);
        shown = value.end;
    }
    draft.text.bytes(head, shown..head.bytes.len());
}

/// The body as text; without its compression where that can be undone.
pub(super) fn show_body(draft: &mut Draft, body: &Collected, head: &Collected, parsed: &Head) {
    let coding = parsed
        .field(&head.bytes, "content-encoding")
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
    if trailer.bytes.is_empty() {
        return;
    }
    draft.note(trailer);
    for Field { name, value } in parse_trailer(&trailer.bytes) {
        let name = at(&trailer.bytes, &name);
        let shown = one_line(&name.to_ascii_lowercase());
        draft.text.line(&format!("{shown} (trailer): "));
        let shown = draft.text.bytes(trailer, value);
        leak::in_header(name, draft.text.as_str(), shown, &mut draft.found);
    }
}

/// The JSON Web Tokens of a head, decoded.
pub(super) fn show_tokens(draft: &mut Draft, head: &Collected, parsed: &Head) {
    let values = parsed.fields.iter().map(|field| field.text(&head.bytes));
    for jwt in values.filter_map(|value| jwt::within(&value)) {
        for line in jwt.lines() {
            draft.text.line(&line);
        }
    }
}
