//! The service over real connections: acknowledgements, commands, and what is refused.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use apiward_proto::v1::collector_client::CollectorClient;
use apiward_proto::v1::collector_server::CollectorServer;
use prost::Message;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

use super::*;
use crate::store::writer::Retention;
use crate::store::{Directory, open};

struct Running {
    folder: tempfile::TempDir,
    network: CollectorClient<Channel>,
    own: CollectorClient<Channel>,
    _directory: Directory,
}

async fn client(service: Service) -> CollectorClient<Channel> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(CollectorServer::new(service));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    CollectorClient::connect(format!("http://{address}"))
        .await
        .unwrap()
}

async fn running() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::take(folder.path()).unwrap();
    let metrics = Arc::new(Metrics::default());
    let retention = Retention {
        age: Duration::from_secs(3600 * 24 * 365),
        bytes_max: u64::MAX,
    };
    let connection = open(&directory).unwrap();
    let (writer, _) = crate::store::writer::start(
        connection,
        retention,
        metrics.clone(),
        tokio::runtime::Handle::current(),
    )
    .unwrap();
    let service = Service {
        agents: Agents::new(metrics.clone()),
        writer,
        metrics,
        directory: folder.path().to_owned(),
        door: Door::Network,
    };
    Running {
        network: client(service.clone()).await,
        own: client(Service {
            door: Door::Own,
            ..service
        })
        .await,
        folder,
        _directory: directory,
    }
}

type Outgoing = mpsc::Sender<v1::FromAgent>;

fn say(message: v1::from_agent::Message) -> v1::FromAgent {
    v1::FromAgent {
        message: Some(message),
    }
}

async fn agent(running: &Running, id: &str) -> Result<(Outgoing, Streaming<v1::FromCollector>), Status> {
    let (outgoing, messages) = mpsc::channel(8);
    let hello = v1::Hello {
        agent_id: id.to_owned(),
        ..Default::default()
    };
    outgoing
        .send(say(v1::from_agent::Message::Hello(hello)))
        .await
        .unwrap();
    let stream = running
        .network
        .clone()
        .stream(ReceiverStream::new(messages))
        .await?;
    Ok((outgoing, stream.into_inner()))
}

fn batch(first_sequence: u64, count: u64) -> v1::FromAgent {
    let events = (0..count)
        .map(|index| v1::Event {
            time_ns: 1_000 + index,
            ..Default::default()
        })
        .map(|event| event.encode_to_vec().into())
        .collect();
    say(v1::from_agent::Message::Batch(v1::Batch {
        first_sequence,
        events,
    }))
}

async fn next(stream: &mut Streaming<v1::FromCollector>) -> v1::from_collector::Message {
    let message = tokio::time::timeout(Duration::from_secs(10), stream.message())
        .await
        .unwrap();
    message.unwrap().unwrap().message.unwrap()
}

fn stored(running: &Running) -> usize {
    let mut count = 0;
    query::events(running.folder.path(), &query::Filter::default(), &mut |_| {
        count += 1;
        true
    })
    .unwrap();
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_in_the_store_once() {
    let running = running().await;
    let (outgoing, mut stream) = agent(&running, "one").await.unwrap();
    outgoing.send(batch(1, 3)).await.unwrap();
    outgoing.send(batch(4, 2)).await.unwrap();
    assert_eq!(
        next(&mut stream).await,
        v1::from_collector::Message::Ack(v1::Ack { sequence: 3 })
    );
    assert_eq!(
        next(&mut stream).await,
        v1::from_collector::Message::Ack(v1::Ack { sequence: 5 })
    );
    // A second connection of the same agent, which had not heard of the acknowledgement.
    let (again, mut second) = agent(&running, "one").await.unwrap();
    again.send(batch(1, 5)).await.unwrap();
    assert_eq!(
        next(&mut second).await,
        v1::from_collector::Message::Ack(v1::Ack { sequence: 5 })
    );
    assert_eq!(stored(&running), 5);
    // The first is told that it is the older one.
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.message())
        .await
        .unwrap();
    assert!(!matches!(ended, Ok(Some(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_by_the_own_door_and_back_with_an_answer() {
    let running = running().await;
    let (outgoing, mut stream) = agent(&running, "one").await.unwrap();
    let request = v1::SetAgentsModeRequest {
        agent_ids: vec!["one".to_owned(), "nobody".to_owned()],
        mode: "enforce".to_owned(),
        reason: "a test".to_owned(),
    };
    let refused = running
        .network
        .clone()
        .set_mode(request.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let mut own = running.own.clone();
    let asked = tokio::spawn(async move { own.set_mode(request).await });
    let v1::from_collector::Message::SetMode(command) = next(&mut stream).await else {
        panic!("another command")
    };
    assert_eq!(
        (command.mode.as_str(), command.reason.as_str()),
        ("enforce", "a test")
    );
    let result = v1::CommandResult {
        command_id: command.command_id,
        accepted: false,
        reason: "remote: none".to_owned(),
    };
    outgoing
        .send(say(v1::from_agent::Message::Result(result)))
        .await
        .unwrap();
    let results = asked.await.unwrap().unwrap().into_inner().results;
    let told: Vec<_> = results
        .iter()
        .map(|one| (one.agent_id.as_str(), one.accepted, one.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("nobody", false, "it is not connected"),
            ("one", false, "remote: none")
        ]
    );
    let agents = running
        .own
        .clone()
        .list_agents(v1::ListAgentsRequest {})
        .await
        .unwrap()
        .into_inner()
        .agents;
    assert!(agents.len() == 1 && agents[0].connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_ends_the_stream() {
    let running = running().await;
    for id in ["", "../x", "a b", &"x".repeat(129)] {
        assert!(agent(&running, id).await.is_err(), "{id}");
    }
    let no_event = v1::from_agent::Message::Batch(v1::Batch {
        first_sequence: 1,
        events: vec![vec![0x10].into()],
    });
    for wrong in [batch(1, 0), batch(u64::MAX, 2), say(no_event)] {
        let (outgoing, mut stream) = agent(&running, "one").await.unwrap();
        outgoing.send(wrong).await.unwrap();
        let status = tokio::time::timeout(Duration::from_secs(10), stream.message())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
    assert_eq!(stored(&running), 0);
}
