//! One call → what is counted of it at its endpoint, and where it belongs: host, operation, exposure.
//!
//! Names of parameters that can never be shown are counted and not kept. It must not know how endpoints are found.

use std::net::IpAddr;

use smol_str::{SmolStr, format_smolstr};

use super::{Facts, PeerGroup, Proof};
use crate::call::{Api, ApiCall, CallDirection, Learnable, Segment, Shape};
use crate::detect::Finding;

pub(in crate::detect) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_link_local() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

pub(super) fn exposure(direction: CallDirection, third_party: bool, facts: &Facts) -> &'static str {
    let public = facts.peers[PeerGroup::ALL
        .iter()
        .position(|one| *one == PeerGroup::Public)
        .unwrap_or_default()];
    if third_party {
        return "third-party";
    }
    match (direction, public > 0) {
        (CallDirection::Inbound, true) => "north-south",
        (CallDirection::Outbound, true) => "third-party",
        (_, false) => "east-west",
    }
}

/// What a server is called by its address, or by `localhost`, is one host: any.
pub(super) fn host_key(call: &ApiCall, inbound: bool) -> SmolStr {
    let host = call.raw.host.as_str();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty()
        || host.len() > 253
        || host == "localhost"
        || (inbound && bare.parse::<IpAddr>().is_ok())
    {
        return SmolStr::default();
    }
    SmolStr::new(host)
}

/// What the redactor shows of it, without the port.
pub(super) fn shown_host(call: &ApiCall) -> &str {
    let shown = call.request.host.as_str();
    match shown.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => shown,
    }
}

/// The operation, where the path does not tell which it is.
pub(super) fn operation(call: &ApiCall) -> SmolStr {
    match &call.operation {
        Some(operation)
            if matches!(
                operation.api,
                Api::GraphQl | Api::Soap | Api::JsonRpc | Api::Hl7v2 | Api::X12
            ) =>
        {
            operation.name.clone()
        }
        _ => SmolStr::default(),
    }
}

/// Counts a call at its endpoint.
pub(super) fn note(
    facts: &mut Facts,
    call: &ApiCall,
    findings: &[Finding],
    denied: bool,
    at_ns: u64,
    is_unmatched: bool,
) {
    if facts.first_ns == 0 || at_ns < facts.first_ns {
        facts.first_ns = at_ns;
    }
    facts.last_ns = facts.last_ns.max(at_ns);
    let class = call
        .response
        .as_ref()
        .map_or(0, |response| usize::from(response.status / 100));
    facts.classes[if class > 5 { 0 } else { class }] += 1;
    facts.denied += u64::from(denied);
    facts.auth.add(call.request.auth.as_str(), 1);
    if call
        .request
        .credentials
        .as_ref()
        .is_some_and(|credentials| credentials.client_certificate)
    {
        facts.auth.add("mtls", 1);
    }
    match (&call.flow.tls, &call.tls) {
        (None, _) => facts.tls.add("clear", 1),
        (Some(_), Some(tls)) if !tls.facts.version.is_empty() => {
            facts.tls.add(&format_smolstr!("tls {}", tls.facts.version), 1);
        }
        // Its handshake was before anybody looked.
        (Some(_), _) => facts.tls.add("tls", 1),
    }
    if let Some(remote) = call.flow.remote {
        facts.addresses |= address_bit(remote.ip());
    }
    let served = match call.direction {
        CallDirection::Inbound => call.flow.local,
        CallDirection::Outbound => call.flow.remote,
    };
    if let Some(served) = served {
        let mut digits = [0; 5];
        facts.ports.add(decimal(served.port(), &mut digits), 1);
    }
    if let Some(operation) = &call.operation {
        facts.apis.add(operation.api.as_str(), 1);
    }
    for finding in findings {
        facts.findings.add(&finding.kind, 1);
    }
    facts.request_media.add(&call.request.body.media_type, 1);
    facts.request_bytes.add(call.request.body.bytes_total);
    if let Some(response) = &call.response {
        facts.response_media.add(&response.body.media_type, 1);
        facts.response_bytes.add(response.body.bytes_total);
        facts
            .latency_ns
            .add(response.last_byte_at.since(call.request.head_at));
    }
    for data in &call.data {
        facts.found(data);
    }
    if is_unmatched || !Proof::is_taken(call) {
        return;
    }
    for part in call
        .raw
        .query
        .split(|byte| matches!(byte, b'&' | b';'))
        .take(PARAMETERS_READ_MAX)
    {
        parameter(facts, part, "query");
    }
    if let Some(path) = call.raw.path.as_deref().filter(|path| path.contains(';')) {
        for segment in path.split('/') {
            let matrix = Segment::read(segment, false).matrix;
            for part in matrix.split(';').take(PARAMETERS_READ_MAX) {
                parameter(facts, part.as_bytes(), "matrix");
            }
        }
    }
}

/// Parameters of one call that are looked at.
const PARAMETERS_READ_MAX: usize = 64;
const PARAMETER_NAME_BYTES_MAX: usize = 48;

fn parameter(facts: &mut Facts, part: &[u8], place: &'static str) {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let name = halves
        .next()
        .and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or_default();
    let value = halves.next().unwrap_or_default();
    // `filter[name]`, `a.b`: the first part names it.
    let name = name.split(['[', '%']).next().unwrap_or_default();
    if name.is_empty() || name.len() > PARAMETER_NAME_BYTES_MAX {
        return;
    }
    let known = matches!(Shape::of(name), Shape::Known | Shape::Version);
    // What cannot ever be shown needs no room of its own.
    if !known && !Learnable::is(name) {
        facts.parameters_others += 1;
        return;
    }
    let shape = std::str::from_utf8(value).map_or(Shape::Text, Shape::value);
    facts.parameter(name, place, known, shape, 1 << (fnv(value) & 63));
}

/// One of 64: how many are set tells about how many addresses there were.
pub(super) fn address_bit(address: IpAddr) -> u64 {
    1 << (fnv_of_address(address.to_canonical()) & 63)
}

fn fnv(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(FNV_START, fnv_step);
    hash ^ (hash >> 29)
}

const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;

fn fnv_step(hash: u64, byte: &u8) -> u64 {
    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
}

/// Of the address as it is written.
fn fnv_of_address(address: IpAddr) -> u64 {
    let IpAddr::V4(address) = address else {
        return fnv(address.to_string().as_bytes());
    };
    let mut hash = FNV_START;
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            hash = fnv_step(hash, &b'.');
        }
        let mut digits = [0; 5];
        hash = decimal(octet.into(), &mut digits)
            .as_bytes()
            .iter()
            .fold(hash, fnv_step);
    }
    hash ^ (hash >> 29)
}

/// A number, written without asking for memory.
fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &str {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&digits[start..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_as_they_are_written() {
        for number in [0, 9, 10, 443, 8080, u16::MAX] {
            assert_eq!(decimal(number, &mut [0; 5]), number.to_string());
        }
        for address in ["127.0.0.1", "10.200.3.255", "0.0.0.0", "2001:db8::1"] {
            let parsed: IpAddr = address.parse().expect("an address");
            assert_eq!(fnv_of_address(parsed), fnv(address.as_bytes()), "{address}");
        }
    }
}
