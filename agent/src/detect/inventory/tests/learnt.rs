//! What is told from the structure of an API alone, by table: services, values of one busy caller, many literals at one
//! place, words with values behind them.

use super::*;

#[test]
fn services_stay_apart_whatever_they_share() {
    let mut inventory = inventory();
    let mut expected = BTreeSet::new();
    for (place, services) in [
        (
            "/apis/",
            [
                "batch",
                "quux.k8s.io",
                "frobs.k8s.io",
                "zorks.k8s.io",
                "blips.k8s.io",
            ],
        ),
        (
            "/",
            [
                "acme.frob.v1.FrobService",
                "acme.zork.v1.ZorkService",
                "acme.frob.v2.FrobService",
                "acme.zork.v2.ZorkService",
                "grpc.health.v1.Health",
            ],
        ),
    ] {
        for service in services {
            for _ in 0..4 {
                for below in ["/v1/status", "/v1/config", "/v1/events"] {
                    see(&mut inventory, "GET", &format!("{place}{service}{below}"), 200);
                }
            }
            expected.insert(service);
        }
    }
    assert_eq!(
        inventory.endpoints().len(),
        expected.len() * 3,
        "{:?}",
        shown(&inventory)
    );
}

#[test]
fn a_value_is_one_however_often_it_is_called() {
    let below = ["issues", "pulls", "branches", "releases", "labels"];
    for way in ["/repos/{owner}/{repo}/", "/tenants/{owner}/"] {
        let mut inventory = inventory();
        for round in 0..60 {
            // One owner calls all the time, others now and then.
            let owner = if round % 3 > 0 {
                PEOPLE[0]
            } else {
                PEOPLE[1 + round % 12]
            };
            let path = way.replace("{owner}", owner);
            let path = path.replace("{repo}", &format!("{}-{}", PEOPLE[round % 7], round % 4));
            for word in below {
                see(&mut inventory, "GET", &format!("{path}{word}"), 200);
            }
        }
        assert_eq!(
            inventory.endpoints().len(),
            below.len(),
            "{way} {:?}",
            shown(&inventory)
        );
    }
}

#[test]
fn many_actions_at_one_place_are_no_flood() {
    let mut inventory = inventory();
    let (verbs, things) = (
        ["create", "update", "delete", "list", "get"],
        [
            "role", "group", "key", "token", "item", "rule", "policy", "target", "event", "user",
        ],
    );
    let mut count = 0;
    for _ in 0..6 {
        count = 0;
        for verb in verbs {
            for thing in things {
                for what in ["qzorp", "frobnik"] {
                    // No API has the third part.
                    see(&mut inventory, "POST", &format!("/{verb}-{thing}-{what}"), 200);
                    count += 1;
                }
            }
        }
    }
    assert_eq!(inventory.endpoints().len(), count);
}

#[test]
fn what_stands_behind_a_word_is_a_value() {
    let mut inventory = inventory();
    for ending in ["a1b2c3d4e5", "f6a7b8c9d0", "0123456789"] {
        see(&mut inventory, "GET", &format!("/entries.{ending}"), 200);
        see(&mut inventory, "GET", &format!("/queries.{ending}"), 200);
    }
    assert_eq!(inventory.endpoints().len(), 2);
    assert!(
        inventory.endpoints().iter().all(|one| one.path.ends_with('}')),
        "{:?}",
        shown(&inventory)
    );
}

#[test]
fn a_days_work_is_one_endpoint_an_operation() {
    let mut inventory = inventory();
    for number in 0..60usize {
        let name = PEOPLE[number % 10];
        for (method, path) in [
            ("GET", "/api/appointments".to_owned()),
            ("POST", "/api/appointments".to_owned()),
            ("GET", format!("/api/appointments/{number}")),
            ("DELETE", format!("/api/appointments/{number}")),
            ("GET", format!("/api/appointments/{number}/notes")),
            (
                "GET",
                format!("/api/frobs/8b0a5f62-8a3e-4c6b-9d19-4d43cd{number:06x}/blips"),
            ),
            ("GET", format!("/patients/{name}")),
            ("GET", format!("/patients/{name}/chart")),
            ("GET", format!("/tags/{name}-tag")),
            ("GET", format!("/fhir/Patient/pat-{number}")),
            ("GET", "/v1/health".to_owned()),
        ] {
            see(&mut inventory, method, &path, 200);
        }
    }
    assert_eq!(
        shown(&inventory),
        set(&[
            "GET /api/appointments",
            "POST /api/appointments",
            "GET /api/appointments/{id}",
            "DELETE /api/appointments/{id}",
            "GET /api/appointments/{id}/notes",
            "GET /api/frobs/{id}/blips",
            "GET /patients/{id}",
            "GET /patients/{id}/chart",
            "GET /tags/{id}",
            "GET /fhir/Patient/{id}",
            "GET /v1/health",
        ])
    );
}
