//! What kind of TLS code a file has: a library that can be read, one that cannot, or none.
//!
//! By what it exports, never by its name: NSS's `libssl3.so` is no OpenSSL, and node is one.

use std::path::Path;

use super::super::elf::{Elf, ElfError};

/// Longest version text that is looked at, in bytes: `OpenSSL 3.0.19 27 Jan 2026`.
const VERSION_BYTES_MAX: usize = 48;

/// Which project the library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    OpenSsl,
    LibreSsl,
    BoringSsl,
    /// It has OpenSSL's functions and does not say who made it.
    Other,
}

impl Family {
    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::OpenSsl => "openssl",
            Family::LibreSsl => "libressl",
            Family::BoringSsl => "boringssl",
            Family::Other => "openssl-like",
        }
    }
}

/// A library, or a program with one inside, that has OpenSSL's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsLibrary {
    pub family: Family,
    /// `3.0.19`, `1.1.1w`; empty if it does not say.
    pub version: String,
    /// Empty for programs.
    pub soname: String,
}

/// TLS code that the agent cannot read: a blind spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnknownTls {
    GnuTls,
    Nss,
    MbedTls,
    WolfSsl,
    S2n,
    Rustls,
    /// A Go program that has `crypto/tls` linked in.
    Go,
    /// OpenJDK's virtual machine, whose TLS is Java code.
    Java,
}

impl UnknownTls {
    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            UnknownTls::GnuTls => "gnutls",
            UnknownTls::Nss => "nss",
            UnknownTls::MbedTls => "mbedtls",
            UnknownTls::WolfSsl => "wolfssl",
            UnknownTls::S2n => "s2n",
            UnknownTls::Rustls => "rustls",
            UnknownTls::Go => "go",
            UnknownTls::Java => "java",
        }
    }
}

/// A function that only this kind of TLS code exports.
const MARKS: &[(&str, UnknownTls)] = &[
    ("gnutls_record_recv", UnknownTls::GnuTls),
    ("SSL_ImportFD", UnknownTls::Nss),
    ("mbedtls_ssl_read", UnknownTls::MbedTls),
    ("wolfSSL_read", UnknownTls::WolfSsl),
    ("s2n_recv", UnknownTls::S2n),
    ("rustls_connection_read_tls", UnknownTls::Rustls),
    ("JNI_CreateJavaVM", UnknownTls::Java),
];

/// What the file at `path` has. Errors are unreadable files; a file that is no ELF program has nothing.
pub fn scan(path: &Path) -> Result<Option<TlsLibrary>, ElfError> {
    match Elf::open(path) {
        Ok(elf) => identify_at(&elf, path),
        Err(ElfError::NotElf) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`identify`]; newer libraries name their version in libcrypto only, which is looked for beside the file.
pub(super) fn identify_at(elf: &Elf, path: &Path) -> Result<Option<TlsLibrary>, ElfError> {
    let Some(mut library) = identify(elf)? else {
        return Ok(None);
    };
    if library.version.is_empty()
        && library.family == Family::OpenSsl
        && let Some(crypto) = elf.needed().into_iter().find(|name| name.starts_with("libcrypto"))
        // A name, not a path: the file is not to choose what else is read.
        && !crypto.contains('/')
        && let Ok(crypto) = Elf::open(&path.with_file_name(crypto))
    {
        library.version = version_after(&crypto, b"OpenSSL ")?.unwrap_or_default();
    }
    Ok(Some(library))
}

/// What an open file has.
pub fn identify(elf: &Elf) -> Result<Option<TlsLibrary>, ElfError> {
    // Compatibility layers have the first two, and little else.
    const NEEDED: [&str; 4] = ["SSL_read", "SSL_write", "SSL_do_handshake", "SSL_free"];
    const BORING: &str = "SSL_CTX_set_grease_enabled";
    // In OpenSSL since 3.0, and nowhere else.
    const OPENSSL_3: &str = "SSL_CTX_new_ex";
    let asked = [BORING, OPENSSL_3, "SSL_CTX_ctrl"];
    let found = elf.functions(|name| NEEDED.contains(&name) || asked.contains(&name))?;
    let has = |name: &str| found.iter().any(|symbol| symbol.name == name);
    if !NEEDED.iter().all(|name| has(name)) {
        return Ok(None);
    }
    let (family, version) = if has(BORING) {
        (Family::BoringSsl, String::new())
    } else if let Some(version) = version_after(elf, b"LibreSSL ")? {
        (Family::LibreSsl, version)
    } else if let Some(version) = version_after(elf, b"OpenSSL ")? {
        (Family::OpenSsl, version)
    } else if has(OPENSSL_3) {
        (Family::OpenSsl, String::new())
    } else if has("SSL_CTX_ctrl") {
        (Family::Other, String::new())
    } else {
        return Ok(None);
    };
    Ok(Some(TlsLibrary {
        family,
        version,
        soname: elf.soname().unwrap_or_default(),
    }))
}

/// The version in the text that `name` begins, e.g. `OpenSSL 1.1.1w  11 Sep 2023`.
fn version_after(elf: &Elf, name: &[u8]) -> Result<Option<String>, ElfError> {
    elf.find_in_section(".rodata", name, VERSION_BYTES_MAX, |text| {
        let text = text.get(name.len()..)?;
        let end = text
            .iter()
            .position(|b| !(b.is_ascii_alphanumeric() || b".-+".contains(b)))?;
        let version = std::str::from_utf8(&text[..end]).ok()?;
        let is_version =
            version.starts_with(|c: char| c.is_ascii_digit()) && version.matches('.').count() == 2;
        (is_version && matches!(text[end], 0 | b' ')).then(|| version.to_owned())
    })
}

/// TLS code in the file that the agent cannot read, if it has some.
pub fn unknown_tls(elf: &Elf) -> Result<Option<UnknownTls>, ElfError> {
    let found = elf.functions(|name| MARKS.iter().any(|(mark, _)| *mark == name))?;
    let mark = MARKS
        .iter()
        .find(|(mark, _)| found.iter().any(|symbol| symbol.name == *mark));
    if let Some((_, kind)) = mark {
        return Ok(Some(*kind));
    }
    // Go keeps the names of all its functions, also in stripped programs.
    for section in [".gopclntab", ".data.rel.ro.gopclntab"] {
        let uses = elf.find_in_section(section, b"crypto/tls.(*Conn).Write", 64, |_| Some(()))?;
        if uses.is_some() {
            return Ok(Some(UnknownTls::Go));
        }
    }
    Ok(None)
}
