//! `frontend`: the shop's front door. A customer orders the same thing every second, so that there is always traffic.

use std::{
    ffi::OsString,
    io,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::get};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{HTTP, MADE_UP, PORT, UPSTREAM_TIMEOUT};
use crate::standins::{
    http::{client::Target, door::Door, server},
    log::{Log, now},
    process, settings,
    tls::environment::Environment,
};

/// How `frontend` is configured.
pub struct Settings {
    /// Base URL of `orders-api`.
    pub orders: Target,
    /// The time between two orders.
    pub interval: Duration,
    /// Who orders.
    pub customer: String,
    /// The card it is paid with.
    pub card: String,
    /// What it costs.
    pub amount: f64,
}

impl Settings {
    fn from_env(tls: &Environment) -> io::Result<Settings> {
        Ok(Settings {
            orders: Target::parse(&settings::required("ORDERS_URL")?, tls.connector()?).map_err(io::Error::other)?,
            interval: Duration::from_millis(settings::parsed("INTERVAL_MS", 1000u64)?.max(1)),
            customer: settings::optional("CUSTOMER").unwrap_or_else(|| "Ada Example".to_owned()),
            card: settings::optional("CARD_NUMBER").unwrap_or_else(|| "4111111111111111".to_owned()),
            amount: settings::parsed("AMOUNT", 19.90)?,
        })
    }
}

/// What `GET /` answers.
#[derive(Debug, Clone, Default, Serialize)]
struct Status {
    placed: u64,
    failed: u64,
    last: Option<String>,
}

type Shared = Arc<Mutex<Status>>;

/// Runs `frontend` with the settings of the environment.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::serve("frontend", async |shutdown| {
        let log = Log::stdout("frontend");
        let tls = Environment::read(&log).await?;
        let settings = Settings::from_env(&tls)?;
        serve(settings::door(PORT, &tls, HTTP).await?, settings, log, shutdown).await
    })
}

/// Serves at `door` and orders, until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(door: impl Into<Door>, settings: Settings, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    let status = Shared::default();
    let routes = Router::new().route("/", get(page)).with_state(status.clone());
    let orders = shutdown
        .clone()
        .run_until_cancelled_owned(keep_ordering(settings, status, log.clone()));
    let (served, _) = tokio::join!(server::serve(door, routes, log, shutdown), orders);
    served
}

async fn page(State(status): State<Shared>) -> Json<Value> {
    let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Json(json!({"service": "frontend", "orders": status, "note": MADE_UP}))
}

async fn keep_ordering(settings: Settings, status: Shared, log: Log) {
    let mut ticks = tokio::time::interval(settings.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = order(&settings).await;
        let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(order) => {
                status.placed += 1;
                log.info(&format!("{order} placed and paid"));
                status.last = Some(format!("{} {order} placed and paid", now()));
            }
            Err(reason) => {
                status.failed += 1;
                log.warn(&format!("order not placed: {reason}; the next one follows"));
                status.last = Some(format!("{} order not placed: {reason}", now()));
            }
        }
    }
}

async fn order(settings: &Settings) -> Result<String, String> {
    let body = json!({
        "customer": settings.customer,
        "card": settings.card,
        "amount": settings.amount,
        "note": MADE_UP,
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("frontend/1"));
    let answer = settings
        .orders
        .post("/orders", headers, &body, UPSTREAM_TIMEOUT)
        .await
        .map_err(|error| error.to_string())?;
    match answer.body["order"].as_str() {
        Some(order) if answer.status.is_success() => Ok(order.to_owned()),
        _ => Err(super::refusal("orders-api", &answer)),
    }
}
