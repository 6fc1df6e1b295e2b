//! Internet Protocol addresses.
//!
//! Source: 45 CFR 164.514(b)(2)(i)(O).

use crate::detect::phi::class::{Class, Detector, Group};

/// The table of it.
pub const DETECTOR: Detector = Detector {
    class: Class::Ip,
    name: "ip",
    group: Group::Phi,
    about: "Internet Protocol addresses.",
    source: "45 CFR 164.514(b)(2)(i)(O)",
    identifies: true,
    keys: &[
        "ip",
        "ipaddress",
        "ipaddr",
        "clientip",
        "remoteip",
        "remoteaddr",
        "remoteaddress",
        "sourceip",
        "srcip",
        "ipv4",
        "ipv6",
        "userip",
        "lastloginip",
        "ipaddressv4",
        "ipaddressv6",
        "xforwardedfor",
        "clientipaddress",
        "signupip",
        "loginip",
    ],
    keys_alone: &[],
    keys_beside: &[],
    words: &[
        "ip addr",
        "ipv6",
        "ipv4",
        "ip address",
        "ip",
        "from host",
        "logged in from",
        "login from",
        "attempt from",
        "traffic from",
        "connection from",
        "connected from",
        "request from",
        "requests from",
        "access from",
        "came from",
        "log in from",
        "signed in from",
        "attempts from",
    ],
    fits: own_fits,
    shape: None,
    examples: &[
        "IP: 2001:db8::17",
        "Logged in from IP address 2001:db8::17 today.",
        r#"{"client_ip":"203.0.113.77"}"#,
        r#"{"ip":"2001:db8::17"}"#,
        r#"{"email":"m.okafor@mail.example","lastLoginIp":"10.20.30.40"}"#,
        "Logged in from IP address 203.0.113.77 today.",
    ],
    counter_examples: &[
        "IP: ::1",
        "The IP rating 67 holds.",
        r#"{"version":"1.2.3.4"}"#,
        r#"{"oid":"1.2.840.113.4"}"#,
        r#"{"ip":"none"}"#,
        r#"{"status":{"podIP":"203.0.113.9","hostIP":"203.0.113.7"}}"#,
        r#"{"remote_addr":"127.0.0.1","ip":"0.0.0.0","clientIp":"192.168.3.4"}"#,
        "The server listens at IP 127.0.0.1 and IP address 0.0.0.0 now.",
    ],
};

fn own_fits(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| text.parse::<std::net::IpAddr>().is_ok())
}
