//! How times, codes and certificates are printed: as Go does.

use jiff::Timestamp;
use rustls::pki_types::pem::SectionKind;
use tonic::Code;

use super::{CommandError, said};
use crate::api::types;

/// A time as Go prints one in UTC.
pub fn time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => format!("{seconds} s"),
    }
}

/// A code as Go's gRPC names it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// A SPIFFE ID; empty for none.
pub fn id(message: Option<&types::Spiffeid>) -> String {
    message
        .map(|id| format!("spiffe://{}{}", id.trust_domain, id.path))
        .unwrap_or_default()
}

/// Reads a SPIFFE ID that was given as a flag.
pub fn id_message(text: &str) -> Result<types::Spiffeid, CommandError> {
    let id = ztlab_identity::SpiffeId::parse(text).map_err(|error| said(format!("`{text}`: {error}")))?;
    Ok(crate::convert::id_message(&id))
}

/// Reads selectors that were given as flags.
pub fn selectors(texts: &[String]) -> Result<Vec<types::Selector>, CommandError> {
    texts
        .iter()
        .map(|text| {
            let (kind, value) = text
                .split_once(':')
                .ok_or_else(|| said(format!("selector \"{text}\" must be formatted as type:value")))?;
            Ok(types::Selector {
                r#type: kind.into(),
                value: value.into(),
            })
        })
        .collect()
}

/// A match behaviour by its name.
pub fn match_behavior(name: &str) -> Result<i32, CommandError> {
    match name {
        "exact" => Ok(0),
        "subset" => Ok(1),
        "" | "superset" => Ok(2),
        "any" => Ok(3),
        other => Err(said(format!("match behavior \"{other}\" unknown"))),
    }
}

/// One of two words, by the number of things.
pub fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// The certificates of PEM text.
pub fn certificates_of_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, CommandError> {
    use rustls::pki_types::pem::PemObject;
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| said(format!("unable to parse bundle data: {error}")))?;
        if kind == SectionKind::Certificate {
            found.push(der);
        }
    }
    if found.is_empty() {
        return Err(said("unable to parse bundle data: no PEM blocks"));
    }
    Ok(found)
}

/// One entry, as `entry show` prints it.
pub fn entry(entry: &types::Entry) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let or_default = |ttl: i32| {
        if ttl == 0 {
            "default".to_owned()
        } else {
            ttl.to_string()
        }
    };
    lines.push((
        "Entry ID",
        if entry.id.is_empty() {
            "(none)".into()
        } else {
            entry.id.clone()
        },
    ));
    lines.push(("SPIFFE ID", id(entry.spiffe_id.as_ref())));
    lines.push(("Parent ID", id(entry.parent_id.as_ref())));
    lines.push(("Revision", entry.revision_number.to_string()));
    if entry.downstream {
        lines.push(("Downstream", "true".into()));
    }
    lines.push(("X509-SVID TTL", or_default(entry.x509_svid_ttl)));
    lines.push(("JWT-SVID TTL", or_default(entry.jwt_svid_ttl)));
    if entry.expires_at != 0 {
        lines.push(("Expiration time", time(entry.expires_at)));
    }
    for selector in &entry.selectors {
        lines.push(("Selector", format!("{}:{}", selector.r#type, selector.value)));
    }
    lines.extend(entry.federates_with.iter().map(|name| ("FederatesWith", name.clone())));
    lines.extend(entry.dns_names.iter().map(|name| ("DNS name", name.clone())));
    if entry.admin {
        lines.push(("Admin", "true".into()));
    }
    if entry.store_svid {
        lines.push(("StoreSvid", "true".into()));
    }
    if !entry.hint.is_empty() {
        lines.push(("Hint", entry.hint.clone()));
    }
    let attributes = entry.additional_attributes.unwrap_or_default();
    if attributes.disable_x509_svid_prefetch {
        lines.push(("DisableX509SvidPrefetch", "true".into()));
    }
    if attributes.jwt_svid_include_jti {
        lines.push(("JwtSvidIncludeJti", "true".into()));
    }
    let mut text: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<23} : {value}\n"))
        .collect();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gos() {
        assert_eq!(time(1_795_000_000), "2026-11-18 11:06:40 +0000 UTC");
    }

    #[test]
    fn an_entry_is_printed_as_spire_prints_it() {
        let entry_shown = entry(&types::Entry {
            id: "e1".into(),
            spiffe_id: Some(id_message("spiffe://shop.test/orders").unwrap()),
            parent_id: Some(id_message("spiffe://shop.test/node").unwrap()),
            selectors: vec![types::Selector {
                r#type: "k8s".into(),
                value: "ns:shop".into(),
            }],
            jwt_svid_ttl: 60,
            ..types::Entry::default()
        });
        assert_eq!(
            entry_shown,
            "Entry ID                : e1\nSPIFFE ID               : spiffe://shop.test/orders\n\
             Parent ID               : spiffe://shop.test/node\nRevision                : 0\n\
             X509-SVID TTL           : default\nJWT-SVID TTL            : 60\n\
             Selector                : k8s:ns:shop\n\n"
        );
    }
}
