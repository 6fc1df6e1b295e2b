//! From what a head has shown to what becomes of it: the first rule that it fits, in order.

use super::bits::Bits;
use super::framing;
use super::stream::{Decision, Facts, Reason, Scan, Stream, direction, flag, state};
use super::tables::{Charge, Generation, NO_NODE, PeerKey, RateKey, Tables, auth};
use super::{GARBAGE_BYTES_MAX, RATED_MAX};

/// A head begins: which tables judge it, and which rules may apply to this connection at all.
#[inline(always)]
pub(super) fn begin<T: Tables>(stream: &mut Stream, facts: &Facts, tables: &T) {
    stream.flags &= flag::NOT_FIRST | flag::SWITCHED | flag::PREFIXED;
    stream.state = state::METHOD;
    stream.pending = 0;
    stream.pending_bytes = 0;
    stream.skip = 0;
    stream.head_bytes = 0;
    stream.path_bytes = 0;
    stream.auth = auth::NONE;
    stream.reason = 0;
    stream.rated = 0;
    if stream.is_behind_garbage() {
        stream.broken(Reason::Garbage);
    } else {
        stream.fields = 0;
    }
    stream.node = NO_NODE;
    stream.host_node = NO_NODE;
    stream.candidates = Bits::NONE;
    let number = tables.active();
    stream.generation = number;
    let Some(generation) = tables.generation(number) else {
        return;
    };
    if stream.base_generation != number || number == 0 {
        concern(stream, facts, generation, number, tables);
    }
    stream.candidates = stream.base;
    stream.hash = generation.hash.start;
    if stream.base.meets(&generation.matters) {
        stream.flags |= flag::LIVE;
        stream.node = generation.route_root;
        stream.host_node = generation.host_root;
    }
}

/// The rules that concern the connection.
#[inline(always)]
fn concern<T: Tables>(stream: &mut Stream, facts: &Facts, generation: &Generation, number: u32, tables: &T) {
    let key = PeerKey {
        generation: number.to_be_bytes(),
        address: facts.peer,
    };
    let peers = match tables.peer(&key) {
        Some(bits) => bits,
        None => &generation.any_peer,
    };
    stream.base = if facts.direction == direction::INBOUND {
        generation.inbound
    } else {
        generation.outbound
    };
    stream.base.keep(peers);
    match tables.workload(number, facts.class) {
        Some(workload) => {
            stream.base.keep(&workload.bits);
            stream.base_generation = number;
        }
        None => {
            // It may become known: asked again at the next head.
            stream.base_generation = 0;
            stream.flags |= flag::WORKLOAD_UNKNOWN;
        }
    }
}

/// The head is whole: which rules it fits.
#[inline(always)]
pub(super) fn ended<T: Tables>(stream: &mut Stream, scan: &mut Scan, tables: &T) {
    check_framing(stream);
    stream.heads = stream.heads.wrapping_add(1);
    scan.heads += 1;
    if stream.has(flag::AMBIGUOUS) {
        scan.ambiguous += 1;
    }
    stream.state = state::PICK;
    if !stream.has(flag::LIVE) {
        stream.candidates = Bits::NONE;
        return;
    }
    let Some(generation) = tables.generation(stream.generation) else {
        return;
    };
    if stream.has(flag::AMBIGUOUS) {
        let met = generation
            .any_route
            .or(&generation.ambiguous_deny)
            .or(&generation.ambiguous_leave);
        stream.candidates.keep(&met);
    } else if let Some(node) = tables.node(stream.generation, stream.node) {
        // The target of CONNECT is no path.
        stream
            .candidates
            .keep(if stream.flags & (flag::SLASH | flag::CONNECT) == flag::SLASH {
                &node.ends
            } else {
                &generation.any_route
            });
    } else {
        stream.candidates.keep(&generation.any_route);
    }
    if !stream.has(flag::HOST_UNKNOWN) {
        match tables.node(stream.generation, stream.host_node) {
            Some(node) => stream.candidates.keep(&node.ends),
            None => stream.candidates.keep(&generation.any_host),
        }
    }
    if !stream.has(flag::AUTH_UNKNOWN) {
        let kind = if stream.has(flag::AUTHORIZATION) {
            stream.auth
        } else if stream.has(flag::API_KEY) {
            auth::API_KEY
        } else if stream.has(flag::COOKIE) {
            auth::COOKIE
        } else {
            auth::NONE
        };
        stream.candidates.keep(&generation.auth[(kind & 15) as usize]);
    }
}

/// What the fields say together about the message's end (RFC 9112 §6.3).
#[inline(always)]
fn check_framing(stream: &mut Stream) {
    let coded = stream.has(flag::CODED);
    let both = coded && stream.has(flag::LENGTH);
    let early = coded && stream.has(flag::HTTP10);
    let other = coded && !stream.has(flag::CHUNKED);
    if both || early || other {
        stream.broken(Reason::Framing);
    }
}

/// The first of the rules that it fits. Called again while rates that are not used up take rules away.
#[inline(always)]
pub(super) fn pick<T: Tables>(stream: &mut Stream, scan: &mut Scan, facts: &Facts, tables: &T) -> bool {
    let Some(generation) = tables.generation(stream.generation) else {
        return outlived(stream, scan, facts, tables);
    };
    if !stream.candidates.meets(&generation.matters) {
        return conclude(stream, scan, Decision::Pass, 0, tables);
    }
    let Some(rule) = stream.candidates.first() else {
        return conclude(stream, scan, Decision::Pass, 0, tables);
    };
    if is_doubtful(stream, generation, rule) {
        // If the first of them does not apply, another may; none that stops calls, none to ask the agent for.
        let decision = if stream.candidates.meets(&generation.stops) {
            Decision::Leave
        } else {
            Decision::Pass
        };
        return conclude(stream, scan, decision, rule, tables);
    }
    if generation.rated.has(rule) {
        if stream.rated >= RATED_MAX {
            return conclude(stream, scan, Decision::Leave, rule, tables);
        }
        stream.rated += 1;
        // Seen before, it was within its rates: else the flow would be dead.
        let again = scan.charged.wrapping_sub(stream.heads) < 1 << 31;
        let charge = if again {
            Charge::Within
        } else {
            charge(stream, facts, generation, rule, tables)
        };
        match charge {
            Charge::Within => {
                stream.candidates.remove(rule);
                return true;
            }
            Charge::Unknown => return conclude(stream, scan, Decision::Leave, rule, tables),
            Charge::Beyond => {}
        }
    }
    let decision = if generation.stops.has(rule) {
        Decision::Deny
    } else {
        Decision::Pass
    };
    conclude(stream, scan, decision, rule, tables)
}

/// The head is older than all tables that are kept, or there never were any. Which rules it would have met nobody can tell
/// any more, and it must not get past all of them by taking its time: denied by the first denial in force now that is for the
/// connection and that the gate decides, whatever the policy says of ambiguous heads.
#[inline(always)]
fn outlived<T: Tables>(stream: &mut Stream, scan: &mut Scan, facts: &Facts, tables: &T) -> bool {
    let was_live = stream.has(flag::LIVE);
    let Some(generation) = in_force(stream, facts, tables) else {
        let decision = if was_live { Decision::Leave } else { Decision::Pass };
        return conclude(stream, scan, decision, 0, tables);
    };
    // What the message's end is, and what follows it, is judged by these.
    stream.generation = generation.number;
    if !was_live {
        return conclude(stream, scan, Decision::Pass, 0, tables);
    }
    let decided_here = generation
        .stops
        .without(&generation.leaves)
        .without(&generation.rated);
    match first_of(stream, generation, &decided_here) {
        Some(rule) => {
            stream.ambiguous(Reason::Outlived);
            conclude(stream, scan, Decision::Deny, rule, tables)
        }
        None => conclude(stream, scan, Decision::Leave, 0, tables),
    }
}

/// Whether the rule applies cannot be told here.
#[inline(always)]
fn is_doubtful(stream: &Stream, generation: &Generation, rule: u32) -> bool {
    generation.leaves.has(rule)
        || (stream.has(flag::WORKLOAD_UNKNOWN) && !generation.any_workload.has(rule))
        || (stream.has(flag::HOST_UNKNOWN) && generation.by_host.has(rule))
        || (stream.has(flag::AUTH_UNKNOWN) && generation.by_auth.has(rule))
        || (stream.has(flag::AMBIGUOUS) && generation.ambiguous_leave.has(rule))
}

#[inline(always)]
fn charge<T: Tables>(
    stream: &Stream,
    facts: &Facts,
    generation: &Generation,
    rule: u32,
    tables: &T,
) -> Charge {
    let mut key = RateKey {
        generation: stream.generation,
        rule,
        who: facts.peer,
    };
    if generation.rated_by_workload.has(rule) {
        let Some(workload) = tables.workload(stream.generation, facts.class) else {
            return Charge::Unknown;
        };
        let whose = workload.rate_key.to_ne_bytes();
        key.who = [
            whose[0], whose[1], whose[2], whose[3], whose[4], whose[5], whose[6], whose[7], 0, 0, 0, 0, 0, 0,
            0, 0,
        ];
    }
    tables.charge(&key)
}

/// Writes the decision down, and goes on behind the head.
#[inline(always)]
fn conclude<T: Tables>(
    stream: &mut Stream,
    scan: &mut Scan,
    decision: Decision,
    rule: u32,
    tables: &T,
) -> bool {
    if decision as u8 != Decision::Pass as u8 {
        scan.decision = decision as u8;
        scan.rule = rule;
        scan.reason = stream.reason;
    }
    if decision as u8 == Decision::Deny as u8 {
        stream.state = state::DENIED;
        return false;
    }
    if decision as u8 == Decision::Leave as u8 {
        scan.left += 1;
    }
    let switches = stream.has(flag::SWITCHES | flag::CONNECT);
    let before = stream.flags;
    stream.flags = flag::NOT_FIRST | if switches { flag::SWITCHED } else { 0 };
    // A CONNECT has no content (RFC 9110 §9.3.6): who takes some for it finds the next request elsewhere.
    let is_filled = before & flag::CHUNKED != 0 || (before & flag::LENGTH != 0 && stream.skip != 0);
    if before & flag::BROKEN != 0 || (before & flag::CONNECT != 0 && is_filled) {
        if tables
            .generation(stream.generation)
            .is_some_and(|generation| first_garbled(stream, generation).is_some())
        {
            // Of a client who says no more, nothing can be misread.
            stream.head_bytes = 0;
            stream.state = state::GARBLED;
            return true;
        }
        scan.lost += 1;
        scan.reason = stream.reason;
        stream.state = state::LOST;
        return false;
    }
    if before & flag::CONNECT != 0 {
        // What follows is the tunnel, or the next request (RFC 9110 §9.3.6).
        stream.state = state::BOUNDARY;
    } else if before & flag::CHUNKED != 0 {
        framing::size_begins(stream);
    } else if before & flag::LENGTH != 0 && stream.skip != 0 {
        stream.state = state::BODY;
    } else {
        stream.state = state::BOUNDARY;
    }
    true
}

/// Nobody knows any more where the next message begins, because of what came: two parsers may read it differently. Denied by
/// rules that have to be able to prevent, and by those of policies that deny what is ambiguous: those in force now, as for
/// any head that begins here.
#[inline(always)]
pub(super) fn lost<T: Tables>(stream: &mut Stream, scan: &mut Scan, reason: u8, facts: &Facts, tables: &T) {
    stream.state = state::LOST;
    scan.lost += 1;
    scan.reason = reason;
    let Some(generation) = in_force(stream, facts, tables) else {
        return;
    };
    if let Some(rule) = first_garbled(stream, generation) {
        scan.decision = Decision::Deny as u8;
        scan.rule = rule;
        stream.generation = generation.number;
        stream.flags |= flag::AMBIGUOUS;
        stream.state = state::DENIED;
        // Whatever it is, it is the one that is denied.
        stream.heads = stream.heads.wrapping_add(1);
    }
}

/// A line that is no request has ended, where another protocol may begin. Some servers pass it over and take what follows for
/// a request, or have declined to switch, so a few such lines may stand before one, which is ambiguous then.
#[inline(always)]
pub(super) fn no_request<T: Tables>(stream: &mut Stream, scan: &mut Scan, facts: &Facts, tables: &T) {
    // With its line feed, which is what this step is at.
    let garbage = stream.fields as u32 + stream.head_bytes + 1;
    if garbage > GARBAGE_BYTES_MAX {
        not_http(stream, scan, facts, tables);
        return;
    }
    stream.fields = garbage as u16;
    stream.flags = flag::PREFIXED | flag::SWITCHED;
    stream.fresh();
    stream.state = state::BOUNDARY;
}

/// What stands here is no request.
#[inline(always)]
pub(super) fn not_http<T: Tables>(stream: &mut Stream, scan: &mut Scan, facts: &Facts, tables: &T) {
    if stream.may_be_another_protocol() {
        stream.state = state::OPAQUE;
    } else {
        lost(stream, scan, Reason::Garbage as u8, facts, tables);
    }
}

/// The rule that denies a connection of which nobody has followed the messages so far, as one that was forgotten for
/// want of room: the first that has to be able to prevent.
#[inline(always)]
pub fn strict<T: Tables>(stream: &mut Stream, facts: &Facts, tables: &T) -> Option<u32> {
    let generation = in_force(stream, facts, tables)?;
    let rule = first_of(stream, generation, &generation.strict)?;
    stream.generation = generation.number;
    Some(rule)
}

/// The method is nothing that is known, so any may be meant.
#[inline(always)]
pub(super) fn any_method<T: Tables>(stream: &mut Stream, tables: &T) {
    let Some(generation) = tables.generation(stream.generation) else {
        return;
    };
    stream.candidates = stream.base;
    if stream.base.meets(&generation.matters) {
        stream.flags |= flag::LIVE;
    }
    if stream.base.meets(&generation.by_auth) {
        stream.flags |= flag::ASKS_AUTH;
    }
}

/// The tables in force; what of them concerns the connection is in [`Stream::base`] then.
#[inline(always)]
fn in_force<'t, T: Tables>(stream: &mut Stream, facts: &Facts, tables: &'t T) -> Option<&'t Generation> {
    let number = tables.active();
    let generation = tables.generation(number)?;
    if stream.base_generation != number {
        concern(stream, facts, generation, number, tables);
    }
    Some(generation)
}

#[inline(always)]
fn first_garbled(stream: &Stream, generation: &Generation) -> Option<u32> {
    first_of(stream, generation, &generation.strict.or(&generation.garbled))
}

/// The first of the rules `among` those that concern the connection, by the same tables.
#[inline(always)]
fn first_of(stream: &Stream, generation: &Generation, among: &Bits) -> Option<u32> {
    let mut rules = stream.base.and(among);
    if stream.base_generation == 0 {
        // Nobody has said which workload it is.
        rules.keep(&generation.any_workload);
    }
    rules.first()
}
