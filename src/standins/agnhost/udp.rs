//! UDP: a question and its answer.

use std::{io, net::SocketAddr};

use tokio::net::UdpSocket;

/// The longest datagram.
const LONGEST: usize = 65_535;

/// Sends `question` and waits for an answer, however long.
///
/// # Errors
/// What the system says; refused where the host says that nobody listens.
pub async fn ask(address: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(address).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LONGEST];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

/// Answers every datagram on `port` for which `answer` has one.
///
/// # Errors
/// When the port is taken or the socket fails.
pub async fn serve(port: u16, answer: impl Fn(&[u8], SocketAddr) -> Option<Vec<u8>>) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listening on udp port {port}: {error}")))?;
    let mut question = vec![0; LONGEST];
    loop {
        // an earlier answer that nobody took comes back as an error here: it is not ours
        let Ok((length, peer)) = socket.recv_from(&mut question).await else {
            continue;
        };
        if let Some(answer) = answer(question.get(..length).unwrap_or_default(), peer) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}
