//! Who a call goes out to, where that is somebody else: a fact of the call that `detect` fills, and what the register of
//! vendors says of them.

use std::sync::Arc;

use smol_str::SmolStr;

/// Whether there is a business-associate agreement (45 CFR 164.504(e)) with a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Agreement {
    /// Nobody has said: the vendor is not in the register.
    Unlisted,
    No,
    Yes,
    Expired,
}

/// A vendor, as the configuration registers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vendor {
    pub name: SmolStr,
    /// Domains, in lower case; those below them are the vendor's too.
    pub domains: Vec<String>,
    /// Who answers for it in the house; empty: nobody was named.
    pub owner: SmolStr,
    /// There is an agreement.
    pub agreement: bool,
    /// Its first moment after the last day, Unix nanoseconds; `None`: it does not end.
    pub agreement_until_ns: Option<u64>,
    /// Classes or groups of data that it may get; empty: any, under an agreement.
    pub allowed_data: Vec<SmolStr>,
}

impl Vendor {
    /// What holds at a moment of the wall clock.
    pub fn agreement(&self, at_ns: u64) -> Agreement {
        match (self.agreement, self.agreement_until_ns) {
            (false, _) => Agreement::No,
            (true, Some(until)) if at_ns >= until => Agreement::Expired,
            (true, _) => Agreement::Yes,
        }
    }

    /// Whether data of a class may go there, the agreement apart.
    pub fn allows(&self, class: &str, group: &str) -> bool {
        self.allowed_data.is_empty() || self.allowed_data.iter().any(|one| one == class || one == group)
    }
}

/// Whom an outbound call goes to, if not to this house.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdParty {
    /// The registrable domain (public suffix list); may only be shown if `shows`. Empty: called by an address.
    pub domain: SmolStr,
    /// The domain is the register's, or the redactor shows the host.
    pub shows: bool,
    pub vendor: Option<Arc<Vendor>>,
    pub agreement: Agreement,
    /// Names of the destination that do not belong together: the TLS server name, the Host, the address.
    pub disagrees: bool,
}

impl Agreement {
    /// The name in policies and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Agreement::Unlisted => "unlisted",
            Agreement::No => "no",
            Agreement::Yes => "yes",
            Agreement::Expired => "expired",
        }
    }
}
