//! `-w`: what is printed when a transfer is over.

use std::{net::SocketAddr, time::Duration};

/// What is known of a transfer.
#[derive(Debug, Default)]
pub struct Facts {
    /// The last status, 0 if none.
    pub status: u16,
    /// The two ends of the last connection.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// When names were resolved, TCP was up, TLS was up.
    pub times: [Duration; 3],
    /// When the first byte of the answer came.
    pub first_byte: Duration,
    /// How long it took.
    pub total: Duration,
    /// The body's length.
    pub size: u64,
    /// The URL that answered last.
    pub url: String,
    /// Its method.
    pub method: String,
    /// `http` or `https`
    pub scheme: String,
    /// The body's type.
    pub content_type: String,
    /// How many redirects were followed.
    pub redirects: u32,
    /// Where a redirect that was not followed leads.
    pub redirect_url: String,
    /// What went wrong.
    pub error: String,
    /// How curl ends.
    pub exit_code: u8,
}

impl Facts {
    fn get(&self, name: &str) -> Option<String> {
        let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
        let end = |pick: fn(&(SocketAddr, SocketAddr)) -> String| self.ends.as_ref().map(pick).unwrap_or_default();
        Some(match name {
            "http_code" | "response_code" => format!("{:03}", self.status),
            "remote_ip" => end(|(_, peer)| peer.ip().to_string()),
            "remote_port" => end(|(_, peer)| peer.port().to_string()),
            "local_ip" => end(|(local, _)| local.ip().to_string()),
            "local_port" => end(|(local, _)| local.port().to_string()),
            "time_namelookup" => seconds(self.times[0]),
            "time_connect" => seconds(self.times[1]),
            "time_appconnect" if self.scheme == "https" => seconds(self.times[2]),
            "time_appconnect" => seconds(Duration::ZERO),
            "time_starttransfer" => seconds(self.first_byte),
            "time_total" => seconds(self.total),
            "size_download" => self.size.to_string(),
            "url_effective" => self.url.clone(),
            "method" => self.method.clone(),
            "scheme" => self.scheme.clone(),
            "content_type" => self.content_type.clone(),
            "num_redirects" => self.redirects.to_string(),
            "redirect_url" => self.redirect_url.clone(),
            "errormsg" => self.error.clone(),
            "exitcode" => self.exit_code.to_string(),
            "http_version" => "1.1".to_owned(),
            _ => return None,
        })
    }
}

/// `format` with its `%{variables}` and escapes replaced, and the names of variables that there are not.
pub fn expand(format: &str, facts: &Facts) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut unknown = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find(['%', '\\']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (piece, length) = if let Some((name, _)) = rest.strip_prefix("%{").and_then(|rest| rest.split_once('}')) {
            let value = facts.get(name).unwrap_or_else(|| {
                unknown.push(name.to_owned());
                String::new()
            });
            (value, name.len() + 3)
        } else {
            match rest.get(..2) {
                Some("%%") => ("%".to_owned(), 2),
                Some("\\n") => ("\n".to_owned(), 2),
                Some("\\t") => ("\t".to_owned(), 2),
                Some("\\r") => ("\r".to_owned(), 2),
                _ => (rest[..1].to_owned(), 1),
            }
        };
        text.push_str(&piece);
        rest = &rest[length..];
    }
    text.push_str(rest);
    (text, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_escapes_are_replaced() {
        let facts = Facts {
            status: 401,
            ..Facts::default()
        };
        let (text, unknown) = expand("%{http_code} 100%% %{nope}\\n\\x %", &facts);
        assert_eq!(text, "401 100% \n\\x %");
        assert_eq!(unknown, ["nope"]);
    }

    proptest::proptest! {
        #[test]
        fn no_format_panics(format in "[%{}\\\\a-zé]{0,20}") {
            let _ = expand(&format, &Facts::default());
        }
    }
}
