//! The newest word of an agent counts, hosts are added up, and nothing on a page is markup of somebody else's.

use super::*;

fn endpoint(id: u64, path: &str, success: u64) -> v1::Endpoint {
    v1::Endpoint {
        id,
        workload: Some(v1::Workload {
            exe: "/usr/bin/app".into(),
            name: "app.service/app".into(),
            ..Default::default()
        }),
        direction: v1::Direction::Inbound as i32,
        method: "GET".into(),
        path: path.into(),
        statuses: Some(v1::StatusClasses {
            success,
            ..Default::default()
        }),
        latency_ns: Some(v1::Histogram {
            buckets: vec![10, 12],
            counts: vec![1, 2],
            sum: 30,
        }),
        ..Default::default()
    }
}

#[test]
fn the_newest_word_counts_and_hosts_are_added_up() {
    let mut newest = HashMap::new();
    let told = |endpoints: Vec<v1::Endpoint>, gone: Vec<u64>| v1::Inventory { endpoints, gone };
    apply(
        &mut newest,
        told(vec![endpoint(1, "/a", 5), endpoint(2, "/b", 1)], vec![]),
    );
    apply(&mut newest, told(vec![endpoint(1, "/a", 9)], vec![2]));
    assert_eq!(newest.len(), 1);
    let mut all = Vec::new();
    add(&mut all, newest.remove(&1).expect("the first"));
    add(&mut all, endpoint(77, "/a", 4));
    assert_eq!((all.len(), all[0].calls()), (1, 13));
    let latency = all[0].latency_ns.clone().unwrap_or_default();
    assert_eq!(
        (latency.buckets, latency.counts, latency.sum),
        (vec![10, 12], vec![2, 4], 60)
    );
}

#[test]
fn pages_hold_no_foreign_markup() {
    let hostile = "<script>alert(1)</script>\"'&\u{1b}";
    let mut one = endpoint(1, hostile, 1);
    one.host = hostile.into();
    one.auth = vec![v1::Count {
        name: hostile.into(),
        count: 1,
    }];
    one.data = vec![v1::EndpointData {
        class: hostile.into(),
        location: hostile.into(),
        ..Default::default()
    }];
    let applications = BTreeMap::from([(
        hostile.to_owned(),
        Application {
            agents: BTreeSet::from([hostile.to_owned()]),
            endpoints: vec![one],
        },
    )]);
    let names = file_names(&applications);
    for page in [
        page::application(hostile, &applications[hostile]),
        page::index(&applications, &names),
    ] {
        assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
    let parsed: serde_json::Value = serde_json::from_str(&as_json(&applications)).expect("JSON");
    assert_eq!(parsed["applications"][0]["endpoints"][0]["path"], hostile);
    assert!(
        names[hostile]
            .bytes()
            .all(|one| one.is_ascii_alphanumeric() || b"-.".contains(&one))
    );
}
