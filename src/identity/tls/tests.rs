//! Handshakes between two sides in memory, with real bytes between them.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{ServerName, UnixTime};

use super::*;
use crate::{
    Live, X509BundleSet, X509Context, X509Error, X509Svid,
    x509::testing::{Ca, NOW, at, times},
};

const ORDERS: &str = "spiffe://shop.test/ns/shop/sa/orders";
const PAYMENTS: &str = "spiffe://shop.test/ns/shop/sa/payments";

static BOTH: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

/// A clock that tests set.
#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(self.0.load(Ordering::SeqCst)))
    }
}

/// A workload: what it has, whom it lets in, and what it was told of those it refused.
struct Workload {
    live: Arc<Live>,
    clock: Arc<Clock>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    tls: MutualTls,
}

impl Workload {
    fn new(svid: X509Svid, bundles: X509BundleSet, lets_in: &str) -> Workload {
        Workload::with(
            Some(X509Context::new(vec![svid], bundles).unwrap()),
            lets_in.parse().unwrap(),
        )
    }

    fn with(context: Option<X509Context>, lets_in: Authorizer) -> Workload {
        let live = Arc::new(Live::new(context));
        let clock = Arc::new(Clock(AtomicU64::new(NOW)));
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&refusals);
        let tls = MutualTls::new(Arc::clone(&live) as Arc<dyn Source>, lets_in)
            .with_clock(Arc::clone(&clock) as Arc<dyn TimeProvider>)
            .telling(move |refusal| told.lock().unwrap().push(refusal.clone()));
        Workload {
            live,
            clock,
            refusals,
            tls,
        }
    }

    fn rotate(&self, svid: X509Svid, bundles: X509BundleSet) {
        self.live.set(Some(X509Context::new(vec![svid], bundles).unwrap()));
    }

    fn refusal(&self) -> Refusal {
        let refusals = self.refusals.lock().unwrap();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        refusals[0].clone()
    }
}

/// `orders` calls `payments`, both of one trust domain, each letting in the other alone.
fn pair(ca: &Ca) -> (Workload, Workload) {
    (
        Workload::new(ca.svid(ORDERS), ca.bundles(), PAYMENTS),
        Workload::new(ca.svid(PAYMENTS), ca.bundles(), ORDERS),
    )
}

/// Both ends of a connection.
#[derive(Debug)]
struct Talk {
    client: ClientConnection,
    server: ServerConnection,
}

/// What each side made of a handshake.
#[derive(Debug)]
struct Failed {
    client: Option<Error>,
    server: Option<Error>,
}

impl Talk {
    fn begin(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Talk {
        let name = ServerName::try_from("payments.shop").unwrap();
        Talk {
            client: ClientConnection::new(client, name).unwrap(),
            server: ServerConnection::new(server).unwrap(),
        }
    }

    /// Carries bytes both ways until neither has any left.
    fn carry(&mut self) -> Result<(), Box<Failed>> {
        let (mut at_client, mut at_server) = (None, None);
        loop {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while self.client.wants_write() {
                self.client.write_tls(&mut up).unwrap();
            }
            while self.server.wants_write() {
                self.server.write_tls(&mut down).unwrap();
            }
            if up.is_empty() && down.is_empty() {
                break;
            }
            let (mut up, mut down) = (up.as_slice(), down.as_slice());
            while !up.is_empty() && at_server.is_none() {
                self.server.read_tls(&mut up).unwrap();
                at_server = self.server.process_new_packets().err();
            }
            while !down.is_empty() && at_client.is_none() {
                self.client.read_tls(&mut down).unwrap();
                at_client = self.client.process_new_packets().err();
            }
        }
        if at_client.is_none() && at_server.is_none() {
            return Ok(());
        }
        Err(Box::new(Failed {
            client: at_client,
            server: at_server,
        }))
    }

    /// One message there and one back.
    fn ask(&mut self) {
        self.client.writer().write_all(b"pay").unwrap();
        self.carry().unwrap();
        let mut heard = [0; 3];
        self.server.reader().read_exact(&mut heard).unwrap();
        self.server.writer().write_all(&heard).unwrap();
        self.carry().unwrap();
        self.client.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"pay");
    }
}

fn shake(client: &Workload, server: &Workload) -> Result<Talk, Box<Failed>> {
    let mut talk = Talk::begin(
        Arc::new(client.tls.client().unwrap()),
        Arc::new(server.tls.server().unwrap()),
    );
    talk.carry().map(|()| talk)
}

fn alert(error: &Option<Error>) -> AlertDescription {
    match error {
        Some(Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert: {other:?}"),
    }
}

#[test]
fn each_side_learns_who_the_other_is() {
    let ca = Ca::of("shop.test");
    let (mut orders, payments) = pair(&ca);
    for versions in BOTH {
        orders.tls = orders.tls.with_versions(versions);
        let mut talk = shake(&orders, &payments).unwrap();
        talk.ask();
        assert_eq!(peer_id(talk.client.peer_certificates()).unwrap().to_string(), PAYMENTS);
        assert_eq!(peer_id(talk.server.peer_certificates()).unwrap().to_string(), ORDERS);
    }
    assert_eq!(peer_id(None), None);
    assert!(payments.refusals.lock().unwrap().is_empty());
}

#[test]
fn the_versions_are_those_that_are_set() {
    let ca = Ca::of("shop.test");
    let (orders, mut payments) = pair(&ca);
    payments.tls = payments.tls.with_versions(BOTH[0]);
    let talk = shake(&orders, &payments).unwrap();
    assert_eq!(talk.client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
}

#[test]
fn intermediates_are_sent_along() {
    let root = Ca::of("shop.test");
    let below = root.below("a", |_| {});
    let (leaf, key) = below.leaf(PAYMENTS, |_| {});
    let svid = X509Svid::new(vec![leaf, below.der.clone()], crate::x509::testing::pkcs8(&key)).unwrap();
    let orders = Workload::new(root.svid(ORDERS), root.bundles(), PAYMENTS);
    let payments = Workload::new(svid, root.bundles(), ORDERS);
    shake(&orders, &payments).unwrap().ask();
}

#[test]
fn an_authenticated_peer_that_no_rule_names_is_denied() {
    let ca = Ca::of("shop.test");
    // The server does not let in this client: certificate and bundle are good.
    let orders = Workload::new(
        ca.svid("spiffe://shop.test/ns/shop/sa/orders-fake"),
        ca.bundles(),
        PAYMENTS,
    );
    let payments = Workload::new(ca.svid(PAYMENTS), ca.bundles(), ORDERS);
    let failed = shake(&orders, &payments).unwrap_err();
    let denied = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    assert_eq!(failed.server, Some(denied.clone()));
    assert_eq!(alert(&failed.client), AlertDescription::AccessDenied);
    let refusal = payments.refusal();
    assert!(
        refusal.to_string().contains("orders-fake is not authorised"),
        "{refusal}"
    );
    // The client does not let in this server.
    let orders = Workload::new(ca.svid(ORDERS), ca.bundles(), "spiffe://shop.test/ns/shop/sa/ledger");
    let failed = shake(&orders, &payments).unwrap_err();
    assert_eq!(failed.client, Some(denied));
    assert_eq!(alert(&failed.server), AlertDescription::AccessDenied);
    assert!(matches!(orders.refusal(), Refusal::Unauthorized { .. }));
}

#[test]
fn without_rules_nobody_is_let_in() {
    let ca = Ca::of("shop.test");
    let context = X509Context::new(vec![ca.svid(PAYMENTS)], ca.bundles()).unwrap();
    let payments = Workload::with(Some(context), Authorizer::default());
    let failed = shake(&pair(&ca).0, &payments).unwrap_err();
    assert_eq!(alert(&failed.client), AlertDescription::AccessDenied);
}

#[test]
fn a_peer_of_a_trust_domain_without_a_bundle_is_refused() {
    let (shop, partner) = (Ca::of("shop.test"), Ca::of("partner.test"));
    let everyone = "spiffe://shop.test/* spiffe://partner.test/*";
    let stranger = "spiffe://partner.test/a";
    // It knows the shop; the shop does not know it, though its rules would let it in.
    let both = shop.bundles().with(partner.bundle("partner.test"));
    let caller = Workload::new(partner.svid(stranger), both.clone(), everyone);
    let payments = Workload::new(shop.svid(PAYMENTS), shop.bundles(), everyone);
    let failed = shake(&caller, &payments).unwrap_err();
    assert_eq!(alert(&failed.client), AlertDescription::CertificateUnknown);
    let refusal = payments.refusal().to_string();
    assert!(
        refusal.contains("no bundle for the trust domain partner.test"),
        "{refusal}"
    );
    // Federated: the same handshake holds, in the same configuration.
    payments.rotate(shop.svid(PAYMENTS), both);
    shake(&caller, &payments).unwrap().ask();
}

#[test]
fn a_leaf_of_another_trust_domain_from_the_same_authority_is_refused() {
    let ca = Ca::of("shop.test");
    let everyone = "spiffe://shop.test/* spiffe://evil.test/*";
    let payments = Workload::new(ca.svid(PAYMENTS), ca.bundles(), everyone);
    let evil = Workload::new(ca.svid("spiffe://evil.test/ns/shop/sa/orders"), ca.bundles(), everyone);
    let failed = shake(&evil, &payments).unwrap_err();
    assert_eq!(alert(&failed.client), AlertDescription::CertificateUnknown);
    let unknown = X509Error::UnknownTrustDomain("evil.test".parse().unwrap());
    assert_eq!(payments.refusal(), Refusal::Untrusted(unknown));
}

#[test]
fn one_trusted_domain_does_not_issue_the_ids_of_another() {
    let (shop, partner) = (Ca::of("shop.test"), Ca::of("partner.test"));
    let both = shop.bundles().with(partner.bundle("partner.test"));
    let forged = Workload::new(partner.svid(ORDERS), both.clone(), PAYMENTS);
    let payments = Workload::new(shop.svid(PAYMENTS), both, ORDERS);
    let failed = shake(&forged, &payments).unwrap_err();
    assert_eq!(alert(&failed.client), AlertDescription::UnknownCA);
    assert_eq!(
        failed.server,
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    );
}

#[test]
fn an_expired_svid_is_refused_on_either_side() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let short = |id| ca.svid_with(id, |it| times(it, NOW - 10, NOW + 10));
    payments.rotate(short(PAYMENTS), ca.bundles());
    shake(&orders, &payments).unwrap().ask();
    orders.clock.0.store(NOW + 11, Ordering::SeqCst);
    let failed = shake(&orders, &payments).unwrap_err();
    assert_eq!(alert(&failed.server), AlertDescription::CertificateExpired);
    assert!(matches!(
        orders.refusal(),
        Refusal::Untrusted(X509Error::Expired { .. })
    ));
    let (orders, payments) = pair(&ca);
    orders.rotate(short(ORDERS), ca.bundles());
    payments.clock.0.store(NOW + 11, Ordering::SeqCst);
    let failed = shake(&orders, &payments).unwrap_err();
    assert_eq!(alert(&failed.client), AlertDescription::CertificateExpired);
    payments.clock.0.store(NOW - 11, Ordering::SeqCst);
    assert!(shake(&orders, &payments).is_err());
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let mut config = orders.tls.client().unwrap();
    config.client_auth_cert_resolver = Arc::new(Nothing);
    let mut talk = Talk::begin(Arc::new(config), Arc::new(payments.tls.server().unwrap()));
    let failed = talk.carry().unwrap_err();
    assert_eq!(failed.server, Some(Error::NoCertificatesPresented));
    assert_eq!(alert(&failed.client), AlertDescription::CertificateRequired);
}

#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn a_certificate_alone_without_its_key_proves_nothing() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let (stolen, own) = (ca.svid(ORDERS), ca.svid("spiffe://shop.test/thief"));
    let thief = Arc::new(CertifiedKey::new(
        stolen.chain().to_vec(),
        Arc::clone(&own.certified_key().key),
    ));
    for versions in BOTH {
        let mut config = orders.tls.clone().with_versions(versions).client().unwrap();
        config.client_auth_cert_resolver = Arc::new(Stolen(Arc::clone(&thief)));
        let mut talk = Talk::begin(Arc::new(config), Arc::new(payments.tls.server().unwrap()));
        let failed = talk.carry().unwrap_err();
        assert_eq!(
            failed.server,
            Some(Error::InvalidCertificate(CertificateError::BadSignature))
        );
    }
}

#[derive(Debug)]
struct Stolen(Arc<CertifiedKey>);

impl ResolvesClientCert for Stolen {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn a_workload_without_identity_shows_and_trusts_nothing() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let nobody = || Workload::with(None, "spiffe://shop.test/*".parse().unwrap());
    // As a caller it cannot verify the server, and has nothing to show.
    let caller = nobody();
    assert!(shake(&caller, &payments).unwrap_err().client.is_some());
    assert_eq!(caller.refusal(), Refusal::NoContext);
    // As a server it has nothing to show.
    let failed = shake(&orders, &nobody()).unwrap_err();
    assert!(
        failed
            .server
            .unwrap()
            .to_string()
            .contains("no server certificate chain resolved")
    );
    // An identity that is taken away (the entry was deleted) is gone for the next handshake.
    shake(&orders, &payments).unwrap();
    payments.live.set(None);
    assert!(shake(&orders, &payments).is_err());
}

#[test]
fn a_session_is_never_resumed() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    for versions in BOTH {
        // One configuration for all connections, as a program has it: that is where sessions would be kept.
        let client = Arc::new(orders.tls.clone().with_versions(versions).client().unwrap());
        let server = Arc::new(payments.tls.server().unwrap());
        for _ in 0..3 {
            let mut talk = Talk::begin(Arc::clone(&client), Arc::clone(&server));
            talk.carry().unwrap();
            talk.ask();
            assert_eq!(talk.client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(talk.client.tls13_tickets_received(), 0);
        }
    }
}

#[test]
fn a_rotation_breaks_no_connection_and_holds_for_the_next() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let client = Arc::new(orders.tls.client().unwrap());
    let server = Arc::new(payments.tls.server().unwrap());
    let mut open = Vec::new();
    let mut shown = Vec::new();
    for _ in 0..20 {
        let mut talk = Talk::begin(Arc::clone(&client), Arc::clone(&server));
        // Half of a handshake is done when the rotation comes.
        talk.client.write_tls(&mut std::io::sink()).unwrap();
        drop(talk);
        let mut talk = Talk::begin(Arc::clone(&client), Arc::clone(&server));
        talk.carry().unwrap();
        shown.push(talk.client.peer_certificates().unwrap()[0].to_vec());
        open.push(talk);
        orders.rotate(ca.svid(ORDERS), ca.bundles());
        payments.rotate(ca.svid(PAYMENTS), ca.bundles());
        open.iter_mut().for_each(Talk::ask);
    }
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 20, "each handshake saw the SVID of its time");
    assert!(orders.refusals.lock().unwrap().is_empty() && payments.refusals.lock().unwrap().is_empty());
}

#[test]
fn an_open_connection_outlives_the_svids_that_it_began_with() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    for versions in BOTH {
        for workload in [&orders, &payments] {
            workload.clock.0.store(NOW, Ordering::SeqCst);
        }
        let client = Arc::new(orders.tls.clone().with_versions(versions).client().unwrap());
        let server = Arc::new(payments.tls.server().unwrap());
        let mut open = Talk::begin(Arc::clone(&client), Arc::clone(&server));
        open.carry().unwrap();
        // Both are long over, and nobody renewed them.
        for workload in [&orders, &payments] {
            workload.clock.0.store(NOW + 400 * 24 * 3600, Ordering::SeqCst);
        }
        open.ask();
        assert!(Talk::begin(client, server).carry().is_err());
    }
}

#[test]
fn an_svid_that_is_replaced_within_a_handshake_stays_whole() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let mut talk = Talk::begin(
        Arc::new(orders.tls.client().unwrap()),
        Arc::new(payments.tls.server().unwrap()),
    );
    // The server has shown its certificate; then both rotate.
    let mut hello = Vec::new();
    talk.client.write_tls(&mut hello).unwrap();
    talk.server.read_tls(&mut hello.as_slice()).unwrap();
    talk.server.process_new_packets().unwrap();
    payments.rotate(ca.svid(PAYMENTS), ca.bundles());
    orders.rotate(ca.svid(ORDERS), ca.bundles());
    talk.carry().unwrap();
    talk.ask();
}

#[test]
fn the_authority_changes_without_a_refused_handshake() {
    let (before, after) = (Ca::of("shop.test"), Ca::of("shop.test"));
    let domain = crate::x509::testing::domain("shop.test");
    let both = crate::X509Bundle::new(domain, [before.authority(), after.authority()]);
    let both = X509BundleSet::default().with(both);
    let (orders, payments) = pair(&before);
    // The order that SPIRE keeps: the new authority is in every bundle before it signs, the old one leaves last.
    let steps: [(&Workload, &str, &Ca, X509BundleSet); 6] = [
        (&orders, ORDERS, &before, both.clone()),
        (&payments, PAYMENTS, &before, both.clone()),
        (&orders, ORDERS, &after, both.clone()),
        (&payments, PAYMENTS, &after, both),
        (&orders, ORDERS, &after, after.bundles()),
        (&payments, PAYMENTS, &after, after.bundles()),
    ];
    for (workload, id, ca, bundles) in steps {
        workload.rotate(ca.svid(id), bundles);
        shake(&orders, &payments).unwrap().ask();
    }
    // One that missed it is refused: a bundle gone stale.
    let stale = Workload::new(before.svid(ORDERS), before.bundles(), PAYMENTS);
    assert!(shake(&stale, &payments).is_err());
}

#[test]
fn rotations_and_handshakes_on_many_threads() {
    let ca = Ca::of("shop.test");
    let (orders, payments) = pair(&ca);
    let client = Arc::new(orders.tls.client().unwrap());
    let server = Arc::new(payments.tls.server().unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                orders.rotate(ca.svid(ORDERS), ca.bundles());
                payments.rotate(ca.svid(PAYMENTS), ca.bundles());
            }
        });
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let mut talk = Talk::begin(Arc::clone(&client), Arc::clone(&server));
                        talk.carry().unwrap();
                        talk.ask();
                    }
                })
            })
            .collect();
        let fine = callers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .all(|it| it.is_ok());
        done.store(true, Ordering::Relaxed);
        assert!(fine, "a handshake failed while SVIDs rotated");
    });
}
