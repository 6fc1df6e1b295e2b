//! A packet at a cgroup's hook, read as a TCP segment.

use apiward_common::flow::Tuple;
use aya_ebpf::programs::SkBuffContext;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_HOPOPTS: u8 = 0;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const URG: u8 = 0x20;

/// What the headers of a segment say.
#[derive(Clone, Copy)]
pub struct Segment {
    pub sequence: u32,
    /// Where the payload begins in the packet, and its bytes. The length is the buffer's, not the IP header's:
    /// segmentation offload may leave that one at 0.
    pub offset: u32,
    pub payload: u32,
    /// Where the TCP header begins.
    pub header: u32,
    /// As they are in the header: one number, for the sake of the stack.
    flags: u8,
}

impl Segment {
    /// It is the first of a connection: its payload, if any, comes one number later.
    #[inline(always)]
    pub fn syn(&self) -> bool {
        self.flags & SYN != 0
    }

    /// Nothing comes behind it.
    #[inline(always)]
    pub fn fin(&self) -> bool {
        self.flags & FIN != 0
    }

    /// Some of its payload is urgent (RFC 6093): the application's stream may leave a byte of it out.
    #[inline(always)]
    pub fn urgent(&self) -> bool {
        self.flags & URG != 0
    }
}

/// `None` for anything else.
#[inline(always)]
pub fn segment(ctx: &SkBuffContext) -> Option<Segment> {
    plain(ctx).or_else(|| other(ctx))
}

/// The most common segment, IPv4 without options, by plain loads.
#[inline(always)]
fn plain(ctx: &SkBuffContext) -> Option<Segment> {
    const HEADERS: usize = 20 + 20;
    // SAFETY: the context's own fields, which the verifier turns into the packet's bounds; every load is below the end.
    unsafe {
        let (start, end) = ((*ctx.skb.skb).data as usize, (*ctx.skb.skb).data_end as usize);
        if start + HEADERS > end {
            return None;
        }
        let byte = |at: usize| core::ptr::read_volatile((start + at) as *const u8);
        // Version 4, five words of header.
        if byte(0) != 0x45 || byte(9) != IPPROTO_TCP {
            return None;
        }
        let sequence = u32::from_be(core::ptr::read_volatile((start + 24) as *const u32));
        let offset = 20 + ((byte(32) >> 4) as u32) * 4;
        Some(Segment {
            sequence,
            offset,
            payload: (*ctx.skb.skb).len.saturating_sub(offset),
            header: 20,
            flags: byte(33),
        })
    }
}

#[inline(always)]
fn other(ctx: &SkBuffContext) -> Option<Segment> {
    let first: u8 = ctx.load(0).ok()?;
    let header = match first >> 4 {
        4 => {
            let protocol: u8 = ctx.load(9).ok()?;
            if protocol != IPPROTO_TCP {
                return None;
            }
            ((first & 0xf) as usize) * 4
        }
        6 => {
            let mut next: u8 = ctx.load(6).ok()?;
            let mut header = 40;
            // Hop-by-hop options (RFC 8200 §4.3): the kernel itself puts them before segments of more than 64 KiB
            // (RFC 2675), where an interface takes such.
            if next == IPPROTO_HOPOPTS {
                next = ctx.load(40).ok()?;
                let length: u8 = ctx.load(41).ok()?;
                header += (length as usize + 1) * 8;
            }
            if next != IPPROTO_TCP {
                return None;
            }
            header
        }
        _ => return None,
    };
    let sequence = u32::from_be(ctx.load(header + 4).ok()?);
    let words: u8 = ctx.load(header + 12).ok()?;
    let flags: u8 = ctx.load(header + 13).ok()?;
    let offset = header as u32 + ((words >> 4) as u32) * 4;
    Some(Segment {
        sequence,
        offset,
        payload: ctx.len().saturating_sub(offset),
        header: header as u32,
        flags,
    })
}

/// Address of the sender (else of the receiver), IPv4 as `::ffff:a.b.c.d`; zeros if there is none.
#[inline(always)]
pub fn address(ctx: &SkBuffContext, sender: bool) -> [u8; 16] {
    let first: u8 = ctx.load(0).unwrap_or(0);
    let mut address = [0; 16];
    if first >> 4 == 4 {
        let v4: [u8; 4] = ctx.load(if sender { 12 } else { 16 }).unwrap_or([0; 4]);
        address[10] = 0xff;
        address[11] = 0xff;
        address[12] = v4[0];
        address[13] = v4[1];
        address[14] = v4[2];
        address[15] = v4[3];
        return address;
    }
    ctx.load(if sender { 8 } else { 24 }).unwrap_or(address)
}

/// Both ends of the packet's connection as the socket of this host sees them; returns 4 or 6. `coming`: the packet is
/// received.
#[inline(always)]
pub fn ends(ctx: &SkBuffContext, segment: &Segment, coming: bool, ends: &mut Tuple) -> u8 {
    let header = segment.header as usize;
    let source = u16::from_be(ctx.load(header).unwrap_or(0));
    let destination = u16::from_be(ctx.load(header + 2).unwrap_or(0));
    (ends.remote_port, ends.local_port) = if coming {
        (source, destination)
    } else {
        (destination, source)
    };
    let first: u8 = ctx.load(0).unwrap_or(0);
    if first >> 4 == 4 {
        let source: [u8; 4] = ctx.load(12).unwrap_or([0; 4]);
        let destination: [u8; 4] = ctx.load(16).unwrap_or([0; 4]);
        let (remote, local) = if coming {
            (source, destination)
        } else {
            (destination, source)
        };
        ends.local = [0; 16];
        ends.remote = [0; 16];
        for at in 0..4 {
            ends.local[at] = local[at];
            ends.remote[at] = remote[at];
        }
        return 4;
    }
    let source: [u8; 16] = ctx.load(8).unwrap_or([0; 16]);
    let destination: [u8; 16] = ctx.load(24).unwrap_or([0; 16]);
    (ends.remote, ends.local) = if coming {
        (source, destination)
    } else {
        (destination, source)
    };
    6
}
