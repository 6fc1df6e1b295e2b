//! Third parties: whom a call goes out to, what the register of vendors says of them, and whether patient data may go
//! there.
//!
//! The destination is address, TLS server name and Host together. A call is a third party's if its address is public or
//! a registered vendor's name is on it (a vendor behind a private link is one all the same). Names that disagree are a
//! finding: domain fronting, or a proxy that nobody told of. It must not know policy.
//!
//! Sources: 45 CFR 164.502(e), 164.504(e) (business associates); publicsuffix.org (registrable domains).

use std::net::IpAddr;
use std::sync::Arc;

use smol_str::{SmolStr, format_smolstr};

use super::{Finding, Severity};
use crate::call::{Agreement, ApiCall, BlindTls, CallDirection, ThirdParty, Vendor};
use crate::capture::SocketRole;

pub(super) const PHI_WITHOUT_AGREEMENT: &str = "phi-to-vendor-without-agreement";
pub(super) const DATA_NOT_ALLOWED: &str = "data-not-allowed-to-vendor";
pub(super) const DESTINATION_DISAGREES: &str = "destination-disagrees";

/// Groups of data that a vendor needs an agreement for.
const PATIENT_GROUPS: &[&str] = &["phi", "health"];

/// The register.
#[derive(Clone, Debug, Default)]
pub struct Vendors {
    list: Vec<Arc<Vendor>>,
    /// Networks that are the house's own, besides the private ones.
    own: Vec<ipnet::IpNet>,
}

impl Vendors {
    /// `own`: public networks that are no third party's.
    pub fn new(vendors: Vec<Vendor>, own: Vec<ipnet::IpNet>) -> Self {
        Vendors {
            list: vendors.into_iter().map(Arc::new).collect(),
            own,
        }
    }

    fn of(&self, host: &str) -> Option<&Arc<Vendor>> {
        self.list
            .iter()
            .find(|vendor| vendor.domains.iter().any(|domain| is_within(host, domain)))
    }

    /// Says whom a call goes to, and what else only holds at its time. `at_ns`: wall clock.
    pub fn mark(&self, call: &mut ApiCall, at_ns: u64) {
        super::tls::mark(call, at_ns);
        if call.direction != CallDirection::Outbound || call.third_party.is_some() {
            return;
        }
        let names = call.raw.tls.as_deref();
        let destination = Destination {
            server_name: names.map_or("", |names| names.server_name.as_str()),
            host: &call.raw.host,
            shown: call.request.host.split(':').next().unwrap_or_default(),
            remote: call.flow.remote.map(|remote| remote.ip().to_canonical()),
            names_disagree: call.tls.as_ref().is_some_and(|tls| tls.names_disagree),
        };
        call.third_party = self.whose(&destination, at_ns).map(Box::new);
    }

    /// Whom a TLS connection that nobody reads goes to.
    pub fn of_blind(&self, blind: &BlindTls, at_ns: u64) -> Option<ThirdParty> {
        if blind.flow.role != SocketRole::Client {
            return None;
        }
        let destination = Destination {
            server_name: &blind.names.server_name,
            host: "",
            shown: &blind.facts.server_name,
            remote: blind.flow.remote.map(|remote| remote.ip().to_canonical()),
            names_disagree: false,
        };
        self.whose(&destination, at_ns)
    }

    /// `None`: it stays in the house.
    fn whose(&self, to: &Destination<'_>, at_ns: u64) -> Option<ThirdParty> {
        let host = to.host;
        // Where the bytes go is what TLS was told; what the request says inside is for whoever ends TLS there.
        let name = match to.server_name {
            "" => host,
            name => name,
        };
        let public = to.remote.is_some_and(|remote| {
            !is_own(remote) && !self.own.iter().any(|network| network.contains(&remote))
        });
        let (first, second) = (self.of(name), self.of(host));
        if !public && first.is_none() && second.is_none() {
            return None;
        }
        let domain = registrable(name);
        let disagrees = to.names_disagree
            || bare_address(host).is_some_and(|named| to.remote.is_some_and(|remote| named != remote));
        let agreement = |vendor: Option<&Arc<Vendor>>| {
            vendor.map_or(Agreement::Unlisted, |vendor| vendor.agreement(at_ns))
        };
        let (vendor, agreement) = match to.names_disagree {
            // Both may get to see it: there is an agreement only if both have one.
            true => match (agreement(first), agreement(second)) {
                (Agreement::Yes, second) => (first, second),
                (none, _) => (first, none),
            },
            false => (first.or(second), agreement(first.or(second))),
        };
        let shown_by_redactor = match host {
            "" => !name.is_empty() && to.shown == name,
            host => to.shown == host && registrable(host) == domain,
        };
        Some(ThirdParty {
            shows: vendor.is_some() || shown_by_redactor,
            domain: match vendor {
                // What is registered may be shown; what is below it is the caller's word.
                Some(vendor) => vendor
                    .domains
                    .iter()
                    .find(|known| is_within(name, known))
                    .or(vendor.domains.first())
                    .map(SmolStr::new)
                    .unwrap_or_default(),
                None => SmolStr::new(domain),
            },
            agreement,
            vendor: vendor.cloned(),
            disagrees,
        })
    }
}

/// What names a connection's other end. Empty: nothing does.
struct Destination<'a> {
    server_name: &'a str,
    host: &'a str,
    /// What the redactor shows of the host, or of the server name where there is no host.
    shown: &'a str,
    remote: Option<IpAddr>,
    names_disagree: bool,
}

pub(super) fn detect(call: &ApiCall, findings: &mut Vec<Finding>) {
    let third = call.third_party.as_deref();
    if third.is_some_and(|third| third.disagrees) || call.tls.as_ref().is_some_and(|tls| tls.names_disagree) {
        findings.push(Finding {
            kind: SmolStr::new_static(DESTINATION_DISAGREES),
            severity: Severity::Medium,
            message: "the destination's names and address do not belong together".to_owned(),
        });
    }
    let Some(third) = third else { return };
    let sent = || call.data.iter().filter(|data| data.part.is_request());
    let whom = match &third.vendor {
        Some(vendor) => format_smolstr!("the vendor {}", vendor.name),
        None => SmolStr::new_static("a third party that is not in the register"),
    };
    let patient = sent().filter(|data| PATIENT_GROUPS.contains(&data.group)).count();
    if patient > 0 && third.agreement != Agreement::Yes {
        let why = match third.agreement {
            Agreement::Expired => "the agreement has expired",
            _ => "there is no agreement",
        };
        findings.push(Finding {
            kind: SmolStr::new_static(PHI_WITHOUT_AGREEMENT),
            severity: Severity::High,
            message: format!("{patient} kinds of patient data go to {whom}: {why}"),
        });
    }
    if let Some(vendor) = &third.vendor
        && third.agreement == Agreement::Yes
    {
        let refused = sent()
            .filter(|data| !vendor.allows(&data.class, data.group))
            .count();
        if refused > 0 {
            findings.push(Finding {
                kind: SmolStr::new_static(DATA_NOT_ALLOWED),
                severity: Severity::High,
                message: format!("{refused} kinds of data go to {whom}, which may not have them"),
            });
        }
    }
}

/// It is the domain, or a name below it.
fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The part of a name that somebody has registered; the name itself where the list does not say. Empty for addresses.
pub(super) fn registrable(host: &str) -> &str {
    if bare_address(host).is_some() {
        return "";
    }
    psl::domain_str(host).unwrap_or(host)
}

fn bare_address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok()
}

/// Of this host, of a private network, or of nobody.
fn is_own(address: IpAddr) -> bool {
    super::inventory::is_private(address)
        || address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Data, Evidence, Part};

    fn vendors() -> Vendors {
        let vendor = |name: &str, domain: &str, agreement, until, allowed: &[&str]| Vendor {
            name: name.into(),
            domains: vec![domain.to_owned()],
            owner: "it".into(),
            agreement,
            agreement_until_ns: until,
            allowed_data: allowed.iter().map(SmolStr::new).collect(),
        };
        Vendors::new(
            vec![
                vendor("labs", "labs.example.co.uk", true, None, &[]),
                vendor("mail", "mail.example", false, None, &[]),
                vendor("old", "old.example", true, Some(100), &[]),
                vendor("claims", "claims.example", true, None, &["name"]),
            ],
            Vec::new(),
        )
    }

    fn call(host: &str, remote: [u8; 4], group: Option<&'static str>) -> ApiCall {
        let mut call = super::super::inventory::sample_call();
        call.direction = CallDirection::Outbound;
        call.raw.host = host.to_owned();
        Arc::make_mut(&mut call.flow).remote = Some((remote, 443).into());
        call.data.extend(group.map(|group| Data {
            class: "mrn".into(),
            group,
            evidence: Evidence::Structure,
            confidence: 90,
            part: Part::RequestBody,
            location: "$.mrn".into(),
            count: 1,
            hash: None,
        }));
        call
    }

    #[test]
    fn whom_a_call_goes_to() {
        for (host, remote, server_name, group, agreement, finding) in [
            (
                "api.labs.example.co.uk",
                [93, 1, 1, 1],
                None,
                Some("phi"),
                Some("yes"),
                None,
            ),
            (
                "api.mail.example",
                [93, 1, 1, 1],
                None,
                Some("phi"),
                Some("no"),
                Some(PHI_WITHOUT_AGREEMENT),
            ),
            ("mail.example", [10, 1, 1, 1], None, None, Some("no"), None),
            (
                "old.example",
                [93, 1, 1, 1],
                None,
                Some("health"),
                Some("expired"),
                Some(PHI_WITHOUT_AGREEMENT),
            ),
            (
                "claims.example",
                [93, 1, 1, 1],
                None,
                Some("phi"),
                Some("yes"),
                Some(DATA_NOT_ALLOWED),
            ),
            (
                "notlabs.example.co.uk",
                [93, 1, 1, 1],
                None,
                Some("phi"),
                Some("unlisted"),
                Some(PHI_WITHOUT_AGREEMENT),
            ),
            (
                "xmail.example",
                [93, 1, 1, 1],
                None,
                Some("financial"),
                Some("unlisted"),
                None,
            ),
            ("intranet", [10, 1, 1, 1], None, Some("phi"), None, None),
            (
                "a.front.example",
                [93, 1, 1, 1],
                Some("b.front.example"),
                None,
                Some("unlisted"),
                None,
            ),
            (
                "a.front.example",
                [93, 1, 1, 1],
                Some("x.other.example"),
                None,
                Some("unlisted"),
                Some(DESTINATION_DISAGREES),
            ),
            (
                "93.1.1.2",
                [93, 1, 1, 1],
                None,
                None,
                Some("unlisted"),
                Some(DESTINATION_DISAGREES),
            ),
            // A front end of somebody else, for a vendor's name inside.
            (
                "api.labs.example.co.uk",
                [93, 1, 1, 1],
                Some("x.front.example"),
                None,
                Some("unlisted"),
                Some(DESTINATION_DISAGREES),
            ),
            // Inside, too: nothing says that it is a third party, and the names disagree all the same.
            (
                "intranet.hospital.example",
                [10, 1, 1, 1],
                Some("x.front.example"),
                None,
                None,
                Some(DESTINATION_DISAGREES),
            ),
            (
                "intranet.hospital.example",
                [10, 1, 1, 1],
                Some("api.mail.example"),
                None,
                Some("no"),
                Some(DESTINATION_DISAGREES),
            ),
        ] {
            let mut call = call(host, remote, group);
            if let Some(server_name) = server_name {
                call.tls = Some(super::super::tls::sample(server_name, &mut call.raw));
            }
            vendors().mark(&mut call, 100);
            let third = call.third_party.as_deref();
            assert_eq!(third.map(|third| third.agreement.as_str()), agreement, "{host}");
            let mut findings = Vec::new();
            detect(&call, &mut findings);
            let kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.as_str()).collect();
            assert_eq!(kinds, finding.into_iter().collect::<Vec<_>>(), "{host}");
        }
        let mut call = call("api.vendor.co.uk", [93, 1, 1, 1], None);
        vendors().mark(&mut call, 0);
        let third = call.third_party.expect("a third party");
        assert_eq!((third.domain.as_str(), third.shows), ("vendor.co.uk", false));
    }

    #[test]
    fn where_a_connection_goes_that_nobody_reads() {
        use super::super::inventory::blind_sample;
        for (server_name, shown, remote, told) in [
            (
                "api.labs.example.co.uk",
                "host-1",
                [93, 1, 1, 1],
                Some(("labs.example.co.uk", true, "yes")),
            ),
            (
                "x.front.example",
                "host-1",
                [93, 1, 1, 1],
                Some(("front.example", false, "unlisted")),
            ),
            (
                "x.front.example",
                "x.front.example",
                [93, 1, 1, 1],
                Some(("front.example", true, "unlisted")),
            ),
            ("", "", [93, 1, 1, 1], Some(("", false, "unlisted"))),
            ("intranet", "host-1", [10, 1, 1, 1], None),
        ] {
            let third = vendors().of_blind(&blind_sample(server_name, shown, remote), 0);
            let third = third
                .as_ref()
                .map(|third| (third.domain.as_str(), third.shows, third.agreement.as_str()));
            assert_eq!(third, told, "{server_name}");
        }
    }
}
