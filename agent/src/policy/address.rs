//! Who called: the peer of the connection, and the client that trusted proxies speak for.
//!
//! Headers are believed only from peers that are trusted proxies, and read from the right: each proxy appends the
//! address that it saw, so the right-most one that is not a proxy of ours is the last that nobody could forge.
//! The PROXY protocol's header is the connection's own and comes before them.
//! Sources: RFC 7239 (Forwarded); X-Forwarded-For is a convention without a standard; PROXY protocol, versions 1 and 2.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Fit;
use crate::call::ApiCall;

/// Most forwarded addresses that are looked at, from the right.
const HOPS_MAX: usize = 64;

/// A list of networks, or all but those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    pub(super) nets: Vec<IpNet>,
    pub(super) not: bool,
}

impl Networks {
    pub(super) fn has(&self, address: IpAddr) -> bool {
        contains(&self.nets, address) != self.not
    }

    /// Does it have every address that the other one has? `false` where that is hard to tell.
    pub(super) fn covers(&self, other: &Networks) -> bool {
        let within = |inner: &[IpNet], outer: &[IpNet]| {
            inner
                .iter()
                .all(|net| outer.iter().any(|wide| wide.contains(net)))
        };
        match (self.not, other.not) {
            (false, false) => within(&other.nets, &self.nets),
            (true, true) => within(&self.nets, &other.nets),
            // All but some networks: it has the other's if none of them overlap.
            (true, false) => !self.nets.iter().any(|out| {
                other
                    .nets
                    .iter()
                    .any(|net| out.contains(net) || net.contains(out))
            }),
            (false, true) => false,
        }
    }
}

pub(super) fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

/// The connection's other end; IPv4-mapped addresses as IPv4. `None`: not known.
pub(super) fn peer(call: &ApiCall) -> Option<IpAddr> {
    call.flow.remote.map(|address| address.ip().to_canonical())
}

/// Who a trusted proxy says is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Known(IpAddr),
    /// Two headers disagree, and one of them may have been forged by the client.
    Either(IpAddr, IpAddr),
    /// No peer, or a trusted proxy that hides the address.
    Unknown,
}

impl Client {
    /// `proving`: it has to hold whichever address is the true one (for rules that allow); otherwise it is enough
    /// that it may hold (for rules that deny or alert).
    pub(super) fn fit(self, networks: &Networks, proving: bool) -> Fit {
        match self {
            Client::Known(address) => Fit::from(networks.has(address)),
            Client::Either(one, other) => {
                let (one, other) = (networks.has(one), networks.has(other));
                Fit::from(if proving { one && other } else { one || other })
            }
            Client::Unknown => Fit::Unknown,
        }
    }

    /// For rates. A client who makes headers disagree is counted under the proxy, so that inventing headers does not
    /// give a fresh allowance.
    pub(super) fn key(self, peer: Option<IpAddr>) -> Option<IpAddr> {
        match self {
            Client::Known(address) => Some(address),
            Client::Either(..) | Client::Unknown => peer,
        }
    }
}

/// The call's client; `is_trusted` tells proxies.
pub(super) fn client(call: &ApiCall, is_trusted: impl Fn(IpAddr) -> bool) -> Client {
    let Some(peer) = peer(call) else {
        return Client::Unknown;
    };
    if !is_trusted(peer) {
        return Client::Known(peer);
    }
    // Said by the trusted peer itself, ahead of the first request: it stands for the peer from here on.
    let proxied = call.raw.proxied_client.map(|client| client.ip().to_canonical());
    let peer = proxied.unwrap_or(peer);
    if !is_trusted(peer) {
        return Client::Known(peer);
    }
    let forwarded = last_hop(call, b"forwarded", forwarded_for, &is_trusted);
    let x_forwarded = last_hop(call, b"x-forwarded-for", str::trim, &is_trusted);
    match (forwarded, x_forwarded) {
        (Hop::None, Hop::None) => Client::Known(peer),
        (Hop::Address(address), Hop::None) | (Hop::None, Hop::Address(address)) => Client::Known(address),
        (Hop::Address(one), Hop::Address(other)) if one == other => Client::Known(one),
        (Hop::Address(one), Hop::Address(other)) => Client::Either(one, other),
        (Hop::Hidden, _) | (_, Hop::Hidden) => Client::Unknown,
    }
}

/// What a header says of the last untrusted hop.
enum Hop {
    /// The header is not there.
    None,
    Address(IpAddr),
    /// There is one, but it is no address (`unknown`, `_hidden`, nonsense).
    Hidden,
}

/// Walks all values of a header from the right, past trusted proxies.
fn last_hop(
    call: &ApiCall,
    name: &[u8],
    address: fn(&str) -> &str,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Hop {
    let mut found = Hop::None;
    let mut hops = 0;
    for (_, value) in call
        .raw
        .request_headers
        .iter()
        .rev()
        .filter(|(header, _)| header.as_ref() == name)
    {
        let Ok(value) = std::str::from_utf8(value) else {
            return Hop::Hidden;
        };
        for element in value.rsplit(',') {
            hops += 1;
            if hops > HOPS_MAX {
                return Hop::Hidden;
            }
            let Some(hop) = parse_address(address(element)) else {
                return Hop::Hidden;
            };
            found = Hop::Address(hop);
            if !is_trusted(hop) {
                return found;
            }
        }
    }
    // All of them are trusted: the first proxy made the call itself.
    found
}

/// The `for` parameter of an element of Forwarded, empty if it has none.
fn forwarded_for(element: &str) -> &str {
    element
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
        .map_or("", |(_, value)| value.trim().trim_matches('"'))
}

/// `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}
