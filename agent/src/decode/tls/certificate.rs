//! What a certificate says of itself (RFC 5280), and the message that carries them up to TLS 1.2 (RFC 5246 §7.4.2).
//!
//! Only the first one of a chain is read: it is the peer's own. Nothing is verified but, where it costs little, whether a
//! certificate has signed itself: whom to trust is the application's to say.

use smol_str::{SmolStr, StrExt, format_smolstr};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use super::Shown;
use super::hello::Fields;

/// Names of one certificate that are kept.
const NAMES_MAX: usize = 16;
/// Longest of them.
const NAME_BYTES_MAX: usize = 253;
/// Certificates of one chain that are counted.
const CHAIN_MAX: u32 = 64;

/// One certificate. Deliberately without `Debug`: it is captured bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Distinguished names, as they are encoded.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// The common names in them, as they are.
    pub common_name: SmolStr,
    pub issuer_name: SmolStr,
    /// Hosts that it is for (subject alternative names), in lower case.
    pub names: Vec<SmolStr>,
    /// In seconds since 1970.
    pub not_before_s: i64,
    pub not_after_s: i64,
    /// Its issuer is itself.
    pub self_signed: bool,
    /// `rsa-2048`, `ec-256`, else the number of the algorithm.
    pub key: SmolStr,
    /// Hex, at most 20 bytes (RFC 5280 §4.1.2.2).
    pub serial: SmolStr,
}

/// The message's chain.
pub(super) fn chain(body: &[u8]) -> Option<Shown> {
    let mut fields = Fields(body);
    let mut list = fields.vector(3)?;
    if !fields.is_empty() {
        return None;
    }
    let mut first = None;
    let mut count = 0;
    while !list.is_empty() {
        let der = list.vector(3)?.0;
        if der.is_empty() {
            return None;
        }
        if count == 0 {
            first = Certificate::read(der).map(Box::new);
        }
        count = (count + 1).min(CHAIN_MAX);
    }
    Some(match count {
        0 => Shown::None,
        count => Shown::Chain(first, count),
    })
}

impl Certificate {
    fn read(der: &[u8]) -> Option<Certificate> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let mut names = Vec::new();
        if let Ok(Some(extension)) = read.subject_alternative_name() {
            let hosts = extension
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) if name.len() <= NAME_BYTES_MAX => Some(*name),
                    _ => None,
                });
            names.extend(hosts.take(NAMES_MAX).map(StrExt::to_ascii_lowercase_smolstr));
        }
        Some(Certificate {
            subject: read.subject().as_raw().to_vec(),
            issuer: read.issuer().as_raw().to_vec(),
            common_name: common_name(read.subject()),
            issuer_name: common_name(read.issuer()),
            names,
            not_before_s: read.validity().not_before.timestamp(),
            not_after_s: read.validity().not_after.timestamp(),
            self_signed: signs_itself(&read),
            key: key(&read),
            serial: serial(read.raw_serial()),
        })
    }
}

/// Issuer and subject are one, and so are the keys that they name, where they name any (RFC 5280 §4.2.1.1). The signature
/// itself is not computed: it would cost each handshake more than all the rest, and who forges it gains nothing but this
/// word.
fn signs_itself(read: &X509Certificate<'_>) -> bool {
    use x509_parser::extensions::ParsedExtension;
    if read.subject().as_raw() != read.issuer().as_raw() {
        return false;
    }
    let (mut own, mut signer) = (None, None);
    for extension in read.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                signer = id.key_identifier.as_ref().map(|id| id.0);
            }
            _ => {}
        }
    }
    match (own, signer) {
        (Some(own), Some(signer)) => own == signer,
        _ => true,
    }
}

fn serial(number: &[u8]) -> SmolStr {
    use std::fmt::Write as _;
    let number = match number {
        // Its sign.
        [0, rest @ ..] if !rest.is_empty() => rest,
        number => number,
    };
    let mut hex = smol_str::SmolStrBuilder::new();
    for byte in number.iter().take(20) {
        // A string takes whatever is written.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.finish()
}

fn common_name(name: &X509Name<'_>) -> SmolStr {
    name.iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .find(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
        .map(SmolStr::new)
        .unwrap_or_default()
}

fn key(read: &X509Certificate<'_>) -> SmolStr {
    match read.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format_smolstr!("rsa-{}", key.key_size()),
        Ok(PublicKey::EC(point)) => format_smolstr!("ec-{}", point.key_size()),
        _ => {
            let algorithm = read.public_key().algorithm.algorithm.to_id_string();
            match algorithm.as_str() {
                "1.3.101.112" => SmolStr::new_static("ed25519"),
                "1.3.101.113" => SmolStr::new_static("ed448"),
                // What a peer makes up has no place in an event.
                _ => SmolStr::new_static("other"),
            }
        }
    }
}
