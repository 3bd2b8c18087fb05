//! Values, from text. The error is what was expected.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::options::{Cores, LogLevel};
use crate::base::limits::CORES_MAX;

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

/// `5672` (on every address), or an [`address`], which may leave out the brackets.
pub(super) fn port_or_address(text: &str) -> Result<SocketAddr, &'static str> {
    if let Ok(port) = text.parse() {
        return Ok(everywhere(port));
    }
    address(text).or_else(|_| {
        without_brackets(text)
            .ok_or("expected a port or an address and a port, such as 127.0.0.1:5672")
    })
}

/// As RabbitMQ's pages write an address of IPv6 and a port: `::1:5672`, `:::5672`.
fn without_brackets(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip: Ipv6Addr = ip.parse().ok()?;
    Some(SocketAddr::from((ip, port.parse().ok()?)))
}

/// A port on every address of both IP versions.
pub(super) fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// `4`, `0,2`, `0-3`, `0-1,4`.
pub(super) fn cores(text: &str) -> Result<Cores, &'static str> {
    const EXPECTED: &str = "expected a count such as 4 or a list of CPUs such as 0,2 or 0-3";
    const TOO_MANY: &str = "expected at most 64 cores";
    if let Ok(count) = text.parse() {
        return match count {
            0 => Err(EXPECTED),
            1..=CORES_MAX => Ok(Cores::Count(count)),
            _ => Err(TOO_MANY),
        };
    }
    let mut cpus = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.parse().map_err(|_| EXPECTED)?;
        let last: u16 = last.parse().map_err(|_| EXPECTED)?;
        for cpu in first..=last {
            if cpus.contains(&usize::from(cpu)) {
                return Err(EXPECTED);
            }
            if cpus.len() == usize::from(CORES_MAX) {
                return Err(TOO_MANY);
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

/// A number of bytes, with RabbitMQ's units: `1073741824`, `50MB`, `2GiB`, `512k`.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected bytes, or a size such as 50MB or 2GiB";
    let unit_at = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(unit_at.unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| EXPECTED)?;
    let (base, power) = match unit.to_ascii_lowercase().as_str() {
        "" => (1, 0),
        "k" | "kb" => (1000, 1),
        "m" | "mb" => (1000, 2),
        "g" | "gb" => (1000, 3),
        "t" | "tb" => (1000, 4),
        "p" | "pb" => (1000, 5),
        "ki" | "kib" => (1024, 1),
        "mi" | "mib" => (1024, 2),
        "gi" | "gib" => (1024, 3),
        "ti" | "tib" => (1024, 4),
        "pi" | "pib" => (1024, 5),
        _ => return Err(EXPECTED),
    };
    number.checked_mul(u64::pow(base, power)).ok_or(EXPECTED)
}

/// A fraction of the machine's RAM: `0.6`.
pub(super) fn fraction_of_ram(text: &str, max: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if (0.0..=max).contains(&fraction) => Ok(fraction),
        _ => Err(format!(
            "expected a fraction of RAM from 0.0 to {max:.1}, such as 0.6"
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
        assert_eq!(
            cores("100-163").map(|cores| cores == Cores::Cpus((100..164).collect())),
            Ok(true)
        );
        assert_eq!(cores("64"), Ok(Cores::Count(CORES_MAX)));
        for text in ["65", "0-64", "2000"] {
            assert_eq!(cores(text), Err("expected at most 64 cores"));
        }
        for text in [
            "", "0", "-1", "1-", "3-1", "0,0", "0-2,1", "1,", "a", "2000", "0-5000", "99999",
        ] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_may_have_a_unit_of_thousands_or_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1073741824", 1 << 30),
            ("50MB", 50_000_000),
            ("50mb", 50_000_000),
            ("7k", 7_000),
            ("7KiB", 7 << 10),
            ("512Mi", 512 << 20),
            ("2GiB", 2 << 30),
            ("1T", 1_000_000_000_000),
            ("3pib", 3 << 50),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "MB", "-1", "1.5GB", "1 GB", "1XB", "1bytes", "20000PB", "1GBé",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fraction_of_ram_is_within_bounds() {
        assert_eq!(fraction_of_ram("0.6", 1.0), Ok(0.6));
        assert_eq!(fraction_of_ram("0", 1.0), Ok(0.0));
        assert_eq!(fraction_of_ram("1", 1.0), Ok(1.0));
        for text in ["", "1.1", "-0.1", "NaN", "inf", "60%"] {
            assert!(fraction_of_ram(text, 1.0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_is_a_port_or_an_address() {
        let parsed = |text| port_or_address(text).map(|address| address.to_string());
        assert_eq!(parsed("5672"), Ok("[::]:5672".to_owned()));
        assert_eq!(parsed("127.0.0.1:1"), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(parsed("[::1]:1"), Ok("[::1]:1".to_owned()));
        assert_eq!(parsed("::1:1"), Ok("[::1]:1".to_owned()));
        assert_eq!(parsed(":::1"), Ok("[::]:1".to_owned()));
        assert_eq!(parsed("localhost:1"), Ok("127.0.0.1:1".to_owned()));
        for text in ["", "70000", "127.0.0.1", "::1:x", "localhost:", "host:1"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
