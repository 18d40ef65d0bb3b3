//! The part of curl's command line that the stand-in knows.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser, error::ErrorKind};

use crate::standins::tls::Versions;

/// What stands at the head of `curl --version` and of every complaint about an option.
pub const NAME: &str = "curl (a stand-in of ztlab, not curl)";

#[derive(Debug, Parser)]
#[command(
    name = "curl",
    about = "ztlab's stand-in for curl: HTTP/1.1 and HTTPS, with the options below and curl's exit codes",
    override_usage = "curl [options...] <url>",
    disable_help_flag = true,
    disable_version_flag = true
)]
struct Raw {
    /// URLs to fetch, one after the other
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// URL to fetch
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Say nothing of progress or errors
    #[arg(short, long)]
    silent: bool,
    /// Say errors even with -s
    #[arg(short = 'S', long)]
    show_error: bool,
    /// End with 22 and no body on HTTP status 400 and above
    #[arg(short, long)]
    fail: bool,
    /// As -f, but with the body
    #[arg(long, conflicts_with = "fail")]
    fail_with_body: bool,
    /// Print the answer's head before its body
    #[arg(short, long)]
    include: bool,
    /// Ask with HEAD and print the head
    #[arg(short = 'I', long)]
    head: bool,
    /// Tell on stderr what goes out and comes in
    #[arg(short, long)]
    verbose: bool,
    /// Accept any server certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Follow redirects, 50 at most
    #[arg(short = 'L', long)]
    location: bool,
    /// Header to send, `Name: value`; `Name:` sends none of that name
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,
    /// Body to send by POST; @file reads it from a file, @- from stdin, without line ends
    #[arg(short, long, value_name = "DATA")]
    data: Vec<String>,
    /// As -d, without a meaning for @
    #[arg(long, value_name = "DATA")]
    data_raw: Vec<String>,
    /// As -d, with line ends kept
    #[arg(long, value_name = "DATA")]
    data_binary: Vec<String>,
    /// Body to send as JSON, with the headers for it
    #[arg(long, value_name = "DATA")]
    json: Vec<String>,
    /// Method
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<String>,
    /// File to write the body to, - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to print at the end, with %{http_code} and other variables
    #[arg(short, long, value_name = "FORMAT")]
    write_out: Option<String>,
    /// Seconds that everything may take
    #[arg(short, long, value_name = "SECONDS")]
    max_time: Option<f64>,
    /// Seconds that connecting may take
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<f64>,
    /// Address to use for a host and port, `host:port:address`
    #[arg(long, value_name = "HOST:PORT:ADDRESS")]
    resolve: Vec<String>,
    /// User and password for Basic authentication, `user:password`
    #[arg(short, long, value_name = "USER:PASSWORD")]
    user: Option<String>,
    /// User agent
    #[arg(short = 'A', long, value_name = "NAME")]
    user_agent: Option<String>,
    /// Client certificate, PEM
    #[arg(short = 'E', long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Certificates of the authorities to trust, PEM
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Offer TLS 1.2 and above, which is what is offered anyway
    #[arg(long = "tlsv1.2")]
    tls12: bool,
    /// Offer TLS 1.3 only
    #[arg(long = "tlsv1.3")]
    tls13: bool,
    /// Highest version of TLS to offer, 1.2 or 1.3
    #[arg(long, value_name = "VERSION")]
    tls_max: Option<String>,
    /// Accepted for compatibility: HTTP/1.1 is what is spoken
    #[arg(long = "http1.1")]
    http11: bool,
    /// Accepted for compatibility: there is no progress meter
    #[arg(long)]
    no_progress_meter: bool,
    /// Print this help
    #[arg(short, long)]
    help: bool,
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
}

/// What to do, checked.
#[derive(Debug, Clone)]
pub struct Options {
    /// At least one.
    pub urls: Vec<String>,
    /// Errors are said.
    pub say_errors: bool,
    /// An HTTP error is exit code 22.
    pub fail: bool,
    /// A body is written in spite of an HTTP error.
    pub fail_body: bool,
    /// The head is printed.
    pub include: bool,
    /// No body is asked for.
    pub head: bool,
    /// The conversation is told.
    pub verbose: bool,
    /// Any certificate will do.
    pub insecure: bool,
    /// Redirects are followed.
    pub location: bool,
    /// Headers to set, `None` to leave out.
    pub headers: Vec<(String, Option<String>)>,
    /// The body, if one is sent.
    pub body: Option<Vec<Data>>,
    /// The body is JSON.
    pub json: bool,
    /// The method, where it is not the usual one.
    pub method: Option<String>,
    /// Where the body goes.
    pub output: Option<PathBuf>,
    /// What is printed at the end.
    pub write_out: Option<String>,
    /// Time for everything.
    pub max_time: Option<Duration>,
    /// Time for the connection.
    pub connect_timeout: Option<Duration>,
    /// Addresses by host and port.
    pub resolve: Vec<(String, u16, IpAddr)>,
    /// `user:password`
    pub user: Option<String>,
    /// The user agent.
    pub user_agent: Option<String>,
    /// Client certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Authorities.
    pub cacert: Option<PathBuf>,
    /// Versions of TLS.
    pub versions: Versions,
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// As given.
    Text(String),
    /// A file's content, `-` is stdin; without its line ends if not `whole`.
    File {
        /// Its name.
        name: String,
        /// With line ends.
        whole: bool,
    },
}

/// What the arguments ask for, other than a transfer.
#[derive(Debug)]
pub enum Instead {
    /// Print this and end with 0.
    Print(String),
    /// Say this and end with 2.
    Refuse(String),
}

/// Reads the command line.
///
/// # Errors
/// [`Instead`]
pub fn parse(args: Vec<OsString>) -> Result<Options, Instead> {
    let name = std::iter::once(OsString::from("curl"));
    let raw = Raw::try_parse_from(name.chain(args)).map_err(|error| Instead::Refuse(refusal(&error)))?;
    if raw.help {
        return Err(Instead::Print(Raw::command().render_help().to_string()));
    }
    if raw.version {
        let version = env!("CARGO_PKG_VERSION");
        return Err(Instead::Print(format!("{NAME} {version}\nProtocols: http https\n")));
    }
    options(raw).map_err(Instead::Refuse)
}

fn refusal(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    if error.kind() == ErrorKind::UnknownArgument {
        return format!("{first}; this is {NAME}, and `curl --help` lists what it knows");
    }
    format!("{first}; this is {NAME}")
}

fn options(raw: Raw) -> Result<Options, String> {
    let urls: Vec<String> = raw.urls.into_iter().chain(raw.url).collect();
    if urls.is_empty() {
        return Err("(2) no URL specified".to_owned());
    }
    let json = !raw.json.is_empty();
    let mut body: Vec<Data> = raw.data.into_iter().map(|text| data(text, false)).collect();
    body.extend(raw.data_binary.into_iter().map(|text| data(text, true)));
    body.extend(raw.data_raw.into_iter().map(Data::Text));
    body.extend(raw.json.into_iter().map(|text| data(text, true)));
    let identity = match (raw.cert, raw.key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(cert), None) => Some((cert.clone(), cert)),
        (None, Some(_)) => return Err("--key is of no use without --cert".to_owned()),
        (None, None) => None,
    };
    let lowest = match (raw.tls12, raw.tls13) {
        (_, true) => Some("1.3"),
        (true, false) => Some("1.2"),
        (false, false) => None,
    };
    let versions = Versions::between(lowest, raw.tls_max.as_deref())?;
    Ok(Options {
        urls,
        say_errors: !raw.silent || raw.show_error,
        fail: raw.fail || raw.fail_with_body,
        fail_body: raw.fail_with_body,
        include: raw.include || raw.head,
        head: raw.head,
        verbose: raw.verbose,
        insecure: raw.insecure,
        location: raw.location,
        headers: raw.header.iter().map(|line| header(line)).collect::<Result<_, _>>()?,
        body: (!body.is_empty()).then_some(body),
        json,
        method: raw.request,
        output: raw.output,
        write_out: raw.write_out,
        max_time: raw.max_time.map(seconds).transpose()?,
        connect_timeout: raw.connect_timeout.map(seconds).transpose()?,
        resolve: raw.resolve.iter().map(|text| resolve(text)).collect::<Result<_, _>>()?,
        user: raw.user,
        user_agent: raw.user_agent,
        identity,
        cacert: raw.cacert,
        versions,
    })
}

fn data(text: String, whole: bool) -> Data {
    match text.strip_prefix('@') {
        Some(name) => Data::File {
            name: name.to_owned(),
            whole,
        },
        None => Data::Text(text),
    }
}

fn header(line: &str) -> Result<(String, Option<String>), String> {
    // `Name;` sends the header with an empty value, as in curl.
    if let Some(name) = line.strip_suffix(';')
        && !name.contains(':')
    {
        return Ok((name.trim().to_owned(), Some(String::new())));
    }
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| format!("`{line}` is no header: expected `Name: value`"))?;
    let value = value.trim();
    Ok((name.trim().to_owned(), (!value.is_empty()).then(|| value.to_owned())))
}

fn seconds(number: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number).map_err(|_| format!("{number} is not a number of seconds"))
}

fn resolve(text: &str) -> Result<(String, u16, IpAddr), String> {
    let bad = || format!("--resolve {text}: expected host:port:address");
    let mut parts = text.trim_start_matches('+').splitn(3, ':');
    let (Some(host), Some(port), Some(address)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    let address = address.trim_matches(['[', ']']).parse().map_err(|_| bad())?;
    Ok((host.to_ascii_lowercase(), port.parse().map_err(|_| bad())?, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, Instead> {
        parse(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn short_options_can_be_bundled_and_hold_their_value() {
        let options = read("-sfX PUT -m2 -HA:b -d x=1 -d @f http://a/").unwrap();
        assert!(options.fail && !options.say_errors);
        assert_eq!(options.method.as_deref(), Some("PUT"));
        assert_eq!(options.max_time, Some(Duration::from_secs(2)));
        assert_eq!(options.headers, [("A".to_owned(), Some("b".to_owned()))]);
        assert_eq!(options.body.unwrap().len(), 2);
        assert_eq!(options.urls, ["http://a/"]);
    }

    #[test]
    fn what_it_does_not_know_it_refuses_by_its_own_name() {
        for line in ["--ftp-port 1 http://a/", "--compressed http://a/", "-Z http://a/"] {
            let Err(Instead::Refuse(why)) = read(line) else {
                panic!("{line} was taken");
            };
            assert!(why.contains("stand-in of ztlab"), "{why}");
        }
        for line in [
            "",
            "-s",
            "-m x http://a/",
            "-m -1 http://a/",
            "-H nocolon http://a/",
            "--resolve x http://a/",
        ] {
            assert!(
                matches!(read(line), Err(Instead::Refuse(_))) || line.is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn it_names_itself() {
        let Err(Instead::Print(text)) = read("--version") else {
            panic!("no version");
        };
        assert!(text.starts_with("curl (a stand-in of ztlab, not curl)"), "{text}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn no_arguments_panic(args: Vec<String>) {
            let _ = parse(args.into_iter().map(OsString::from).collect());
        }

        #[test]
        fn no_mix_of_options_panics(args in proptest::collection::vec("-{0,2}[a-zA-Z0-9.=:@ -]{0,12}", 0..8)) {
            let _ = parse(args.into_iter().map(OsString::from).collect());
        }
    }
}
