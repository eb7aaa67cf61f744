//! What the URLs of all kinds of servers have in common.

use std::net::IpAddr;

/// `%2F` and its like, decoded; or what is wrong with it.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(super) fn decoded(text: &str) -> Result<String, &'static str> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.ok_or("a % is not followed by two digits")?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "a parameter is not UTF-8")
}

/// Whether a name or address is this machine's own, so that nobody else's is asked.
pub(super) fn is_here(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
