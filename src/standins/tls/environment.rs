//! The settings of TLS, as a service's environment has them.

use std::{io, path::PathBuf};

use super::{Acceptor, ClientAuth, Connector, Pair, Serving, Upstream, Versions};
use crate::standins::{log::Log, settings::optional};

/// What `ztlab images` says of them, for every service that has them.
pub const DOCUMENTED: &str = "TLS by env: TLS_CERT_FILE and TLS_KEY_FILE (serve it), TLS_CLIENT_CA_FILE and TLS_CLIENT_AUTH=require|optional \
     (callers), TLS_UPSTREAM_CA_FILE, TLS_UPSTREAM_CERT_FILE and TLS_UPSTREAM_KEY_FILE (calls), TLS_MIN_VERSION, \
     TLS_MAX_VERSION, HEALTH_LISTEN; changed files are read again; or SPIFFE_ENDPOINT_SOCKET with TLS_AUTHORIZED_IDS (callers) and \
     TLS_UPSTREAM_AUTHORIZED_IDS (calls): SVIDs of the Workload API";

/// What a service's environment says of TLS, for both directions.
pub struct Environment {
    log: Log,
    #[cfg(target_os = "linux")]
    identity: Option<super::svid::Identity>,
}

impl Environment {
    /// Reads the settings. Where they name a Workload API, waits for the service's identity.
    ///
    /// # Errors
    /// Settings that do not go together, or a Workload API that will give no identity.
    pub async fn read(log: &Log) -> io::Result<Environment> {
        #[cfg(target_os = "linux")]
        let identity = {
            let versions = versions(&optional).map_err(invalid)?;
            match super::svid::settings(&optional, versions).map_err(invalid)? {
                None => None,
                Some(settings) => Some(super::svid::Identity::awaited(settings, log).await.map_err(invalid)?),
            }
        };
        #[cfg(not(target_os = "linux"))]
        if optional("SPIFFE_ENDPOINT_SOCKET").is_some() {
            return Err(invalid(
                "SPIFFE_ENDPOINT_SOCKET is set, but the Workload API is spoken on Linux only",
            ));
        }
        Ok(Environment {
            log: log.clone(),
            #[cfg(target_os = "linux")]
            identity,
        })
    }

    /// What serves TLS, where `TLS_CERT_FILE` and `TLS_KEY_FILE` or `SPIFFE_ENDPOINT_SOCKET` are set; `protocols` are spoken
    /// inside.
    ///
    /// # Errors
    /// Settings that do not go together, or a file that is not usable.
    pub fn acceptor(&self, protocols: &[&[u8]]) -> io::Result<Option<Acceptor>> {
        #[cfg(target_os = "linux")]
        if let Some(identity) = &self.identity {
            let config = identity.server(protocols).map_err(invalid)?;
            return Ok(Some(Acceptor::with(config, self.log.clone())));
        }
        let Some(serving) = serving(optional, protocols).map_err(invalid)? else {
            return Ok(None);
        };
        Acceptor::new(serving, self.log.clone()).map(Some).map_err(invalid)
    }

    /// What calls over TLS, where `TLS_UPSTREAM_CA_FILE` or `TLS_UPSTREAM_AUTHORIZED_IDS` is set.
    ///
    /// # Errors
    /// Settings that do not go together, or a file that is not usable.
    pub fn connector(&self) -> io::Result<Option<Connector>> {
        #[cfg(target_os = "linux")]
        if let Some(identity) = &self.identity {
            return Ok(identity.client().map_err(invalid)?.map(Connector::with));
        }
        let Some(upstream) = upstream(optional).map_err(invalid)? else {
            return Ok(None);
        };
        Connector::new(upstream, self.log.clone()).map(Some).map_err(invalid)
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

fn serving(variables: impl Fn(&str) -> Option<String>, protocols: &[&[u8]]) -> Result<Option<Serving>, String> {
    let variables: Variables<'_> = &variables;
    let authorities = variables("TLS_CLIENT_CA_FILE").map(PathBuf::from);
    let auth = match variables("TLS_CLIENT_AUTH").as_deref() {
        None | Some("require") => ClientAuth::Require,
        Some("optional") => ClientAuth::Optional,
        Some(other) => return Err(format!("TLS_CLIENT_AUTH={other}: `require` and `optional` are known")),
    };
    if authorities.is_none() && variables("TLS_CLIENT_AUTH").is_some() {
        return Err("TLS_CLIENT_AUTH needs TLS_CLIENT_CA_FILE: the authorities whose certificates are good".to_owned());
    }
    let Some(identity) = pair(variables, "TLS_CERT_FILE", "TLS_KEY_FILE")? else {
        return match authorities {
            None => Ok(None),
            Some(_) => Err(
                "TLS_CLIENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE: only TLS asks for certificates".to_owned(),
            ),
        };
    };
    Ok(Some(Serving {
        identity,
        callers: authorities.map(|path| (path, auth)),
        versions: versions(variables)?,
        protocols: protocols.iter().map(|name| name.to_vec()).collect(),
    }))
}

fn upstream(variables: impl Fn(&str) -> Option<String>) -> Result<Option<Upstream>, String> {
    let variables: Variables<'_> = &variables;
    let identity = pair(variables, "TLS_UPSTREAM_CERT_FILE", "TLS_UPSTREAM_KEY_FILE")?;
    let Some(authorities) = variables("TLS_UPSTREAM_CA_FILE").map(PathBuf::from) else {
        return match identity {
            None => Ok(None),
            Some(_) => Err("TLS_UPSTREAM_CERT_FILE needs TLS_UPSTREAM_CA_FILE: whom to trust".to_owned()),
        };
    };
    Ok(Some(Upstream {
        authorities,
        identity,
        versions: versions(variables)?,
    }))
}

fn pair(variables: Variables<'_>, certificate: &str, key: &str) -> Result<Option<Pair>, String> {
    match (variables(certificate), variables(key)) {
        (Some(certificate), Some(key)) => Ok(Some(Pair {
            certificate: certificate.into(),
            key: key.into(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!("{certificate} is set, but not {key}: set both")),
        (None, Some(_)) => Err(format!("{key} is set, but not {certificate}: set both")),
    }
}

fn versions(variables: Variables<'_>) -> Result<Versions, String> {
    let (lowest, highest) = (variables("TLS_MIN_VERSION"), variables("TLS_MAX_VERSION"));
    Versions::between(lowest.as_deref(), highest.as_deref())
        .map_err(|error| format!("TLS_MIN_VERSION or TLS_MAX_VERSION: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(variables: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn without_settings_there_is_no_tls() {
        assert!(serving(set(&[]), &[]).unwrap().is_none());
        assert!(upstream(set(&[])).unwrap().is_none());
        assert!(serving(set(&[("TLS_UPSTREAM_CA_FILE", "/ca")]), &[]).unwrap().is_none());
    }

    #[test]
    fn a_client_ca_makes_certificates_required_unless_told_otherwise() {
        let variables = &[("TLS_CERT_FILE", "/c"), ("TLS_KEY_FILE", "/k")];
        assert!(serving(set(variables), &[]).unwrap().unwrap().callers.is_none());
        let variables = &[
            ("TLS_CERT_FILE", "/c"),
            ("TLS_KEY_FILE", "/k"),
            ("TLS_CLIENT_CA_FILE", "/a"),
        ];
        let callers = serving(set(variables), &[]).unwrap().unwrap().callers;
        assert_eq!(callers, Some(("/a".into(), ClientAuth::Require)));
        let variables = &[
            ("TLS_CERT_FILE", "/c"),
            ("TLS_KEY_FILE", "/k"),
            ("TLS_CLIENT_CA_FILE", "/a"),
            ("TLS_CLIENT_AUTH", "optional"),
            ("TLS_MAX_VERSION", "1.2"),
        ];
        let serving = serving(set(variables), &[]).unwrap().unwrap();
        assert_eq!(serving.callers, Some(("/a".into(), ClientAuth::Optional)));
        assert_eq!(serving.versions, Versions::Only12);
    }

    #[test]
    fn half_of_a_setting_is_refused_and_says_which_half_is_missing() {
        for (variables, missing) in [
            (&[("TLS_CERT_FILE", "/c")][..], "not TLS_KEY_FILE"),
            (&[("TLS_KEY_FILE", "/k")], "not TLS_CERT_FILE"),
            (&[("TLS_CLIENT_CA_FILE", "/a")], "needs TLS_CERT_FILE"),
            (&[("TLS_CLIENT_AUTH", "require")], "needs TLS_CLIENT_CA_FILE"),
            (&[("TLS_CLIENT_AUTH", "yes")], "`require` and `optional`"),
            (
                &[
                    ("TLS_CERT_FILE", "/c"),
                    ("TLS_KEY_FILE", "/k"),
                    ("TLS_MIN_VERSION", "1.1"),
                ],
                "1.1 is no version",
            ),
            (
                &[
                    ("TLS_CERT_FILE", "/c"),
                    ("TLS_KEY_FILE", "/k"),
                    ("TLS_MIN_VERSION", "1.3"),
                    ("TLS_MAX_VERSION", "1.2"),
                ],
                "above the highest",
            ),
        ] {
            let error = serving(set(variables), &[]).unwrap_err();
            assert!(error.contains(missing), "{variables:?}: {error}");
        }
        let error = upstream(set(&[
            ("TLS_UPSTREAM_CERT_FILE", "/c"),
            ("TLS_UPSTREAM_KEY_FILE", "/k"),
        ]))
        .unwrap_err();
        assert!(error.contains("TLS_UPSTREAM_CA_FILE"), "{error}");
    }
}
