//! The tool box: clients to look at a network with, and the small images around them.

pub mod curl;
pub mod dig;
mod dns;
pub mod entrypoint;
pub mod hello;
pub mod idle;
pub mod nc;
pub mod nslookup;
pub mod printenv;
pub mod psql;
pub mod reach;
pub mod sleep;
mod tls;
pub mod ztls;
