//! Crashes, overflow and refusing disks: every event is delivered or counted.

use std::collections::BTreeSet;

use apiward_proto::v1;
use proptest::prelude::*;
use prost::Message;

use super::*;

fn event(number: u64, padding: usize) -> v1::Event {
    v1::Event {
        id: number.to_be_bytes().to_vec(),
        time_ns: number,
        kind: Some(v1::event::Kind::AgentState(v1::AgentState {
            state: "x".repeat(padding),
            detail: String::new(),
        })),
    }
}

fn events(numbers: std::ops::Range<u64>, padding: usize) -> Vec<v1::Event> {
    numbers.map(|number| event(number, padding)).collect()
}

fn settings(dir: &Path, bytes_max: u64) -> Settings {
    Settings {
        dir: dir.to_owned(),
        bytes_max,
        memory_bytes_max: 64 << 10,
    }
}

fn open(dir: &Path) -> (Spool, Report) {
    Spool::open(settings(dir, 1 << 30), &["collector"]).unwrap()
}

/// Everything that waits for the reader: (sequence, the event's own number).
fn drain(reader: &mut Reader) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    loop {
        let batch = reader.read(100, 10_000);
        if batch.events.is_empty() {
            return all;
        }
        for spooled in batch.events {
            all.push((
                spooled.sequence,
                v1::Event::decode(spooled.event).unwrap().time_ns,
            ));
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    paths
}

/// What a death by signal leaves: the files as they are, no close.
fn die(spool: Spool) {
    drop(spool);
}

#[test]
fn what_was_appended_is_read_in_order_and_again_after_a_death() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, report) = open(dir.path());
    assert_eq!(report, Report::default());
    let id = spool.agent_id().to_owned();
    spool.append_events(&events(0..50, 10));
    let mut reader = spool.reader("collector");
    let all: Vec<_> = (0..50).map(|number| (number + 1, number)).collect();
    assert_eq!(drain(&mut reader), all);
    spool.acknowledge("collector", 20);
    drop(reader);
    die(spool);

    let (spool, report) = open(dir.path());
    assert_eq!(report, Report::default());
    assert_eq!(spool.agent_id(), id);
    spool.append_events(&events(50..60, 10));
    let expected: Vec<_> = (20..60).map(|number| (number + 1, number)).collect();
    assert_eq!(drain(&mut spool.reader("collector")), expected);
}

#[test]
fn what_everyone_acknowledged_is_deleted_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(settings(dir.path(), 256 << 10), &["collector", "otlp"]).unwrap();
    for start in 0..20 {
        spool.append_events(&events(start * 100..(start + 1) * 100, 50));
    }
    let before = segments(dir.path()).len();
    assert!(before > 3);
    spool.acknowledge("collector", 2000);
    assert_eq!(
        segments(dir.path()).len(),
        before,
        "the other consumer still needs them"
    );
    spool.acknowledge("otlp", 2000);
    assert!(segments(dir.path()).len() <= 1);
    die(spool);
    let (spool, _) = Spool::open(settings(dir.path(), 256 << 10), &["collector", "otlp"]).unwrap();
    assert_eq!(segments(dir.path()).len(), 0);
    spool.append_events(&events(0..1, 1));
    assert_eq!(drain(&mut spool.reader("otlp")), [(2001, 0)]);
}

#[test]
fn an_acknowledgement_of_what_was_never_given_does_not_eat_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    spool.append_events(&events(0..3, 1));
    spool.acknowledge("collector", u64::MAX);
    spool.append_events(&events(3..5, 1));
    assert_eq!(drain(&mut spool.reader("collector")), [(4, 3), (5, 4)]);
}

#[test]
fn a_full_spool_drops_the_oldest_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(settings(dir.path(), 64 << 10), &["collector"]).unwrap();
    let mut reader = spool.reader("collector");
    let mut lost = 0;
    for start in 0..50 {
        lost += spool
            .append_events(&events(start * 20..(start + 1) * 20, 100))
            .events_lost;
    }
    let read = drain(&mut reader);
    assert!(lost > 0);
    assert_eq!(read.len() as u64 + lost, 1000);
    assert_eq!(read.last(), Some(&(1000, 999)));
    assert!(spool.stats().bytes <= (64 << 10) + *SEGMENT_BYTES.start());
}

#[test]
fn a_second_agent_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, _) = open(dir.path());
    let second = Spool::open(settings(dir.path(), 1 << 20), &[]);
    assert!(matches!(second, Err(OpenError::InUse { .. })));
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::MetadataExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("made/spool");
    let (spool, _) = open(&dir);
    spool.append_events(&events(0..3, 1));
    spool.acknowledge("collector", 1);
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}

#[test]
fn a_refusing_disk_degrades_it_and_events_still_reach_the_consumer() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("spool");
    let (spool, _) = Spool::open(settings(&dir, 64 << 10), &["collector"]).unwrap();
    let mut reader = spool.reader("collector");
    spool.append_events(&events(0..10, 10));
    assert_eq!(drain(&mut reader).len(), 10);
    // A file where the directory was refuses every new segment, for root too.
    let gone = parent.path().join("gone");
    fs::rename(&dir, &gone).unwrap();
    fs::write(&dir, "").unwrap();
    spool.lock().active = None;
    let report = spool.append_events(&events(10..20, 10));
    assert!(report.degraded.is_some(), "{report:?}");
    assert_eq!(report.events_lost, 0);
    assert!(spool.stats().degraded.is_some());
    assert_eq!(
        drain(&mut reader),
        (10..20).map(|n| (n + 1, n)).collect::<Vec<_>>()
    );
    spool.acknowledge("collector", 15);

    // Memory is bounded as well, and what does not fit is counted.
    let mut lost = 0;
    for start in 0..30 {
        lost += spool
            .append_events(&events(20 + start * 100..20 + (start + 1) * 100, 100))
            .events_lost;
    }
    assert!(lost > 0);
    assert!(spool.stats().memory_bytes <= 64 << 10);

    fs::remove_file(&dir).unwrap();
    fs::rename(&gone, &dir).unwrap();
    spool.lock().retry_at = None;
    let report = spool.tick();
    assert!(report.recovered, "{report:?}");
    assert_eq!(spool.stats().degraded, None);
    assert_eq!(spool.stats().memory_bytes, 0);
    let rest = drain(&mut reader);
    // The five that were not acknowledged, and the 3,000 after them.
    assert_eq!(rest.len() as u64 + lost, 3005);
    assert!(
        rest.windows(2)
            .all(|pair| pair[0].0 + 1 == pair[1].0 && pair[0].1 + 1 == pair[1].1)
    );
    die(spool);
}

#[test]
fn a_damaged_middle_segment_is_counted_to_the_event() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(settings(dir.path(), 256 << 10), &["collector"]).unwrap();
    for start in 0..10 {
        spool.append_events(&events(start * 100..(start + 1) * 100, 50));
    }
    die(spool);
    let victim = &segments(dir.path())[1];
    let mut bytes = fs::read(victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(victim, bytes).unwrap();
    let (spool, report) = Spool::open(settings(dir.path(), 256 << 10), &["collector"]).unwrap();
    let read = drain(&mut spool.reader("collector"));
    assert!(report.events_lost > 0);
    assert_eq!(read.len() as u64 + report.events_lost, 1000);
    assert!(read.iter().all(|&(sequence, number)| sequence == number + 1));
}

#[test]
fn damage_that_appears_while_running_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(settings(dir.path(), 256 << 10), &["collector"]).unwrap();
    for start in 0..10 {
        spool.append_events(&events(start * 100..(start + 1) * 100, 50));
    }
    let victim = &segments(dir.path())[1];
    let mut bytes = fs::read(victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(victim, bytes).unwrap();
    let mut reader = spool.reader("collector");
    let (mut read, mut damaged) = (0, 0);
    loop {
        let batch = reader.read(64, 4096);
        damaged += batch.damaged;
        if batch.events.is_empty() {
            break;
        }
        read += batch.events.len() as u64;
    }
    assert!(damaged > 0);
    assert_eq!(read + damaged, 1000);
}

#[test]
fn after_a_power_failure_no_number_is_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    spool.append_events(&events(0..5, 1));
    die(spool);
    fs::write(dir.path().join("boot"), "another-boot").unwrap();
    let (spool, _) = open(dir.path());
    spool.append_events(&events(5..6, 1));
    assert_eq!(
        drain(&mut spool.reader("collector")).last(),
        Some(&(6 + SEQUENCE_SKIP, 5))
    );
    spool.close().unwrap();
    die(spool);
    // A clean end leaves nothing to be careful about.
    let (spool, _) = open(dir.path());
    assert_eq!(spool.stats().last, 6 + SEQUENCE_SKIP);
}

#[tokio::test]
async fn a_waiting_reader_wakes_up() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path());
    let mut reader = spool.reader("collector");
    let waiting = tokio::spawn(async move {
        reader.ready().await;
        reader.read(10, 1000).events.len()
    });
    tokio::task::yield_now().await;
    spool.append_events(&events(0..2, 1));
    assert_eq!(waiting.await.unwrap(), 2);
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8, u8),
    Acknowledge(u8),
    /// Death by signal; so many bytes are missing at the end of the newest segment.
    Die(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u8..40, any::<u8>()).prop_map(|(count, padding)| Step::Append(count, padding)),
        2 => any::<u8>().prop_map(Step::Acknowledge),
        1 => prop_oneof![Just(0u8), any::<u8>()].prop_map(Step::Die),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens: what is read has the number it was given, comes in order, and nothing that was neither
    /// acknowledged nor torn away nor reported is missing.
    #[test]
    fn nothing_is_lost_in_silence(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(dir.path());
        let mut given = BTreeSet::new();
        let mut acked = 0u64;
        let mut number = 1u64;
        for step in steps {
            match step {
                Step::Append(count, padding) => {
                    let batch = events(number..number + u64::from(count), padding.into());
                    prop_assert_eq!(spool.append_events(&batch), Report::default());
                    given.extend(number..number + u64::from(count));
                    number += u64::from(count);
                }
                Step::Acknowledge(back) => {
                    acked = acked.max((number - 1).saturating_sub(u64::from(back) / 4));
                    spool.acknowledge("collector", acked);
                }
                Step::Die(torn) => {
                    die(spool);
                    if torn > 0 && let Some(newest) = segments(dir.path()).last() {
                        let file = fs::OpenOptions::new().write(true).open(newest).unwrap();
                        let length = file.metadata().unwrap().len();
                        file.set_len(length.saturating_sub(torn.into())).unwrap();
                    }
                    let (reopened, report) = open(dir.path());
                    spool = reopened;
                    let last = spool.stats().last;
                    // Torn away: the numbers after the last good one, to be given again (nobody has seen them,
                    // or they are acknowledged and then not given again).
                    let torn_away = given.split_off(&(last + 1)).len();
                    if torn == 0 {
                        prop_assert_eq!((torn_away, report), (0, Report::default()));
                    }
                    number = last + 1;
                }
            }
        }
        let read = drain(&mut spool.reader("collector"));
        prop_assert!(read.iter().all(|(sequence, own)| sequence == own));
        let read: Vec<u64> = read.into_iter().map(|(sequence, _)| sequence).collect();
        let expected: Vec<u64> = given.into_iter().filter(|&number| number > acked).collect();
        prop_assert_eq!(read, expected);
    }
}
