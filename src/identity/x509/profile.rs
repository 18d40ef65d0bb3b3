//! What leaf and signing certificates have in common when they are read.

use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, KeyUsage},
    prelude::FromDer,
};

use super::{Validity, X509Error};
use crate::{IdError, SpiffeId};

/// The context-specific tag of a URI among alternative names (RFC 5280 section 4.2.1.6).
const URI_TAG: u32 = 6;

/// Reads one certificate that stands alone and whose extensions can all be read, each at most once.
pub(super) fn read<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, X509Error> {
    let (rest, read) = X509Certificate::from_der(der).map_err(|error| X509Error::NotACertificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(X509Error::TrailingBytes(rest.len()));
    }
    read.extensions_map()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    // The parser's accessors take an unreadable basicConstraints for none.
    let unreadable = read.extensions().iter().find_map(|extension| {
        let error = extension.parsed_extension().error()?;
        Some(format!("{}: {error}", extension.oid))
    });
    match unreadable {
        Some(reason) => Err(X509Error::Extensions(reason)),
        None => Ok(read),
    }
}

/// What the URI names of a certificate come to.
pub(super) enum UriNames<'a> {
    /// There is none.
    None,
    /// There is one.
    One {
        /// The name as it stands there, if it is text.
        uri: Option<&'a str>,
        /// Whether the alternative names are marked critical.
        critical: bool,
    },
    /// There are this many.
    Many(usize),
}

/// The URI names of `read`; other kinds of names are passed over (X509-SVID section 2).
pub(super) fn uri_names<'a>(read: &'a X509Certificate<'_>) -> Result<UriNames<'a>, X509Error> {
    let names = read
        .subject_alternative_name()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    let Some(names) = names else {
        return Ok(UriNames::None);
    };
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(Some(*uri)),
        GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => Some(None),
        _ => None,
    });
    Ok(match (uris.next(), uris.count()) {
        (None, _) => UriNames::None,
        (Some(uri), 0) => UriNames::One {
            uri,
            critical: names.critical,
        },
        (Some(_), more) => UriNames::Many(more + 1),
    })
}

/// The SPIFFE ID that `uri` is.
pub(super) fn id(uri: Option<&str>) -> Result<SpiffeId, X509Error> {
    let uri = uri.ok_or(X509Error::IdNotText)?;
    SpiffeId::parse(uri).map_err(|error: IdError| error.into())
}

/// Whether basic constraints say that this is an authority's (X509-SVID section 4.1).
pub(super) fn is_authority(read: &X509Certificate<'_>) -> Result<bool, X509Error> {
    let constraints = read
        .basic_constraints()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    Ok(constraints.is_some_and(|constraints| constraints.value.ca))
}

/// How many signing certificates may follow this one on a path (RFC 5280 section 4.2.1.9).
pub(super) fn path_length(read: &X509Certificate<'_>) -> Result<Option<u32>, X509Error> {
    let constraints = read
        .basic_constraints()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    Ok(constraints.and_then(|constraints| constraints.value.path_len_constraint))
}

/// Key usage, and whether it is critical (X509-SVID section 4.3).
pub(super) fn key_usage<'a>(read: &'a X509Certificate<'_>) -> Result<Option<(&'a KeyUsage, bool)>, X509Error> {
    let usage = read
        .key_usage()
        .map_err(|error| X509Error::Extensions(error.to_string()))?;
    Ok(usage.map(|usage| (usage.value, usage.critical)))
}

/// The time in which it may be used.
pub(super) fn validity(read: &X509Certificate<'_>) -> Validity {
    Validity {
        not_before: read.validity().not_before.timestamp(),
        not_after: read.validity().not_after.timestamp(),
    }
}
