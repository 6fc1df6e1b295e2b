//! Peer networks of all rules as one table of prefixes: the longest one that an address has tells all rules at once.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use apiward_common::gate::Bits;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::address::Networks;

/// A prefix, and the rules whose peers an address fits that has no longer one in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// IPv6; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// Bits of it that count.
    pub bits: u32,
    pub rules: Bits,
}

/// `any`: rules that hold for every peer. The second value is for addresses in no prefix.
pub(super) fn table(any: Bits, rules: &[(u32, &Networks)]) -> (Vec<Prefix>, Bits) {
    // The root of IPv4 stands in the table too: a network of IPv6 addresses, `::/0` say, has none of them.
    let mut nets: BTreeSet<IpNet> = rules
        .iter()
        .flat_map(|(_, networks)| networks.nets.iter().map(IpNet::trunc))
        .filter(|net| !is_mapped(net))
        .collect();
    if !nets.is_empty() {
        nets.insert(Ipv4Net::default().into());
    }
    let holds = |inside: Option<&IpNet>| {
        let mut bits = any;
        for (rule, networks) in rules {
            let listed = inside.is_some_and(|inside| networks.nets.iter().any(|net| net.contains(inside)));
            if listed != networks.not {
                bits.insert(*rule);
            }
        }
        bits
    };
    let prefixes = nets
        .iter()
        .map(|net| Prefix {
            address: mapped(net.network()),
            bits: match net {
                IpNet::V4(net) => 96 + u32::from(net.prefix_len()),
                IpNet::V6(net) => u32::from(net.prefix_len()),
            },
            rules: holds(Some(net)),
        })
        .collect();
    (prefixes, holds(None))
}

/// Inside of IPv4-mapped IPv6 addresses: no peer is one, because those are taken as IPv4.
fn is_mapped(net: &IpNet) -> bool {
    const MAPPED: Ipv6Net = match Ipv6Net::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96) {
        Ok(net) => net,
        Err(_) => panic!("96 is a prefix length"),
    };
    matches!(net, IpNet::V6(net) if MAPPED.contains(net))
}

/// As the kernel has it.
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_longest_prefix_tells_all_rules() {
        let networks = |nets: &[&str], not| Networks {
            nets: nets.iter().map(|net| net.parse().expect("a network")).collect(),
            not,
        };
        let lists = [
            networks(&["10.0.0.0/8", "2001:db8::/32"], false),
            networks(&["10.1.0.0/16"], true),
            networks(&["::/0"], false),
            networks(&["0.0.0.0/0"], false),
            networks(&["::ffff:10.0.0.0/104"], false),
        ];
        let rules: Vec<(u32, &Networks)> = (0..).zip(&lists).collect();
        let (prefixes, none) = table(Bits::NONE, &rules);
        for address in [
            "10.1.2.3",
            "10.2.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "::1",
            "::ffff:10.1.1.1",
            "ff::",
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let key = u128::from_be_bytes(mapped(address));
            let longest = prefixes
                .iter()
                .filter(|prefix| {
                    let shift = 128 - prefix.bits;
                    prefix.bits == 0 || u128::from_be_bytes(prefix.address) >> shift == key >> shift
                })
                .max_by_key(|prefix| prefix.bits);
            let found = longest.map_or(none, |prefix| prefix.rules);
            for (rule, networks) in &rules {
                assert_eq!(
                    found.has(*rule),
                    networks.has(address.to_canonical()),
                    "{address} {rule}"
                );
            }
        }
        assert_eq!(
            mapped(IpAddr::V4(Ipv4Addr::LOCALHOST))[10..],
            [255, 255, 127, 0, 0, 1]
        );
    }
}
