//! The commands of `spire-server` that talk to a running server by its admin socket.

mod agents;
mod authority;
mod bundles;
mod entries;
mod federation;
mod mint;

pub(super) use mint::write_file;

use std::path::PathBuf;

use tonic::transport::Channel;

use super::{
    Command, CommandError, Output,
    flags::{Flag, Flags, switch, value},
    said,
};
use crate::{
    api::health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    config, transport,
};

const SOCKET: Flag = value(
    "socketPath",
    "Path to the SPIRE Server API socket (default \"/tmp/spire-server/private/api.sock\")",
);
const OUTPUT: Flag = value("output", super::OUTPUT_HELP);
const BY_AUTHORITY: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value("authorityID", "The authority ID of the authority"),
];
const PLAIN: &[Flag] = &[SOCKET, OUTPUT];

/// Every command.
pub const COMMANDS: &[Command] = &[
    (
        "run",
        "Runs the server",
        &[
            value("config", "Path to a SPIRE config file"),
            switch("expandEnv", "Expand environment variables in SPIRE config file"),
        ],
    ),
    (
        "healthcheck",
        "Determines server health status",
        &[
            SOCKET,
            switch("shallow", "Perform a less stringent health check"),
            switch("verbose", "Print verbose information"),
        ],
    ),
    ("entry create", "Creates registration entries", entries::CREATE_FLAGS),
    ("entry update", "Updates registration entries", entries::CREATE_FLAGS),
    (
        "entry show",
        "Displays configured registration entries",
        entries::SHOW_FLAGS,
    ),
    ("entry count", "Counts registration entries", entries::SHOW_FLAGS),
    (
        "entry delete",
        "Deletes registration entries",
        &[
            SOCKET,
            OUTPUT,
            value("entryID", "The Registration Entry ID of the record to delete."),
        ],
    ),
    ("bundle show", "Prints server CA bundle to stdout", bundles::FLAGS),
    ("bundle list", "Lists federated bundle data", bundles::FLAGS),
    ("bundle set", "Creates or updates federated bundle data", bundles::FLAGS),
    ("bundle delete", "Deletes federated bundle data", bundles::FLAGS),
    ("bundle count", "Count bundles", PLAIN),
    (
        "agent list",
        "Lists attested agents and their SPIFFE IDs",
        agents::FLAGS,
    ),
    ("agent count", "Count attested agents", agents::FLAGS),
    (
        "agent show",
        "Shows the details of an attested agent given its SPIFFE ID",
        agents::FLAGS,
    ),
    (
        "agent evict",
        "Evicts an attested agent given its SPIFFE ID",
        agents::FLAGS,
    ),
    ("agent ban", "Ban an attested agent given its SPIFFE ID", agents::FLAGS),
    (
        "token generate",
        "Generates a join token",
        &[
            SOCKET,
            OUTPUT,
            value("ttl", "Token TTL in seconds (default 600)"),
            value("spiffeID", "Additional SPIFFE ID to assign the token owner (optional)"),
        ],
    ),
    ("x509 mint", "Mints an X509-SVID", mint::X509_FLAGS),
    ("jwt mint", "Mints a JWT-SVID", mint::JWT_FLAGS),
    ("federation list", "Lists all dynamic federation relationships", PLAIN),
    (
        "federation show",
        "Shows a dynamic federation relationship",
        federation::FLAGS,
    ),
    (
        "federation create",
        "Creates a dynamic federation relationship with a foreign trust domain",
        federation::FLAGS,
    ),
    (
        "federation update",
        "Updates a dynamic federation relationship with a foreign trust domain",
        federation::FLAGS,
    ),
    (
        "federation delete",
        "Deletes a dynamic federation relationship",
        federation::FLAGS,
    ),
    (
        "federation refresh",
        "Refreshes the bundle from the federation relationship with a foreign trust domain",
        &[SOCKET, OUTPUT, value("id", "SPIFFE ID of the trust domain")],
    ),
    ("localauthority x509 show", "Shows the local X.509 authorities", PLAIN),
    (
        "localauthority x509 prepare",
        "Prepares a new X.509 authority for use",
        PLAIN,
    ),
    (
        "localauthority x509 activate",
        "Activates a prepared X.509 authority for use",
        BY_AUTHORITY,
    ),
    (
        "localauthority x509 taint",
        "Marks the previously active X.509 authority as being tainted",
        BY_AUTHORITY,
    ),
    (
        "localauthority x509 revoke",
        "Revokes the previously active X.509 authority",
        BY_AUTHORITY,
    ),
    ("localauthority jwt show", "Shows the local JWT authorities", PLAIN),
    (
        "localauthority jwt prepare",
        "Prepares a new JWT authority for use",
        PLAIN,
    ),
    (
        "localauthority jwt activate",
        "Activates a prepared JWT authority for use",
        BY_AUTHORITY,
    ),
    (
        "localauthority jwt taint",
        "Marks the previously active JWT authority as being tainted",
        BY_AUTHORITY,
    ),
    (
        "localauthority jwt revoke",
        "Revokes the previously active JWT authority",
        BY_AUTHORITY,
    ),
];

/// Runs one.
pub async fn run(name: &str, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let channel = channel(flags);
    let (first, rest) = name.split_once(' ').unwrap_or((name, ""));
    match first {
        "healthcheck" => healthcheck(channel, flags, output).await,
        "entry" => entries::run(rest, channel, flags, output).await,
        "bundle" => bundles::run(rest, channel, flags, output).await,
        "agent" => agents::run(rest, channel, flags, output).await,
        "token" => agents::token(channel, flags, output).await,
        "x509" => mint::x509(channel, flags, output).await,
        "jwt" => mint::jwt(channel, flags, output).await,
        "federation" => federation::run(rest, channel, flags, output).await,
        "localauthority" => authority::run(rest, channel, flags, output).await,
        other => Err(said(format!("`{other}` has no command"))),
    }
}

fn channel(flags: &Flags) -> Channel {
    let path = match flags.text("socketPath") {
        "" => config_default(),
        path => path.into(),
    };
    transport::over_unix(path)
}

fn config_default() -> PathBuf {
    config::SERVER_SOCKET.into()
}

async fn healthcheck(channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    if flags.on("verbose") {
        writeln!(output.out, "Checking server health...")?;
    }
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    match answer {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {
            writeln!(output.out, "Server is healthy.")?;
            Ok(())
        }
        Ok(answer) => Err(said(format!(
            "server is unhealthy: server returned status \"{}\"",
            answer.get_ref().status().as_str_name()
        ))),
        Err(status) => {
            if flags.on("verbose") {
                writeln!(output.err, "Failed to check health: {}", super::rpc_error(&status))?;
            }
            Err(said("server is unhealthy: unable to determine health"))
        }
    }
}
