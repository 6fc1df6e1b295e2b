//! Templates by table, what is shown and what never is, and bounds under random paths.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;

mod bounds;
mod learnt;
mod made_up;
mod outlines;

use super::*;
use crate::call::{AuthScheme, BodyFacts, CallId, Protocol, Raw, Request, Response};
use crate::capture::{FlowId, FlowInfo, KernelTime, SocketRole};

fn call_from(port: u16, method: &str, path: &str, status: u16) -> ApiCall {
    let at = KernelTime(1_000_000_000);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let remote: SocketAddr = ([10, 0, (port >> 8) as u8, port as u8], 40_000).into();
    ApiCall {
        id: CallId(1),
        direction: CallDirection::Inbound,
        protocol: Protocol::Http1,
        process: Arc::new(Process {
            pid: 1,
            tid: 1,
            uid: 0,
            comm: "app".into(),
            exe: "/usr/bin/app".into(),
            cgroup_id: 1,
            cgroup_path: "/system.slice/app.service".into(),
            container: None,
        }),
        flow: Arc::new(FlowInfo {
            id: FlowId::Socket(1),
            carrier: Some(1),
            local: Some(([10, 0, 0, 1], 8080).into()),
            remote: Some(remote),
            role: SocketRole::Server,
            netns: 0,
            tls: None,
            joined_late: false,
            starts: None,
            enforceable: true,
        }),
        request: Request {
            method: method.into(),
            // As if the redactor showed nothing.
            path: "/".into(),
            host: "".into(),
            auth: AuthScheme::None,
            credentials: None,
            trace_id: None,
            body: BodyFacts::default(),
            query_parameters: 0,
            head_bytes: 1,
            head_at: at,
            ended_at: at,
        },
        response: Some(Response {
            status,
            body: BodyFacts::default(),
            head_at: at,
            first_byte_at: at,
            last_byte_at: KernelTime(at.0 + 1_000_000),
        }),
        state: CallState::Answered,
        anomalies: Vec::new(),
        operation: None,
        data: Vec::new(),
        tls: None,
        third_party: None,
        ambiguous: false,
        loss_overlap: false,
        response_position: None,
        head_end: None,
        stopped: None,
        raw: Raw {
            path: Some(path.to_owned()),
            query: query.to_owned().into(),
            ..Raw::default()
        },
    }
}

/// For the tests of neighbours.
pub fn sample_call() -> ApiCall {
    call_from(2, "GET", "/", 200)
}

fn see(inventory: &mut Inventory, method: &str, path: &str, status: u16) {
    inventory.ended(&call_from(2, method, path, status), &[], false, 1);
}

fn inventory() -> Inventory {
    Inventory::new(Settings::default())
}

fn shown(inventory: &Inventory) -> BTreeSet<String> {
    inventory
        .endpoints()
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
        .collect()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

const PEOPLE: &[&str] = &[
    "alpherin", "brondel", "cwmarth", "delquist", "erravan", "fostrik", "gwendal", "hulvard", "iskander",
    "jorvin", "kelstra", "lomwick", "marvane", "nolwenn", "ostrava", "pelldor",
];

#[test]
fn values_are_told_at_once() {
    for (first, second, template) in [
        (
            "/api/appointments/42/notes",
            "/api/appointments/43/notes",
            "/api/appointments/{id}/notes",
        ),
        (
            "/api/v1/users/8b0a5f62-8a3e-4c6b-9d19-4d43cdb4f4c7",
            "/api/v1/users/17",
            "/api/v1/users/{id}",
        ),
        ("/reports/2024-02-28", "/reports/2024-02-29", "/reports/{id}"),
        ("/users/a@b.example", "/users/c@d.example", "/users/{id}"),
        ("/patients/MRN-0012", "/patients/MRN-0013", "/patients/{id}"),
        (
            "/odata/Patients(1)/Name",
            "/odata/Patients(2)/Name",
            "/odata/Patients({id})/Name",
        ),
        ("/api/orders;v=1/5", "/api/orders/6/", "/api/orders/{id}"),
        (
            "/fhir/Patient/example",
            "/fhir/Patient/pat-1",
            "/fhir/Patient/{id}",
        ),
        (
            "/fhir/Patient/example/_history/a",
            "/fhir/Patient/x/_history/2",
            "/fhir/Patient/{id}/_history/{id}",
        ),
        ("/v1/jobs/12:cancel", "/v1/jobs/13:cancel", "/v1/jobs/{id}:cancel"),
    ] {
        let mut inventory = inventory();
        see(&mut inventory, "GET", first, 200);
        see(&mut inventory, "GET", second, 200);
        assert_eq!(shown(&inventory), set(&[&format!("GET {template}")]), "{first}");
        assert_eq!(inventory.endpoints()[0].facts.calls(), 2);
    }
}

#[test]
fn names_are_one_endpoint_once_there_are_enough() {
    for (before, after) in [
        ("/users/", ""),
        ("/users/", "/orders"),
        ("/api/tenants/", "/orders/5"),
        ("/tags/", ""),
        ("/frob/", ""),
        ("/frob/", "/items"),
        ("/repos/acme/", ""),
    ] {
        let mut inventory = inventory();
        for name in PEOPLE {
            see(&mut inventory, "GET", &format!("{before}{name}{after}"), 200);
        }
        let endpoints = inventory.endpoints();
        assert_eq!(endpoints.len(), 1, "{before}…{after}: {:?}", shown(&inventory));
        assert_eq!(endpoints[0].facts.calls(), PEOPLE.len() as u64);
    }
}

#[test]
fn words_of_an_api_stay_apart() {
    let mut inventory = inventory();
    let words = [
        "frobs",
        "gizmos",
        "quuxes",
        "wibbles",
        "blorps",
        "zorks",
        "plinths",
        "grommets",
        "sprockets",
    ];
    for id in 1..12 {
        for word in words {
            see(&mut inventory, "GET", &format!("/api/{word}"), 200);
            see(&mut inventory, "POST", &format!("/api/{word}"), 201);
            see(&mut inventory, "GET", &format!("/api/{word}/{id}"), 200);
            see(&mut inventory, "GET", &format!("/api/{word}/{id}/blips"), 200);
        }
    }
    assert_eq!(
        inventory.endpoints().len(),
        words.len() * 4,
        "{:?}",
        shown(&inventory)
    );
    for _ in 0..2 {
        // Earned by different values below and above.
        for word in words {
            for id in 20..40 {
                see(&mut inventory, "GET", &format!("/api/{word}/{id}/blips"), 200);
            }
        }
    }
    let shown = shown(&inventory);
    assert!(shown.contains("GET /api/frobs/{id}/blips"), "{shown:?}");
}

#[test]
fn a_persons_name_is_never_shown() {
    let mut inventory = inventory();
    for round in 0..200 {
        for path in [
            "/patients/alpherin".to_owned(),
            format!("/patients/alpherin/visits/{round}"),
            format!("/patients/alpherin/{round}"),
            format!("/records/zebulon/{round}"),
            format!("/records/{round}/Alpherin"),
            "/records/alpherin".to_owned(),
            "/alpherin".to_owned(),
            format!("/records/search?alpherin={round}"),
            "/records/search?smith=1".to_owned(),
        ] {
            see(&mut inventory, "GET", &path, 200);
        }
    }
    for endpoint in inventory.endpoints() {
        let all = format!("{endpoint:?}").to_lowercase();
        assert!(
            !endpoint.path.to_lowercase().contains("alpherin"),
            "{}",
            endpoint.path
        );
        assert!(!all.contains("zebulon") && !all.contains("smith"), "{all}");
    }
}

#[test]
fn what_the_redactor_shows_is_shown() {
    let mut inventory = inventory();
    let mut call = call_from(2, "GET", "/frobnicate/5", 200);
    call.request.path = "/frobnicate/{id}".into();
    inventory.ended(&call, &[], false, 1);
    assert_eq!(shown(&inventory), set(&["GET /frobnicate/{id}"]));
    call.request.path = "/{name}/{id}".into();
    inventory.ended(&call, &[], false, 1);
    assert!(
        shown(&inventory)
            .iter()
            .all(|path| path.starts_with("GET /{word-"))
    );
}

#[test]
fn a_scanner_adds_next_to_nothing() {
    for status in [404, 401, 403, 500, 200, 302] {
        let mut inventory = inventory();
        see(&mut inventory, "GET", "/api/appointments/1", 200);
        for number in 0..20_000u32 {
            let word = |salt: u32| {
                let mut left = number.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(40_503);
                let mut word = String::new();
                for _ in 0..6 {
                    word.push(char::from(b'a' + (left % 26) as u8));
                    left /= 26;
                }
                word
            };
            let path = match number % 4 {
                0 => format!("/{}", word(1)),
                1 => format!("/admin/{}.php", word(2)),
                2 => format!("/api/{}/{}", word(3), word(4)),
                _ => format!("/{}/{}/{}", word(5), word(6), word(7)),
            };
            see(&mut inventory, "GET", &path, status);
        }
        let endpoints = inventory.endpoints().len();
        assert!(endpoints <= 130, "{status}: {endpoints}");
        assert!(
            inventory.stats().places < 1_000,
            "{status}: {:?}",
            inventory.stats()
        );
        if status == 404 {
            assert_eq!(endpoints, 2);
        }
    }
}

#[test]
fn refused_calls_of_known_endpoints_count_there() {
    let mut inventory = inventory();
    see(&mut inventory, "GET", "/api/appointments/1", 200);
    see(&mut inventory, "GET", "/api/appointments/2", 404);
    see(&mut inventory, "POST", "/api/appointments", 422);
    let endpoints = inventory.endpoints();
    assert_eq!(endpoints.len(), 2);
    assert!(
        endpoints
            .iter()
            .any(|one| one.facts.classes == [0, 0, 1, 0, 1, 0])
    );
}

#[test]
fn limits_hold_and_are_counted() {
    let mut inventory = Inventory::new(Settings {
        limits: Limits {
            endpoints_max: 10,
            places_max: 30,
            ..Limits::default()
        },
        ..Settings::default()
    });
    for method in ["GET", "POST", "PUT"] {
        for word in [
            "orders", "items", "users", "pets", "tags", "notes", "visits", "jobs",
        ] {
            see(&mut inventory, method, &format!("/{word}/1"), 200);
        }
    }
    let stats = inventory.stats();
    assert!(stats.endpoints <= 11 && stats.places <= 30, "{stats:?}");
    inventory.evict(u64::MAX);
    assert!(inventory.stats().evicted >= 10);
    see(&mut inventory, "GET", "/goals", 200);
    assert!(shown(&inventory).contains("GET /goals"));
    let (_, gone) = inventory.take_changed();
    assert_eq!(gone.len(), 10);
    assert!(inventory.take_changed().0.is_empty());
}

#[test]
fn clouds_are_recognised() {
    for (host, method, path, service, action) in [
        (
            "bucket.s3.eu-west-1.amazonaws.com",
            "GET",
            "/key/a",
            "aws",
            "s3:GetObject",
        ),
        ("s3.amazonaws.com", "PUT", "/bucket/key", "aws", "s3:PutObject"),
        ("s3.amazonaws.com", "GET", "/", "aws", "s3:ListBuckets"),
        (
            "169.254.169.254",
            "GET",
            "/latest/meta-data/iam/security-credentials/role",
            "instance-metadata",
            "credentials",
        ),
        (
            "10.0.0.1",
            "GET",
            "/api/v1/namespaces/default/pods",
            "kubernetes",
            "list pods",
        ),
        (
            "10.0.0.1",
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments/b",
            "kubernetes",
            "delete deployments",
        ),
        ("10.0.0.1", "GET", "/api/v1/patients/5", "", ""),
        ("vendor.example", "GET", "/x", "", ""),
    ] {
        let mut call = call_from(2, method, path, 200);
        call.raw.host = host.to_owned();
        let found = Recognised::of(&call);
        assert_eq!(
            (found.service.as_str(), found.action.as_str()),
            (service, action),
            "{host}{path}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_paths_stay_bounded(
        paths in prop::collection::vec(("(/[a-zA-Z0-9_.;()%:-]{0,12}){0,6}", 0usize..6), 1..400),
    ) {
        let mut inventory = Inventory::new(Settings {
            limits: Limits { endpoints_max: 50, places_max: 200, ..Limits::default() },
            ..Settings::default()
        });
        for (path, status) in &paths {
            see(&mut inventory, "GET", path, [200, 201, 302, 401, 404, 500][*status]);
        }
        let stats = inventory.stats();
        prop_assert!(stats.endpoints <= 51 && stats.places <= 200);
        let calls: u64 = inventory.endpoints().iter().map(|one| one.facts.calls()).sum();
        prop_assert_eq!(calls, paths.len() as u64);
    }
}
