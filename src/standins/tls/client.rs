//! The client side: whom a service that calls another trusts, and what it shows.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::ring,
};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Pair, TlsError, Versions,
    files::{Contents, Renewed},
};
use crate::standins::log::Log;

/// How TLS is spoken to the services that are called.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Whom to trust.
    pub authorities: PathBuf,
    /// What to show to one that asks for a certificate.
    pub identity: Option<Pair>,
    /// Which versions are spoken.
    pub versions: Versions,
}

/// Calls services over TLS, with the certificates that there are at that time. There is no way to make it trust a server that
/// it cannot verify.
pub struct Connector(Source);

/// Where the certificates come from.
enum Source {
    /// Files, read again when they change.
    Files(Renewed<ClientConfig>),
    /// The Workload API: the configuration itself asks for what is current.
    Workload(Arc<ClientConfig>),
}

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn new(upstream: Upstream, log: Log) -> Result<Connector, TlsError> {
        let mut paths = vec![upstream.authorities.clone()];
        if let Some(pair) = &upstream.identity {
            paths.extend([pair.certificate.clone(), pair.key.clone()]);
        }
        let shown = upstream.identity.clone();
        Renewed::new(paths, shown, log, move |contents| config(&upstream, contents))
            .map(|files| Connector(Source::Files(files)))
    }

    /// Calls as `config` has it, which asks for its certificates itself.
    pub fn with(config: ClientConfig) -> Connector {
        Connector(Source::Workload(Arc::new(config)))
    }

    /// What a library that shakes hands itself needs.
    pub fn library(&self) -> TlsConnector {
        TlsConnector::from(match &self.0 {
            Source::Files(files) => files.now(),
            Source::Workload(config) => config.clone(),
        })
    }

    /// Shakes hands with the server that `stream` leads to, which must prove to be `host`, or, where SVIDs are
    /// shown, to have an id that is authorised.
    ///
    /// # Errors
    /// When it cannot, or the server does not speak TLS.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))?;
        self.library().connect(name, stream).await
    }
}

fn config(upstream: &Upstream, contents: &Contents) -> Result<ClientConfig, TlsError> {
    let path = &upstream.authorities;
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(contents.authorities(path)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| TlsError::authorities(path, error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(upstream.versions.list())?
        .with_webpki_verifier(verifier);
    let mut config = match &upstream.identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = contents.identity(pair)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}
