//! Streams between a client and a pod: exec, attach and port-forward, over WebSocket and over SPDY.
//!
//! Here is how a request becomes a connection; [`websocket`] and [`exec`] carry a program's streams, [`forward`] and
//! [`channels`] connections to a port.
//!
//! Source: RFC 6455; KEP-4006 "Transition from SPDY to WebSockets"; apimachinery's `httpstream`.

mod channels;
mod exec;
mod forward;
mod fuzz;
mod tunnel;
mod websocket;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{Body, StreamSlot, dispatch::Call, reply, spdy, status::ApiError};
use crate::kubelet_api::{ExecOptions, Exit, Streams};

pub use forward::Forwarder;
pub use fuzz::fuzz;

/// Largest WebSocket message taken from a client, and largest piece of output sent to it, bytes.
const MAX_MESSAGE: usize = 1024 * 1024;
const CHUNK: usize = 32 * 1024;
/// How long a client may take to answer the close.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a client may take to open the streams that it asked for.
const OPENING: std::time::Duration = std::time::Duration::from_secs(30);

/// The header in which SPDY's clients and servers agree on what the streams mean.
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";

/// The protocols of exec and attach, by transport.
const EXEC: Protocols = Protocols {
    websocket: &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    spdy: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v3.channel.k8s.io",
        "v2.channel.k8s.io",
    ],
};

/// SPDY inside WebSocket messages, the form of kubectl from 1.31 on.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// The protocols of port-forward; `v4.channel.k8s.io` has its ports in the query and a channel pair for each.
const PORT_FORWARD: Protocols = Protocols {
    websocket: &[TUNNEL, "v4.channel.k8s.io"],
    spdy: &["portforward.k8s.io"],
};

struct Protocols {
    /// The preferred one first.
    websocket: &'static [&'static str],
    /// The client's order counts.
    spdy: &'static [&'static str],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wire {
    WebSocket { accept: HeaderValue },
    Spdy,
}

/// A request that asked for another protocol and may have it.
pub struct Upgrade {
    connection: OnUpgrade,
    wire: Wire,
    protocol: &'static str,
    slot: StreamSlot,
}

impl Upgrade {
    /// For exec and attach.
    ///
    /// # Errors
    /// 400 when the request asks for no protocol that is spoken, 403 for none of its versions, 429 when too many are
    /// open.
    pub fn exec(call: &mut Call) -> Result<Self, ApiError> {
        if drops_output(&call.headers) {
            return Err(ApiError::bad_request(
                "this client drops what comes over a WebSocket before it has made its streams (kubectl before 1.34): it has SPDY too",
            ));
        }
        Self::of(call, &EXEC)
    }

    /// For port-forward.
    ///
    /// # Errors
    /// As [`Upgrade::exec`].
    pub fn port_forward(call: &mut Call) -> Result<Self, ApiError> {
        Self::of(call, &PORT_FORWARD)
    }

    fn of(call: &mut Call, protocols: &Protocols) -> Result<Self, ApiError> {
        let (wire, protocol) = negotiate(&call.headers, protocols)?;
        let connection = call.extensions.remove::<OnUpgrade>();
        let connection =
            connection.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
        Ok(Self {
            connection,
            wire,
            protocol,
            slot: call.server.stream_slot(&call.user)?,
        })
    }

    /// Whether a refusal must wait until the connection is there: WebSocket clients drop the text of a failed upgrade.
    pub fn refuses_later(&self) -> bool {
        self.wire != Wire::Spdy
    }

    /// Says yes, and carries a program's streams, or why there are none.
    pub fn carry(self, options: &ExecOptions, streams: Result<Streams, Box<Status>>) -> Response<Body> {
        let wanted = exec::Wanted::of(options, self.protocol);
        self.switch(move |wire, connection| {
            Box::pin(async move {
                match wire {
                    Wire::Spdy => exec::carry(spdy::serve(connection), wanted, OPENING, streams).await,
                    Wire::WebSocket { .. } => websocket::carry_or_refuse(socket(connection).await, streams).await,
                }
            })
        })
    }

    /// Says yes, and forwards connections to `ports` (WebSocket) or to those that the client names (SPDY).
    ///
    /// # Errors
    /// 400 when the protocol wants ports in the query and there are none.
    pub fn forward(self, ports: Vec<u16>, forwarder: Forwarder) -> Result<Response<Body>, ApiError> {
        let tunnelled = self.protocol == TUNNEL;
        if self.wire != Wire::Spdy && !tunnelled && ports.is_empty() {
            return Err(ApiError::bad_request("query parameter \"ports\" is required"));
        }
        if ports.len() > channels::MAX_PORTS {
            let most = channels::MAX_PORTS;
            return Err(ApiError::bad_request(format!(
                "query parameter \"ports\" may name {most} ports at most"
            )));
        }
        Ok(self.switch(move |wire, connection| {
            Box::pin(async move {
                match wire {
                    Wire::Spdy => forward::carry(spdy::serve(connection), forwarder).await,
                    Wire::WebSocket { .. } if tunnelled => {
                        let inside = tunnel::bytes(socket(connection).await);
                        forward::carry(spdy::serve(inside), forwarder).await;
                    }
                    Wire::WebSocket { .. } => channels::carry(socket(connection).await, ports, forwarder).await,
                }
            })
        }))
    }

    fn switch(
        self,
        then: impl FnOnce(Wire, TokioIo<Upgraded>) -> BoxFuture<'static, ()> + Send + 'static,
    ) -> Response<Body> {
        let mut response = Response::new(reply::full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let protocol = HeaderValue::from_static(self.protocol);
        match &self.wire {
            Wire::WebSocket { accept } => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            Wire::Spdy => {
                headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
                headers.insert(PROTOCOL_VERSION, protocol);
            }
        }
        tokio::spawn(async move {
            match self.connection.await {
                Ok(connection) => then(self.wire, TokioIo::new(connection)).await,
                Err(error) => tracing::debug!(%error, "a client went away before its connection was upgraded"),
            }
            drop(self.slot);
        });
        response
    }
}

async fn socket<S>(connection: S) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

/// kubectl takes a close without a code for a failure.
fn normal_close() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }
}

fn values(headers: &http::HeaderMap, name: HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(','));
    items.map(|item| item.trim().to_owned()).collect()
}

fn wants(headers: &http::HeaderMap, protocol: &str) -> bool {
    let all = values(headers, header::UPGRADE);
    all.iter().any(|item| item.eq_ignore_ascii_case(protocol))
}

/// Whether a client asks for a WebSocket and may lose what comes over it. kubectl from 1.30 to 1.33 reads before it has made the
/// streams that it puts the messages into: on a busy machine the output of a program comes first, and kubectl ends well without
/// it. Nothing tells a server when the streams are there; over SPDY they are made one by one, and refused a WebSocket, kubectl
/// asks for that. Pure.
///
/// Source: kubernetes/kubernetes, pull request 131203, "make sure all streams are created before start demux websocket".
fn drops_output(headers: &http::HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let minor = agent.and_then(|agent| {
        let (name, version) = agent.split_once("/v1.")?;
        let minor: String = version.chars().take_while(char::is_ascii_digit).collect();
        name.starts_with("kubectl").then(|| minor.parse::<u32>().ok()).flatten()
    });
    wants(headers, "websocket") && minor.is_some_and(|minor| minor < 34)
}

/// What a request's headers ask for. Pure.
fn negotiate(headers: &http::HeaderMap, protocols: &Protocols) -> Result<(Wire, &'static str), ApiError> {
    let list = |name: HeaderName| values(headers, name);
    let wants = |protocol: &str| wants(headers, protocol);
    let none = |offered: &[String], spoken: &[&str]| {
        format!(
            "unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            spoken.join(" ")
        )
    };
    if wants("websocket") {
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
        let key = key.ok_or_else(|| ApiError::bad_request("a WebSocket handshake needs Sec-WebSocket-Key"))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key)).map_err(ApiError::internal)?;
        let offered = list(header::SEC_WEBSOCKET_PROTOCOL);
        let spoken = protocols.websocket;
        let protocol = spoken.iter().find(|known| offered.iter().any(|one| one == *known));
        let protocol = protocol.ok_or_else(|| ApiError::bad_request(none(&offered, spoken)))?;
        return Ok((Wire::WebSocket { accept }, protocol));
    }
    if wants(SPDY) {
        let (offered, spoken) = (list(PROTOCOL_VERSION), protocols.spdy);
        let protocol = offered.iter().find_map(|one| spoken.iter().find(|known| one == *known));
        let protocol = protocol.ok_or_else(|| {
            let message = format!("unable to upgrade: {}", none(&offered, spoken));
            ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)
        })?;
        return Ok((Wire::Spdy, protocol));
    }
    Err(ApiError::bad_request("Upgrade request required"))
}

/// A terminal's size as clients send it.
fn terminal_size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| {
        size.get(name)
            .and_then(Value::as_u64)
            .and_then(|side| u16::try_from(side).ok())
    };
    Some((side("Width")?, side("Height")?))
}

/// The `Status` that ends a program's streams.
fn status(exit: &Exit) -> Value {
    match exit {
        Exit::Code(0) => json!({"metadata": {}, "status": "Success"}),
        Exit::Code(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Exit::Failed(why) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {why}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": why}]},
            "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&'static str, &'static str)], protocols: &Protocols) -> Result<(bool, &'static str), u16> {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let answer = negotiate(&map, protocols);
        answer
            .map(|(wire, protocol)| (wire == Wire::Spdy, protocol))
            .map_err(|error| error.code().as_u16())
    }

    #[test]
    fn protocols_are_negotiated_as_clients_of_every_age_ask() {
        let version = "x-stream-protocol-version";
        let websocket = [("upgrade", "websocket"), ("sec-websocket-key", "a")];
        for (headers, protocols, expected) in [
            // kubectl 1.20 exec
            (
                vec![
                    ("upgrade", "SPDY/3.1"),
                    (version, "v4.channel.k8s.io"),
                    (version, "v3.channel.k8s.io"),
                ],
                &EXEC,
                Ok((true, "v4.channel.k8s.io")),
            ),
            (
                vec![("upgrade", "spdy/3.1"), (version, "v2.channel.k8s.io, channel.k8s.io")],
                &EXEC,
                Ok((true, "v2.channel.k8s.io")),
            ),
            (
                vec![("upgrade", "SPDY/3.1"), (version, "channel.k8s.io")],
                &EXEC,
                Err(403),
            ),
            (vec![("upgrade", "SPDY/3.1")], &EXEC, Err(403)),
            (
                vec![("upgrade", "SPDY/3.1"), (version, "portforward.k8s.io")],
                &PORT_FORWARD,
                Ok((true, "portforward.k8s.io")),
            ),
            // kubectl 1.31 and newer, and the kube crate
            (
                [&websocket[..], &[("sec-websocket-protocol", "v5.channel.k8s.io")]].concat(),
                &EXEC,
                Ok((false, "v5.channel.k8s.io")),
            ),
            (
                [&websocket[..], &[("sec-websocket-protocol", TUNNEL)]].concat(),
                &PORT_FORWARD,
                Ok((false, TUNNEL)),
            ),
            (
                [
                    &websocket[..],
                    &[("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")],
                ]
                .concat(),
                &PORT_FORWARD,
                Ok((false, "v4.channel.k8s.io")),
            ),
            (
                [&websocket[..], &[("sec-websocket-protocol", "nothing")]].concat(),
                &EXEC,
                Err(400),
            ),
            (vec![("upgrade", "websocket")], &EXEC, Err(400)),
            (vec![("upgrade", "h2c")], &EXEC, Err(400)),
            (vec![], &EXEC, Err(400)),
        ] {
            assert_eq!(asked(&headers, protocols), expected, "{headers:?}");
        }
    }

    #[test]
    fn who_may_lose_output_is_known_by_name() {
        for (agent, upgrade, expected) in [
            ("kubectl/v1.32.4 (linux/amd64) kubernetes/0123456", "websocket", true),
            (
                "kubectl/v1.32.4-dispatcher (linux/amd64) kubernetes/0123456",
                "WebSocket",
                true,
            ),
            (
                "kubectl-1.33/v1.33.0 (linux/amd64) kubernetes/0123456",
                "websocket",
                true,
            ),
            ("kubectl/v1.32.4 (linux/amd64) kubernetes/0123456", "SPDY/3.1", false),
            ("kubectl/v1.34.0 (linux/amd64) kubernetes/0123456", "websocket", false),
            ("kubectl/v1.40.0", "websocket", false),
            ("kubectl/v2.1.0", "websocket", false),
            ("Mozilla/5.0", "websocket", false),
            ("k9s/v1.2.3", "websocket", false),
            ("", "websocket", false),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
            headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
            assert_eq!(drops_output(&headers), expected, "{agent} {upgrade}");
        }
    }

    #[test]
    fn sizes_are_what_they_say_or_nothing() {
        assert_eq!(terminal_size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"Width":-1,"Height":24}"#,
            br#"{"Width":80,"Height":70000}"#,
            b"\xff",
        ] {
            assert_eq!(terminal_size(bad), None);
        }
    }
}
