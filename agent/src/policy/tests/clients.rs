//! Who the client is: headers and the PROXY protocol, from trusted proxies only.

use super::*;

#[test]
fn clients_are_told_by_trusted_proxies_only() {
    let get = || call("GET", "/");
    let proxied = |value: &str| header(from(get(), "10.9.0.1"), "x-forwarded-for", value);
    let is = |call: &ApiCall, client: &str| matched(&format!("{{ clients: [{client}] }}"), call);
    assert!(
        is(&from(get(), "192.0.2.7"), "192.0.2.7"),
        "without a proxy it is the peer"
    );
    assert!(is(&proxied("203.0.113.9"), "203.0.113.9"));
    assert!(is(&proxied("1.1.1.1, 203.0.113.9"), "203.0.113.9"), "right-most");
    assert!(
        !is(&proxied("1.1.1.1, 203.0.113.9"), "1.1.1.1"),
        "what the client wrote"
    );
    assert!(
        is(&proxied("203.0.113.9, 10.9.3.4"), "203.0.113.9"),
        "past trusted proxies"
    );
    assert!(is(&proxied("10.9.3.4"), "10.9.3.4"), "a proxy's own call");
    assert!(is(&proxied("203.0.113.9:5555"), "203.0.113.9"));
    assert!(is(&proxied("::ffff:203.0.113.9"), "203.0.113.9"));
    assert!(
        is(
            &header(proxied("1.1.1.1"), "x-forwarded-for", "203.0.113.9"),
            "203.0.113.9"
        ),
        "two lines are one list"
    );
    let forged = header(from(get(), "192.0.2.7"), "x-forwarded-for", "10.0.0.1");
    assert!(!is(&forged, "10.0.0.1"), "an untrusted peer is not believed");
    assert!(is(&forged, "192.0.2.7"));
    let forwarded = header(
        from(get(), "10.9.0.1"),
        "forwarded",
        "for=1.1.1.1, for=\"[2001:db8::5]:443\";proto=https",
    );
    assert!(is(&forwarded, "2001:db8::5"));
    for hidden in ["unknown", "_proxy", "x y", ""] {
        assert!(!is(&proxied(hidden), "'::/0', 0.0.0.0/0"), "{hidden}");
    }
    // The client may have written the header that the proxy does not: a denial holds for either, an allowance for both.
    let both = header(proxied("203.0.113.9"), "forwarded", "for=10.0.0.1");
    assert!(is(&both, "203.0.113.9") && is(&both, "10.0.0.1"));
    let allow =
        set("mode: enforce\nrules:\n  - { name: a, match: { clients: [10.0.0.0/8] }, action: allow }");
    assert_eq!(rule(&mut engine(&allow), &both), "");
}

#[test]
fn a_proxy_protocol_header_of_a_trusted_peer_stands_for_the_peer() {
    let by = |peer: &str, client: &str| {
        let mut call = from(call("GET", "/"), peer);
        call.raw.proxied_client = client.parse().ok();
        call
    };
    let is = |call: &ApiCall, client: &str| matched(&format!("{{ clients: ['{client}'] }}"), call);
    let proxied = by("10.9.0.1", "203.0.113.9:5555");
    assert!(is(&proxied, "203.0.113.9") && !is(&proxied, "10.9.0.1"));
    assert!(is(&by("10.9.0.1", "[::ffff:203.0.113.9]:5555"), "203.0.113.9"));
    let forged = by("192.0.2.7", "203.0.113.9:5555");
    assert!(
        is(&forged, "192.0.2.7") && !is(&forged, "203.0.113.9"),
        "an untrusted peer is not believed"
    );
    let headers = header(proxied, "x-forwarded-for", "10.0.0.1");
    assert!(
        is(&headers, "203.0.113.9") && !is(&headers, "10.0.0.1"),
        "who is proxied is no proxy, so its headers are its own"
    );
    let chain = header(by("10.9.0.1", "10.9.0.2:80"), "x-forwarded-for", "203.0.113.9");
    assert!(is(&chain, "203.0.113.9"), "one proxy behind another");
    assert!(
        matched("{ peers: [10.9.0.1] }", &chain),
        "the peer stays the peer"
    );
}

#[test]
fn an_outbound_call_has_no_client() {
    let out = from(to(call("GET", "/"), "vendor.example"), "192.0.2.1");
    assert!(!matched("{ clients: [0.0.0.0/0] }", &out));
    assert!(!matched("{ clients: { not: [10.0.0.0/8] } }", &out));
    let rate = set(
        "mode: enforce\nrules:\n  - { name: r, rate: { requests: 1, per: 1h, by: client }, action: deny }",
    );
    let mut engine = engine(&rate);
    for id in 1..4 {
        assert_eq!(rule(&mut engine, &at(out.clone(), id, 1)), "");
    }
}

#[test]
fn a_client_with_two_stories_is_counted_under_its_proxy() {
    let set = set(
        "mode: enforce\nrules:\n  - { name: t, rate: { requests: 1, per: 1m, by: client }, action: deny }",
    );
    let mut engine = engine(&set);
    let forged = |id: u128| {
        let call = header(
            from(call("GET", "/"), "10.9.0.1"),
            "x-forwarded-for",
            "203.0.113.9",
        );
        at(header(call, "forwarded", &format!("for=1.1.1.{id}")), id, 1)
    };
    assert_eq!(rule(&mut engine, &forged(1)), "");
    assert_eq!(rule(&mut engine, &forged(2)), "t");
}
