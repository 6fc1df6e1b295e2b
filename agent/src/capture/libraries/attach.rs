//! The probes of one library: all of them, or none.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::Path;

use crate::kernel::elf::Elf;
use crate::kernel::probes::{self, ProbeLink, Probes};
use crate::kernel::site;

/// A library with its probes.
pub(super) struct Probed {
    pub links: Vec<ProbeLink>,
    /// What the programs know its sites by.
    pub cookies: Vec<u64>,
    /// For people.
    pub sites: Vec<String>,
}

/// Attaches what the plan wants. `number`: the library's, which no other has.
///
/// # Errors
///
/// A place that the kernel does not probe, and why. Nothing stays attached then.
pub(super) fn attach(
    probes: &mut Probes,
    path: &Path,
    plan: &site::LibraryPlan,
    number: u32,
) -> Result<Probed, String> {
    let mut probed = Probed {
        links: Vec::new(),
        cookies: Vec::new(),
        sites: Vec::new(),
    };
    let result = attach_all(probes, path, plan, number, &mut probed);
    if let Err(error) = result {
        probes::take_away(probed.links);
        probes.forget(&probed.cookies);
        return Err(error);
    }
    Ok(probed)
}

fn attach_all(
    probes: &mut Probes,
    path: &Path,
    plan: &site::LibraryPlan,
    number: u32,
    probed: &mut Probed,
) -> Result<(), String> {
    let mut refusals = Vec::new();
    if probes.refuses() {
        let found = Elf::open(path).and_then(|elf| site::refusals(&elf, &plan.sites));
        refusals = found.unwrap_or_default();
    }
    let refusals = refusals.into_iter().chain(std::iter::repeat(None));
    let mut order: Vec<_> = plan.sites.iter().zip(refusals).collect();
    // Sites of one operation share what the kernel knows them by: each of them can make the call fail, or none may.
    let unproven: HashSet<site::Told> = order
        .iter()
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(site, _)| site.told)
        .collect();
    // What ends a call before what begins it: a call is never begun that nothing would end.
    order.sort_by_key(|(site, _)| Reverse(site.kind()));
    for alike in order.chunk_by(|(one, _), (other, _)| one.kind() == other.kind()) {
        let mut places = Vec::new();
        let mut whys = Vec::new();
        for (site, refusal) in alike {
            let known = site
                .attach_cookie(number)
                .ok_or("no number is left for it: restart the agent")?;
            probed.cookies.push(known);
            places.push((site.file_offset, known));
            whys.push(site.why.clone());
            if let Some(refusal) = refusal.filter(|_| !unproven.contains(&site.told))
                && let Err(error) = probes.refuse(known, refusal)
            {
                tracing::warn!(%error, site = site.why, "a denied call here is not made to fail: its connection is cut");
            }
        }
        let attached = probes.attach(path, alike[0].0.kind(), &places);
        let links = attached.map_err(|error| format!("{}: {error}", whys.join(", ")))?;
        probed.links.extend(links);
        probed.sites.extend(whys);
    }
    Ok(())
}
