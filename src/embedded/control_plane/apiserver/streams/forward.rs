//! Port-forward over SPDY: for every connection two streams, `data` and `error`, which name the port and each other.
//!
//! Source: kubelet's `portforward` (`httpStreamHandler`), client-go's `tools/portforward`.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{CHUNK, OPENING, spdy};
use crate::kubelet_api::KubeletApi;
use spdy::{Connection, Incoming, Opened, Outgoing};

/// Connects to a pod's ports.
#[derive(Clone)]
pub struct Forwarder {
    /// Whom to ask.
    pub kubelet: Arc<dyn KubeletApi>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its uid, as messages name the sandbox.
    pub uid: String,
}

impl Forwarder {
    /// A connection to a port, or the text that kubectl shows.
    pub async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let connected = self.kubelet.port_forward(&self.namespace, &self.pod, port).await;
        connected.map_err(|why| {
            let sandbox = &self.uid;
            format!("error forwarding port {port} to pod {sandbox}, uid : {why}")
        })
    }
}

/// A pair of streams of which one is still missing.
struct Half {
    port: u16,
    since: Instant,
    error: Option<Opened>,
    data: Option<Opened>,
}

/// Forwards connections until the client is gone.
pub async fn carry(mut connection: Connection, forwarder: Forwarder) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    // Dropped with this function, and every connection with it.
    let mut running = JoinSet::new();
    let mut look = tokio::time::interval(OPENING / 6);
    loop {
        tokio::select! {
            opened = connection.opened() => {
                let Some(opened) = opened else { break };
                if let Some((port, error, data)) = pair(&mut halves, opened) {
                    running.spawn(forward(forwarder.clone(), port, error, data));
                }
            }
            Some(_) = running.join_next() => {}
            _ = look.tick() => halves.retain(|_, half| {
                let late = half.since.elapsed() > OPENING;
                if late {
                    for stream in half.error.iter().chain(&half.data) {
                        stream.outgoing.reset();
                    }
                }
                !late
            }),
        }
    }
    // It opens no more streams, but those that are open go on until it leaves.
    tokio::select! {
        () = async { while running.join_next().await.is_some() {} } => connection.close().await,
        () = connection.gone() => {}
    }
}

/// Takes a stream; gives the pair that it completes. One that says nothing useful of itself is reset.
fn pair(halves: &mut HashMap<String, Half>, opened: Opened) -> Option<(u16, Opened, Opened)> {
    let header = |name| spdy::value(&opened.headers, name);
    let port = header("port")
        .and_then(|port| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    let is_error = match header("streamtype") {
        Some("error") => true,
        Some("data") => false,
        _ => {
            opened.outgoing.reset();
            return None;
        }
    };
    let (Some(port), Some(request)) = (port, header("requestid").map(str::to_owned)) else {
        opened.outgoing.reset();
        return None;
    };
    let half = halves.entry(request.clone()).or_insert_with(|| Half {
        port,
        since: Instant::now(),
        error: None,
        data: None,
    });
    let place = if is_error { &mut half.error } else { &mut half.data };
    if place.is_some() || half.port != port {
        opened.outgoing.reset();
        return None;
    }
    *place = Some(opened);
    if half.error.is_none() || half.data.is_none() {
        return None;
    }
    let Half { error, data, .. } = halves.remove(&request)?;
    Some((port, error?, data?))
}

async fn forward(forwarder: Forwarder, port: u16, error: Opened, data: Opened) {
    let Opened { outgoing: error, .. } = error;
    match forwarder.connect(port).await {
        Ok(connection) => copy(connection, data.incoming, &data.outgoing, &error, port, &forwarder.uid).await,
        Err(text) => {
            tracing::debug!(text, "port-forward");
            let _ = error.send(text.as_bytes()).await;
        }
    }
    // Both streams end as they are dropped.
}

/// Copies both ways until both have ended, or the client resets the stream. The error stream ends with what comes from
/// the pod: kubectl 1.20 waits for its end before it closes its side.
async fn copy(
    connection: TcpStream,
    mut incoming: Incoming,
    outgoing: &Outgoing,
    error: &Outgoing,
    port: u16,
    sandbox: &str,
) {
    let (mut from_pod, mut to_pod) = connection.into_split();
    let inwards = async {
        while let Ok(Some(bytes)) = incoming.next().await {
            if to_pod.write_all(&bytes).await.is_err() {
                // The pod takes no more; what it has still to say is read below.
                while let Ok(Some(_)) = incoming.next().await {}
                return;
            }
        }
        let _ = to_pod.shutdown().await;
    };
    let outwards = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match from_pod.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => {
                    if outgoing.send(buffer.get(..count).unwrap_or_default()).await.is_err() {
                        break;
                    }
                }
                Err(why) => {
                    let text = format!("error forwarding port {port} to pod {sandbox}, uid : read from the pod: {why}");
                    let _ = error.send(text.as_bytes()).await;
                    break;
                }
            }
        }
        outgoing.finish();
        error.finish();
    };
    tokio::select! {
        _ = async { tokio::join!(inwards, outwards) } => {}
        () = outgoing.closed() => {}
    }
}
