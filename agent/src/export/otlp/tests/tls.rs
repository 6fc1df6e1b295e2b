//! Over TLS, with certificates on both sides.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::*;

/// An authority of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Certificate and key for a name.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn both_sides_show_a_certificate_and_neither_takes_a_stranger_s() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (ours, other) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue("otel.example");
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(ours.0.pem()));
    let server = Server::builder().tls_config(config).unwrap();
    let receiver = Receiver::new([]);
    let (address, _serving) = receiver.serve_by(server, ANYWHERE.parse().unwrap()).await;

    // The agent starts with everything wrong; each repair is a file, and needs no restart.
    let (certificate, key) = other.issue("agent");
    let tls = Tls {
        ca: Some(write("ca.pem", &other.0.pem())),
        identity: Some((write("agent.pem", &certificate), write("agent.key", &key))),
        server_name: Some("otel.example".to_owned()),
    };
    let settings = Settings {
        endpoint: format!("https://{address}"),
        tls: Some(tls),
        ..settings(address)
    };
    let (started, tally) = agent(&dir.path().join("spool"));
    start(&started.exports, settings);
    started.exports.send(numbered(0..10));
    failing(&started, "a server that the authority does not know").await;
    write("ca.pem", &ours.0.pem());
    assert!(receiver.store.lock().unwrap().tries.is_empty());
    failing(&started, "a certificate that the server does not know").await;
    assert!(receiver.store.lock().unwrap().tries.is_empty());
    let (certificate, key) = ours.issue("agent");
    write("agent.pem", &certificate);
    write("agent.key", &key);
    receiver.until("all", |store| store.numbers().len() == 10).await;
    assert_eq!(tally.losses(), Default::default());
}

async fn failing(started: &Started, why: &str) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while exporter(started).await.state != "failing" {
        assert!(std::time::Instant::now() < until, "{why}");
    }
}
