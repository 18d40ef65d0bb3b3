//! The shop on loopback with mutual TLS, and those it must refuse.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    database::{Database, DatabaseError, Payment},
    ledger, orders_api, payments_api,
    tests::{CARD, Lines, PASSWORD, TOKEN, ledger_settings, port, start, tapped},
};
use crate::standins::{
    http::{
        client::{Answer, ClientError, Target},
        door::Door,
    },
    log::Log,
    tls::{ClientAuth, Connector, Pair, Versions, testing::Authority},
};

/// orders-api, payments-api and ledger, each with a certificate of `shop CA`, each asking callers for one.
struct Shop {
    authority: Authority,
    lines: Lines,
    log: Log,
    wire: Lines,
    orders: SocketAddr,
    payments: SocketAddr,
    health: SocketAddr,
    ledger: SocketAddr,
    _running: DropGuard,
}

async fn shop() -> Shop {
    let authority = Authority::new("shop CA");
    let (lines, wire) = (Lines::default(), Lines::default());
    let log = |service| Log::to(service, lines.clone());
    let stop = CancellationToken::new();

    let log_of_ledger = log("ledger");
    let (door, ledger, _) = door(&authority, "ledger", Some(ClientAuth::Require), &log_of_ledger).await;
    start(ledger::serve(door, ledger_settings(), log_of_ledger, stop.clone()));

    let log_of_payments = log("payments-api");
    let identity = authority.issue("payments-api");
    let settings = payments_api::Settings {
        token: TOKEN.to_owned(),
        database: database(
            tapped(ledger, &wire).await,
            authority.connector(Some(identity), Versions::Both, &log_of_payments),
        ),
    };
    let (door, payments, health) =
        self::door(&authority, "payments-api", Some(ClientAuth::Require), &log_of_payments).await;
    start(payments_api::serve(door, settings, log_of_payments, stop.clone()));

    let log_of_orders = log("orders-api");
    let identity = authority.issue("orders-api");
    let settings = orders_api::Settings {
        payments: target(
            tapped(payments, &wire).await,
            authority.connector(Some(identity), Versions::Both, &log_of_orders),
        ),
        token: TOKEN.to_owned(),
    };
    let (door, orders, _) = self::door(&authority, "orders-api", None, &log_of_orders).await;
    start(orders_api::serve(door, settings, log_of_orders, stop.clone()));
    Shop {
        authority,
        log: Log::to("test", lines.clone()),
        lines,
        wire,
        orders,
        payments,
        health,
        ledger,
        _running: stop.drop_guard(),
    }
}

async fn door(
    authority: &Authority,
    name: &str,
    auth: Option<ClientAuth>,
    log: &Log,
) -> (Door, SocketAddr, SocketAddr) {
    let (listener, address) = port().await;
    let (health, health_address) = port().await;
    let identity = authority.issue(&format!("server-{name}"));
    let door = Door {
        listener,
        tls: Some(Arc::new(authority.acceptor(identity, auth, log))),
        health: Some(health),
    };
    (door, address, health_address)
}

fn target(address: SocketAddr, tls: Connector) -> Target {
    Target::parse(&format!("https://{address}"), Some(tls)).unwrap()
}

fn database(address: SocketAddr, tls: Connector) -> Database {
    let url = format!("postgresql://{address}/shop?sslmode=verify-full");
    Database::new(&url, "payments", PASSWORD, Some(tls)).unwrap()
}

impl Shop {
    fn connector(&self, identity: Option<Pair>) -> Connector {
        self.authority.connector(identity, Versions::Both, &self.log)
    }

    async fn order(&self) -> Answer {
        let body = json!({"customer": "Ada Example", "card": CARD, "amount": 19.90});
        let target = target(self.orders, self.connector(None));
        target
            .post("/orders", HeaderMap::new(), &body, Duration::from_secs(10))
            .await
            .unwrap()
    }

    async fn charge(&self, tls: Connector) -> Result<Answer, ClientError> {
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::try_from(format!("Bearer {TOKEN}")).unwrap();
        headers.insert(header::AUTHORIZATION, bearer);
        let target = target(self.payments, tls);
        target
            .post("/charge", headers, &json!({"amount": 1}), Duration::from_secs(10))
            .await
    }

    /// The reasons for which `service` let callers not in, once there are `count`.
    async fn refusals(&self, service: &str, count: usize) -> Vec<String> {
        for _ in 0..1000 {
            let mut lines = self.lines.all();
            lines.retain(|line| line["level"] == "refused" && line["service"] == service);
            if lines.len() >= count {
                return lines
                    .iter()
                    .map(|line| {
                        assert_eq!(line["caller_ip"], "127.0.0.1");
                        line["reason"].as_str().unwrap().to_owned()
                    })
                    .collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{service} refused nobody: {:?}", self.lines.all());
    }
}

#[tokio::test]
async fn an_order_is_paid_and_every_log_names_the_certificate() {
    let shop = shop().await;
    let answer = shop.order().await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let caller = |service: &str, at: usize| shop.lines.accesses(service)[at]["caller"].clone();
    assert_eq!(caller("orders-api", 0), "none");
    assert_eq!(
        caller("payments-api", 0),
        "certificate of CN=orders-api (DNS:orders-api, IP:127.0.0.1) and bearer-token"
    );
    assert_eq!(
        caller("ledger", 0),
        "certificate of CN=payments-api (DNS:payments-api, IP:127.0.0.1) and password of payments"
    );
}

#[tokio::test]
async fn nothing_that_must_not_leak_crosses_the_wire() {
    let shop = shop().await;
    assert_eq!(shop.order().await.status, 201);
    let bytes = shop.wire.0.lock().unwrap().clone();
    assert!(bytes.len() > 1000, "the wire was tapped: {} bytes", bytes.len());
    let text = String::from_utf8_lossy(&bytes);
    for secret in ["charge", TOKEN, CARD, PASSWORD, "INSERT", "payments", "Ada", "HTTP/1.1"] {
        assert!(!text.contains(secret), "{secret} is on the wire");
    }
}

#[tokio::test]
async fn who_cannot_prove_to_be_of_the_shop_is_refused_by_the_reason_of_tls() {
    let shop = shop().await;
    let other = Authority::new("other CA");
    for (identity, client_sees, log_says) in [
        (None, "CertificateRequired", "peer sent no certificates"),
        (
            Some(other.issue("orders-api")),
            "UnknownCA",
            "invalid peer certificate: UnknownIssuer",
        ),
        (
            Some(other.self_made("orders-api")),
            "UnknownCA",
            "invalid peer certificate: UnknownIssuer",
        ),
        (
            Some(shop.authority.issue_until("late", 2021)),
            "CertificateExpired",
            "invalid peer certificate: certificate expired",
        ),
    ] {
        let before = shop
            .lines
            .all()
            .iter()
            .filter(|line| line["level"] == "refused")
            .count();
        let error = shop.charge(shop.connector(identity)).await.unwrap_err().to_string();
        assert!(error.contains("TLS: received fatal alert: "), "{error}");
        assert!(error.contains(client_sees), "{error}");
        let refusals = shop.refusals("payments-api", before + 1).await;
        assert!(refusals[before].starts_with(log_says), "{refusals:?}");
    }
    assert_eq!(shop.lines.accesses("payments-api").len(), 0);
    let answer = shop
        .charge(shop.connector(Some(shop.authority.issue("any"))))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_caller_refuses_a_server_that_it_cannot_verify() {
    let shop = shop().await;
    let other = Authority::new("other CA");
    let error = shop
        .charge(other.connector(None, Versions::Both, &shop.log))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("TLS: invalid peer certificate: UnknownIssuer"),
        "{error}"
    );
    let refusals = shop.refusals("payments-api", 1).await;
    assert!(refusals[0].contains("received fatal alert: UnknownCA"), "{refusals:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_half_of_one_is_not() {
    let shop = shop().await;
    let name = "server-payments-api";
    let mine = shop.authority.issue("orders-api");
    let charge = async || {
        let answer = shop.charge(shop.connector(Some(mine.clone()))).await;
        answer
            .map(|answer| answer.status.as_u16())
            .map_err(|error| error.to_string())
    };
    assert_eq!(charge().await, Ok(200));
    // The key of before stays for a moment: the change is not usable, and what was is used on.
    let key = fs::read(shop.authority.dir().join(format!("{name}.key"))).unwrap();
    let pair = shop.authority.issue_until(name, 2021);
    let new_key = fs::read(&pair.key).unwrap();
    fs::write(&pair.key, key).unwrap();
    assert_eq!(charge().await, Ok(200));
    let warned = shop.lines.all().iter().any(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["service"] == "payments-api" && message.contains("is not the key of the certificate")
    });
    assert!(warned, "{:?}", shop.lines.all());
    fs::write(&pair.key, new_key).unwrap();
    let error = charge().await.unwrap_err();
    assert!(error.contains("certificate expired"), "{error}");
    shop.authority.issue(name);
    assert_eq!(charge().await, Ok(200));
}

#[tokio::test]
async fn an_optional_certificate_is_verified_all_the_same() {
    let authority = Authority::new("shop CA");
    let lines = Lines::default();
    let log = Log::to("orders-api", lines.clone());
    let (listener, address) = port().await;
    let tls = authority.acceptor(authority.issue("server"), Some(ClientAuth::Optional), &log);
    let door = Door {
        tls: Some(Arc::new(tls)),
        ..Door::from(listener)
    };
    let settings = orders_api::Settings {
        payments: Target::parse("http://127.0.0.1:1", None).unwrap(),
        token: TOKEN.to_owned(),
    };
    let stop = CancellationToken::new();
    start(orders_api::serve(door, settings, log.clone(), stop.clone()));
    let _running = stop.drop_guard();
    let ask = async |identity: Option<Pair>| {
        let tls = authority.connector(identity, Versions::Both, &log);
        let target = target(address, tls);
        target
            .post("/nowhere", HeaderMap::new(), &json!({}), Duration::from_secs(10))
            .await
    };
    assert_eq!(ask(None).await.unwrap().status, 404);
    assert_eq!(ask(Some(authority.issue("me"))).await.unwrap().status, 404);
    assert!(ask(Some(Authority::new("other CA").issue("me"))).await.is_err());
    let callers: Vec<Value> = lines
        .accesses("orders-api")
        .iter()
        .map(|line| line["caller"].clone())
        .collect();
    assert_eq!(callers, ["none", "certificate of CN=me (DNS:me, IP:127.0.0.1)"]);
}

#[tokio::test]
async fn the_health_port_speaks_in_clear_and_the_other_does_not() {
    let shop = shop().await;
    let ask = async |address: SocketAddr, path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(ask(shop.health, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(ask(shop.health, "/payments").await.starts_with("HTTP/1.1 404"));
    let answer = ask(shop.payments, "/healthz").await;
    assert!(!answer.starts_with("HTTP"), "{answer}");
}

#[tokio::test]
async fn the_ledger_lets_nobody_in_without_a_certificate_or_in_clear() {
    let shop = shop().await;
    let payment = Payment {
        order: "o".to_owned(),
        customer: "c".to_owned(),
        card: CARD.to_owned(),
        amount_cents: 1,
    };
    let none = database(shop.ledger, shop.connector(None));
    let Err(DatabaseError::Tls(reason)) = none.insert(&payment, None).await else {
        panic!("let in without a certificate");
    };
    assert!(reason.contains("CertificateRequired"), "{reason}");
    assert_eq!(shop.refusals("ledger", 1).await, ["peer sent no certificates"]);
    let clear = Database::new(
        &format!("postgresql://{}/shop", shop.ledger),
        "payments",
        PASSWORD,
        None,
    )
    .unwrap();
    let Err(DatabaseError::Refused(reason)) = clear.insert(&payment, None).await else {
        panic!("let in without TLS");
    };
    assert!(reason.contains("no encryption"), "{reason}");
    let good = database(shop.ledger, shop.connector(Some(shop.authority.issue("payments-api"))));
    assert_eq!(good.insert(&payment, None).await.unwrap(), 1);
}

#[tokio::test]
async fn a_pinned_version_is_the_one_that_is_spoken() {
    let shop = shop().await;
    let mine = shop.authority.issue("orders-api");
    for versions in [Versions::Only12, Versions::Only13] {
        let tls = shop.authority.connector(Some(mine.clone()), versions, &shop.log);
        assert_eq!(shop.charge(tls).await.unwrap().status, 200, "{versions:?}");
    }
    let stream = TcpStream::connect(shop.payments).await.unwrap();
    let tls = shop.authority.connector(Some(mine), Versions::Only12, &shop.log);
    let stream = tls.connect("127.0.0.1", stream).await.unwrap();
    let version = stream.get_ref().1.protocol_version();
    assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_2));
}

/// Runs the real psql, or `None` where the machine has none and may lack it.
async fn psql(shop: &Shop, options: &str) -> Option<(bool, String)> {
    if !Path::new("/usr/bin/psql").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must have psql");
        eprintln!("SKIPPED: no /usr/bin/psql on this machine");
        return None;
    }
    let target = format!(
        "host=127.0.0.1 port={} user=payments dbname=shop {options}",
        shop.ledger.port()
    );
    let output = Command::new("/usr/bin/psql")
        .args(["-X", "-w", "-c", "select count(*) from payments", &target])
        .env_clear()
        .env("PGPASSWORD", PASSWORD)
        .env("HOME", shop.authority.dir())
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test]
async fn the_real_psql_logs_in_with_a_certificate_only() {
    use std::os::unix::fs::PermissionsExt;
    let shop = shop().await;
    let file = |pair: &Pair| {
        // libpq takes no key that others may read.
        fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600)).unwrap();
        format!("sslcert={} sslkey={}", pair.certificate.display(), pair.key.display())
    };
    let root = format!("sslmode=verify-full sslrootcert={}", shop.authority.bundle().display());
    let good = file(&shop.authority.issue("payments-api"));
    let late = file(&shop.authority.issue_until("late", 2021));
    let other_authority = Authority::new("other CA");
    let other = file(&other_authority.issue("payments-api"));
    for (options, succeeds, says) in [
        (format!("{root} {good}"), true, "(1 row)"),
        (root.clone(), false, "certificate required"),
        (format!("{root} {late}"), false, "certificate expired"),
        (format!("{root} {other}"), false, "unknown ca"),
        ("sslmode=disable".to_owned(), false, "no encryption"),
    ] {
        let Some((success, text)) = psql(&shop, &options).await else {
            return;
        };
        assert_eq!(success, succeeds, "{options}: {text}");
        assert!(text.contains(says), "{options}: {text}");
    }
}
