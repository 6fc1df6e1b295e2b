//! `run`: the service, its store and its metrics, until a signal.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiward_proto::v1::collector_server::CollectorServer;
use tokio::net::UnixListener;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::{bytes, duration};
use crate::agents::Agents;
use crate::metrics::{self, Metrics};
use crate::service::{Door, MESSAGE_BYTES_MAX, Service};
use crate::store::{self, writer};

/// The socket for commands, in the data directory.
pub const SOCKET: &str = "admin.sock";
/// A tenth of an ordinary thread's share where others want the processors too.
const NICENESS: i32 = 10;
/// A peer that is gone without a word is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long streams may take to end.
const END_LIMIT: Duration = Duration::from_secs(3);

/// Less would remove events before anybody could ask for them.
const KEEP_MIN: Duration = Duration::from_secs(60);
const BYTES_MAX_MIN: u64 = 1 << 20;

#[derive(clap::Args)]
pub struct Args {
    /// Where agents connect. Beyond loopback only with TLS.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    #[command(flatten)]
    data: super::DataArgs,
    /// PEM file with the server's certificate and what leads to its root.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// PEM file with the authority of the agents' certificates; with it, nobody else may connect.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Where Prometheus finds the metrics; `off`: nowhere.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9465")]
    metrics: String,
    /// How long events are kept.
    #[arg(long, value_parser = duration, default_value = "30d")]
    keep: Duration,
    /// How much is kept; the oldest go first.
    #[arg(long, value_parser = bytes, default_value = "10GiB")]
    bytes_max: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    if args.tls_cert.is_none() && !args.listen.ip().is_loopback() {
        bail!(
            "{} is not loopback, and events would cross the network in clear: give --tls-cert and --tls-key, or listen on 127.0.0.1",
            args.listen
        );
    }
    if args.keep < KEEP_MIN || args.bytes_max < BYTES_MAX_MIN {
        bail!("nothing would stay: --keep is at least 1m, --bytes-max at least 1MiB");
    }
    let metrics_listen: Option<SocketAddr> = match args.metrics.as_str() {
        "off" => None,
        text => Some(
            text.parse()
                .with_context(|| format!("--metrics {text}: an address or `off`"))?,
        ),
    };
    // Nobody waits for it: agents keep what it has not taken. Whatever serves people on its host may go first. Refused,
    // it costs them some promptness.
    let _ = rustix::process::nice(NICENESS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let directory = store::Directory::take(&args.data.data)?;
    let connection = store::open(&directory)?;
    let metrics = Arc::new(Metrics::default());
    let retention = writer::Retention {
        age: args.keep,
        bytes_max: args.bytes_max,
    };
    let (writer, thread) = writer::start(connection, retention, metrics.clone(), runtime.handle().clone())?;
    let result = runtime.block_on(serve(args, &directory.path, writer, metrics, metrics_listen));
    // Whatever still holds a stream ends with the runtime; then the writer commits what it has, and ends.
    runtime.shutdown_timeout(END_LIMIT);
    if thread.join().is_err() {
        bail!("the store's thread has panicked; what was acknowledged is on the disk");
    }
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(
    args: &Args,
    directory: &Path,
    writer: writer::Writer,
    metrics: Arc<Metrics>,
    metrics_listen: Option<SocketAddr>,
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("{} cannot be listened on: is another program there?", args.listen))?;
    let socket = directory.join(SOCKET);
    let own = bind_own(&socket).with_context(|| {
        format!(
            "{} cannot be made: is the path longer than 100 bytes?",
            socket.display()
        )
    })?;
    if let Some(listen) = metrics_listen {
        metrics::serve(metrics.clone(), listen).await.with_context(|| {
            format!("the metrics cannot be served on {listen}: give another --metrics, or `off`")
        })?;
    }
    let agents = Agents::new(metrics.clone());
    let service = |door| {
        CollectorServer::new(Service {
            agents: agents.clone(),
            writer: writer.clone(),
            metrics: metrics.clone(),
            directory: directory.to_owned(),
            door,
        })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
    };
    let stop = CancellationToken::new();
    let network = server(args)?
        .add_service(service(Door::Network))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
    let local = Server::builder()
        .add_service(service(Door::Own))
        .serve_with_incoming_shutdown(UnixListenerStream::new(own), stop.clone().cancelled_owned());
    let (mut network, mut local) = (tokio::spawn(network), tokio::spawn(local));
    tracing::info!(
        listen = %args.listen,
        tls = args.tls_cert.is_some(),
        clients_certified = args.tls_client_ca.is_some(),
        data = %directory.display(),
        "the collector runs; stop with SIGTERM"
    );
    let ended = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        result = &mut network => Err(result),
        result = &mut local => Err(result),
    };
    stop.cancel();
    // Best effort: the next start replaces it.
    let _ = std::fs::remove_file(&socket);
    match ended {
        Ok(()) => {
            // Streams are open as long as their agents want: they are given a moment, then dropped.
            for server in [network, local] {
                let _ = tokio::time::timeout(END_LIMIT, server).await;
            }
            tracing::info!("the collector has stopped");
            Ok(())
        }
        Err(result) => match result {
            Ok(result) => result.context("the service has ended"),
            Err(error) => Err(error).context("the service has ended"),
        },
    }
}

fn server(args: &Args) -> Result<Server> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE));
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(server);
    };
    let read =
        |path: &Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(read(certificate)?, read(key)?));
    if let Some(authority) = &args.tls_client_ca {
        tls = tls.client_ca_root(Certificate::from_pem(read(authority)?));
    }
    server.tls_config(tls).with_context(|| {
        format!(
            "{} and {} are no certificate with its key",
            certificate.display(),
            key.display()
        )
    })
}

/// The directory is locked by us: a socket that is there is of a collector that died.
fn bind_own(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
