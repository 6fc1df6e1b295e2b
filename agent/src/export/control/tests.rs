//! The socket's permissions, its life, and every call over it.

use std::sync::Arc;

use tokio_stream::StreamExt;
use v1::control_client::ControlClient;

use super::super::tests::Tally;
use super::super::{Settings, Started, wire};
use super::*;
use crate::export::facts::{Facts, LibraryFacts};

fn agent(path: &Path) -> (Started, Place) {
    let started = Exports::start(Settings::default(), Arc::new(Tally::default())).unwrap();
    let mappers = Box::new(|| HashMap::from([(7, 3)]));
    let place = start(&started.exports, bind(path).unwrap(), mappers).unwrap();
    (started, place)
}

/// Answers commands as a pipeline would.
fn pipeline(mut commands: mpsc::Receiver<Command>) {
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            match command {
                Command::SetMode { mode, asked, .. } => asked.accept("observe", mode.as_str(), "switched"),
                Command::ReloadPolicies { asked } => asked.refuse("records.yaml:3: unknown key `acton`"),
                Command::UndoPolicies { asked } => asked.accept("new", "old", "as before"),
                Command::PushPolicies { asked, .. } | Command::Release { asked } => asked.refuse("no"),
                Command::Prove(_) | Command::Inventory { .. } => {}
                Command::Facts { reply } => {
                    let _ = reply.send(Facts {
                        calls: 7,
                        scope: "the whole host".to_owned(),
                        libraries: [7, 8]
                            .map(|inode| LibraryFacts {
                                inode,
                                ..Default::default()
                            })
                            .into(),
                        ..Default::default()
                    });
                }
            }
        }
    });
}

async fn client(path: &Path) -> ControlClient<tonic::transport::Channel> {
    ControlClient::connect(format!("unix://{}", path.display()))
        .await
        .unwrap()
}

#[test]
fn only_its_owner_may_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/apiward/control.sock");
    let _bound = bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777,
        0o700
    );
    assert!(is_permitted(0, 1000) && is_permitted(1000, 1000));
    assert!(!is_permitted(1001, 1000) && !is_permitted(1000, 0));
}

#[test]
fn a_dead_agent_s_socket_is_replaced_and_a_living_one_s_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bound = bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert!(
        error.to_string().starts_with("another agent is running"),
        "{error}"
    );
    drop(bound);
    // One that does not take our lock but answers is alive as well.
    let _living = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::AnotherAgent(_))));
}

#[test]
fn a_file_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn status_mode_and_reload() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (started, _place) = agent(&path);
    pipeline(started.commands);
    let mut client = client(&path).await;
    let status = client
        .get_status(v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.calls, status.mode.as_str()), (7, "observe"));
    let processes: Vec<u32> = status.libraries.iter().map(|one| one.processes).collect();
    assert_eq!(processes, [3, 0]);
    assert_eq!(status.degraded, Vec::<String>::new());
    assert!(status.rss_bytes > 0 && status.cpu_ns > 0);

    let mut watched = started.exports.watch();
    let request = v1::ControlModeRequest {
        mode: "enforce".to_owned(),
        reason: "go\nlive".to_owned(),
        ..Default::default()
    };
    let result = client.set_mode(request).await.unwrap().into_inner();
    assert_eq!((result.accepted, result.message.as_str()), (true, "switched"));
    let audit = watched.recv().await.unwrap();
    let Some(v1::event::Kind::Audit(audit)) = &audit.kind else {
        panic!("no audit: {audit:?}")
    };
    let me = format!(
        "uid={} pid={} (control socket)",
        rustix::process::geteuid().as_raw(),
        std::process::id()
    );
    assert_eq!(
        (audit.who.as_str(), audit.reason.as_str()),
        (me.as_str(), "go live")
    );
    assert_eq!(
        (audit.old_digest.as_str(), audit.new_digest.as_str()),
        ("observe", "enforce")
    );

    let request = v1::ControlModeRequest {
        mode: "panic".to_owned(),
        ..Default::default()
    };
    assert!(!client.set_mode(request).await.unwrap().into_inner().accepted);
    let result = client
        .reload_policies(v1::ReloadRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (result.accepted, result.message.as_str()),
        (false, "records.yaml:3: unknown key `acton`")
    );
    let result = client
        .undo_policies(v1::ReloadRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((result.accepted, result.message.as_str()), (true, "as before"));
}

#[tokio::test]
async fn watching_starts_with_a_status_and_goes_on_with_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (started, _place) = agent(&path);
    pipeline(started.commands);
    let mut stream = client(&path)
        .await
        .watch(v1::WatchRequest {})
        .await
        .unwrap()
        .into_inner();
    let first = stream.next().await.unwrap().unwrap().message;
    assert!(matches!(first, Some(v1::watch_response::Message::Status(_))));
    started.exports.send(vec![wire::agent_state("started", "")]);
    let event = loop {
        match stream.next().await.unwrap().unwrap().message {
            Some(v1::watch_response::Message::Events(mut batch)) => break batch.events.remove(0),
            _ => continue,
        }
    };
    assert_eq!(apiward_proto::json::kind_name(&event), "agent_state");
}

fn call_of(pid: u32) -> v1::Event {
    let process = v1::Process {
        pid,
        ..Default::default()
    };
    v1::Event {
        id: vec![0xab; 16],
        time_ns: 5,
        kind: Some(v1::event::Kind::Call(v1::Call {
            process: Some(process),
            ..Default::default()
        })),
    }
}

#[tokio::test]
async fn why_says_what_it_found_or_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (started, _place) = agent(&path);
    let mut watched = started.exports.watch();
    let event = call_of(4711);
    started.exports.send(vec![event.clone()]);
    watched.recv().await.unwrap();
    let mut client = client(&path).await;
    for subject in ["4711", "ABABABABABAB"] {
        // Remembered just before it is shown to watchers, so it is there.
        let found = client
            .why(v1::WhyRequest {
                subject: subject.to_owned(),
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(found.events, std::slice::from_ref(&event), "{subject}");
    }
    let found = client
        .why(v1::WhyRequest {
            subject: "4712".to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    assert!(found.events.is_empty() && found.message.contains("apiward-collector query"));
}

#[tokio::test]
async fn of_a_master_its_workers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (started, _place) = agent(&path);
    let mut watched = started.exports.watch();
    // Waits for its input until it is let go.
    let mut worker = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let event = call_of(worker.id());
    started.exports.send(vec![event.clone()]);
    watched.recv().await.unwrap();
    let own = std::process::id().to_string();
    let found = client(&path)
        .await
        .why(v1::WhyRequest { subject: own.clone() })
        .await
        .unwrap()
        .into_inner();
    drop(worker.stdin.take());
    worker.wait().unwrap();
    assert_eq!(found.events, [event]);
    assert!(
        found.message.starts_with(&format!("process {own} has no call")),
        "{}",
        found.message
    );
}

#[tokio::test]
async fn it_is_gone_when_its_owner_lets_it_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (started, place) = agent(&path);
    client(&path).await;
    started.exports.shutdown(Duration::ZERO);
    drop(place);
    assert!(!path.exists());
    // Bound and never served, as when the programs cannot be loaded.
    drop(bind(&path).unwrap());
    assert!(!path.exists());
    // What somebody else has put there since is not ours to remove.
    let bound = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(bound);
    assert!(path.exists());
}
