//! Content negotiation: what form the client wants to read.
//!
//! Source: Kubernetes' "Alternate representations of resources", "Receiving resources as Tables".

use http::{HeaderMap, header};

use super::status::ApiError;

/// The form of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The object or list itself.
    Object,
    /// A `Table` of meta.k8s.io/v1.
    Table,
    /// `PartialObjectMetadata`, or a list of them.
    Metadata,
    /// The aggregated discovery document, `apidiscovery.k8s.io/v2`.
    AggregatedDiscovery,
}

/// One entry of an `Accept` header.
struct Media<'a> {
    range: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Media<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        Self {
            range: parts.next().unwrap_or_default(),
            parameters: parts.filter_map(|part| part.split_once('=')).collect(),
        }
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    fn form(&self) -> Option<Form> {
        if !matches!(self.range, "application/json" | "application/*" | "*/*" | "") {
            return None;
        }
        let group = self.parameter("g");
        match (self.parameter("as"), self.parameter("v")) {
            (None, _) => Some(Form::Object),
            (Some("Table"), Some("v1")) if group == Some("meta.k8s.io") => Some(Form::Table),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1"))
                if group == Some("meta.k8s.io") =>
            {
                Some(Form::Metadata)
            }
            (Some("APIGroupDiscoveryList"), Some("v2")) if group == Some("apidiscovery.k8s.io") => {
                Some(Form::AggregatedDiscovery)
            }
            _ => None,
        }
    }
}

/// The first form of the `Accept` header that is served; entries are taken in the client's order.
///
/// # Errors
/// 406 when none is.
pub fn form(headers: &HeaderMap) -> Result<Form, ApiError> {
    let mut values = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .peekable();
    if values.peek().is_none() {
        return Ok(Form::Object);
    }
    let mut protobuf = false;
    for entry in values.flat_map(|value| value.split(',')) {
        let media = Media::parse(entry.trim());
        protobuf |= media.range == "application/vnd.kubernetes.protobuf" && media.parameter("as").is_none();
        if let Some(form) = media.form() {
            return Ok(form);
        }
    }
    // Clients that ask for protobuf alone still read JSON: they go by the reply's content type.
    if protobuf {
        return Ok(Form::Object);
    }
    Err(ApiError::not_acceptable("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn forms() {
        for (accept, expected) in [
            ("*/*", Some(Form::Object)),
            ("application/json", Some(Form::Object)),
            ("application/json, */*", Some(Form::Object)),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some(Form::Object),
            ),
            ("application/vnd.kubernetes.protobuf", Some(Form::Object)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(Form::Table),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(Form::Object),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Form::Metadata),
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                Some(Form::AggregatedDiscovery),
            ),
            ("text/html", None),
            ("text/html,==;;", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            assert_eq!(form(&headers).ok(), expected, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()).ok(), Some(Form::Object));
    }
}
