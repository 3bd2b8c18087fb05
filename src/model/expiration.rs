//! The `expiration` property and how long things may live: RabbitMQ's checks
//! (`rabbit_basic:parse_expiration`, `rabbit_misc:check_expiry`) and its texts.

/// The longest time to live, in milliseconds: ten years, as with RabbitMQ.
pub const EXPIRY_MAX_MS: u64 = 315_360_000_000;

/// Reads an expiration: milliseconds in decimal digits.
///
/// # Errors
/// The reason as Erlang prints it.
pub fn expiration_ms(text: &[u8]) -> Result<u64, String> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let len = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = digits.split_at(len);
    if digits.is_empty() {
        return Err("no_integer".to_owned());
    }
    if !rest.is_empty() {
        let rest = String::from_utf8_lossy(rest);
        return Err(format!("{{leftover_string,\"{rest}\"}}"));
    }
    let text = String::from_utf8_lossy(digits);
    let significant = text.trim_start_matches('0');
    if sign < 0 && !significant.is_empty() {
        return Err(format!("{{value_negative,-{significant}}}"));
    }
    let too_big = || format!("{{value_too_large,{significant}}}");
    match significant {
        "" => Ok(0),
        digits => match digits.parse() {
            Ok(ms) if ms <= EXPIRY_MAX_MS => Ok(ms),
            _ => Err(too_big()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_are_read_and_refused_as_by_rabbitmq() {
        let cases: [(&str, Result<u64, &str>); 9] = [
            ("0", Ok(0)),
            ("60000", Ok(60_000)),
            ("+007", Ok(7)),
            ("315360000000", Ok(315_360_000_000)),
            ("315360000001", Err("{value_too_large,315360000001}")),
            ("-1", Err("{value_negative,-1}")),
            ("", Err("no_integer")),
            ("soon", Err("no_integer")),
            ("10s", Err("{leftover_string,\"s\"}")),
        ];
        for (text, expected) in cases {
            let expected = expected.map_err(str::to_owned);
            assert_eq!(expiration_ms(text.as_bytes()), expected, "{text}");
        }
    }
}
