//! The handle's promises: never wait, count what does not fit, write out before the end.

use std::sync::atomic::AtomicBool;

use super::*;

/// Remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    losses: Mutex<BTreeMap<String, u64>>,
    pub spooled: AtomicBool,
}

impl Meter for Tally {
    fn lost(&self, name: &'static str, count: u64) {
        *self.losses.lock().unwrap().entry(name.to_owned()).or_default() += count;
    }
    fn losses(&self) -> BTreeMap<String, u64> {
        self.losses.lock().unwrap().clone()
    }
    fn events(&self, _kind: &'static str, _count: u64) {}
    fn verdicts(&self, _action: &str, _guarantee: &str, _count: u64) {}
    fn queue(&self, _name: &str, _depth: u64) {}
    fn spool_bytes(&self, _bytes: u64) {
        self.spooled.store(true, Ordering::Relaxed);
    }
}

fn file_lines(path: &std::path::Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn everything_sent_is_written_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let settings = Settings {
        jsonl: vec![jsonl::Target::File(path.clone())],
        ocsf: Vec::new(),
        spool: Some(spool::Settings {
            dir: dir.path().join("spool"),
            bytes_max: 1 << 20,
            memory_bytes_max: 1 << 16,
        }),
        state_dir: None,
        with_time: None,
        consumers: vec!["collector".to_owned()],
    };
    let started = Exports::start(settings, Arc::new(Tally::default())).unwrap();
    for _ in 0..100 {
        started
            .exports
            .send((0..7).map(|_| wire::agent_state("started", "")).collect());
    }
    started.exports.shutdown(Duration::from_secs(5));
    assert_eq!(file_lines(&path).len(), 700);
    let stats = started.exports.spool().unwrap().stats();
    assert_eq!((stats.last, stats.consumers[0].2), (700, 700));
}

#[test]
fn what_does_not_fit_is_counted_and_becomes_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let settings = Settings {
        jsonl: vec![jsonl::Target::File(path.clone())],
        ocsf: Vec::new(),
        ..Default::default()
    };
    let meter = Arc::new(Tally::default());
    let started = Exports::start(settings, meter.clone()).unwrap();
    let too_many = (0..=QUEUE_EVENTS_MAX)
        .map(|_| wire::agent_state("started", ""))
        .collect();
    started.exports.send(too_many);
    started.exports.shutdown(Duration::from_secs(5));
    let lost = QUEUE_EVENTS_MAX as u64 + 1;
    assert_eq!(meter.losses().get("export-queue"), Some(&lost));
    let lines = file_lines(&path);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["flow_loss"]["reason"], "export-queue");
    assert_eq!(lines[0]["flow_loss"]["events"], lost);
}

#[test]
fn a_request_is_recorded_whatever_becomes_of_it() {
    use command::Asked;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let settings = Settings {
        jsonl: vec![jsonl::Target::File(path.clone())],
        ocsf: Vec::new(),
        ..Default::default()
    };
    let started = Exports::start(settings, Arc::new(Tally::default())).unwrap();
    let exports = &started.exports;

    let (asked, mut answer) = Asked::new(exports, "mode", "uid=0 pid=1 (control socket)", "go live");
    asked.accept("observe", "enforce", "now enforcing");
    assert!(answer.try_recv().unwrap().accepted);

    let asked = Asked::unattended(exports, "policy", "start", "the agent started");
    asked.accept("", "aaaa", "in force");

    let (asked, mut answer) = Asked::new(exports, "policy", "signal", "SIGHUP");
    let errors = "records.yaml:3: unknown key\nrecords.yaml:4: another";
    asked.wanting("bbbb").refuse(errors);
    assert_eq!(answer.try_recv().unwrap().message, errors, "all of it");

    let (asked, mut answer) = Asked::new(exports, "mode", "collector test", "");
    drop(asked);
    assert!(!answer.try_recv().unwrap().accepted);

    exports.shutdown(Duration::from_secs(5));
    let audits: Vec<serde_json::Value> = file_lines(&path)
        .into_iter()
        .map(|mut line| line["audit"].take())
        .collect();
    assert_eq!(audits.len(), 4);
    assert_eq!(audits[0]["accepted"], true);
    assert_eq!(
        (&audits[0]["old_digest"], &audits[0]["new_digest"]),
        (&"observe".into(), &"enforce".into())
    );
    assert_eq!(audits[2]["accepted"], false);
    assert_eq!(
        (&audits[2]["old_digest"], &audits[2]["new_digest"]),
        (&"aaaa".into(), &"bbbb".into()),
        "what is in force, and what was asked for"
    );
    assert_eq!(
        audits[2]["reason"],
        "SIGHUP; refused: records.yaml:3: unknown key (and 1 more)"
    );
    assert_eq!(
        (
            &audits[3]["accepted"],
            &audits[3]["who"],
            &audits[3]["old_digest"]
        ),
        (&false.into(), &"collector test".into(), &"enforce".into())
    );
}

#[test]
fn a_collector_may_do_what_the_ceiling_says() {
    use command::Ceiling::*;
    let all = [None, Observe, Policies, Enforce];
    for (own, ceiling) in all.iter().enumerate() {
        for (needed, need) in all.iter().enumerate() {
            assert_eq!(ceiling.permit(*need).is_ok(), own >= needed);
        }
    }
    assert!(None.permit(Enforce).unwrap_err().contains("remote: enforce"));
}
