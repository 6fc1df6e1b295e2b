//! The bytes of a TLS handshake, as they are on the wire → what both sides said in the clear.
//!
//! Everything here was said before anything was encrypted: the hellos, and up to TLS 1.2 the certificates. In TLS 1.3
//! certificates and the protocol that was chosen are encrypted, so they are unknown, and nothing is guessed. Bytes of the
//! two directions may come in any order; a direction that lacks bytes is given up where they are missing, and what was
//! seen of it until then stands. It must not judge, nor know what the connection carries.
//!
//! Sources: RFC 8446 (TLS 1.3), RFC 5246 (1.2), RFC 6066 §3 (server name), RFC 7301 (ALPN), RFC 8701 (GREASE),
//! RFC 9849 (encrypted client hello).

mod certificate;
mod hello;

use std::sync::LazyLock;

use hashbrown::HashMap;

pub use self::certificate::Certificate;
pub use self::hello::{ClientHello, ServerHello};
use crate::capture::Direction;

/// Longest handshake message that is read; further ones end the direction. As much as the kernel side ships.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Longest record (RFC 5246 §6.2.3: 2^14 of plaintext, and what encryption may add).
const RECORD_BYTES_MAX: usize = (1 << 14) + 2048;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

mod message {
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const CERTIFICATE: u8 = 11;
    pub const CERTIFICATE_REQUEST: u8 = 13;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CERTIFICATE_VERIFY: u8 = 15;
}

/// A version, as it is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl Version {
    pub const TLS12: Version = Version(0x0303);
    pub const TLS13: Version = Version(0x0304);

    /// `1.2`; empty for what has no name.
    pub fn name(self) -> &'static str {
        match self.0 {
            0x0300 => "ssl3",
            0x0301 => "1.0",
            0x0302 => "1.1",
            0x0303 => "1.2",
            0x0304 => "1.3",
            _ => "",
        }
    }
}

/// A cipher suite, as it is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cipher(pub u16);

impl Cipher {
    /// The registered name.
    pub fn name(self) -> Option<&'static str> {
        static NAMES: LazyLock<HashMap<u16, &'static str>> = LazyLock::new(|| {
            include_str!("ciphers.txt")
                .lines()
                .filter_map(|line| {
                    let (value, name) = line.split_once(' ')?;
                    Some((u16::from_str_radix(value, 16).ok()?, name))
                })
                .collect()
        });
        NAMES.get(&self.0).copied()
    }
}

/// What a side showed of its certificates.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Shown {
    /// Nothing was seen that tells.
    #[default]
    Unknown,
    /// It was asked and showed none.
    None,
    /// The first of so many; `None`: that one could not be read.
    Chain(Option<Box<Certificate>>, u32),
}

/// What was said in the clear. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone, Default)]
pub struct Spoken {
    /// Which way the client speaks.
    pub client: Option<Direction>,
    pub client_hello: Option<ClientHello>,
    pub server_hello: Option<ServerHello>,
    pub server_certificates: Shown,
    pub client_certificates: Shown,
    /// The server asked for a certificate of the client.
    pub asked: bool,
    /// All of the server's first flight was seen, up to TLS 1.2: what is not in it was not said.
    pub flight_whole: bool,
    /// The client proved that the certificate is its own (RFC 5246 §7.4.8).
    pub proven: bool,
    /// Something that no side may say.
    pub malformed: bool,
    /// The server wanted another hello: it is TLS 1.3.
    retried: bool,
    /// Messages.
    said: u32,
}

impl Spoken {
    /// The version that the server chose; `None`: it was not seen.
    pub fn version(&self) -> Option<Version> {
        self.server_hello.as_ref().map(|hello| hello.version)
    }

    /// In TLS 1.3 all that follows the hello of the server is encrypted.
    fn is_whole(&self) -> bool {
        self.version().is_some_and(|version| version >= Version::TLS13)
    }

    /// Up to TLS 1.2 the server takes a session up again by giving its id back (RFC 5246 §7.3), so that no certificates
    /// are shown. `None`: not known.
    pub fn resumed(&self) -> Option<bool> {
        let (client, server) = (self.client_hello.as_ref()?, self.server_hello.as_ref()?);
        Some(match server.version >= Version::TLS13 {
            true => server.resumes,
            false => !client.session_id.is_empty() && client.session_id == server.session_id,
        })
    }
}

/// Where a direction stands in its record.
enum Reading {
    Header { bytes: [u8; 5], got: usize },
    Fragment { kind: u8, left: usize },
}

struct Half {
    /// Sequence number of the next byte; `None` before the first.
    next: Option<u32>,
    reading: Reading,
    /// A handshake message in progress, with its header.
    message: Vec<u8>,
    /// Nothing of it can be read any more, or need be.
    over: bool,
    /// A record of a handshake has begun: it is TLS.
    begun: bool,
    /// The sender has said that it encrypts from here on, and nobody knows whether that counts.
    encrypts: bool,
}

impl Half {
    fn new() -> Self {
        Half {
            next: None,
            reading: Reading::Header {
                bytes: [0; 5],
                got: 0,
            },
            message: Vec::new(),
            over: false,
            begun: false,
            encrypts: false,
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.message = Vec::new();
    }
}

/// Reads one connection's handshake.
pub struct TlsHandshake {
    sent: Half,
    received: Half,
    spoken: Spoken,
}

impl Default for TlsHandshake {
    fn default() -> Self {
        TlsHandshake {
            sent: Half::new(),
            received: Half::new(),
            spoken: Spoken::default(),
        }
    }
}

impl TlsHandshake {
    /// Takes bytes that stand at `position` (TCP's sequence number) in their direction. What has been taken already is
    /// passed over; a hole ends the direction. Returns whether something was said.
    pub fn take(&mut self, direction: Direction, position: u32, bytes: &[u8]) -> bool {
        let (half, other) = match direction {
            Direction::Sent => (&mut self.sent, &mut self.received),
            Direction::Received => (&mut self.received, &mut self.sent),
        };
        if half.over {
            return false;
        }
        let next = *half.next.get_or_insert(position);
        let ahead = position.wrapping_sub(next) as i32;
        let known = ahead.unsigned_abs() as usize;
        let bytes = match ahead {
            1.. => {
                half.end();
                return false;
            }
            _ if known >= bytes.len() => return false,
            _ => &bytes[known..],
        };
        half.next = Some(next.wrapping_add(bytes.len() as u32));
        let said = self.spoken.said;
        if read(half, direction, &mut self.spoken, bytes).is_none() {
            self.spoken.malformed |= half.begun;
            self.spoken.said += 1;
            half.end();
        }
        if self.spoken.is_whole() {
            half.end();
            other.end();
        }
        self.spoken.said != said
    }

    /// Nothing more will be learnt.
    pub fn is_over(&self) -> bool {
        self.sent.over && self.received.over
    }

    /// What has been said so far.
    pub fn spoken(&self) -> &Spoken {
        &self.spoken
    }

    /// Bytes held for messages in progress.
    pub fn held_bytes(&self) -> usize {
        self.sent.message.capacity() + self.received.message.capacity()
    }
}

/// `None`: no side may say that.
fn read(half: &mut Half, direction: Direction, spoken: &mut Spoken, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() && !half.over && !spoken.is_whole() {
        match &mut half.reading {
            Reading::Header { bytes: header, got } => {
                let part = (header.len() - *got).min(bytes.len());
                header[*got..*got + part].copy_from_slice(&bytes[..part]);
                *got += part;
                bytes = &bytes[part..];
                if *got == header.len() {
                    let header = *header;
                    record(half, header, spoken)?;
                }
            }
            Reading::Fragment { kind, left } => {
                let (part, rest) = bytes.split_at((*left).min(bytes.len()));
                let kind = *kind;
                *left -= part.len();
                let ends = *left == 0;
                bytes = rest;
                if ends {
                    half.reading = Reading::Header {
                        bytes: [0; 5],
                        got: 0,
                    };
                }
                if kind == HANDSHAKE && !half.encrypts {
                    fragment(half, direction, spoken, part)?;
                }
            }
        }
    }
    Some(())
}

/// A record begins.
fn record(half: &mut Half, header: [u8; 5], spoken: &Spoken) -> Option<()> {
    let (kind, major) = (header[0], header[1]);
    let left = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if !half.begun && kind != HANDSHAKE {
        // It is something else, or its handshake was before: not for here to say what is wrong with it.
        half.end();
        return Some(());
    }
    if major != 3 || left > RECORD_BYTES_MAX {
        return None;
    }
    match kind {
        HANDSHAKE if left == 0 => return None,
        HANDSHAKE => half.begun = true,
        // A message must not be interrupted (RFC 8446 §5.1).
        CHANGE_CIPHER_SPEC | ALERT if !half.message.is_empty() => return None,
        CHANGE_CIPHER_SPEC => match spoken.version() {
            Some(version) if version <= Version::TLS12 => {
                half.end();
                return Some(());
            }
            // For the sake of old middleboxes (RFC 8446 §D.4): it says nothing.
            _ => {}
        },
        ALERT => {}
        APPLICATION_DATA => {
            half.end();
            return Some(());
        }
        _ => return None,
    }
    if left > 0 {
        half.reading = Reading::Fragment { kind, left };
    } else {
        half.reading = Reading::Header {
            bytes: [0; 5],
            got: 0,
        };
    }
    half.encrypts |= kind == CHANGE_CIPHER_SPEC && spoken.version().is_none() && !spoken.retried;
    Some(())
}

/// Bytes of handshake messages.
fn fragment(half: &mut Half, direction: Direction, spoken: &mut Spoken, mut bytes: &[u8]) -> Option<()> {
    const HEADER: usize = 4;
    while !bytes.is_empty() && !half.over && !spoken.is_whole() {
        let have = half.message.len();
        let want = if have < HEADER {
            HEADER
        } else {
            HEADER + length(&half.message)
        };
        if want > MESSAGE_BYTES_MAX {
            half.end();
            return Some(());
        }
        let part = (want - have).min(bytes.len());
        half.message.extend_from_slice(&bytes[..part]);
        bytes = &bytes[part..];
        if half.message.len() < HEADER || half.message.len() < HEADER + length(&half.message) {
            continue;
        }
        let message = std::mem::take(&mut half.message);
        say(spoken, direction, message[0], &message[HEADER..])?;
    }
    Some(())
}

fn length(message: &[u8]) -> usize {
    usize::from(message[1]) << 16 | usize::from(message[2]) << 8 | usize::from(message[3])
}

/// One whole message.
fn say(spoken: &mut Spoken, direction: Direction, kind: u8, body: &[u8]) -> Option<()> {
    if let Some(client) = spoken.client
        && let message::CLIENT_HELLO | message::SERVER_HELLO = kind
        && (client == direction) != (kind == message::CLIENT_HELLO)
    {
        return None;
    }
    spoken.said += 1;
    let by_client = spoken.client == Some(direction);
    match kind {
        message::CLIENT_HELLO => {
            let hello = ClientHello::read(body)?;
            spoken.client = Some(direction);
            spoken.client_hello = Some(hello);
        }
        message::SERVER_HELLO => {
            let hello = ServerHello::read(body)?;
            // The server asks the client to say hello once more (RFC 8446 §4.1.4); it has chosen nothing that stands.
            match hello.retry {
                true => spoken.retried = true,
                false => spoken.server_hello = Some(hello),
            }
            spoken.client.get_or_insert(match direction {
                Direction::Sent => Direction::Received,
                Direction::Received => Direction::Sent,
            });
        }
        message::CERTIFICATE => {
            let shown = certificate::chain(body)?;
            if by_client {
                spoken.client_certificates = shown;
            } else {
                spoken.server_certificates = shown;
            }
        }
        message::CERTIFICATE_REQUEST if !by_client => spoken.asked = true,
        message::SERVER_HELLO_DONE if !by_client => spoken.flight_whole = true,
        message::CERTIFICATE_VERIFY if by_client => spoken.proven = true,
        _ => {}
    }
    Some(())
}

#[cfg(test)]
pub(crate) mod tests;
