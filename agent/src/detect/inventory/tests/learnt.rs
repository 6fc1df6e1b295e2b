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

#[test]
fn values_that_are_called_like_words_of_apis() {
    let mut inventory = inventory();
    for _ in 0..4 {
        // No value is beside them that looks like one.
        for realm in ["acme", "staging", "patients", "default"] {
            for below in ["users", "groups", "roles", "sessions"] {
                see(
                    &mut inventory,
                    "GET",
                    &format!("/admin/tenants/{realm}/{below}"),
                    200,
                );
            }
        }
        // Some are beside them.
        for repository in ["a1b2c3d4e5f6", "0f9e8d7c6b5a", "web", "reports"] {
            for below in ["events", "jobs", "files", "labels"] {
                let path = format!("/accounts/{repository}/{below}");
                see(&mut inventory, "GET", &path, 200);
            }
        }
        // Collections behind a value, with what all collections have.
        for collection in ["items", "notes", "visits", "files"] {
            for below in ["search", "export", "labels", "users", "history"] {
                see(
                    &mut inventory,
                    "GET",
                    &format!("/orders/17/{collection}/{below}"),
                    200,
                );
            }
        }
    }
    let mut expected: BTreeSet<String> = ["users", "groups", "roles", "sessions"]
        .iter()
        .map(|below| format!("GET /admin/tenants/{{id}}/{below}"))
        .collect();
    expected
        .extend(["events", "jobs", "files", "labels"].map(|below| format!("GET /accounts/{{id}}/{below}")));
    for collection in ["items", "notes", "visits", "files"] {
        expected.extend(
            ["search", "export", "labels", "users", "history"]
                .map(|below| format!("GET /orders/{{id}}/{collection}/{below}")),
        );
    }
    assert_eq!(shown(&inventory), expected);
}

#[test]
fn settings_and_releases_are_values() {
    let mut inventory = inventory();
    for (path, names) in [
        ("/orders/17/secrets/", ["NPM_TOKEN", "DATABASE_URL", "S3_KEY"]),
        ("/orders/17/tags/", ["v4.9.4", "v2.10.3", "v0.2.2"]),
    ] {
        for name in names {
            see(&mut inventory, "GET", &format!("{path}{name}"), 200);
        }
    }
    assert_eq!(
        shown(&inventory),
        set(&["GET /orders/{id}/secrets/{id}", "GET /orders/{id}/tags/{id}"])
    );
}

#[test]
fn versions_without_a_letter_stay_apart_and_numbers_do_not() {
    let mut inventory = inventory();
    for number in 0..3 {
        for version in ["2", "3"] {
            let path = format!("/rest/api/{version}/orders/{}", 1000 + number);
            see(&mut inventory, "GET", &path, 200);
        }
        for version in ["1.0", "2.0"] {
            see(&mut inventory, "GET", &format!("/{version}/orders"), 200);
        }
    }
    assert_eq!(
        shown(&inventory),
        set(&[
            "GET /1.0/orders",
            "GET /2.0/orders",
            "GET /rest/api/2/orders/{id}",
            "GET /rest/api/3/orders/{id}",
        ])
    );
    see(&mut inventory, "GET", "/rest/api/v1.0.0/orders/42", 200);
    see(&mut inventory, "GET", "/rest/api/2/3/4", 200);
    assert!(
        shown(&inventory).is_superset(&set(&[
            "GET /rest/api/v1.0.0/orders/{id}",
            "GET /rest/api/2/{id}/{id}"
        ])),
        "{:?}",
        shown(&inventory)
    );
    // As many as no API has versions, or beside what is none.
    for numbers in [
        &["1", "2", "3", "4", "5", "6", "7"][..],
        &["7", "12", "4711", "4712"],
    ] {
        let mut inventory = super::inventory();
        for number in numbers {
            see(&mut inventory, "GET", &format!("/api/{number}/notes"), 200);
        }
        for number in numbers {
            see(&mut inventory, "GET", &format!("/api/{number}/notes"), 200);
        }
        assert_eq!(shown(&inventory), set(&["GET /api/{id}/notes"]), "{numbers:?}");
    }
}

#[test]
fn who_sends_everybody_elsewhere_has_few_endpoints() {
    let mut inventory = inventory();
    // Words of APIs, as scanners have them, which no limit on made-up ones holds.
    let words = [
        "orders", "items", "users", "notes", "visits", "jobs", "files", "groups", "labels", "reports",
        "events", "roles", "sessions", "history", "search", "export", "accounts", "status",
    ];
    for first in words {
        for second in words {
            see(&mut inventory, "GET", &format!("/{first}/{second}"), 301);
        }
    }
    see(&mut inventory, "GET", "/authorize", 302);
    assert!(inventory.stats().endpoints < 200, "{:?}", inventory.stats());
}
