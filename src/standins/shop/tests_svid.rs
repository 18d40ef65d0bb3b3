//! The shop on loopback with SVIDs: who proves to be whom, who may, and what a rotation breaks (nothing).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    HTTP,
    database::{Database, DatabaseError, Payment},
    ledger, orders_api, payments_api,
    tests::{CARD, Lines, PASSWORD, TOKEN, ledger_settings, port, start},
};
use crate::{
    identity::{Authorizer, Live, TrustDomain, X509Bundle, X509BundleSet, X509Context, X509Svid},
    standins::{
        http::{
            client::{Answer, ClientError, Target},
            door::Door,
        },
        log::Log,
        tls::{
            Acceptor, Connector, Versions,
            svid::{Identity, Settings},
        },
    },
};

const DOMAIN: &str = "shop.test";

fn id(service: &str) -> String {
    format!("spiffe://{DOMAIN}/ns/shop/sa/{service}")
}

/// The authority of a trust domain.
struct Issuer(CertifiedIssuer<'static, KeyPair>);

fn params(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "SPIRE");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params
}

impl Issuer {
    fn new(domain: &str) -> Issuer {
        let mut params = params(&format!("spiffe://{domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Issuer(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn svid(&self, id: &str) -> X509Svid {
        let mut params = params(id);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap().der().clone();
        X509Svid::new(vec![leaf], PrivatePkcs8KeyDer::from(key.serialize_der())).unwrap()
    }

    fn context(&self, id: &str) -> X509Context {
        let domain = TrustDomain::new(DOMAIN).unwrap();
        let bundle = X509Bundle::from_der(domain, self.0.der()).unwrap();
        X509Context::new(vec![self.svid(id)], X509BundleSet::default().with(bundle)).unwrap()
    }
}

/// A workload with an SVID that the test rotates.
struct Workload {
    id: String,
    live: Arc<Live>,
    identity: Identity,
    log: Log,
}

impl Workload {
    fn new(issuer: &Issuer, id: String, callers: &str, called: &str, log: Log) -> Workload {
        let rules = |text: &str| match text {
            "none" => Authorizer::deny_all(),
            ids => ids.parse().unwrap(),
        };
        let settings = Settings {
            address: "unix:///no/agent/in/this/test".parse().unwrap(),
            callers: rules(callers),
            called: Some(rules(called)),
            versions: Versions::Both,
        };
        let live = Arc::new(Live::new(Some(issuer.context(&id))));
        let identity = Identity::of(live.clone(), settings, &log);
        Workload {
            id,
            live,
            identity,
            log,
        }
    }

    fn rotate(&self, issuer: &Issuer) {
        self.live.set(Some(issuer.context(&self.id)));
    }

    async fn door(&self, protocols: &[&[u8]]) -> (Door, SocketAddr) {
        let (listener, address) = port().await;
        let acceptor = Acceptor::with(self.identity.server(protocols).unwrap(), self.log.clone());
        let door = Door {
            tls: Some(Arc::new(acceptor)),
            ..Door::from(listener)
        };
        (door, address)
    }

    fn connector(&self) -> Connector {
        Connector::with(self.identity.client().unwrap().unwrap())
    }

    fn target(&self, address: SocketAddr) -> Target {
        Target::parse(&format!("https://{address}"), Some(self.connector())).unwrap()
    }

    fn database(&self, address: SocketAddr) -> Database {
        let url = format!("postgresql://{address}/shop?sslmode=verify-full");
        Database::new(&url, "payments", PASSWORD, Some(self.connector())).unwrap()
    }

    async fn post(&self, address: SocketAddr, path: &str) -> Result<Answer, ClientError> {
        let body = json!({"customer": "Ada Example", "card": CARD, "amount": 19.90});
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::try_from(format!("Bearer {TOKEN}")).unwrap();
        headers.insert(header::AUTHORIZATION, bearer);
        self.target(address)
            .post(path, headers, &body, Duration::from_secs(10))
            .await
    }
}

/// frontend → orders-api → payments-api → ledger, each letting in the one before it alone.
struct Shop {
    issuer: Issuer,
    lines: Lines,
    workloads: Vec<Workload>,
    orders: SocketAddr,
    payments: SocketAddr,
    ledger: SocketAddr,
    _running: DropGuard,
}

async fn shop() -> Shop {
    let issuer = Issuer::new(DOMAIN);
    let lines = Lines::default();
    let stop = CancellationToken::new();
    let workload = |name: &'static str, callers: &str, called: &str| {
        Workload::new(&issuer, id(name), callers, called, Log::to(name, lines.clone()))
    };
    let frontend = workload("frontend", "none", &id("orders-api"));
    let orders_api = workload("orders-api", &id("frontend"), &id("payments-api"));
    let payments_api = workload("payments-api", &id("orders-api"), &id("ledger"));
    let ledger = workload("ledger", &id("payments-api"), "none");

    let (door, ledger_address) = ledger.door(&[b"postgresql"]).await;
    start(ledger::serve(door, ledger_settings(), ledger.log.clone(), stop.clone()));
    let (door, payments) = payments_api.door(HTTP).await;
    let settings = payments_api::Settings {
        token: TOKEN.to_owned(),
        database: payments_api.database(ledger_address),
    };
    start(payments_api::serve(
        door,
        settings,
        payments_api.log.clone(),
        stop.clone(),
    ));
    let (door, orders) = orders_api.door(HTTP).await;
    let settings = orders_api::Settings {
        payments: orders_api.target(payments),
        token: TOKEN.to_owned(),
    };
    start(orders_api::serve(door, settings, orders_api.log.clone(), stop.clone()));
    Shop {
        issuer,
        lines,
        workloads: vec![frontend, orders_api, payments_api, ledger],
        orders,
        payments,
        ledger: ledger_address,
        _running: stop.drop_guard(),
    }
}

impl Shop {
    /// A workload that is none of the shop's four, with this id of this authority.
    fn other(&self, issuer: &Issuer, id: String) -> Workload {
        let everyone = format!("spiffe://{DOMAIN}/*");
        Workload::new(issuer, id, "none", &everyone, Log::to("other", self.lines.clone()))
    }

    async fn refusal(&self, service: &str, part: &str) {
        for _ in 0..1000 {
            let lines = self.lines.all();
            let told = lines.iter().any(|line| {
                let reason = line["reason"].as_str().unwrap_or_default();
                line["level"] == "refused" && line["service"] == service && reason.contains(part)
            });
            if told {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{service} did not refuse with {part:?}: {:?}", self.lines.all());
    }
}

#[tokio::test]
async fn an_order_is_paid_and_every_log_names_the_spiffe_id() {
    let shop = shop().await;
    let answer = shop.workloads[0].post(shop.orders, "/orders").await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    for (service, caller) in [
        ("orders-api", "frontend"),
        ("payments-api", "orders-api"),
        ("ledger", "payments-api"),
    ] {
        let proved = shop.lines.accesses(service)[0]["caller"].clone();
        let proved = proved.as_str().unwrap();
        assert!(proved.contains(&format!("(URI:{})", id(caller))), "{service}: {proved}");
    }
}

#[tokio::test]
async fn every_service_rotates_while_orders_are_paid() {
    let shop = shop().await;
    for round in 0..20 {
        for (at, workload) in shop.workloads.iter().enumerate() {
            if at % 2 == round % 2 {
                workload.rotate(&shop.issuer);
            }
        }
        let answer = shop.workloads[0].post(shop.orders, "/orders").await.unwrap();
        assert_eq!(answer.status, 201, "order {round}: {}", answer.body);
    }
    assert_eq!(shop.lines.accesses("payments-api").len(), 20);
    assert!(shop.lines.all().iter().all(|line| line["level"] != "refused"));
}

#[tokio::test]
async fn an_authenticated_workload_is_not_yet_authorised() {
    let shop = shop().await;
    for name in ["mallory", "orders-api-fake", "frontend"] {
        let mallory = shop.other(&shop.issuer, id(name));
        let error = mallory.post(shop.payments, "/charge").await.unwrap_err().to_string();
        assert!(error.contains("AccessDenied"), "{name}: {error}");
        shop.refusal("payments-api", &format!("{} is not authorised", id(name)))
            .await;
    }
    let payment = Payment {
        order: "o".to_owned(),
        customer: "c".to_owned(),
        card: CARD.to_owned(),
        amount_cents: 1,
    };
    let mallory = shop.other(&shop.issuer, id("mallory"));
    let Err(DatabaseError::Tls(reason)) = mallory.database(shop.ledger).insert(&payment, None).await else {
        panic!("let in");
    };
    assert!(reason.contains("AccessDenied"), "{reason}");
    shop.refusal("ledger", "mallory is not authorised").await;
    assert_eq!(shop.lines.accesses("payments-api").len(), 0);
}

#[tokio::test]
async fn another_trust_domain_is_refused_whoever_signed() {
    let shop = shop().await;
    let evil = "spiffe://evil.test/ns/shop/sa/orders-api".to_owned();
    // The shop's own authority signed it.
    let mallory = shop.other(&shop.issuer, evil);
    let error = mallory.post(shop.payments, "/charge").await.unwrap_err().to_string();
    assert!(error.contains("CertificateUnknown"), "{error}");
    shop.refusal("payments-api", "no bundle for the trust domain evil.test")
        .await;
    // Another authority signed for the right id; mallory has the shop's bundle, so that it is the shop that refuses.
    let mallory = shop.other(&shop.issuer, id("orders-api"));
    let forged = Issuer::new(DOMAIN).svid(&id("orders-api"));
    let bundles = shop.issuer.context(&id("any")).bundles().clone();
    mallory.live.set(Some(X509Context::new(vec![forged], bundles).unwrap()));
    let error = mallory.post(shop.payments, "/charge").await.unwrap_err().to_string();
    assert!(error.contains("UnknownCA"), "{error}");
    shop.refusal("payments-api", "is not signed by an authority of its trust domain")
        .await;
}

#[tokio::test]
async fn a_caller_refuses_a_service_of_another_id() {
    let shop = shop().await;
    // The frontend takes payments-api for orders-api: the DNS was wrong, or an attacker answered.
    let error = shop.workloads[0]
        .post(shop.payments, "/orders")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("TLS: invalid peer certificate"), "{error}");
    let told = shop.lines.all().iter().any(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["service"] == "frontend" && message.contains("payments-api is not authorised")
    });
    assert!(told, "{:?}", shop.lines.all());
}

#[tokio::test]
async fn an_identity_that_is_taken_away_ends_the_calls() {
    let shop = shop().await;
    assert_eq!(
        shop.workloads[0].post(shop.orders, "/orders").await.unwrap().status,
        201
    );
    shop.workloads[1].live.set(None);
    assert!(shop.workloads[0].post(shop.orders, "/orders").await.is_err());
    shop.workloads[1].rotate(&shop.issuer);
    assert_eq!(
        shop.workloads[0].post(shop.orders, "/orders").await.unwrap().status,
        201
    );
}
