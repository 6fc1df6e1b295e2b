//! `vendors`: the register of third parties, as written.

use super::file::{absolute_name, owned};
use crate::call::Vendor;
use crate::errors;
use crate::yaml::{Node, Reader, quote};

/// One vendor; problems are noted in the reader.
pub(super) fn read(reader: &Reader, item: &Node) -> Option<Vendor> {
    let fields = reader.fields(item, "vendors[]")?;
    let name = fields
        .require("name", "the vendor's name")
        .and_then(|node| reader.text(node, "the vendor's name"));
    fields.require("domains", "the vendor's domains, such as `[vendor.example]`");
    let mut domains = Vec::new();
    for (domain, place) in fields.texts("domains", "a domain").unwrap_or_default() {
        let domain = domain.to_ascii_lowercase();
        match absolute_name(&domain) {
            true => domains.push(domain),
            false => reader.problem(
                errors::BAD_VALUE,
                place,
                format!("{} is no domain", quote(&domain)),
                "write a name such as `vendor.example`, without scheme, port or `*`: names below it are meant too",
            ),
        }
    }
    let until = fields.take("agreement_until").and_then(|node| {
        let wanted = "the last day, such as `2027-06-30`";
        reader.parse(node, wanted, |text| text.parse::<jiff::civil::Date>().ok())
    });
    let vendor = Vendor {
        name: name.unwrap_or_default().into(),
        domains,
        owner: fields
            .text("owner", "who answers for it")
            .unwrap_or_default()
            .into(),
        agreement: fields.bool("agreement").unwrap_or(false),
        agreement_until_ns: until.and_then(after),
        allowed_data: fields
            .texts("allowed_data", "a class or group of data")
            .map(owned)
            .unwrap_or_default()
            .into_iter()
            .map(Into::into)
            .collect(),
    };
    fields.finish();
    name.is_some().then_some(vendor)
}

/// The first moment after a day (UTC), Unix nanoseconds.
fn after(day: jiff::civil::Date) -> Option<u64> {
    let next = day.tomorrow().ok()?;
    let moment = jiff::tz::Offset::UTC.to_timestamp(next.at(0, 0, 0, 0)).ok()?;
    u64::try_from(moment.as_nanosecond()).ok()
}
