//! Sizes, durations and networks as people write them.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Whole number and unit: `64KiB` → (64, "KiB").
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// `65536`, `64KiB`, `1MiB`, `2GiB`; also `64kB`, `1MB`, `2GB` by thousands.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" | "Ki" => KIB,
        "MiB" | "Mi" => MIB,
        "GiB" | "Gi" => GIB,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `500ms`, `30s`, `5m`, `1h`, `2d`. A unit is needed: nobody knows what `30` means.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.checked_mul(seconds)?))
}

/// `10.0.0.0/8`, `fd00::/8`, or an address alone. IPv4-mapped IPv6 becomes IPv4 (RFC 4291 §2.5.5.2).
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        // A shorter prefix would be a network of IPv6 that holds no IPv4 address, whatever was meant.
        let prefix = v6.prefix_len().checked_sub(96)?;
        return IpNet::new(IpAddr::V4(v4), prefix).ok().map(|net| net.trunc());
    }
    Some(net.trunc())
}

/// The shortest way to write a size.
pub fn show_bytes(bytes: u64) -> String {
    let units = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1, "")];
    shortest(bytes, &units)
}

/// The shortest way to write a duration.
pub fn show_duration(duration: Duration) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ];
    shortest(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &units)
}

/// In the largest unit that leaves no fraction.
fn shortest(value: u64, units: &[(u64, &str)]) -> String {
    let unit = units
        .iter()
        .find(|(size, _)| value != 0 && value.is_multiple_of(*size));
    match unit {
        Some((size, name)) => format!("{}{name}", value / size),
        None => value.to_string(),
    }
}
