//! The payments shop: frontend → orders-api → payments-api → ledger.

pub mod frontend;
pub mod ledger;
pub mod orders_api;
pub mod payments_api;
