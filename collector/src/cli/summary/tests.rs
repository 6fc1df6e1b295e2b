//! A store's events → the figures, and the figures on paper of several widths.

use super::report::{Paper, text};
use super::*;

const START_NS: u64 = 1_700_000_000_000_000_000;

struct Told<'a> {
    direction: v1::Direction,
    comm: &'a str,
    method: &'a str,
    path: &'a str,
    auth: &'a str,
    status: u32,
    tls: bool,
    verdict: Option<v1::Verdict>,
}

fn call(number: u64, told: Told<'_>) -> v1::Event {
    v1::Event {
        time_ns: START_NS + number * 1_000_000_000,
        kind: Some(v1::event::Kind::Call(v1::Call {
            direction: told.direction.into(),
            process: Some(v1::Process {
                pid: 10,
                comm: told.comm.into(),
                exe: format!("/usr/bin/{}", told.comm),
                ..Default::default()
            }),
            remote: Some(v1::Peer {
                address: "10.0.0.7".into(),
                port: 4000,
            }),
            tls: told.tls.then(v1::Tls::default),
            request: Some(v1::Request {
                method: told.method.into(),
                host: "ehr.hospital.example".into(),
                path: told.path.into(),
                auth: told.auth.into(),
                ..Default::default()
            }),
            response: (told.status > 0).then(|| v1::Response {
                status: told.status,
                ..Default::default()
            }),
            verdict: told.verdict,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn denied(mode: &str, guarantee: &str, would_be: &str, shortfall: &str) -> Option<v1::Verdict> {
    Some(v1::Verdict {
        action: "deny".into(),
        mode: mode.into(),
        guarantee: guarantee.into(),
        would_be: would_be.into(),
        policy: "hospital".into(),
        rule: "records-need-a-caller".into(),
        shortfall: shortfall.into(),
        ..Default::default()
    })
}

/// Two good calls, and `denied` ones of an outsider.
fn summary(verdicts: Vec<Option<v1::Verdict>>) -> Summary {
    let mut summary = Summary::default();
    for (direction, comm) in [
        (v1::Direction::Inbound, "nginx"),
        (v1::Direction::Outbound, "python3"),
    ] {
        summary.take(&call(
            0,
            Told {
                direction,
                comm,
                method: "POST",
                path: "/fhir/Observation",
                auth: "bearer",
                status: 201,
                tls: true,
                verdict: None,
            },
        ));
    }
    for (number, verdict) in verdicts.into_iter().enumerate() {
        let is_stopped = verdict
            .as_ref()
            .is_some_and(|verdict| verdict.guarantee == "contained");
        summary.take(&call(
            1 + number as u64,
            Told {
                direction: v1::Direction::Inbound,
                comm: "nginx",
                method: "GET",
                path: "/fhir/Patient/{id}",
                auth: "none",
                status: if is_stopped { 0 } else { 200 },
                tls: false,
                verdict,
            },
        ));
    }
    summary
}

fn wide(summary: &Summary) -> String {
    text(
        summary,
        Paper {
            width: None,
            is_colored: false,
        },
    )
}

#[test]
fn what_would_have_been_stopped() {
    let verdicts = vec![denied("observe", "observed", "contained", ""); 1_234];
    insta::assert_snapshot!(wide(&summary(verdicts)));
}

#[test]
fn what_was_stopped_and_what_was_not() {
    let mut verdicts = vec![denied("enforce", "contained", "", ""); 3];
    verdicts.push(denied("enforce", "observed", "", "the reset is not confirmed"));
    let mut summary = summary(verdicts);
    summary.take(&v1::Event {
        kind: Some(v1::event::Kind::FlowLoss(v1::FlowLoss {
            reason: "unseen".into(),
            bytes: 12_345,
            duration_ns: 1_500_000,
            ..Default::default()
        })),
        time_ns: START_NS,
        ..Default::default()
    });
    insta::assert_snapshot!(wide(&summary));
    let json = summary.to_json();
    assert_eq!(json["verdicts"][0]["guarantees"]["contained"], 3);
    assert_eq!(json["verdicts"][0]["endpoints"][0]["path"], "/fhir/Patient/{id}");
    assert_eq!(json["losses"][0]["bytes"], 12_345);
}

#[test]
fn nothing_to_say_is_said() {
    insta::assert_snapshot!(wide(&Summary::default()), @"
    Summary of 0 stored events
    0 calls: 0 served and 0 made; 0 inside TLS, 0 without credentials

    Nothing to stop: no call matched a rule that denies.

    Nothing was lost: no event of a loss.
    ");
}

#[test]
fn lines_fit_the_terminal() {
    let summary = summary(vec![denied("observe", "observed", "contained", ""); 9]);
    for width in [60, 80, 120] {
        let text = text(
            &summary,
            Paper {
                width: Some(width),
                is_colored: false,
            },
        );
        let longest = text
            .lines()
            .filter(|line| line.starts_with(' '))
            .map(|line| line.chars().count())
            .max();
        assert!(
            longest.is_some_and(|longest| longest <= usize::from(width)),
            "{width}: {text}"
        );
    }
}

#[test]
fn nothing_captured_reaches_the_terminal_as_control() {
    let mut summary = Summary::default();
    summary.take(&call(
        0,
        Told {
            direction: v1::Direction::Inbound,
            comm: "a\x1b[2J",
            method: "G\rET",
            path: "/\u{9b}31m",
            auth: "none",
            status: 200,
            tls: false,
            verdict: denied("enforce", "cut\x07", "", "\x1b]0;"),
        },
    ));
    let text = wide(&summary);
    assert!(
        !text.chars().any(|one| one.is_control() && one != '\n'),
        "{text:?}"
    );
}
