//! The text form of DER (RFC 7468).

/// `der` under `label`, in lines of 64 characters.
pub fn text(label: &str, der: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    lines.push_str(&format!("-----END {label}-----\n"));
    lines
}
