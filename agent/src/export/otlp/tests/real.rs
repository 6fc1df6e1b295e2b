//! Against a receiver that others wrote: Rotel. `cargo xtask test` fetches it; without it the test says that it
//! was left out.

use std::process::{Child, Command, Stdio};

use super::*;

/// Where `cargo xtask test` puts it, seen from this test's own program (`target/PROFILE/deps/NAME`).
fn program() -> Option<PathBuf> {
    let target = std::env::current_exe().ok()?.ancestors().nth(3)?.to_owned();
    Some(target.join("receiver/rotel")).filter(|program| program.exists())
}

/// Ends the receiver with the test, however that ends.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that nobody has at the moment.
fn free() -> SocketAddr {
    std::net::TcpListener::bind(ANYWHERE)
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Starts one that hands everything on to `sink`.
fn rotel(program: &Path, dir: &Path, sink: SocketAddr) -> (SocketAddr, Ending) {
    let address = free();
    let child = Command::new(program)
        .arg("start")
        .args(["--otlp-grpc-endpoint", &address.to_string()])
        .args(["--otlp-http-endpoint", &free().to_string()])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "grpc"])
        .args(["--otlp-exporter-endpoint", &format!("http://{sink}")])
        .arg("--pid-file")
        .arg(dir.join("rotel.pid"))
        .arg("--log-file")
        .arg(dir.join("rotel.log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (address, Ending(child))
}

#[tokio::test]
async fn a_real_receiver_understands_every_record() {
    let Some(program) = program() else {
        eprintln!("left out: there is no receiver here; `cargo xtask test` fetches it from the network");
        return;
    };
    for gzip in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let sink = Receiver::new([]);
        let (sink_address, _serving) = sink.serve(ANYWHERE.parse().unwrap()).await;
        let (address, _ending) = rotel(&program, dir.path(), sink_address);
        let (started, tally) = agent(&dir.path().join("spool"));
        let settings = Settings {
            gzip,
            ..settings(address)
        };
        start(&started.exports, settings);
        let call = record::tests::a_call();
        started.exports.send(vec![call.clone()]);
        started.exports.send(numbered(0..2000));
        sink.until("all", |store| store.records().count() == 2001).await;
        acknowledged(&started, 2001).await;
        let store = sink.store.lock().unwrap();
        let mut numbers = store.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..2000).collect::<Vec<_>>());
        let arrived = store
            .records()
            .find(|record| !record.trace_id.is_empty())
            .cloned()
            .unwrap();
        assert_eq!(arrived, record::record(&call));
        assert_eq!(tally.losses(), Default::default());
    }
}
