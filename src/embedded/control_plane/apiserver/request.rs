//! What a request asks for: its path and query.
//!
//! Source: Kubernetes' "API concepts" (resource URIs) and apiserver's `RequestInfo`.

use super::status::ApiError;

/// A path that names a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourcePath {
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// The namespace in the path, if any.
    pub namespace: Option<String>,
    /// Plural name of the resource.
    pub resource: String,
    /// The object's name, if the path names one.
    pub name: Option<String>,
    /// What follows the name.
    pub subresource: Option<String>,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Objects.
    Resource(ResourcePath),
    /// Anything else, by its segments.
    Other(Vec<String>),
}

/// Longest path that is looked at.
const MAX_PATH: usize = 4096;

impl Target {
    /// Reads a URL's path.
    ///
    /// # Errors
    /// 400 when it is too long or badly escaped.
    pub fn parse(path: &str) -> Result<Self, ApiError> {
        if path.len() > MAX_PATH {
            return Err(ApiError::bad_request("the request's path is too long"));
        }
        let segments = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| decode(segment, false))
            .collect::<Option<Vec<String>>>()
            .ok_or_else(|| ApiError::bad_request("the request's path is not valid percent-encoded UTF-8"))?;
        let (group, version, rest) = match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["api", version, _, ..] => (String::new(), (*version).to_owned(), 2),
            ["apis", group, version, _, ..] => ((*group).to_owned(), (*version).to_owned(), 3),
            _ => return Ok(Self::Other(segments)),
        };
        Ok(Self::Resource(ResourcePath::from_segments(
            group,
            version,
            &segments[rest..],
        )))
    }
}

impl ResourcePath {
    fn from_segments(group: String, version: String, segments: &[String]) -> Self {
        let mut path = Self {
            group,
            version,
            ..Self::default()
        };
        let mut rest = segments;
        // `namespaces/x/status` and `namespaces/x/finalize` are subresources of the namespace itself.
        if let [first, namespace, third, ..] = segments
            && first == "namespaces"
            && !(path.group.is_empty() && matches!(third.as_str(), "status" | "finalize") && segments.len() == 3)
        {
            path.namespace = Some(namespace.clone());
            rest = &segments[2..];
        }
        let mut rest = rest.iter().cloned();
        path.resource = rest.next().unwrap_or_default();
        path.name = rest.next();
        let subresource: Vec<String> = rest.collect();
        path.subresource = (!subresource.is_empty()).then(|| subresource.join("/"));
        path
    }
}

/// The query of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a URL's query.
    ///
    /// # Errors
    /// 400 when it is badly escaped.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let query = query.unwrap_or_default();
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode(name, true)?, decode(value, true)?))
            })
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| ApiError::bad_request("the request's query is not valid percent-encoded UTF-8"))
    }

    /// The first value of `name` that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self
            .0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        values.find(|value| !value.is_empty())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether `name` is set, as Kubernetes reads booleans: present without a value is true.
    pub fn flag(&self, name: &str) -> bool {
        self.optional_flag(name).unwrap_or(false)
    }

    /// As [`Query::flag`], telling "not given" apart.
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        self.all(name)
            .next()
            .map(|value| !matches!(value, "false" | "0" | "False" | "FALSE" | "f"))
    }

    /// A number.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.get(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| ApiError::bad_request(format!("invalid value {value:?} for {name}: not a number")))
            })
            .transpose()
    }
}

/// Reads percent-encoded text.
pub fn unescape(text: &str) -> Option<String> {
    decode(text, false)
}

fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match Target::parse(path).unwrap() {
            Target::Resource(resource) => resource,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn resource_paths() {
        // path, group, version, namespace, resource, name, subresource
        for (path, expected) in [
            ("/api/v1/pods", ("", "v1", None, "pods", None, None)),
            ("/api/v1/namespaces", ("", "v1", None, "namespaces", None, None)),
            ("/api/v1/namespaces/a", ("", "v1", None, "namespaces", Some("a"), None)),
            (
                "/api/v1/namespaces/a/status",
                ("", "v1", None, "namespaces", Some("a"), Some("status")),
            ),
            (
                "/api/v1/namespaces/a/finalize",
                ("", "v1", None, "namespaces", Some("a"), Some("finalize")),
            ),
            ("/api/v1/namespaces/a/pods", ("", "v1", Some("a"), "pods", None, None)),
            (
                "/api/v1/namespaces/a/pods/x/log",
                ("", "v1", Some("a"), "pods", Some("x"), Some("log")),
            ),
            (
                "/api/v1/namespaces/a/services/x/proxy/b/c",
                ("", "v1", Some("a"), "services", Some("x"), Some("proxy/b/c")),
            ),
            (
                "/apis/apps/v1/deployments",
                ("apps", "v1", None, "deployments", None, None),
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/x/scale",
                ("apps", "v1", Some("a"), "deployments", Some("x"), Some("scale")),
            ),
        ] {
            let got = resource(path);
            let got = (
                got.group.as_str(),
                got.version.as_str(),
                got.namespace.as_deref(),
                got.resource.as_str(),
                got.name.as_deref(),
                got.subresource.as_deref(),
            );
            assert_eq!(got, expected, "{path}");
        }
    }

    #[test]
    fn other_paths() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/version",
            "/openapi/v3/apis/apps/v1",
        ] {
            assert!(matches!(Target::parse(path), Ok(Target::Other(_))), "{path}");
        }
    }

    #[test]
    fn escapes_are_read_and_bad_ones_refused() {
        assert_eq!(resource("/api/v1/pods/a%20b").name.as_deref(), Some("a b"));
        for path in [
            "/api/v1/pods/%",
            "/api/v1/pods/%f",
            "/api/v1/pods/%ff",
            "/api/v1/pods/%zz",
        ] {
            assert_eq!(Target::parse(path).unwrap_err().code(), 400, "{path}");
        }
        assert!(Target::parse(&"/x".repeat(4096)).is_err());
    }

    #[test]
    fn queries() {
        let query = Query::parse(Some(
            "labelSelector=app+in+(a%2Cb)&watch&follow=false&command=a&command=&limit=5&x=",
        ))
        .unwrap();
        assert_eq!(query.get("labelSelector"), Some("app in (a,b)"));
        assert!(query.flag("watch"));
        assert!(!query.flag("follow"));
        assert!(!query.flag("absent"));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", ""]);
        assert_eq!(query.number::<u64>("limit").unwrap(), Some(5));
        assert_eq!(query.get("x"), None);
        assert_eq!(query.number::<u64>("command").unwrap_err().code(), 400);
        assert!(Query::parse(Some("a=%f")).is_err());
    }
}
