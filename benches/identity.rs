//! How fast identities are verified: chains, tokens, and whole handshakes of mutual TLS with SVIDs, beside the same handshakes
//! with rustls' own verifiers in the same run. `make bench` runs it on the release build, on one thread. Nothing here passes or fails.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{io, sync::Arc, time::Duration};

use common::{Row, median, print, time};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    client::{Resumption, WebPkiServerVerifier},
    crypto::ring,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use ztlab::identity::{
    JwtBundle, JwtBundleSet, Live, SpiffeId, TrustDomain, UnixTime, X509Bundle, X509BundleSet, X509Context, X509Svid,
    jwt::{self, Signer},
    tls::MutualTls,
    x509,
};

const RUNS: usize = 5;
/// How often each thing is done in a run.
const EACH: u32 = 200;
const ORDERS: &str = "spiffe://shop.test/ns/shop/sa/orders-api";
const PAYMENTS: &str = "spiffe://shop.test/ns/shop/sa/payments-api";

fn params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "SPIRE");
    params.subject_alt_names = vec![
        SanType::URI(uri.try_into().unwrap()),
        SanType::DnsName("peer".try_into().unwrap()),
    ];
    params
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params("spiffe://shop.test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn svid(authority: &CertifiedIssuer<'static, KeyPair>, id: &str) -> X509Svid {
    let mut params = params(id);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, authority).unwrap().der().clone();
    X509Svid::new(vec![leaf], PrivatePkcs8KeyDer::from(key.serialize_der())).unwrap()
}

/// How often a second `work` is done.
fn rate(what: &str, mut work: impl FnMut()) -> Row {
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| f64::from(EACH) / time(|| (0..EACH).for_each(|_| work())).as_secs_f64())
        .collect();
    let middle = median(&mut rates);
    Row {
        what: what.to_owned(),
        measured: format!("{middle:.0} a second"),
        spread: format!("{:.0} to {:.0}", rates.first().unwrap(), rates.last().unwrap()),
        aim: "-",
    }
}

/// A whole handshake in memory, both sides of it.
fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) {
    let mut client = ClientConnection::new(client.clone(), ServerName::try_from("peer").unwrap()).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut carried = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        carried.clear();
        while client.wants_write() {
            client.write_tls(&mut carried).unwrap();
        }
        read(&mut carried.as_slice(), |bytes| server.read_tls(bytes));
        server.process_new_packets().unwrap();
        carried.clear();
        while server.wants_write() {
            server.write_tls(&mut carried).unwrap();
        }
        read(&mut carried.as_slice(), |bytes| client.read_tls(bytes));
        client.process_new_packets().unwrap();
    }
}

fn read(bytes: &mut &[u8], mut into: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
    while !bytes.is_empty() {
        into(bytes).unwrap();
    }
}

/// Mutual TLS as rustls does it alone: any certificate of the authority is good.
fn plain(
    authority: &CertificateDer<'static>,
    orders: &X509Svid,
    payments: &X509Svid,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
    let key = |svid: &X509Svid| PrivateKeyDer::Pkcs8(svid.key_der().to_vec().into());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_client_auth_cert(orders.chain().to_vec(), key(orders))
        .unwrap();
    client.resumption = Resumption::disabled();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(payments.chain().to_vec(), key(payments))
        .unwrap();
    server.send_tls13_tickets = 0;
    (Arc::new(client), Arc::new(server))
}

fn main() {
    let authority = authority();
    let domain = TrustDomain::new("shop.test").unwrap();
    let bundle = X509Bundle::from_der(domain.clone(), authority.der()).unwrap();
    let bundles = X509BundleSet::default().with(bundle);
    let (orders, payments) = (svid(&authority, ORDERS), svid(&authority, PAYMENTS));
    let now = UnixTime::now();

    let config = |own: &X509Svid, other: &str| {
        let context = X509Context::new(vec![own.clone()], bundles.clone()).unwrap();
        MutualTls::new(Arc::new(Live::new(Some(context))), other.parse().unwrap())
    };
    let client = Arc::new(config(&orders, PAYMENTS).client().unwrap());
    let server = Arc::new(config(&payments, ORDERS).server().unwrap());
    let (plain_client, plain_server) = plain(authority.der(), &orders, &payments);

    let signer = Signer::from_pkcs8("k", &Signer::generate_pkcs8().unwrap()).unwrap();
    let keys = JwtBundle::new(domain, [("k".to_owned(), signer.public_key())]).unwrap();
    let keys = JwtBundleSet::default().with(keys);
    let (id, audience) = (SpiffeId::parse(ORDERS).unwrap(), ["payments-api".to_owned()]);
    let until = now.as_secs() + Duration::from_secs(3600).as_secs();
    let token = signer.sign(&id, &audience, now.as_secs(), until).unwrap();

    print(&[
        rate("handshakes of mutual TLS with SVIDs, both sides", || {
            shake(&client, &server)
        }),
        rate("the same with rustls' own verifiers", || {
            shake(&plain_client, &plain_server)
        }),
        rate("chains verified", || {
            drop(x509::verify(orders.chain(), &bundles, now).unwrap())
        }),
        rate("SVIDs read from the Workload API's bytes", || {
            drop(X509Svid::from_der(&orders.chain_der(), orders.key_der()).unwrap());
        }),
        rate("tokens signed", || {
            drop(signer.sign(&id, &audience, now.as_secs(), until).unwrap());
        }),
        rate("tokens verified", || {
            drop(jwt::verify(token.token(), &keys, "payments-api", now).unwrap());
        }),
    ]);
}
