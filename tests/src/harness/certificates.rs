//! An authority of the test's own and what it signs.

use std::net::IpAddr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType,
};

use super::{Result, World};

/// The authority; its own certificate is in `ca`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub ca: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(world: &World) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = named("the tests' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let ca = world.write("ca.pem", issuer.pem())?;
        Ok(Authority { issuer, ca })
    }

    /// For `localhost`, the loopback addresses and `more`.
    pub fn issue(&self, world: &World, name: &str, more: &[IpAddr]) -> Result<Identity> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        for address in [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ]
        .iter()
        .chain(more)
        {
            params.subject_alt_names.push(SanType::IpAddress(*address));
        }
        params.distinguished_name = named(name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: world.write(&format!("{name}.pem"), certificate.pem())?,
            key: world.write(&format!("{name}.key"), key.serialize_pem())?,
        })
    }
}

/// One that has signed itself, for `localhost`, and that is over since the end of 2019.
pub fn over(world: &World) -> Result<Identity> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.distinguished_name = named("localhost");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2019, 12, 31);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Identity {
        certificate: world.write("over.pem", certificate.pem())?,
        key: world.write("over.key", key.serialize_pem())?,
    })
}

/// Issuer and subject must differ, or verifiers take a certificate for its own issuer.
fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
