//! The two hellos (RFC 8446 §4.1, RFC 5246 §7.4.1).
//!
//! Values that are sent to keep servers honest (GREASE, RFC 8701) are none. What is longer than its limits is left out,
//! what contradicts itself is malformed.

use smol_str::{SmolStr, StrExt};

use super::{Cipher, Version};

/// Longest name (RFC 1035 §2.3.4, and the dot that some put behind it).
const NAME_BYTES_MAX: usize = 254;
/// Protocols that a client offers and that are told.
const PROTOCOLS_MAX: usize = 16;
/// Longest name of one.
const PROTOCOL_BYTES_MAX: usize = 255;

mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub const PROTOCOLS: u16 = 16;
    pub const PRE_SHARED_KEY: u16 = 41;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const ENCRYPTED_HELLO: u16 = 0xfe0d;
}

/// A server's hello with this random is none: the client is to say hello once more (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a client offers. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The highest version.
    pub version_max: Version,
    /// Lower case, without a final dot.
    pub server_name: Option<SmolStr>,
    pub protocols: Vec<SmolStr>,
    /// There is another hello inside, encrypted, or what looks like one: the name may be that of a front end.
    pub encrypted: bool,
    pub session_id: Vec<u8>,
}

/// What a server has chosen. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerHello {
    pub version: Version,
    pub cipher: Cipher,
    /// Up to TLS 1.2 alone.
    pub protocol: Option<SmolStr>,
    pub session_id: Vec<u8>,
    /// TLS 1.3: by a key from before.
    pub resumes: bool,
    pub(super) retry: bool,
}

/// Takes fields from a message; `None` once they do not suffice.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self, bytes: usize) -> Option<usize> {
        let taken = self.take(bytes)?;
        Some(
            taken
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    fn short(&mut self) -> Option<u16> {
        let taken = self.take(2)?;
        Some(u16::from_be_bytes([taken[0], taken[1]]))
    }

    /// A vector, with a length of so many bytes.
    pub(super) fn vector(&mut self, length_bytes: usize) -> Option<Fields<'a>> {
        let length = self.number(length_bytes)?;
        self.take(length).map(Fields)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ClientHello {
    pub(super) fn read(body: &[u8]) -> Option<ClientHello> {
        let mut fields = Fields(body);
        let legacy = Version(fields.short()?);
        fields.take(32)?;
        let session_id = fields.vector(1)?.0;
        let ciphers = fields.vector(2)?.0;
        if session_id.len() > 32 || ciphers.len() < 2 || ciphers.len() % 2 != 0 {
            return None;
        }
        fields.vector(1)?;
        let mut hello = ClientHello {
            version_max: legacy,
            session_id: session_id.to_vec(),
            ..ClientHello::default()
        };
        each_extension(&mut fields, |kind, mut value| {
            match kind {
                extension::SERVER_NAME => hello.server_name = server_name(&mut value)?,
                extension::PROTOCOLS => hello.protocols = protocols(&mut value)?,
                extension::SUPPORTED_VERSIONS => {
                    let mut versions = value.vector(1)?;
                    while !versions.is_empty() {
                        let version = versions.short()?;
                        if !is_grease(version) && Version(version) <= Version::TLS13 {
                            hello.version_max = hello.version_max.max(Version(version));
                        }
                    }
                }
                extension::ENCRYPTED_HELLO => hello.encrypted = true,
                _ => {}
            }
            Some(())
        })?;
        Some(hello)
    }
}

impl ServerHello {
    pub(super) fn read(body: &[u8]) -> Option<ServerHello> {
        let mut fields = Fields(body);
        let legacy = Version(fields.short()?);
        let random = fields.take(32)?;
        let session_id = fields.vector(1)?.0;
        let cipher = Cipher(fields.short()?);
        fields.take(1)?;
        if session_id.len() > 32 {
            return None;
        }
        let mut hello = ServerHello {
            version: legacy,
            cipher,
            session_id: session_id.to_vec(),
            retry: random == RETRY,
            ..ServerHello::default()
        };
        each_extension(&mut fields, |kind, mut value| {
            match kind {
                extension::SUPPORTED_VERSIONS => hello.version = Version(value.short()?),
                extension::PROTOCOLS => hello.protocol = protocols(&mut value)?.into_iter().next(),
                extension::PRE_SHARED_KEY => hello.resumes = true,
                _ => {}
            }
            Some(())
        })?;
        Some(hello)
    }
}

/// Extensions are the last of a hello, and old ones have none.
fn each_extension<'a>(
    fields: &mut Fields<'a>,
    mut on: impl FnMut(u16, Fields<'a>) -> Option<()>,
) -> Option<()> {
    if fields.is_empty() {
        return Some(());
    }
    let mut extensions = fields.vector(2)?;
    while !extensions.is_empty() {
        let kind = extensions.short()?;
        let value = extensions.vector(2)?;
        on(kind, value)?;
    }
    fields.is_empty().then_some(())
}

/// `Some(None)`: there is none that is a host's.
fn server_name(value: &mut Fields<'_>) -> Option<Option<SmolStr>> {
    const HOST_NAME: usize = 0;
    // A server that has used it says so with nothing in it.
    if value.is_empty() {
        return Some(None);
    }
    let mut names = value.vector(2)?;
    while !names.is_empty() {
        let kind = names.number(1)?;
        let name = names.vector(2)?.0;
        if kind == HOST_NAME {
            let plain = name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
            let text = std::str::from_utf8(name)
                .ok()
                .filter(|name| plain && !name.is_empty())?;
            return Some(Some(
                text.strip_suffix('.')
                    .unwrap_or(text)
                    .to_ascii_lowercase_smolstr(),
            ));
        }
    }
    Some(None)
}

fn protocols(value: &mut Fields<'_>) -> Option<Vec<SmolStr>> {
    let mut names = value.vector(2)?;
    let mut protocols = Vec::new();
    while !names.is_empty() {
        let name = names.vector(1)?.0;
        if name.is_empty() || name.len() > PROTOCOL_BYTES_MAX {
            return None;
        }
        let grease = name.len() == 2 && is_grease(u16::from_be_bytes([name[0], name[1]]));
        if !grease && protocols.len() < PROTOCOLS_MAX {
            protocols.push(SmolStr::new(String::from_utf8_lossy(name)));
        }
    }
    Some(protocols)
}

/// `0x0a0a`, `0x1a1a` … `0xfafa`
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}
