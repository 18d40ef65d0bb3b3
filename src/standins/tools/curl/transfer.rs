//! One transfer: request, answer, redirects.

use std::{
    error::Error,
    fs,
    io::{self, Read, Write},
    path::PathBuf,
    sync::PoisonError,
    time::Instant,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::{
    args::{Data, Options},
    connection::{self, Connection, Record},
    error::CurlError,
    url::Url,
    write_out::Facts,
};
use crate::standins::tls::cause;

/// How many redirects are followed, as curl does.
const REDIRECTS: u32 = 50;

/// What to send, without where to.
#[derive(Clone)]
struct Message {
    method: Method,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// Fetches `url` and writes the answer to `output`.
///
/// # Errors
/// [`CurlError`]
pub async fn fetch(
    url: &str,
    options: &Options,
    facts: &mut Facts,
    output: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<(), CurlError> {
    let start = Instant::now();
    let work = follow(url, options, start, facts, output, stderr);
    let outcome = match options.max_time {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or(Err(CurlError::Timeout(limit))),
    };
    facts.total = start.elapsed();
    outcome
}

async fn follow(
    url: &str,
    options: &Options,
    start: Instant,
    facts: &mut Facts,
    output: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<(), CurlError> {
    let mut url = Url::parse(url)?;
    let mut message = message(options, &url)?;
    loop {
        facts.url = url.to_string();
        facts.scheme = url.scheme().to_owned();
        facts.method = message.method.to_string();
        let next = exchange(&url, &message, options, start, facts, output, stderr).await?;
        let Some(next) = next else {
            return Ok(());
        };
        if facts.redirects == REDIRECTS {
            return Err(CurlError::Redirects);
        }
        facts.redirects += 1;
        let to = url.join(&next)?;
        if (&to.host, to.port) != (&url.host, url.port) {
            message.headers.remove(header::AUTHORIZATION);
            message.headers.remove(header::COOKIE);
        }
        // RFC 9110 §15.4: these turn a POST into a GET, in every client's practice.
        if matches!(facts.status, 301..=303) && message.method == Method::POST && options.method.is_none() {
            message.method = Method::GET;
            message.body = None;
            message.headers.remove(header::CONTENT_TYPE);
        }
        url = to;
    }
}

/// Sends `message` and takes the answer; where to go next, if it is a redirect to follow.
async fn exchange(
    url: &Url,
    message: &Message,
    options: &Options,
    start: Instant,
    facts: &mut Facts,
    output: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<Option<String>, CurlError> {
    let opening = connection::open(url, options, start);
    let Connection {
        stream,
        record,
        ends,
        notes,
        times,
    } = match options.connect_timeout {
        None => opening.await?,
        Some(limit) => tokio::time::timeout(limit, opening)
            .await
            .unwrap_or(Err(CurlError::Timeout(limit)))?,
    };
    facts.ends = Some(ends);
    facts.times = times;
    let request = request(url, message)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| classify(&error))?;
    let connection = tokio::spawn(connection);
    let answered = sender.send_request(request).await;
    facts.first_byte = start.elapsed();
    {
        let record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if options.verbose {
            tell(&record, &notes, stderr);
        }
        let response = answered.as_ref().map_err(classify);
        let response = match response {
            Ok(response) => response,
            Err(CurlError::Weird(_)) if record.received.is_empty() => return Err(CurlError::Empty),
            Err(error) => return Err(error),
        };
        facts.status = response.status().as_u16();
        facts.content_type = text(response, header::CONTENT_TYPE).unwrap_or_default();
        if options.include {
            output.write_all(heads(&record.received)).map_err(CurlError::Write)?;
        }
    }
    let response = answered.map_err(|error| classify(&error))?;
    let location = text(&response, header::LOCATION).filter(|_| response.status().is_redirection());
    if options.location && location.is_some() {
        return Ok(location);
    }
    if let Some(location) = location {
        facts.redirect_url = url.join(&location).map(|url| url.to_string()).unwrap_or(location);
    }
    let refused = options.fail && facts.status >= 400;
    if !refused || options.fail_body {
        write(response, facts, output).await?;
    }
    connection.abort();
    if refused {
        Err(CurlError::Status(facts.status))
    } else {
        Ok(None)
    }
}

async fn write(mut response: Response<Incoming>, facts: &mut Facts, output: &mut dyn Write) -> Result<(), CurlError> {
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame
            .map_err(|error| CurlError::Partial(error.to_string()))?
            .into_data()
        {
            output.write_all(&data).map_err(CurlError::Write)?;
            facts.size += data.len() as u64;
        }
    }
    output.flush().map_err(CurlError::Write)
}

fn message(options: &Options, url: &Url) -> Result<Message, CurlError> {
    let body = options.body.as_deref().map(read).transpose()?;
    let method = match &options.method {
        Some(method) => {
            Method::from_bytes(method.as_bytes()).map_err(|_| CurlError::Request(format!("`{method}` is no method")))?
        }
        None if options.head => Method::HEAD,
        None if body.is_some() => Method::POST,
        None => Method::GET,
    };
    let mut headers = HeaderMap::new();
    let agent = options
        .user_agent
        .as_deref()
        .unwrap_or(concat!("curl/ztlab-", env!("CARGO_PKG_VERSION")));
    set(&mut headers, "user-agent", agent)?;
    set(
        &mut headers,
        "accept",
        if options.json { "application/json" } else { "*/*" },
    )?;
    if body.is_some() {
        let form = "application/x-www-form-urlencoded";
        set(
            &mut headers,
            "content-type",
            if options.json { "application/json" } else { form },
        )?;
    }
    if let Some(user) = options.user.as_ref().or(url.user.as_ref()) {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(user));
        set(&mut headers, "authorization", &basic)?;
    }
    // The first of a name replaces what curl would send, more of it are added.
    let mut seen = Vec::new();
    for (name, value) in &options.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| CurlError::Request(format!("`{name}` is no header's name")))?;
        if !seen.contains(&name) {
            headers.remove(&name);
            seen.push(name.clone());
        }
        if let Some(value) = value {
            let value = HeaderValue::from_str(value)
                .map_err(|_| CurlError::Request(format!("the value of {name} cannot stand in a header")))?;
            headers.append(name, value);
        }
    }
    Ok(Message { method, headers, body })
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), CurlError> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| CurlError::Request(format!("the value of {name} cannot stand in a header")))?;
    headers.insert(name, value);
    Ok(())
}

fn request(url: &Url, message: &Message) -> Result<Request<Full<Bytes>>, CurlError> {
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_str(&url.authority)
        .map_err(|_| CurlError::Url(format!("{} cannot stand in a header", url.authority)))?;
    headers.insert(header::HOST, host);
    for (name, value) in &message.headers {
        if name == header::HOST {
            headers.insert(name, value.clone());
        } else {
            headers.append(name, value.clone());
        }
    }
    let mut request = Request::builder()
        .method(message.method.clone())
        .uri(&url.path)
        .body(Full::new(message.body.clone().unwrap_or_default()))
        .map_err(|error| CurlError::Url(error.to_string()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The body, as curl puts it together: pieces of a form joined by `&`.
fn read(pieces: &[Data]) -> Result<Bytes, CurlError> {
    let mut body = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            body.push(b'&');
        }
        match piece {
            Data::Text(text) => body.extend_from_slice(text.as_bytes()),
            Data::File { name, whole } => {
                let mut content = Vec::new();
                let read = match name.as_str() {
                    "-" => io::stdin().read_to_end(&mut content).map(drop),
                    name => fs::read(name).map(|read| content = read),
                };
                read.map_err(|source| CurlError::Read {
                    name: PathBuf::from(name),
                    source,
                })?;
                body.extend(
                    content
                        .into_iter()
                        .filter(|byte| *whole || !matches!(byte, b'\r' | b'\n' | 0)),
                );
            }
        }
    }
    Ok(Bytes::from(body))
}

fn text(response: &Response<Incoming>, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Every head that was received, those of interim answers (1xx) too, each with its empty line.
fn heads(received: &[u8]) -> &[u8] {
    let mut length = 0;
    loop {
        let rest = &received[length..];
        let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return received;
        };
        length += end + 4;
        let interim = rest.get(9) == Some(&b'1') && rest.starts_with(b"HTTP/1.");
        if !interim {
            return &received[..length];
        }
    }
}

/// The conversation as `-v` shows it, from what was on the wire.
fn tell(record: &Record, notes: &[String], stderr: &mut dyn Write) {
    let lines = |head: &[u8], mark: &str| -> String {
        let text = String::from_utf8_lossy(head);
        text.split_inclusive('\n')
            .map(|line| format!("{mark} {}\n", line.trim_end()))
            .collect()
    };
    for note in notes {
        let _ = writeln!(stderr, "* {note}");
    }
    let _ = stderr.write_all(lines(heads(&record.sent), ">").as_bytes());
    let _ = stderr.write_all(lines(heads(&record.received), "<").as_bytes());
}

fn classify(error: &hyper::Error) -> CurlError {
    if let Some(tls) = cause(error) {
        return CurlError::Receive(tls.to_string());
    }
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return CurlError::Receive(io.to_string());
        }
        source = inner.source();
    }
    CurlError::Weird(error.to_string())
}
