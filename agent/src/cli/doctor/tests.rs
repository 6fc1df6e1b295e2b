//! The verdict by what is missing, and how it reads.

use super::*;

fn feature(name: &'static str, need: Need, answer: Answer) -> Feature {
    Feature {
        name,
        need,
        answer,
        without: "something is lost",
        fix: "do something",
    }
}

fn no() -> Answer {
    Answer::No("the kernel says so".into())
}

fn unknown() -> Answer {
    Answer::Unknown("needs root".into())
}

#[test]
fn the_verdict_is_the_worst_that_counts() {
    use Answer::Yes;
    let of = |root, required, wanted, bonus| {
        let features = [
            feature("a", Need::Required, required),
            feature("b", Need::Wanted, wanted),
            feature("c", Need::Bonus, bonus),
        ];
        judge(root, &features, &[]).0
    };
    assert_eq!(of(true, Yes, Yes, Yes), Verdict::Ready);
    assert_eq!(of(true, Yes, Yes, no()), Verdict::Ready);
    assert_eq!(of(true, Yes, no(), Yes), Verdict::Partly);
    assert_eq!(of(true, Yes, unknown(), Yes), Verdict::Partly);
    assert_eq!(of(true, no(), Yes, Yes), Verdict::NotReady);
    assert_eq!(of(false, unknown(), unknown(), Yes), Verdict::Untold);
    assert_eq!(of(false, no(), unknown(), Yes), Verdict::NotReady);
    let features = [feature("privileges", Need::Required, no())];
    assert_eq!(judge(false, &features, &[]).0, Verdict::Untold);
    assert_eq!(judge(true, &features, &[]).0, Verdict::NotReady);
}

#[test]
fn the_report_says_what_is_missing_and_what_to_do() {
    let mut library = LibraryReport::new("openssl", "3.0.17".into(), "partial");
    library.path = "/usr/lib/libssl.so.3".into();
    library
        .explanations
        .push("reads: probes around the 3 calls of the inner function".into());
    library.uncovered.push("SSL_sendfile".into());
    library.processes.push(ProcessReport {
        pid: 7,
        comm: "nginx".into(),
    });
    library.processes_total = 3;
    let libraries = vec![library];
    let features = vec![
        feature("ring-buffer", Need::Required, Answer::Yes),
        feature("socket-destroy", Need::Wanted, no()),
        feature("lsm", Need::Bonus, unknown()),
    ];
    let (verdict, summary) = judge(true, &features, &libraries);
    let report = Report {
        verdict,
        summary,
        kernel: "Linux 6.18.15".into(),
        lockdown: Some("integrity".into()),
        features: features.into_iter().map(FeatureReport::from).collect(),
        libraries,
        processes: 3,
        processes_unreadable: 2,
        other_programs: BTreeMap::from([("cgroup_skb", vec!["cilium".to_owned()])]),
        probe_costs: Some(CostReport {
            emulated_ns: 450,
            stepped_ns: 3100,
            return_ns: 600,
        }),
    };
    insta::assert_snapshot!(render(&report));
}
