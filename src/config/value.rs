//! Values, from text. The error is what was expected.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::options::{Cores, LogLevel};

/// More cores than this can't be told apart in an identity.
const CORES_MAX: u16 = 1024;

/// `127.0.0.1:5672`, `[::]:5672`, `localhost:5672`.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    if let Some(port) = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse()
        .map_err(|_| "expected an address and a port such as 127.0.0.1:5672 or [::]:5672")
}

/// `5672` (on every address) or an [`address`].
pub(super) fn port_or_address(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse() {
        Ok(port) => Ok(everywhere(port)),
        Err(_) => address(text)
            .map_err(|_| "expected a port or an address and a port, such as 127.0.0.1:5672"),
    }
}

/// A port on every address of both IP versions.
pub(super) fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// `4`, `0,2`, `0-3`, `0-1,4`.
pub(super) fn cores(text: &str) -> Result<Cores, &'static str> {
    const EXPECTED: &str = "expected a count such as 4 or a list of CPUs such as 0,2 or 0-3";
    if let Ok(count) = text.parse() {
        return if (1..=CORES_MAX).contains(&count) {
            Ok(Cores::Count(count))
        } else {
            Err(EXPECTED)
        };
    }
    let mut cpus = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.parse().map_err(|_| EXPECTED)?;
        let last: u16 = last.parse().map_err(|_| EXPECTED)?;
        for cpu in first..=last {
            if cpus.contains(&usize::from(cpu)) || cpus.len() == usize::from(CORES_MAX) {
                return Err(EXPECTED);
            }
            cpus.push(usize::from(cpu));
        }
        if last < first {
            return Err(EXPECTED);
        }
    }
    Ok(Cores::Cpus(cpus))
}

/// A whole number within bounds.
pub(super) fn number(text: &str, bounds: RangeInclusive<u64>, unit: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!(
            "expected {unit} from {} to {}",
            bounds.start(),
            bounds.end()
        )),
    }
}

/// `true` or `false`; RabbitMQ also takes `on`, `off`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// RabbitMQ's names.
pub(super) fn log_level(text: &str) -> Result<LogLevel, String> {
    match text {
        "none" => Ok(LogLevel::None),
        "critical" | "error" => Ok(LogLevel::Error),
        "warning" => Ok(LogLevel::Warning),
        "info" | "notice" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        _ => Err("expected debug, info, warning, error, critical or none".to_owned()),
    }
}

#[cfg(all(test, not(leveret_loom)))]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_count_or_a_list_of_cpus() {
        assert_eq!(cores("4"), Ok(Cores::Count(4)));
        assert_eq!(cores("0,2"), Ok(Cores::Cpus(vec![0, 2])));
        assert_eq!(cores("0-3"), Ok(Cores::Cpus(vec![0, 1, 2, 3])));
        assert_eq!(cores("4,0-1"), Ok(Cores::Cpus(vec![4, 0, 1])));
        assert_eq!(cores("1-1"), Ok(Cores::Cpus(vec![1])));
        for text in [
            "", "0", "-1", "1-", "3-1", "0,0", "0-2,1", "1,", "a", "2000", "0-5000", "99999",
        ] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_is_a_port_or_an_address() {
        let parsed = |text| port_or_address(text).map(|address| address.to_string());
        assert_eq!(parsed("5672"), Ok("[::]:5672".to_owned()));
        assert_eq!(parsed("127.0.0.1:1"), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(parsed("[::1]:1"), Ok("[::1]:1".to_owned()));
        assert_eq!(parsed("localhost:1"), Ok("127.0.0.1:1".to_owned()));
        for text in ["", "70000", "127.0.0.1", "::1:x", "localhost:", "host:1"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
