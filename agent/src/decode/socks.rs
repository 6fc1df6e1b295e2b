//! What a client and a SOCKS proxy say to each other before the connection is the client's own: version 5 (RFC 1928, with
//! names and passwords by RFC 1929), 4 and 4a. It is passed over, so that what comes behind it is seen. The proxy is the
//! peer; whom the client wants behind it, requests say themselves.

/// Longest name that ends in a zero in version 4.
const NAME_BYTES_MAX: usize = 255;
const VERSION_4: u8 = 4;
const VERSION_5: u8 = 5;
const CONNECT: u8 = 1;
/// Methods that can be followed: none, and a name with a password; and how the latter begins.
const BY_NOTHING: u8 = 0;
const BY_PASSWORD: u8 = 2;
const PASSWORD: u8 = 1;
/// "Request granted" of version 4.
const GRANTED_4: u8 = 90;

/// What stands at the beginning of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// No negotiation.
    None,
    /// It could be one, or is one; more bytes are needed.
    More,
    /// One of that many bytes.
    Over(usize),
}

impl Negotiation {
    /// Looks at the first bytes of a client.
    pub fn of_client(bytes: &[u8]) -> Negotiation {
        Negotiation::of(bytes, client)
    }

    /// And of whoever answers one that negotiates.
    pub fn of_server(bytes: &[u8]) -> Negotiation {
        Negotiation::of(bytes, server)
    }

    fn of(bytes: &[u8], read: fn(&mut Rest<'_>) -> Result<(), Short>) -> Negotiation {
        let mut rest = Rest(bytes);
        match read(&mut rest) {
            Ok(()) => Negotiation::Over(bytes.len() - rest.0.len()),
            Err(Short::More) => Negotiation::More,
            Err(Short::No) => Negotiation::None,
        }
    }
}

/// Greeting, name and password if they were asked for, and what to connect to.
fn client(rest: &mut Rest<'_>) -> Result<(), Short> {
    if rest.expect(&[VERSION_4, VERSION_5])? == VERSION_4 {
        rest.expect(&[CONNECT])?;
        rest.skip(2)?;
        let by_name = rest.four()?;
        rest.name()?;
        // 0.0.0.x, which is nobody's: a name follows (4a).
        return match by_name {
            [0, 0, 0, last] if last != 0 => rest.name(),
            _ => Ok(()),
        };
    }
    rest.counted()?;
    if rest.expect(&[PASSWORD, VERSION_5])? == PASSWORD {
        rest.counted()?;
        rest.counted()?;
        rest.expect(&[VERSION_5])?;
    }
    rest.expect(&[CONNECT])?;
    rest.expect(&[0])?;
    rest.address()
}

/// The method that was chosen, whether a password is right, and whether there is a connection.
fn server(rest: &mut Rest<'_>) -> Result<(), Short> {
    if rest.expect(&[0, VERSION_5])? == 0 {
        rest.expect(&[GRANTED_4])?;
        return rest.skip(6);
    }
    if rest.expect(&[BY_NOTHING, BY_PASSWORD])? == BY_PASSWORD {
        rest.expect(&[PASSWORD])?;
        rest.expect(&[0])?;
    }
    rest.expect(&[VERSION_5])?;
    rest.expect(&[0])?;
    rest.expect(&[0])?;
    rest.address()
}

/// Why there is no whole negotiation.
enum Short {
    No,
    More,
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn byte(&mut self) -> Result<u8, Short> {
        let (first, rest) = self.0.split_first().ok_or(Short::More)?;
        self.0 = rest;
        Ok(*first)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Short> {
        self.0 = self.0.get(bytes..).ok_or(Short::More)?;
        Ok(())
    }

    fn expect(&mut self, wanted: &[u8]) -> Result<u8, Short> {
        let byte = self.byte()?;
        wanted.contains(&byte).then_some(byte).ok_or(Short::No)
    }

    fn four(&mut self) -> Result<[u8; 4], Short> {
        let four = *self.0.first_chunk().ok_or(Short::More)?;
        self.skip(four.len())?;
        Ok(four)
    }

    /// A length, and so many bytes.
    fn counted(&mut self) -> Result<(), Short> {
        let bytes = self.byte()?;
        self.skip(usize::from(bytes))
    }

    /// Up to a zero.
    fn name(&mut self) -> Result<(), Short> {
        let most = self.0.len().min(NAME_BYTES_MAX + 1);
        match memchr::memchr(0, &self.0[..most]) {
            Some(end) => self.skip(end + 1),
            None if most > NAME_BYTES_MAX => Err(Short::No),
            None => Err(Short::More),
        }
    }

    /// Kind, address and port (RFC 1928, section 5).
    fn address(&mut self) -> Result<(), Short> {
        match self.expect(&[1, 3, 4])? {
            1 => self.skip(4)?,
            3 => self.counted()?,
            _ => self.skip(16)?,
        }
        self.skip(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &[u8] = b"\x05\x02\0\x02";
    const BY_ADDRESS: &[u8] = b"\x05\x01\0\x01\x7f\0\0\x01\0\x50";
    const TO_NAME: &[u8] = b"\x05\x01\0\x03\x04ehr.\0\x50";
    const REPLY: &[u8] = b"\x05\0\0\x01\0\0\0\0\0\0";

    #[test]
    fn a_negotiation_is_told_from_its_first_byte_to_its_last() {
        let (of_client, of_server) = (Negotiation::of_client, Negotiation::of_server);
        let sixteen = [b"\x05\0\0\x04", &[0; 18][..]].concat();
        for (of, parts) in [
            (of_client as fn(&[u8]) -> Negotiation, &[GREETING, BY_ADDRESS][..]),
            (of_client, &[GREETING, b"\x01\x01a\x02bc", TO_NAME]),
            (of_client, &[b"\x04\x01\0\x50\x7f\0\0\x01somebody\0"]),
            (of_client, &[b"\x04\x01\0\x50\0\0\0\x01\0ehr.example\0"]),
            (of_server, &[b"\x05\0", REPLY]),
            (of_server, &[b"\x05\x02\x01\0", &sixteen]),
            (of_server, &[b"\0\x5a\0\0\0\0\0\0"]),
        ] {
            let whole = parts.concat();
            for end in 0..whole.len() {
                assert_eq!(of(&whole[..end]), Negotiation::More, "{end} bytes of {whole:?}");
            }
            let more = [&whole[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(of(&more), Negotiation::Over(whole.len()), "{whole:?}");
        }
    }

    #[test]
    fn what_is_none_is_left_alone() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            // Whoever wants to listen, an unknown kind of address, a name without an end.
            b"\x05\x01\0\x05\x02",
            b"\x05\x01\0\x05\x01\0\x02",
            b"\x04\x02",
            &[b"\x04\x01\0\x50\x7f\0\0\x01", &[b'a'; 300][..]].concat(),
        ] {
            assert_eq!(Negotiation::of_client(bytes), Negotiation::None, "{bytes:?}");
        }
        // Refused.
        for bytes in [&b"\x05\xff"[..], b"\x05\0\x05\x01", b"\0\x5b", b"HTTP/1.1 200"] {
            assert_eq!(Negotiation::of_server(bytes), Negotiation::None, "{bytes:?}");
        }
    }
}
