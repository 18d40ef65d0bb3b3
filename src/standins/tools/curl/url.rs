//! URLs as curl reads them: the scheme may be missing, and a redirect may be relative.

use http::Uri;

use super::error::CurlError;

/// Where to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Over TLS.
    pub https: bool,
    /// Lower case, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the `Host` header says.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// `user:password`, if the URL has them.
    pub user: Option<String>,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is none, or its scheme is neither http nor https.
    pub fn parse(text: &str) -> Result<Url, CurlError> {
        let bad = |why: &str| CurlError::Url(format!("{why}: {}", text.escape_debug()));
        let text = text.split('#').next().unwrap_or(text);
        let text = match text.split_once("://") {
            Some(_) => text.to_owned(),
            None => format!("http://{text}"),
        };
        let uri: Uri = text.parse().map_err(|_| bad("Malformed input to a URL function"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            scheme => return Err(CurlError::Protocol(scheme.unwrap_or_default().to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| bad("No host part in the URL"))?;
        let (user, authority_text) = match authority.as_str().rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest.to_owned()),
            None => (None, authority.as_str().to_owned()),
        };
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad("No host part in the URL"));
        }
        let after_host = authority_text.get(authority.host().len()..).unwrap_or_default();
        let port = match after_host.strip_prefix(':').unwrap_or(after_host) {
            "" if https => 443,
            "" => 80,
            port => port
                .parse()
                .map_err(|_| bad("Port number was not a decimal number between 0 and 65535"))?,
        };
        Ok(Url {
            https,
            host,
            port,
            authority: authority_text,
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            user,
        })
    }

    /// Where a redirect to `location` leads (RFC 3986 §5.2, without dot segments).
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn join(&self, location: &str) -> Result<Url, CurlError> {
        let scheme = self.scheme();
        if location.contains("://") {
            Url::parse(location)
        } else if location.starts_with("//") {
            Url::parse(&format!("{scheme}:{location}"))
        } else if location.starts_with('/') {
            Url::parse(&format!("{scheme}://{}{location}", self.authority))
        } else {
            let path = self.path.split('?').next().unwrap_or("/");
            let directory = &path[..=path.rfind('/').unwrap_or(0)];
            Url::parse(&format!("{scheme}://{}{directory}{location}", self.authority))
        }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_curl_reads_them() {
        for (text, expected) in [
            ("orders-api", "http://orders-api/ orders-api 80"),
            (
                "http://Orders-API:8080/x?y=1#z",
                "http://Orders-API:8080/x?y=1 orders-api 8080",
            ),
            ("https://u:p@a/", "https://a/ a 443"),
            ("http://[::1]:81/", "http://[::1]:81/ ::1 81"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(format!("{url} {} {}", url.host, url.port), expected);
        }
        assert_eq!(Url::parse("ftp://a/").unwrap_err().code(), 1);
        for text in ["", "http://", "http:// /", "http://a:b/", "http://a:99999/"] {
            assert_eq!(Url::parse(text).unwrap_err().code(), 3, "{text}");
        }
    }

    #[test]
    fn redirects_may_be_relative() {
        let url = Url::parse("http://a:81/b/c?d").unwrap();
        for (location, expected) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y", "http://a:81/y"),
            ("y", "http://a:81/b/y"),
        ] {
            assert_eq!(url.join(location).unwrap().to_string(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*", location in ".*") {
            if let Ok(url) = Url::parse(&text) {
                let _ = url.join(&location);
            }
        }
    }
}
