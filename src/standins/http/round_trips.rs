//! Times HTTP round trips over one connection, for `make bench`: a pod runs it against another pod and against itself.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;

/// Sends `count` requests for `/` to `authority` (`host:port`) over one kept-alive connection; the time of each.
///
/// # Errors
/// When the connection fails, or an answer has no `content-length`.
pub fn measure(authority: &str, count: usize) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(authority)?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\naccept: text/plain\r\n\r\n");
    let mut buffer = vec![0; LONGEST_HEAD * 4];
    (0..count)
        .map(|_| {
            let start = Instant::now();
            stream.write_all(request.as_bytes())?;
            answer(&mut stream, &mut buffer)?;
            Ok(start.elapsed())
        })
        .collect()
}

/// Reads one answer to its end.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let (mut filled, mut length) = (0, None);
    loop {
        let room = buffer
            .get_mut(filled..)
            .filter(|room| !room.is_empty())
            .ok_or_else(|| io::Error::other("the answer is too long to be timed"))?;
        match stream.read(room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
        if length.is_none() {
            length = whole(&buffer[..filled])?;
        }
        if length.is_some_and(|length| filled >= length) {
            return Ok(());
        }
    }
}

/// The length of head and body together, once the head is there.
fn whole(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(head) => {
            let length = response
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case("content-length"))
                .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
                .ok_or_else(|| io::Error::other("the answer has no content-length"))?;
            Ok(Some(head + length))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn answers_in_pieces_are_read_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            for _ in 0..3 {
                assert!(stream.read(&mut request).unwrap() > 0);
                for piece in ["HTTP/1.1 200 OK\r\nconte", "nt-length: 5\r\n\r\nhe", "llo"] {
                    stream.write_all(piece.as_bytes()).unwrap();
                    stream.flush().unwrap();
                    thread::yield_now();
                }
            }
        });
        assert_eq!(measure(&authority, 3).unwrap().len(), 3);
        server.join().unwrap();
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
    }
}
