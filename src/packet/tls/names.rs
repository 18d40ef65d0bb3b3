//! Names of the numbers on the wire.

/// A protocol version; the number as Wireshark writes it where it has no name.
pub(super) fn version(number: u16) -> String {
    match number {
        0x0300 => "SSL 3.0".to_owned(),
        0x0301 => "1.0".to_owned(),
        0x0302 => "1.1".to_owned(),
        0x0303 => "1.2".to_owned(),
        0x0304 => "1.3".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

/// A cipher suite's name in the IANA registry "TLS Cipher Suites".
pub(super) fn cipher(number: u16) -> String {
    match number {
        0x00ff => "TLS_EMPTY_RENEGOTIATION_INFO_SCSV".to_owned(),
        0x5600 => "TLS_FALLBACK_SCSV".to_owned(),
        number => tls_parser::TlsCipherSuite::from_id(number)
            .map_or_else(|| format!("0x{number:04x}"), |suite| suite.name.to_owned()),
    }
}

/// Values that clients put into lists so that servers stay tolerant, RFC 8701.
pub(super) const fn grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// An alert's name in the IANA registry "TLS Alerts".
pub(super) fn alert(code: u8) -> String {
    match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        121 => "ech_required",
        other => return format!("alert {other}"),
    }
    .to_owned()
}
