//! AMQP URIs: `amqp://user:password@host:port/vhost`, each part percent-encoded; `amqps://` for TLS.
//!
//! Source: <https://www.rabbitmq.com/docs/uri-spec>. One deliberate difference: an empty path
//! (`amqp://host/`) means the vhost `/`, not the vhost with the empty name, which no broker has.

use std::fmt;

use thiserror::Error;

/// Where and as whom to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    /// Whether AMQP goes through TLS.
    pub(crate) tls: bool,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) vhost: String,
}

/// Why a URI was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum UriError {
    #[error("the URI must begin with amqp:// or amqps://")]
    Scheme,
    #[error("the URI has no host")]
    NoHost,
    #[error("bad port {0:?}")]
    Port(String),
    #[error("bad percent-encoding in {0:?}")]
    Percent(String),
    #[error("a vhost must not contain an unencoded slash")]
    Path,
    #[error("query parameters are not supported")]
    Query,
}

impl std::str::FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let (tls, default_port) = match scheme {
            "amqp" => (false, 5672),
            "amqps" => (true, 5671),
            _ => return Err(UriError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(UriError::Query);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('/') {
            return Err(UriError::Path);
        }
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (login, address),
            None => ("guest:guest", authority),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = split_address(address, default_port)?;
        Ok(Self {
            tls,
            user: percent_decode(user)?,
            password: percent_decode(password)?,
            host: percent_decode(host)?,
            port,
            vhost: if path.is_empty() {
                "/".to_owned()
            } else {
                percent_decode(path)?
            },
        })
    }
}

impl fmt::Display for Uri {
    /// The password stays out of reports and logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}@{}:{} vhost {:?}",
            if self.tls { "amqps" } else { "amqp" },
            self.user,
            self.host,
            self.port,
            self.vhost
        )
    }
}

fn split_address(address: &str, default_port: u16) -> Result<(&str, u16), UriError> {
    // An IPv6 address stands in brackets, so that its colons aren't taken for the port's.
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UriError::NoHost)?;
        if after.is_empty() {
            (host, None)
        } else {
            let port = after
                .strip_prefix(':')
                .ok_or_else(|| UriError::Port(after.to_owned()))?;
            (host, Some(port))
        }
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    if host.is_empty() {
        return Err(UriError::NoHost);
    }
    let port = match port {
        None => default_port,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(UriError::Port(text.to_owned())),
        },
    };
    Ok((host, port))
}

fn percent_decode(text: &str) -> Result<String, UriError> {
    let bad = || UriError::Percent(text.to_owned());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|hex| char::from(hex).to_digit(16));
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        decoded.push((high * 16 + low) as u8);
    }
    String::from_utf8(decoded).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Uri, UriError> {
        text.parse()
    }

    #[test]
    fn every_part_is_read_and_decoded() {
        let uri = parse("amqp://al%40ice:p%3Aw@broker.example:5673/a%2Fb").expect("a valid URI");
        assert_eq!(
            (uri.user.as_str(), uri.password.as_str()),
            ("al@ice", "p:w")
        );
        assert_eq!((uri.host.as_str(), uri.port), ("broker.example", 5673));
        assert_eq!(uri.vhost, "a/b");
    }

    #[test]
    fn missing_parts_take_rabbitmqs_defaults() {
        for text in [
            "amqp://localhost",
            "amqp://localhost/",
            "amqp://guest:guest@localhost:5672/%2F",
        ] {
            let uri = parse(text).expect("a valid URI");
            assert_eq!(
                (uri.user.as_str(), uri.port, uri.vhost.as_str()),
                ("guest", 5672, "/"),
                "{text}"
            );
        }
    }

    #[test]
    fn ipv6_hosts_stand_in_brackets() {
        let uri = parse("amqp://u:p@[::1]:5680/v").expect("a valid URI");
        assert_eq!((uri.host.as_str(), uri.port), ("::1", 5680));
        assert_eq!(parse("amqp://[::1]").expect("a valid URI").port, 5672);
    }

    #[test]
    fn tls_has_a_scheme_and_a_port_of_its_own() {
        let uri = parse("amqps://h").expect("a valid URI");
        assert_eq!((uri.tls, uri.port), (true, 5671));
        let uri = parse("amqps://h:1").expect("a valid URI");
        assert_eq!((uri.tls, uri.port), (true, 1));
        assert!(!parse("amqp://h:5671").expect("a valid URI").tls);
    }

    #[test]
    fn bad_uris_say_what_is_wrong() {
        assert_eq!(parse("localhost:5672"), Err(UriError::Scheme));
        assert_eq!(parse("http://h"), Err(UriError::Scheme));
        assert_eq!(parse("amqp://u:p@/v"), Err(UriError::NoHost));
        assert_eq!(parse("amqp://h:70000"), Err(UriError::Port("70000".into())));
        assert_eq!(parse("amqp://h:0"), Err(UriError::Port("0".into())));
        assert_eq!(parse("amqp://h/%2"), Err(UriError::Percent("%2".into())));
        assert_eq!(parse("amqp://h/a/b"), Err(UriError::Path));
        assert_eq!(parse("amqp://h?heartbeat=1"), Err(UriError::Query));
    }
}
