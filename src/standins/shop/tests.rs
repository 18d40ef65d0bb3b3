//! The shop on loopback: every service in this process, each on a port of its own.

use std::{
    future::Future,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{database::Database, frontend, ledger, orders_api, payments_api};
use crate::standins::{
    PROBE_HEADER,
    http::client::{Answer, Target},
    log::Log,
};

pub(super) const TOKEN: &str = "tok_test_not-a-real-secret";
pub(super) const PASSWORD: &str = "ledger-test-password";
pub(super) const CARD: &str = "4111111111111111";

/// The lines of every service's log.
#[derive(Clone, Default)]
pub(super) struct Lines(pub(super) Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(super) fn all(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    pub(super) fn accesses(&self, service: &str) -> Vec<Value> {
        let mut lines = self.all();
        lines.retain(|line| line["level"] == "access" && line["service"] == service);
        lines
    }
}

struct Shop {
    lines: Lines,
    ledger: SocketAddr,
    payments: SocketAddr,
    orders: SocketAddr,
    _running: DropGuard,
}

pub(super) async fn port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn target(address: SocketAddr) -> Target {
    Target::parse(&format!("http://{address}"), None).unwrap()
}

pub(super) fn start(service: impl Future<Output = io::Result<()>> + Send + 'static) {
    tokio::spawn(async { service.await.unwrap() });
}

pub(super) fn ledger_settings() -> ledger::Settings {
    ledger::Settings {
        user: "payments".to_owned(),
        password: PASSWORD.to_owned(),
        rows: 100,
    }
}

fn database(address: SocketAddr) -> Database {
    Database::new(&format!("postgresql://{address}/shop"), "payments", PASSWORD, None).unwrap()
}

/// Ledger, payments-api and orders-api; the way to the ledger leads over `via` if given.
async fn shop_via(relay: bool) -> (Shop, Lines) {
    let lines = Lines::default();
    let stop = CancellationToken::new();
    let log = |service| Log::to(service, lines.clone());
    let wire = Lines::default();
    let (listener, ledger) = port().await;
    start(ledger::serve(listener, ledger_settings(), log("ledger"), stop.clone()));
    let to_ledger = if relay { tapped(ledger, &wire).await } else { ledger };
    let (listener, payments) = port().await;
    let settings = payments_api::Settings {
        token: TOKEN.to_owned(),
        database: database(to_ledger),
    };
    start(payments_api::serve(
        listener,
        settings,
        log("payments-api"),
        stop.clone(),
    ));
    let to_payments = if relay { tapped(payments, &wire).await } else { payments };
    let (listener, orders) = port().await;
    let settings = orders_api::Settings {
        payments: target(to_payments),
        token: TOKEN.to_owned(),
    };
    start(orders_api::serve(listener, settings, log("orders-api"), stop.clone()));
    let shop = Shop {
        lines,
        ledger,
        payments,
        orders,
        _running: stop.drop_guard(),
    };
    (shop, wire)
}

async fn shop() -> Shop {
    shop_via(false).await.0
}

/// A listener that passes everything on to `to`, both ways, and writes down what passes from client to server.
pub(super) async fn tapped(to: SocketAddr, wire: &Lines) -> SocketAddr {
    let (listener, address) = port().await;
    let wire = wire.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let wire = wire.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    wire.0.lock().unwrap().extend_from_slice(&buffer[..length]);
                    if to_server.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

async fn post(address: SocketAddr, path: &str, headers: &[(&'static str, &str)], body: &Value) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    target(address)
        .post(path, map, body, Duration::from_secs(10))
        .await
        .unwrap()
}

async fn charge(shop: &Shop, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    post(
        shop.payments,
        "/charge",
        &[(header::AUTHORIZATION.as_str(), &bearer)],
        &json!({"amount": 1}),
    )
    .await
}

async fn payments(shop: &Shop) -> Vec<String> {
    let newest = database(shop.ledger).newest(100, None).await.unwrap();
    newest.into_iter().map(|payment| payment.card).collect()
}

#[tokio::test]
async fn an_order_becomes_a_payment_in_the_ledger() {
    let shop = shop().await;
    let order = json!({"customer": "Ada Example", "card": CARD, "amount": 19.90});
    let answer = post(shop.orders, "/orders", &[], &order).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.body["payment"], 1);
    assert_eq!(payments(&shop).await, [CARD]);
    let charges = shop.lines.accesses("payments-api");
    assert_eq!(charges.len(), 1);
    let charge = &charges[0];
    assert_eq!(charge["method"], "POST");
    assert_eq!(charge["path"], "/charge");
    assert_eq!(charge["status"], 200);
    assert_eq!(charge["caller"], "bearer-token");
    assert_eq!(charge["caller_ip"], "127.0.0.1");
    assert_eq!(charge["probe"], Value::Null);
    assert_eq!(charge["user_agent"], "orders-api/1");
    let logins = shop.lines.accesses("ledger");
    assert_eq!(logins[0]["method"], "login");
    assert_eq!(logins[0]["status"], 200);
    assert_eq!(logins[1]["method"], "query");
}

#[tokio::test]
async fn the_frontend_orders_again_and_again() {
    let shop = shop().await;
    let (listener, address) = port().await;
    let stop = CancellationToken::new();
    let settings = frontend::Settings {
        orders: target(shop.orders),
        interval: Duration::from_millis(5),
        customer: "Ada Example".to_owned(),
        card: CARD.to_owned(),
        amount: 19.90,
    };
    let log = Log::to("frontend", shop.lines.clone());
    let frontend = tokio::spawn(frontend::serve(listener, settings, log, stop.clone()));
    let paid = async {
        while payments(&shop).await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Only so that a shop that does not trade fails instead of hanging.
    if tokio::time::timeout(Duration::from_secs(30), paid).await.is_err() {
        panic!("no payments: {:?}", shop.lines.all());
    }
    let mut page = TcpStream::connect(address).await.unwrap();
    page.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains(r#""failed":0"#), "{text}");
    // SIGTERM's way: it ends when told to.
    stop.cancel();
    frontend.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_must_never_leak_crosses_the_wire_in_clear() {
    let (shop, wire) = shop_via(true).await;
    let order = json!({"customer": "Ada Example", "card": CARD, "amount": 19.90});
    assert_eq!(post(shop.orders, "/orders", &[], &order).await.status, 201);
    let bytes = wire.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for secret in [
        "POST /charge HTTP/1.1\r\n",
        &format!("authorization: Bearer {TOKEN}\r\n"),
        &format!(r#""card":"{CARD}""#),
        PASSWORD,
        "INSERT INTO payments",
    ] {
        assert!(text.contains(secret), "{secret} is not in {text}");
    }
}

#[tokio::test]
async fn the_token_opens_and_nothing_else_does() {
    let shop = shop().await;
    let none = post(shop.payments, "/charge", &[], &json!({"amount": 1})).await;
    assert_eq!(none.status, 401);
    assert_eq!(charge(&shop, "tok_wrong").await.status, 401);
    assert_eq!(charge(&shop, "").await.status, 401);
    assert_eq!(payments(&shop).await.len(), 0);
    // Whoever sniffed the token is in: that is the lab.
    let replayed = charge(&shop, TOKEN).await;
    assert_eq!(replayed.status, 200, "{}", replayed.body);
    assert_eq!(payments(&shop).await.len(), 1);
    let callers: Vec<_> = shop
        .lines
        .accesses("payments-api")
        .iter()
        .map(|line| line["caller"].clone())
        .collect();
    assert_eq!(callers, ["none", "none", "none", "bearer-token"]);
}

#[tokio::test]
async fn a_probe_is_marked_in_every_log_on_its_way() {
    let shop = shop().await;
    let order = json!({"customer": "Ada Example", "card": CARD, "amount": 1});
    let answer = post(shop.orders, "/orders", &[(PROBE_HEADER, "probe-42")], &order).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    for service in ["orders-api", "payments-api", "ledger"] {
        let lines = shop.lines.accesses(service);
        assert!(!lines.is_empty(), "{service}");
        assert!(lines.iter().all(|line| line["probe"] == "probe-42"), "{lines:?}");
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_says_why() {
    let shop = shop().await;
    let answer = post(shop.orders, "/orders", &[], &json!({"amount": "much"})).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.body["error"].as_str().unwrap().starts_with("not an order"),
        "{}",
        answer.body
    );
    let answer = post(shop.orders, "/nowhere", &[], &json!({})).await;
    assert_eq!(answer.status, 404);
    let order = json!({"customer": "Ada", "card": "4111111111111112", "amount": 1});
    let answer = post(shop.orders, "/orders", &[], &order).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.body["error"].as_str().unwrap().contains("not a card number"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_ledger_that_went_away_is_missed_and_found_again() {
    let lines = Lines::default();
    let stop = CancellationToken::new();
    let (listener, ledger) = port().await;
    drop(listener);
    let (listener, payments) = port().await;
    let settings = payments_api::Settings {
        token: TOKEN.to_owned(),
        database: database(ledger),
    };
    let log = Log::to("payments-api", lines.clone());
    start(payments_api::serve(listener, settings, log, stop.clone()));
    let shop = Shop {
        lines,
        ledger,
        payments,
        orders: payments,
        _running: stop.clone().drop_guard(),
    };
    let answer = charge(&shop, TOKEN).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body["error"]
            .as_str()
            .unwrap()
            .starts_with("ledger not reachable"),
        "{}",
        answer.body
    );
    let warned = shop.lines.all().iter().any(|line| line["level"] == "warn");
    assert!(warned);
    let listener = TcpListener::bind(ledger).await.unwrap();
    start(ledger::serve(
        listener,
        ledger_settings(),
        Log::to("ledger", shop.lines.clone()),
        stop,
    ));
    assert_eq!(charge(&shop, TOKEN).await.status, 200);
}

/// Runs the real psql, or `None` where the machine has none and may lack it.
async fn psql(shop: &Shop, password: &str, command: &str) -> Option<(bool, String)> {
    if !std::path::Path::new("/usr/bin/psql").exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must have psql");
        eprintln!("SKIPPED: no /usr/bin/psql on this machine");
        return None;
    }
    let output = Command::new("/usr/bin/psql")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &shop.ledger.port().to_string(),
            "-U",
            "payments",
        ])
        .args(["-d", "shop", "-X", "-w", "-c", command])
        .env_clear()
        .env("PGPASSWORD", password)
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test]
async fn the_real_psql_logs_in_and_asks() {
    let shop = shop().await;
    assert_eq!(charge(&shop, TOKEN).await.status, 200);
    for (password, command, succeeds, says) in [
        (PASSWORD, "select * from payments;", true, CARD),
        (PASSWORD, "select * from payments;", true, "(1 row)"),
        (PASSWORD, "select version()", true, "not PostgreSQL"),
        (PASSWORD, "select current_user, 1 as one", true, "payments"),
        (PASSWORD, "\\dt", true, "public | payments | table | payments"),
        (PASSWORD, "\\d", true, "payments"),
        (PASSWORD, "\\di", true, "Did not find any relations"),
        (PASSWORD, "\\dt pay*", true, "payments"),
        (PASSWORD, "\\dt other", true, "Did not find any relation"),
        (PASSWORD, "\\d payments", false, "stand-in"),
        (
            PASSWORD,
            "insert into payments (card) values ('x') returning id",
            true,
            "INSERT 0 1",
        ),
        (PASSWORD, "select count(*) from payments where card = 'x'", true, "1"),
        (PASSWORD, "drop table payments", false, "does not do DROP"),
        (PASSWORD, "selec", false, "syntax error"),
        (
            PASSWORD,
            "select * from cards",
            false,
            "relation \"cards\" does not exist",
        ),
        (
            "wrong",
            "select 1",
            false,
            "password authentication failed for user \"payments\"",
        ),
    ] {
        let Some((success, text)) = psql(&shop, password, command).await else {
            return;
        };
        assert_eq!(success, succeeds, "{command}: {text}");
        assert!(text.contains(says), "{command}: {text}");
    }
    let refused = shop.lines.accesses("ledger").iter().any(|line| line["status"] == 401);
    assert!(refused);
}
