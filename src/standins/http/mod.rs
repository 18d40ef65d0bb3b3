//! HTTP as the services share it: a server with an access log, and a client that opens a connection per request.

pub mod client;
pub mod door;
pub mod round_trips;
pub mod server;
