//! For the fuzz target `streams`: clients that send any bytes once their connection is upgraded.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
};

use super::{Forwarder, OPENING, channels, exec, forward, socket, spdy, tunnel, websocket};
use crate::kubelet_api::{ExecOptions, Exit, KubeletApi, LogOptions, Streams};

/// Bytes on their way in each direction.
const BUFFER: usize = 64 << 10;
/// By when a connection must have ended whose client is gone.
const LIMIT: Duration = Duration::from_secs(20);

/// Takes `bytes` as a client's, cut into pieces of `piece` bytes: `way` chooses exec or port-forward, and over what. The client hangs up
/// after them, and the connection must end.
///
/// # Panics
/// When it does not.
pub fn fuzz(way: u8, piece: usize, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let ended = runtime.block_on(async {
        let (mut near, far) = duplex(BUFFER);
        let server = tokio::spawn(serve(way, far));
        let client = async {
            let (mut reader, mut writer) = tokio::io::split(&mut near);
            let send = async {
                for piece in bytes.chunks(piece.max(1)) {
                    if writer.write_all(piece).await.is_err() {
                        return;
                    }
                }
                let _ = writer.shutdown().await;
            };
            let receive = async {
                let mut buffer = vec![0; BUFFER];
                while let Ok(1..) = reader.read(&mut buffer).await {}
            };
            tokio::join!(send, receive);
        };
        let both = async { tokio::join!(client, server).1 };
        tokio::time::timeout(LIMIT, both).await
    });
    assert!(
        matches!(ended, Ok(Ok(()))),
        "the connection of a client that is gone: {ended:?}"
    );
}

async fn serve(way: u8, connection: DuplexStream) {
    let forwarder = Forwarder {
        kubelet: Arc::new(Nobody),
        namespace: "default".to_owned(),
        pod: "box".to_owned(),
        uid: "1".to_owned(),
    };
    match way % 5 {
        0 => websocket::carry_or_refuse(socket(connection).await, Ok(program())).await,
        1 => channels::carry(socket(connection).await, vec![80, 81], forwarder).await,
        2 => forward::carry(spdy::serve(tunnel::bytes(socket(connection).await)), forwarder).await,
        3 => forward::carry(spdy::serve(connection), forwarder).await,
        _ => {
            let options = ExecOptions {
                stdin: true,
                stdout: true,
                stderr: true,
                ..ExecOptions::default()
            };
            let wanted = exec::Wanted::of(&options, "v4.channel.k8s.io");
            exec::carry(spdy::serve(connection), wanted, OPENING, Ok(program())).await;
        }
    }
}

/// A program that takes everything, says nothing and does not end.
fn program() -> Streams {
    let (resize, mut sizes) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move { while sizes.recv().await.is_some() {} });
    Streams {
        stdin: Some(Box::new(tokio::io::sink())),
        stdout: Some(Box::new(tokio::io::empty())),
        stderr: Some(Box::new(tokio::io::empty())),
        resize: Some(resize),
        exit: Box::pin(std::future::pending::<Exit>()),
    }
}

/// A kubelet without pods.
struct Nobody;

#[async_trait]
impl KubeletApi for Nobody {
    async fn logs(
        &self,
        _: &str,
        _: &str,
        _: LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<bytes::Bytes>>, Box<Status>> {
        Err(Box::default())
    }

    async fn exec(&self, _: &str, _: &str, _: ExecOptions) -> Result<Streams, Box<Status>> {
        Err(Box::default())
    }

    async fn attach(&self, _: &str, _: &str, _: ExecOptions) -> Result<Streams, Box<Status>> {
        Err(Box::default())
    }

    async fn port_forward(&self, _: &str, _: &str, _: u16) -> Result<TcpStream, String> {
        Err("nobody is there".to_owned())
    }
}
