//! The store: once and only once, nothing half, old events go, questions narrow down.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apiward_proto::v1;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::oneshot;

use super::event::Event;
use super::writer::{Job, Retention, Store};
use super::*;
use crate::metrics::Metrics;

const KEEP_ALL: Retention = Retention {
    age: Duration::from_secs(u64::MAX / 1_000_000_000),
    bytes_max: u64::MAX,
};

fn store(directory: &Directory, retention: Retention) -> Store {
    Store {
        connection: open(directory).unwrap(),
        keys: HashMap::new(),
        metrics: Arc::new(Metrics::default()),
        retention,
        failing: false,
    }
}

fn event(time_ns: u64, path: &str) -> v1::Event {
    v1::Event {
        id: time_ns.to_be_bytes().to_vec(),
        time_ns,
        kind: Some(v1::event::Kind::Call(v1::Call {
            request: Some(v1::Request {
                method: "GET".to_owned(),
                path: path.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        })),
    }
}

fn commit(store: &mut Store, agent: &str, first: u64, events: Vec<v1::Event>) -> Result<(), String> {
    let (done, mut committed) = oneshot::channel();
    store.commit(vec![Job::Batch {
        agent: agent.to_owned(),
        first_sequence: first,
        events: events
            .iter()
            .map(|event| Event::try_from(Bytes::from(event.encode_to_vec())).unwrap())
            .collect(),
        done,
    }]);
    committed.try_recv().unwrap()
}

fn times(directory: &Directory, filter: &query::Filter) -> Vec<u64> {
    let mut times = Vec::new();
    query::events(&directory.path, filter, &mut |event| {
        times.push(event.time_ns);
        true
    })
    .unwrap();
    times
}

#[test]
fn what_is_sent_twice_is_there_once_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::take(folder.path()).unwrap();
    let events = vec![event(1, "/a"), event(2, "/b")];
    {
        let mut store = store(&directory, KEEP_ALL);
        commit(&mut store, "one", 1, events.clone()).unwrap();
        commit(&mut store, "one", 1, events.clone()).unwrap();
    }
    let mut store = store(&directory, KEEP_ALL);
    // Overlapping, and the same numbers of another agent.
    commit(&mut store, "one", 2, vec![event(2, "/b"), event(3, "/c")]).unwrap();
    commit(&mut store, "two", 1, vec![event(9, "/z")]).unwrap();
    assert_eq!(times(&directory, &query::Filter::default()), [1, 2, 3, 9]);
    let agents = query::agents(&store.connection).unwrap();
    let counts: Vec<(u64, u64)> = agents.iter().map(|one| (one.events, one.acknowledged)).collect();
    assert_eq!(counts, [(3, 3), (1, 1)]);
}

#[test]
fn a_failed_commit_is_not_acknowledged_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::take(folder.path()).unwrap();
    let mut store = store(&directory, KEEP_ALL);
    commit(&mut store, "one", 1, vec![event(1, "/a")]).unwrap();
    // A full disk, as SQLite sees it.
    let pages: i64 = store
        .connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    store
        .connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    let many: Vec<_> = (2..4000)
        .map(|time| event(time, "/long/enough/to/need/a/page"))
        .collect();
    assert!(commit(&mut store, "new", 1, many.clone()).is_err());
    store
        .connection
        .pragma_update(None, "max_page_count", 1_000_000)
        .unwrap();
    commit(&mut store, "new", 1, many).unwrap();
    assert_eq!(times(&directory, &query::Filter::default()).len(), 3999);
}

#[test]
fn the_oldest_go_by_age_and_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::take(folder.path()).unwrap();
    let mut store = store(
        &directory,
        Retention {
            age: Duration::from_nanos(50),
            bytes_max: u64::MAX,
        },
    );
    commit(
        &mut store,
        "one",
        1,
        (1..=100).map(|time| event(time, "/a")).collect(),
    )
    .unwrap();
    assert_eq!(store.sweep(101).unwrap(), 50);
    assert_eq!(times(&directory, &query::Filter::default()).first(), Some(&51));
    let more: Vec<_> = (101..20_000)
        .map(|time| event(time, "/a/longer/path/so/that/it/takes/room"))
        .collect();
    commit(&mut store, "one", 101, more).unwrap();
    store.retention = Retention {
        age: KEEP_ALL.age,
        bytes_max: used_bytes(&store.connection).unwrap() / 2,
    };
    assert!(store.sweep(20_000).unwrap() > 0);
    let left = times(&directory, &query::Filter::default());
    assert!(
        left.len() < 19_000 && left.last() == Some(&19_999),
        "{}",
        left.len()
    );
    assert!(used_bytes(&store.connection).unwrap() <= store.retention.bytes_max);
}

#[test]
fn questions_narrow_down() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::take(folder.path()).unwrap();
    let mut store = store(&directory, KEEP_ALL);
    commit(
        &mut store,
        "one",
        1,
        vec![event(1, "/fhir/Patient/{id}"), event(2, "/login")],
    )
    .unwrap();
    let loss = v1::Event {
        time_ns: 3,
        kind: Some(v1::event::Kind::FlowLoss(v1::FlowLoss::default())),
        ..Default::default()
    };
    commit(&mut store, "two", 1, vec![loss]).unwrap();
    let of = |filter: query::Filter| times(&directory, &filter);
    let glob = globset::Glob::new("/fhir/**").unwrap().compile_matcher();
    assert_eq!(
        of(query::Filter {
            path: Some(glob),
            ..Default::default()
        }),
        [1]
    );
    assert_eq!(
        of(query::Filter {
            kinds: vec!["flow_loss".to_owned()],
            ..Default::default()
        }),
        [3]
    );
    assert_eq!(
        of(query::Filter {
            agent: Some("two".to_owned()),
            ..Default::default()
        }),
        [3]
    );
    assert_eq!(
        of(query::Filter {
            since_ns: Some(2),
            until_ns: Some(2),
            ..Default::default()
        }),
        [2]
    );
    assert_eq!(
        of(query::Filter {
            newest_first: true,
            limit: Some(2),
            ..Default::default()
        }),
        [3, 2]
    );
    assert_eq!(
        of(query::Filter {
            status: Some((200, 299)),
            ..Default::default()
        }),
        [] as [u64; 0]
    );
}

#[test]
fn one_collector_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Directory::take(folder.path()).unwrap();
    assert!(matches!(
        Directory::take(folder.path()),
        Err(StoreError::Locked(_))
    ));
    let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(
        open_read_only(nothing.path()),
        Err(StoreError::Missing(_))
    ));
}
