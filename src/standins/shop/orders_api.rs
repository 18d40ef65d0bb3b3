//! `orders-api`: takes orders and has them paid. It shows payments-api a bearer token that every caller shares.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{HTTP, MADE_UP, PORT, UPSTREAM_TIMEOUT};
use crate::standins::{
    PROBE_HEADER,
    http::{client::Target, door::Door, server},
    log::{Log, bounded},
    process, settings,
    tls::environment::Environment,
};

/// How many orders `GET /orders` remembers.
const REMEMBERED: usize = 20;

/// How `orders-api` is configured.
pub struct Settings {
    /// Base URL of `payments-api`.
    pub payments: Target,
    /// The bearer token that `payments-api` asks for.
    pub token: String,
}

impl Settings {
    fn from_env(tls: &Environment) -> io::Result<Settings> {
        Ok(Settings {
            payments: Target::parse(&settings::required("PAYMENTS_URL")?, tls.connector()?)
                .map_err(io::Error::other)?,
            token: settings::required("PAYMENTS_TOKEN")?,
        })
    }
}

#[derive(Deserialize)]
struct Order {
    customer: String,
    card: String,
    amount: f64,
}

#[derive(Clone, Serialize)]
struct Placed {
    order: String,
    customer: String,
    amount: f64,
    payment: Value,
}

struct Orders {
    settings: Settings,
    authorization: HeaderValue,
    log: Log,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    last_number: u64,
    placed: VecDeque<Placed>,
}

/// Runs `orders-api` with the settings of the environment.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::serve("orders-api", async |shutdown| {
        let log = Log::stdout("orders-api");
        let tls = Environment::read(&log).await?;
        let settings = Settings::from_env(&tls)?;
        serve(settings::door(PORT, &tls, HTTP).await?, settings, log, shutdown).await
    })
}

/// Serves at `door` until `shutdown`.
///
/// # Errors
/// When the token cannot be a header's value, or the listener fails.
pub async fn serve(door: impl Into<Door>, settings: Settings, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    let authorization = HeaderValue::try_from(format!("Bearer {}", settings.token))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "PAYMENTS_TOKEN cannot stand in a header"))?;
    let orders = Arc::new(Orders {
        settings,
        authorization,
        log: log.clone(),
        book: Mutex::default(),
    });
    let routes = Router::new().route("/orders", post(place).get(list)).with_state(orders);
    server::serve(door, routes, log, shutdown).await
}

async fn list(State(orders): State<Arc<Orders>>) -> Json<Value> {
    let book = orders.book.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!({"orders": book.placed, "note": MADE_UP}))
}

async fn place(State(orders): State<Arc<Orders>>, headers: HeaderMap, body: Bytes) -> Response {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return server::fail(StatusCode::BAD_REQUEST, &format!("not an order: {error}")),
    };
    let number = {
        let mut book = orders.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.last_number += 1;
        format!("order-{:06}", book.last_number)
    };
    match orders.pay(&number, &order, &headers).await {
        Ok(payment) => {
            let placed = Placed {
                order: number,
                customer: bounded(&order.customer),
                amount: order.amount,
                payment,
            };
            orders.remember(placed.clone());
            (StatusCode::CREATED, Json(placed)).into_response()
        }
        Err(reason) => {
            orders.log.warn(&format!("{number} not paid: {reason}"));
            server::fail(StatusCode::BAD_GATEWAY, &reason)
        }
    }
}

impl Orders {
    /// Has `order` paid. A probe's id goes along, so that its payment is not taken for a customer's.
    async fn pay(&self, number: &str, order: &Order, caller: &HeaderMap) -> Result<Value, String> {
        let body = json!({
            "order": number,
            "customer": order.customer,
            "card": order.card,
            "amount": order.amount,
            "note": MADE_UP,
        });
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static("orders-api/1"));
        if let Some(probe) = caller.get(PROBE_HEADER) {
            headers.insert(PROBE_HEADER, probe.clone());
        }
        let answer = self
            .settings
            .payments
            .post("/charge", headers, &body, UPSTREAM_TIMEOUT)
            .await
            .map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            Ok(answer.body["payment"].clone())
        } else {
            Err(super::refusal("payments-api", &answer))
        }
    }

    fn remember(&self, placed: Placed) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if book.placed.len() == REMEMBERED {
            book.placed.pop_front();
        }
        book.placed.push_back(placed);
    }
}
