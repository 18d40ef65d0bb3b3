//! The client side of the ledger: a new connection, login and all, for every payment, as services without a
//! connection pool do.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use pgwire::{
    api::client::{
        Config,
        auth::DefaultStartupHandler,
        query::{DefaultExtendedQueryHandler, DefaultSimpleQueryHandler, Response},
    },
    error::PgWireClientError,
    messages::{ProtocolVersion, data::DataRow},
    tokio::client::PgWireClient,
};
use thiserror::Error;

use crate::standins::tls::{Connector, ssl};

/// How long a question may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The waits between attempts to connect.
const RETRIES: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(400),
];

/// What an `application_name` begins with when a measurement of ztlab connects; its id follows.
pub const PROBE_PREFIX: &str = "ztlab-probe/";

/// Why the ledger did not do what it was asked.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// No connection.
    #[error("ledger not reachable: {0}")]
    Unreachable(io::Error),
    /// There was no agreement on TLS: what one side says of the other.
    #[error("ledger: TLS: {0}")]
    Tls(String),
    /// It refused the login or the statement.
    #[error("ledger refused: {0}")]
    Refused(String),
    /// Nothing within the time.
    #[error("ledger gave no answer within {} ms", TIMEOUT.as_millis())]
    Timeout,
    /// The answer was not PostgreSQL's protocol, or not what was asked for.
    #[error("ledger answered what it should not: {0}")]
    Broken(String),
}

/// A payment as it is written.
#[derive(Debug, Clone)]
pub struct Payment {
    /// The order it is for.
    pub order: String,
    /// Who pays.
    pub customer: String,
    /// The card's number.
    pub card: String,
    /// The amount in cents.
    pub amount_cents: i64,
}

/// The ledger, as payments-api knows it.
#[derive(Clone)]
pub struct Database {
    config: Config,
    tls: Option<Arc<Connector>>,
}

impl Database {
    /// The database at `url` (`postgresql://host[:port]/name`), with the login `user`; over TLS where the URL ends with
    /// `?sslmode=verify-full`, for which there must be a way to speak it.
    ///
    /// # Errors
    /// When `url` is no such URL.
    pub fn new(url: &str, user: &str, password: &str, tls: Option<Connector>) -> io::Result<Database> {
        let invalid = |reason: &str| {
            let expected = "expected postgresql://host:port/name";
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("LEDGER_URL={url}: {reason}; {expected}"),
            )
        };
        let (bare, options) = ssl::split(url).map_err(|reason| invalid(&reason))?;
        let tls = match (options.get("sslmode").map(String::as_str), tls) {
            (None | Some("disable"), _) => None,
            (Some("verify-full"), Some(tls)) => Some(tls),
            (Some("verify-full"), None) => {
                return Err(invalid(
                    "set TLS_UPSTREAM_CA_FILE to the certificate of the authority to trust, or with SVIDs TLS_UPSTREAM_AUTHORIZED_IDS",
                ));
            }
            (Some(other), _) => {
                let known = "here it is `disable` or `verify-full`: anything between hides, but proves nothing";
                return Err(invalid(&format!("sslmode={other}: {known}")));
            }
        };
        if let Some(other) = options.keys().find(|key| *key != "sslmode") {
            return Err(invalid(&format!("{other}: certificates are set by TLS_UPSTREAM_…")));
        }
        let mut config: Config = bare
            .parse()
            .map_err(|error: PgWireClientError| invalid(&error.to_string()))?;
        ssl::set_mode(&mut config, if tls.is_some() { "require" } else { "disable" });
        config
            .user(user)
            .password(password)
            .protocol_version(ProtocolVersion::PROTOCOL3_0);
        Ok(Database {
            config,
            tls: tls.map(Arc::new),
        })
    }

    /// Writes `payment`; answers its id.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn insert(&self, payment: &Payment, probe: Option<&str>) -> Result<i64, DatabaseError> {
        let text = |value: &str| Some(Bytes::copy_from_slice(value.as_bytes()));
        within(async {
            let mut client = self.connect(probe).await?;
            let mut handler = DefaultExtendedQueryHandler::new();
            let rows = client
                .extended_query(&mut handler)
                .query(
                    "INSERT INTO payments (order_id, customer, card, amount_cents) VALUES ($1, $2, $3, $4) RETURNING id",
                    &[],
                    vec![
                        text(&payment.order),
                        text(&payment.customer),
                        text(&payment.card),
                        text(&payment.amount_cents.to_string()),
                    ],
                )
                .await
                .map_err(classify)?;
            rows.first()
                .and_then(|row| fields(row)?.first()?.as_deref()?.parse().ok())
                .ok_or_else(|| DatabaseError::Broken("no id for the payment".to_owned()))
        })
        .await
    }

    /// The newest `limit` payments: the columns' names, and the rows as text.
    ///
    /// # Errors
    /// [`DatabaseError`]
    pub async fn newest(&self, limit: u32, probe: Option<&str>) -> Result<Vec<Payment>, DatabaseError> {
        let question =
            format!("SELECT order_id, customer, card, amount_cents FROM payments ORDER BY id DESC LIMIT {limit}");
        within(async {
            let mut client = self.connect(probe).await?;
            let responses = client
                .simple_query(DefaultSimpleQueryHandler::new(), &question)
                .await
                .map_err(classify)?;
            let Some(Response::Query((_, _, rows))) = responses.into_iter().next() else {
                return Err(DatabaseError::Broken("no rows".to_owned()));
            };
            rows.iter()
                .map(|row| payment(row).ok_or_else(|| DatabaseError::Broken("a row of another shape".to_owned())))
                .collect()
        })
        .await
    }

    /// Connects, trying again for a moment where nobody listens: a ledger that restarts is back soon. Only connecting
    /// is repeated: a statement that was sent may have been done.
    async fn connect(&self, probe: Option<&str>) -> Result<PgWireClient, DatabaseError> {
        let mut config = self.config.clone();
        config.application_name(match probe {
            Some(id) => format!("{PROBE_PREFIX}{id}"),
            None => "payments-api".to_owned(),
        });
        let config = Arc::new(config);
        let mut waits = RETRIES.iter();
        loop {
            let tls = self.tls.as_ref().map(|tls| tls.library());
            let outcome = PgWireClient::connect(config.clone(), DefaultStartupHandler::new(), tls).await;
            match (outcome.map_err(classify), waits.next()) {
                (Err(DatabaseError::Unreachable(_)), Some(wait)) => tokio::time::sleep(*wait).await,
                (outcome, _) => return outcome,
            }
        }
    }
}

async fn within<T>(question: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    tokio::time::timeout(TIMEOUT, question)
        .await
        .unwrap_or(Err(DatabaseError::Timeout))
}

fn classify(error: PgWireClientError) -> DatabaseError {
    if let Some(reason) = ssl::reason(&error) {
        return DatabaseError::Tls(reason);
    }
    match error {
        PgWireClientError::IoError(error) => DatabaseError::Unreachable(error),
        PgWireClientError::RemoteError(info) => DatabaseError::Refused(info.message),
        other => DatabaseError::Broken(other.to_string()),
    }
}

fn payment(row: &DataRow) -> Option<Payment> {
    let mut values = fields(row)?.into_iter();
    let mut next = || values.next().flatten();
    Some(Payment {
        order: next()?,
        customer: next()?,
        card: next()?,
        amount_cents: next()?.parse().ok()?,
    })
}

/// The values of a row in text format, `None` where null; `None` altogether where the row is malformed.
///
/// Source: PostgreSQL, Message Formats, DataRow.
pub fn fields(row: &DataRow) -> Option<Vec<Option<String>>> {
    let mut data = &row.data[..];
    (0..row.field_count)
        .map(|_| {
            let length = data.try_get_i32().ok()?;
            let Ok(length) = usize::try_from(length) else {
                return Some(None);
            };
            let (value, rest) = data.split_at_checked(length)?;
            data = rest;
            Some(Some(String::from_utf8_lossy(value).into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_row_panics(data: Vec<u8>, count: i16) {
            let _ = fields(&DataRow::new(bytes::BytesMut::from(&data[..]), count));
        }
    }

    #[test]
    fn a_row_is_read() {
        let data = [0, 0, 0, 2, b'a', b'b', 255, 255, 255, 255, 0, 0, 0, 0];
        let row = DataRow::new(bytes::BytesMut::from(&data[..]), 3);
        let expected = vec![Some("ab".to_owned()), None, Some(String::new())];
        assert_eq!(fields(&row), Some(expected));
    }
}
