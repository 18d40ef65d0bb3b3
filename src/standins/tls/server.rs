//! The server side: which certificate is shown, and what is asked of a caller.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Pair, TlsError, Versions, cause,
    files::{Contents, Renewed},
    noting,
};
use crate::standins::log::Log;

/// How long a caller has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long is waited for a refused caller to hang up.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is asked of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate that one of the authorities issued.
    Require,
    /// Nothing; but a certificate that is shown must be good.
    Optional,
}

/// How TLS is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// What is shown to callers.
    pub identity: Pair,
    /// The authorities of callers, and whether they must show a certificate; `None` asks for none.
    pub callers: Option<(PathBuf, ClientAuth)>,
    /// Which versions are spoken.
    pub versions: Versions,
    /// The protocols inside, by their ALPN names; empty where it does not matter.
    pub protocols: Vec<Vec<u8>>,
}

/// Where the certificates come from.
enum Source {
    /// Files, read again when they change.
    Files(Renewed<ServerConfig>),
    /// The Workload API: the configuration itself asks for what is current.
    Workload(Arc<ServerConfig>),
}

/// Shakes hands with callers, with the certificates that there are at that time.
pub struct Acceptor {
    config: Source,
    log: Log,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn new(serving: Serving, log: Log) -> Result<Acceptor, TlsError> {
        let mut paths = vec![serving.identity.certificate.clone(), serving.identity.key.clone()];
        paths.extend(serving.callers.iter().map(|(path, _)| path.clone()));
        let shown = Some(serving.identity.clone());
        let config = Renewed::new(paths, shown, log.clone(), move |contents| config(&serving, contents))?;
        Ok(Acceptor {
            config: Source::Files(config),
            log,
        })
    }

    /// Shakes hands as `config` has it, which asks for its certificates itself.
    pub fn with(config: ServerConfig, log: Log) -> Acceptor {
        Acceptor {
            config: Source::Workload(Arc::new(config)),
            log,
        }
    }

    /// What a library that shakes hands itself needs.
    pub fn library(&self) -> TlsAcceptor {
        TlsAcceptor::from(match &self.config {
            Source::Files(files) => files.now(),
            Source::Workload(config) => config.clone(),
        })
    }

    /// Shakes hands with `peer`. `None` where that fails, which the log then tells.
    pub async fn accept(&self, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let shaking = self.library().accept(stream).into_fallible();
        let (shaken, said) = noting(tokio::time::timeout(HANDSHAKE, shaking)).await;
        match shaken {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err((error, stream))) => {
                self.refused(peer, &error, said.as_deref());
                farewell(stream).await;
                None
            }
            Err(_) => {
                self.log
                    .refused(peer, &format!("no TLS handshake within {} s", HANDSHAKE.as_secs()));
                None
            }
        }
    }

    /// Tells why `peer` was not let in: what was noted of it, or else what TLS says. One that only looked whether somebody
    /// listens is not worth a line.
    pub fn refused(&self, peer: SocketAddr, error: &io::Error, noted: Option<&str>) {
        match cause(error) {
            Some(reason) => self.log.refused(peer, noted.unwrap_or(&reason.to_string())),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {}
            None => self.log.refused(peer, &error.to_string()),
        }
    }
}

/// Ends a refused connection so that the alert arrives: closing it while there is unread data would reset it, and what
/// was on its way to the caller would be lost.
pub async fn farewell(mut stream: TcpStream) {
    let goodbye = async {
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(FAREWELL, goodbye).await;
}

fn config(serving: &Serving, contents: &Contents) -> Result<ServerConfig, TlsError> {
    let (chain, key) = contents.identity(&serving.identity)?;
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(serving.versions.list())?;
    let builder = match &serving.callers {
        None => builder.with_no_client_auth(),
        Some((path, auth)) => {
            let roots = Arc::new(contents.authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match auth {
                ClientAuth::Require => verifier,
                ClientAuth::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| TlsError::authorities(path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols.clone_from(&serving.protocols);
    Ok(config)
}
