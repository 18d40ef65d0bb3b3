//! `payments-api`: charges cards for whoever holds the token, and writes every payment to the ledger.

use std::{ffi::OsString, io, process::ExitCode, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    HTTP, MADE_UP, PORT,
    database::{Database, DatabaseError, Payment},
};
use crate::standins::{
    http::{
        door::Door,
        server::{self, Caller},
    },
    log::{Log, bounded},
    process, settings,
    tls::environment::Environment,
};

/// How many payments `GET /payments` answers.
const LISTED: u32 = 20;

/// The card that is charged where a charge names none.
const CARD_ON_FILE: &str = "4111111111111111";

/// The largest amount of a charge.
const LARGEST_AMOUNT: f64 = 10_000.0;

/// How `payments-api` is configured.
pub struct Settings {
    /// The bearer token it asks for.
    pub token: String,
    /// Where it writes.
    pub database: Database,
}

impl Settings {
    fn from_env(tls: &Environment) -> io::Result<Settings> {
        Ok(Settings {
            token: settings::required("PAYMENTS_TOKEN")?,
            database: Database::new(
                &settings::required("LEDGER_URL")?,
                &settings::required("LEDGER_USER")?,
                &settings::required("LEDGER_PASSWORD")?,
                tls.connector()?,
            )?,
        })
    }
}

#[derive(Deserialize)]
struct Charge {
    amount: f64,
    card: Option<String>,
    customer: Option<String>,
    order: Option<String>,
}

struct Payments {
    settings: Settings,
    log: Log,
}

/// Runs `payments-api` with the settings of the environment.
pub fn main(_args: Vec<OsString>) -> ExitCode {
    process::serve("payments-api", async |shutdown| {
        let log = Log::stdout("payments-api");
        let tls = Environment::read(&log).await?;
        let settings = Settings::from_env(&tls)?;
        serve(settings::door(PORT, &tls, HTTP).await?, settings, log, shutdown).await
    })
}

/// Serves at `door` until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(door: impl Into<Door>, settings: Settings, log: Log, shutdown: CancellationToken) -> io::Result<()> {
    let payments = Arc::new(Payments {
        settings,
        log: log.clone(),
    });
    let routes = Router::new()
        .route("/charge", post(charge))
        .route("/payments", get(list))
        .with_state(payments);
    server::serve(door, routes, log, shutdown).await
}

async fn charge(State(payments): State<Arc<Payments>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = payments.authenticate(&headers) {
        return refused;
    }
    let response = match read(&body) {
        Ok(payment) => payments.charge(&payment, &headers).await,
        Err(reason) => server::fail(StatusCode::BAD_REQUEST, &reason),
    };
    by_bearer(response)
}

async fn list(State(payments): State<Arc<Payments>>, headers: HeaderMap) -> Response {
    if let Err(refused) = payments.authenticate(&headers) {
        return refused;
    }
    let probe = server::probe(&headers);
    let response = match payments.settings.database.newest(LISTED, probe.as_deref()).await {
        Ok(newest) => {
            let newest: Vec<_> = newest
                .iter()
                .map(|payment| {
                    json!({
                        "order": payment.order,
                        "customer": payment.customer,
                        "card": payment.card,
                        "amount": amount(payment.amount_cents),
                    })
                })
                .collect();
            Json(json!({"payments": newest, "note": MADE_UP})).into_response()
        }
        Err(error) => payments.no_ledger(&error),
    };
    by_bearer(response)
}

/// The token names nobody: the log can only say that the caller holds it.
fn by_bearer(mut response: Response) -> Response {
    response.extensions_mut().insert(Caller("bearer-token"));
    response
}

impl Payments {
    /// Lets everybody through who shows the token (RFC 6750 §2.1), whoever that is.
    #[allow(
        clippy::result_large_err,
        reason = "the error is the answer, made once per refused request"
    )]
    fn authenticate(&self, headers: &HeaderMap) -> Result<(), Response> {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
            .map(|(_, token)| token.trim());
        let (error, challenge) = match shown {
            Some(token) if token == self.settings.token => return Ok(()),
            Some(_) => (
                "this bearer token is not the one that payments-api knows",
                r#"Bearer realm="payments-api", error="invalid_token""#,
            ),
            None => (
                "no bearer token: send `Authorization: Bearer <token>`",
                r#"Bearer realm="payments-api""#,
            ),
        };
        let mut refused = server::fail(StatusCode::UNAUTHORIZED, error);
        refused
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Err(refused)
    }

    async fn charge(&self, payment: &Payment, headers: &HeaderMap) -> Response {
        let probe = server::probe(headers);
        match self.settings.database.insert(payment, probe.as_deref()).await {
            Ok(id) => Json(json!({
                "payment": id,
                "status": "charged",
                "order": payment.order,
                "amount": amount(payment.amount_cents),
                "note": MADE_UP,
            }))
            .into_response(),
            Err(error) => self.no_ledger(&error),
        }
    }

    fn no_ledger(&self, error: &DatabaseError) -> Response {
        self.log.warn(&error.to_string());
        server::fail(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
    }
}

/// Reads a charge, whatever content type it came with.
fn read(body: &[u8]) -> Result<Payment, String> {
    let charge: Charge = serde_json::from_slice(body).map_err(|error| {
        format!(r#"not a charge: {error}; expected {{"amount": 19.90, "card": "4111111111111111", "customer": "…"}}"#)
    })?;
    if !(charge.amount > 0.0 && charge.amount <= LARGEST_AMOUNT) {
        return Err(format!(
            "amount {} is not between 0.01 and {LARGEST_AMOUNT}",
            charge.amount
        ));
    }
    // In range as just checked, so nothing is cut off.
    let amount_cents = (charge.amount * 100.0).round() as i64;
    if amount_cents == 0 {
        return Err(format!("amount {} is less than a cent", charge.amount));
    }
    let card: String = match &charge.card {
        Some(card) => card.chars().filter(|c| !matches!(c, ' ' | '-')).collect(),
        None => CARD_ON_FILE.to_owned(),
    };
    if !is_card_number(&card) {
        return Err(format!("{} is not a card number", bounded(&card)));
    }
    Ok(Payment {
        order: bounded(charge.order.as_deref().unwrap_or("none")),
        customer: bounded(charge.customer.as_deref().unwrap_or("unknown")),
        card,
        amount_cents,
    })
}

fn amount(cents: i64) -> f64 {
    cents as f64 / 100.0
}

/// Whether `text` is a card number: 12 to 19 digits, the last one the check digit.
///
/// Source: ISO/IEC 7812-1, Annex B (the Luhn formula).
fn is_card_number(text: &str) -> bool {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(10)).collect();
    let Some(digits) = digits.filter(|digits| (12..=19).contains(&digits.len())) else {
        return false;
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_have_a_check_digit() {
        for (text, expected) in [
            ("4111111111111111", true),
            ("5555555555554444", true),
            ("378282246310005", true),
            ("4111111111111112", false),
            ("0", false),
            ("411111111111111a", false),
            ("", false),
        ] {
            assert_eq!(is_card_number(text), expected, "{text}");
        }
    }

    #[test]
    fn charges_are_read_and_bad_ones_say_why() {
        let payment = read(br#"{"amount": 1}"#).unwrap();
        assert_eq!((payment.amount_cents, payment.card.as_str()), (100, CARD_ON_FILE));
        let payment = read(br#"{"amount": 19.90, "card": "4111 1111 1111 1111"}"#).unwrap();
        assert_eq!(
            (payment.amount_cents, payment.card.as_str()),
            (1990, "4111111111111111")
        );
        for (body, reason) in [
            ("", "not a charge"),
            ("amount=1", "not a charge"),
            (r#"{"amount": 0}"#, "not between"),
            (r#"{"amount": -1}"#, "not between"),
            (r#"{"amount": 1e300}"#, "not between"),
            (r#"{"amount": 0.001}"#, "less than a cent"),
            (r#"{"amount": 1, "card": "4111111111111112"}"#, "not a card number"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let _ = read(&body);
        }
    }
}
