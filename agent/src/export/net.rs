//! What every exporter over a network shares: how it connects, and how long it waits before it tries again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// PEM files of a TLS client. Read at every connection, so that renewed certificates need no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Absent: what the system trusts.
    pub ca: Option<PathBuf>,
    /// Certificate and key of this agent: both or none.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the server's certificate, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

/// Where distributions keep the certificates that the system trusts.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone without a word is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why there is no connection. The text says what to do; trying again helps unless it names a file.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{path} cannot be read ({source}): check `tls` of this exporter")]
    File { path: PathBuf, source: std::io::Error },
    #[error("no certificates that the system trusts were found: install `ca-certificates`, or set `tls.ca`")]
    NoRoots,
    #[error("{endpoint} is not reachable: {why}")]
    Unreachable { endpoint: String, why: String },
}

/// Connects to `http://` or `https://host:port`.
pub async fn connect(endpoint: &str, tls: Option<&Tls>) -> Result<Channel, ConnectError> {
    let unreachable = |error: tonic::transport::Error| ConnectError::Unreachable {
        endpoint: endpoint.to_owned(),
        why: causes(&error),
    };
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(unreachable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    if endpoint.starts_with("https://") {
        let config = tls_config(tls.unwrap_or(&Tls::default()))?;
        builder = builder.tls_config(config).map_err(unreachable)?;
    }
    builder.connect().await.map_err(unreachable)
}

fn tls_config(tls: &Tls) -> Result<ClientTlsConfig, ConnectError> {
    let roots = match &tls.ca {
        Some(path) => read(path)?,
        None => SYSTEM_BUNDLES
            .iter()
            .find_map(|path| std::fs::read(path).ok())
            .ok_or(ConnectError::NoRoots)?,
    };
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|source| ConnectError::File {
        path: path.to_owned(),
        source,
    })
}

/// An error and what it came from, in one line: the outer ones of a transport say little.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The wait between attempts: it doubles, and is jittered, so that a thousand agents that lost the same collector
/// do not come back in the same second.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

impl Backoff {
    /// It worked: the next failure is the first one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure: between half and the whole of the doubled time.
    pub fn failed(&mut self) -> Duration {
        let whole = BACKOFF_FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(BACKOFF_MAX);
        self.failures += 1;
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_is_jittered() {
        let mut backoff = Backoff::default();
        let mut whole = BACKOFF_FIRST;
        for _ in 0..40 {
            let wait = backoff.failed();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.failed() <= BACKOFF_FIRST);
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let tls = Tls {
            ca: Some("/nowhere/ca.pem".into()),
            ..Default::default()
        };
        let error = connect("https://127.0.0.1:1", Some(&tls)).await.unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/ca.pem cannot be read"),
            "{error}"
        );
        let error = connect("http://127.0.0.1:1", None).await.unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }
}
