//! The PROXY protocol's header, versions 1 and 2: what a load balancer may put before the first request, and whom it
//! says the connection comes from. It is skipped so that the request behind it is seen; whether its word counts is
//! for the policy to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, with its CRLF.
const TEXT_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const BINARY_HEAD_BYTES: usize = 16;
/// Addresses and options; longer than anything in use.
const BINARY_REST_BYTES_MAX: usize = 4096;

/// What stands at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// No header.
    None,
    /// It could be one; more bytes are needed.
    More,
    /// A header of that many bytes, and the client that it names, if it names one.
    Header {
        bytes: usize,
        client: Option<SocketAddr>,
    },
}

impl Prefix {
    /// Looks at the first bytes of a connection.
    pub fn of(bytes: &[u8]) -> Prefix {
        prefix(bytes)
    }
}

fn prefix(bytes: &[u8]) -> Prefix {
    if let Some(rest) = bytes.strip_prefix(b"PROXY ") {
        return text(bytes, rest);
    }
    if let Some(head) = bytes.get(..BINARY_HEAD_BYTES)
        && head.starts_with(SIGNATURE)
    {
        return binary(bytes, head);
    }
    let begins = |with: &[u8]| bytes.len() < with.len() && with.starts_with(bytes);
    let binary_begins = bytes.len() < BINARY_HEAD_BYTES && bytes.starts_with(SIGNATURE);
    // An empty line alone is how clients pad requests; it takes the NUL to be a signature.
    let told_apart = bytes.len() > 4 || !bytes.starts_with(b"\r");
    if begins(b"PROXY ") || (told_apart && begins(SIGNATURE)) || binary_begins {
        return Prefix::More;
    }
    Prefix::None
}

/// `PROXY TCP4 client server port port CRLF`
fn text(bytes: &[u8], rest: &[u8]) -> Prefix {
    let Some(end) = memchr::memchr(b'\n', &bytes[..bytes.len().min(TEXT_BYTES_MAX)]) else {
        return if bytes.len() < TEXT_BYTES_MAX {
            Prefix::More
        } else {
            Prefix::None
        };
    };
    let line = rest.get(..end.saturating_sub(6)).unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else {
        return Prefix::None;
    };
    let mut words = line.trim_end().split(' ');
    let client = match words.next() {
        Some("TCP4" | "TCP6") => {
            let (client, _server, port) = (words.next(), words.next(), words.next());
            let address = client.and_then(|client| client.parse::<IpAddr>().ok());
            let port = port.and_then(|port| port.parse().ok());
            address
                .zip(port)
                .map(|(address, port)| SocketAddr::new(address.to_canonical(), port))
        }
        Some("UNKNOWN") => None,
        _ => return Prefix::None,
    };
    Prefix::Header {
        bytes: end + 1,
        client,
    }
}

/// Signature, version and command, family, length, addresses.
fn binary(bytes: &[u8], head: &[u8]) -> Prefix {
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || length > BINARY_REST_BYTES_MAX {
        return Prefix::None;
    }
    let Some(rest) = bytes.get(BINARY_HEAD_BYTES..BINARY_HEAD_BYTES + length) else {
        return Prefix::More;
    };
    let port = |at: usize| {
        rest.get(at..at + 2)
            .map(|port| u16::from_be_bytes([port[0], port[1]]))
    };
    let proxied = head[12] & 0xf == 1;
    let client = match head[13] {
        0x11 if proxied => rest
            .first_chunk::<4>()
            .zip(port(8))
            .map(|(address, port)| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*address)), port)),
        0x21 if proxied => rest.first_chunk::<16>().zip(port(32)).map(|(address, port)| {
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(), port)
        }),
        _ => None,
    };
    Prefix::Header {
        bytes: BINARY_HEAD_BYTES + length,
        client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_and_others_are_not() {
        let mut v4 = SIGNATURE.to_vec();
        v4.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80]);
        let mut local = SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        for (bytes, expected) in [
            (
                &b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 80\r\nGET"[..],
                Some((39, Some("192.0.2.1:8080"))),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
                Some((32, Some("[2001:db8::1]:1"))),
            ),
            (b"PROXY UNKNOWN\r\n", Some((15, None))),
            (&v4, Some((28, Some("192.0.2.1:8080")))),
            (&local, Some((16, None))),
        ] {
            let (length, client) = expected.unwrap();
            let client = client.map(|client: &str| client.parse().unwrap());
            assert_eq!(
                prefix(bytes),
                Prefix::Header {
                    bytes: length,
                    client
                },
                "{}",
                bytes.escape_ascii()
            );
            for split in 5..length {
                assert_eq!(
                    prefix(&bytes[..split]),
                    Prefix::More,
                    "{split} bytes of {}",
                    bytes.escape_ascii()
                );
            }
        }
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY / HTTP/1.1\r\n",
            b"\r\n",
            b"\r\n\r\nGET",
            b"HTTP/1.1 200 OK",
        ] {
            assert_eq!(prefix(bytes), Prefix::None, "{}", bytes.escape_ascii());
        }
        assert_eq!(prefix(&[b"PROXY ", &[b'x'; 200][..]].concat()), Prefix::None);
    }
}
