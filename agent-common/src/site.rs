//! How a probe site tells the eBPF program what is where: a 64-bit attach cookie.
//!
//! One program serves all sites of a kind; the cookie says in which registers the TLS object, the buffer, the
//! length and the out-pointer are at this very instruction, and how the result is read. The agent finds that out
//! by disassembly (`agent/src/kernel/site.rs`), the kernel side only looks it up.
//!
//! ```text
//! bits  0..=3   operation            bits 12..=15  register of the buffer
//!       4..=5   kind                       16..=19  register of the length
//!       6..=7   how the result is read     20..=23  register of the out-pointer
//!       8..=11  register of the TLS object 24..=31  zero
//!                                          32..=63  library, chosen by the loader
//! ```
//!
//! Where a library is about to copy plaintext to the application (`Kind::Delivery`), source and length are where
//! `memcpy` takes them, and what else there is to know is often in the stack frame:
//!
//! ```text
//! bits  0..=7   as above                   20..=31  place of the record's content type
//!       8..=19  place of the TLS object    32..=43  place of the flag that says: only a peek
//!                                          44..=63  library
//! ```
//!
//! Where it is about to take plaintext (`Kind::Taking`), object, content type and buffer are `rdi`, `rsi` and `rdx`:
//!
//! ```text
//! bits  0..=7   as above, kind 3           10..=31  zero
//!       8..=9   how many bytes             32..=63  library
//! ```
//!
//! It must not know a particular library: that is the agent's business.

/// Position of a general register in x86-64's `struct pt_regs`, in units of 8 bytes, so that the kernel side
/// reads register `r` at byte `8 * r`. `rsp` is not among them: no argument is ever in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reg {
    R15 = 0,
    R14 = 1,
    R13 = 2,
    R12 = 3,
    Rbp = 4,
    Rbx = 5,
    R11 = 6,
    R10 = 7,
    R9 = 8,
    R8 = 9,
    Rax = 10,
    Rcx = 11,
    Rdx = 12,
    Rsi = 13,
    Rdi = 14,
}

/// The register field that says: there is none. For the out-pointer: the result is in the return value.
pub const REG_NONE: u8 = 0xF;

impl Reg {
    const ALL: [Reg; 15] = [
        Reg::R15,
        Reg::R14,
        Reg::R13,
        Reg::R12,
        Reg::Rbp,
        Reg::Rbx,
        Reg::R11,
        Reg::R10,
        Reg::R9,
        Reg::R8,
        Reg::Rax,
        Reg::Rcx,
        Reg::Rdx,
        Reg::Rsi,
        Reg::Rdi,
    ];

    /// The register with this index, `None` for [`REG_NONE`] and beyond.
    #[inline(always)]
    pub const fn from_index(index: u8) -> Option<Reg> {
        if index < 15 {
            Some(Reg::ALL[index as usize])
        } else {
            None
        }
    }

    /// Byte offset in `struct pt_regs`.
    #[inline(always)]
    pub const fn pt_regs_offset(self) -> usize {
        self as usize * 8
    }
}

/// What the library's function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    /// Plaintext handed to the application.
    Read = 1,
    /// Plaintext shown to the application, and shown again by the next read: never counted.
    Peek = 2,
    /// Plaintext taken from the application.
    Write = 3,
    /// Handshake: binds the TLS object to a socket.
    Handshake = 4,
    /// The TLS object is gone.
    Free = 5,
    /// TLS 1.3 early data, as `Read`.
    ReadEarly = 6,
    /// TLS 1.3 early data, as `Write`.
    WriteEarly = 7,
    /// Bytes of a file sent through the TLS object: counted, never seen. Length is the file's part asked for.
    Sendfile = 8,
    /// As `Handshake`, in the middle of a read or write that shakes hands first; on the stack that it is on, which may not be
    /// the thread's own.
    HandshakeWithin = 9,
}

impl Op {
    /// The operation with this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Op> {
        Some(match number {
            1 => Op::Read,
            2 => Op::Peek,
            3 => Op::Write,
            4 => Op::Handshake,
            5 => Op::Free,
            6 => Op::ReadEarly,
            7 => Op::WriteEarly,
            8 => Op::Sendfile,
            9 => Op::HandshakeWithin,
            _ => return None,
        })
    }
}

/// When the site is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Before the operation, arguments in the registers that the cookie names.
    Enter = 0,
    /// After it, an ordinary probe, result in `rax`.
    Exit = 1,
    /// After it, a return probe, result in `rax`.
    Uretprobe = 2,
    /// In the middle of a read: plaintext is about to be copied to the application (`memcpy`'s arguments: `rsi`, `rdx`).
    /// Passed by nothing that has to wait.
    Delivery = 3,
    /// In the middle of a write: a record is about to be made of plaintext, or one that was made goes on. In a cookie it is 3 as
    /// well: the operation tells.
    Taking = 4,
}

impl Kind {
    /// The kind with this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Kind> {
        Some(match number {
            0 => Kind::Enter,
            1 => Kind::Exit,
            2 => Kind::Uretprobe,
            3 => Kind::Delivery,
            _ => return None,
        })
    }
}

/// How `rax` at the exit says what was moved. The same at both sites of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResultIn {
    /// `eax` as a signed 32-bit count of bytes; nothing was moved if it is not positive.
    Count32 = 0,
    /// `rax` as a signed 64-bit count of bytes; nothing was moved if it is not positive.
    Count64 = 1,
    /// `eax` as a signed 32-bit number that is positive on success; the count (64 bits) is then behind the
    /// out-pointer seen at the entry.
    Flag = 2,
}

impl ResultIn {
    /// The variant with this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<ResultIn> {
        Some(match number {
            0 => ResultIn::Count32,
            1 => ResultIn::Count64,
            2 => ResultIn::Flag,
            _ => return None,
        })
    }
}

/// Where a value is at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Register(Reg),
    /// Bytes above the stack pointer, at most [`STACK_PLACE_MAX`].
    Stack(u16),
}

/// How far above the stack pointer a value may be.
pub const STACK_PLACE_MAX: u16 = (PLACE_MASK as u16) - STACK_PLACE_FIRST as u16;
/// Bits of a place.
const PLACE_MASK: u64 = 0xFFF;
/// Places below this number are registers.
const STACK_PLACE_FIRST: u64 = 16;
/// Libraries are told apart by so many bits where places take the others.
const DELIVERY_LIBRARY_MAX: u32 = (1 << 20) - 1;

impl Place {
    const fn number(self) -> u64 {
        match self {
            Place::Register(reg) => reg as u64,
            Place::Stack(bytes) => STACK_PLACE_FIRST + bytes as u64,
        }
    }

    const fn from_number(number: u64) -> Option<Place> {
        if number >= STACK_PLACE_FIRST {
            return Some(Place::Stack((number - STACK_PLACE_FIRST) as u16));
        }
        match Reg::from_index(number as u8) {
            Some(reg) => Some(Place::Register(reg)),
            None => None,
        }
    }
}

/// What the cookie of a [`Kind::Delivery`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryCookie {
    pub ssl: Place,
    /// Its low 8 bits: `ContentType` of RFC 8446, appendix B.3.1.
    pub content_type: Place,
    /// Its low 32 bits are not 0 if the same bytes will be read again.
    pub peek: Place,
    /// As of [`SiteCookie::library`].
    pub library: u32,
}

impl DeliveryCookie {
    /// Packs it; `None` if a number is too great for its place.
    pub fn encode(self) -> Option<u64> {
        let places = [self.ssl, self.content_type, self.peek];
        if self.library > DELIVERY_LIBRARY_MAX || places.iter().any(|place| place.number() > PLACE_MASK) {
            return None;
        }
        let [ssl, content_type, peek] = places.map(Place::number);
        Some(
            Op::Read as u64
                | (Kind::Delivery as u64) << 4
                | ssl << 8
                | content_type << 20
                | peek << 32
                | (self.library as u64) << 44,
        )
    }

    /// Unpacks it; `None` if the number was never packed by [`DeliveryCookie::encode`].
    pub fn decode(cookie: u64) -> Option<DeliveryCookie> {
        if cookie & 0xFF != (Op::Read as u64 | (Kind::Delivery as u64) << 4) {
            return None;
        }
        Some(DeliveryCookie {
            ssl: Place::from_number(delivery::ssl(cookie))?,
            content_type: Place::from_number(delivery::content_type(cookie))?,
            peek: Place::from_number(delivery::peek(cookie))?,
            library: delivery::library(cookie),
        })
    }
}

/// The raw fields of a [`DeliveryCookie`], for the kernel side.
pub mod delivery {
    use super::{PLACE_MASK, STACK_PLACE_FIRST};

    /// Place of the TLS object.
    #[inline(always)]
    pub const fn ssl(cookie: u64) -> u64 {
        cookie >> 8 & PLACE_MASK
    }

    /// Place of the content type.
    #[inline(always)]
    pub const fn content_type(cookie: u64) -> u64 {
        cookie >> 20 & PLACE_MASK
    }

    /// Place of the flag for peeks.
    #[inline(always)]
    pub const fn peek(cookie: u64) -> u64 {
        cookie >> 32 & PLACE_MASK
    }

    /// The loader's number of the library.
    #[inline(always)]
    pub const fn library(cookie: u64) -> u32 {
        (cookie >> 44) as u32
    }

    /// How far above the stack pointer a place is, if it is not a register with that number.
    #[inline(always)]
    pub const fn above_stack(place: u64) -> Option<u64> {
        place.checked_sub(STACK_PLACE_FIRST)
    }
}

/// How many bytes are about to be taken at a [`Kind::Taking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Taken {
    /// None: what was taken before goes on.
    Nothing = 0,
    /// As many as `rcx` says.
    Counted = 1,
    /// In so many parts as `r8d` says, one behind the other; their lengths, 64 bits each, are where `rcx` points to.
    Parts = 2,
}

/// What the cookie of a [`Kind::Taking`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TakingCookie {
    pub taken: Taken,
    /// As of [`SiteCookie::library`].
    pub library: u32,
}

impl TakingCookie {
    const LOW_BYTE: u64 = Op::Write as u64 | (Kind::Delivery as u64) << 4;

    /// Packs it.
    pub const fn encode(self) -> u64 {
        Self::LOW_BYTE | (self.taken as u64) << 8 | (self.library as u64) << 32
    }

    /// Unpacks it; `None` if the number was never packed by [`TakingCookie::encode`].
    pub const fn decode(cookie: u64) -> Option<TakingCookie> {
        let taken = match cookie as u32 as u64 ^ Self::LOW_BYTE {
            0x000 => Taken::Nothing,
            0x100 => Taken::Counted,
            0x200 => Taken::Parts,
            _ => return None,
        };
        Some(TakingCookie {
            taken,
            library: library(cookie),
        })
    }
}

/// [`Taken`] as a number, for the kernel side.
#[inline(always)]
pub const fn taken(cookie: u64) -> u8 {
    (cookie >> 8 & 3) as u8
}

/// What a cookie says. `None` registers are not available at the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteCookie {
    pub op: Op,
    pub kind: Kind,
    pub result: ResultIn,
    pub ssl: Option<Reg>,
    pub buf: Option<Reg>,
    pub len: Option<Reg>,
    pub out: Option<Reg>,
    /// Which library, by the loader's own numbering (for `tls.version`); 0 until it sets it.
    pub library: u32,
}

#[inline(always)]
const fn nibble(reg: Option<Reg>) -> u64 {
    match reg {
        Some(reg) => reg as u64,
        None => REG_NONE as u64,
    }
}

impl SiteCookie {
    /// Packs it.
    pub const fn encode(self) -> u64 {
        self.op as u64
            | (self.kind as u64) << 4
            | (self.result as u64) << 6
            | nibble(self.ssl) << 8
            | nibble(self.buf) << 12
            | nibble(self.len) << 16
            | nibble(self.out) << 20
            | (self.library as u64) << 32
    }

    /// Unpacks it; `None` if the number was never packed by [`SiteCookie::encode`].
    #[inline(always)]
    pub const fn decode(cookie: u64) -> Option<SiteCookie> {
        if cookie & 0xFF00_0000 != 0 {
            return None;
        }
        let Some(op) = Op::from_number((cookie & 0xF) as u8) else {
            return None;
        };
        let kind = match Kind::from_number((cookie >> 4 & 3) as u8) {
            // Its own cookie.
            None | Some(Kind::Delivery | Kind::Taking) => return None,
            Some(kind) => kind,
        };
        let Some(result) = ResultIn::from_number((cookie >> 6 & 3) as u8) else {
            return None;
        };
        Some(SiteCookie {
            op,
            kind,
            result,
            ssl: Reg::from_index(ssl_index(cookie)),
            buf: Reg::from_index(buf_index(cookie)),
            len: Reg::from_index(len_index(cookie)),
            out: Reg::from_index(out_index(cookie)),
            library: (cookie >> 32) as u32,
        })
    }
}

// The raw fields, for the kernel side: it switches on them and has no use for the enums.

/// [`Op`] as a number.
#[inline(always)]
pub const fn op_number(cookie: u64) -> u8 {
    (cookie & 0xF) as u8
}

/// [`ResultIn`] as a number.
#[inline(always)]
pub const fn result_number(cookie: u64) -> u8 {
    (cookie >> 6 & 3) as u8
}

/// Index of the register with the TLS object, or [`REG_NONE`].
#[inline(always)]
pub const fn ssl_index(cookie: u64) -> u8 {
    (cookie >> 8 & 0xF) as u8
}

/// Index of the register with the buffer, or [`REG_NONE`].
#[inline(always)]
pub const fn buf_index(cookie: u64) -> u8 {
    (cookie >> 12 & 0xF) as u8
}

/// Index of the register with the length, or [`REG_NONE`].
#[inline(always)]
pub const fn len_index(cookie: u64) -> u8 {
    (cookie >> 16 & 0xF) as u8
}

/// Index of the register with the out-pointer, or [`REG_NONE`].
#[inline(always)]
pub const fn out_index(cookie: u64) -> u8 {
    (cookie >> 20 & 0xF) as u8
}

/// The loader's number of the library.
#[inline(always)]
pub const fn library(cookie: u64) -> u32 {
    (cookie >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        for op in 1..=9 {
            for kind in 0..3 {
                for result in 0..3 {
                    for reg in 0..16 {
                        let site = SiteCookie {
                            op: Op::from_number(op).unwrap(),
                            kind: Kind::from_number(kind).unwrap(),
                            result: ResultIn::from_number(result).unwrap(),
                            ssl: Reg::from_index(reg),
                            buf: Reg::from_index((reg + 1) % 16),
                            len: Reg::from_index((reg + 2) % 16),
                            out: Reg::from_index((reg + 3) % 16),
                            library: u32::MAX - u32::from(reg),
                        };
                        let cookie = site.encode();
                        assert_eq!(SiteCookie::decode(cookie), Some(site));
                        assert_eq!(ssl_index(cookie), reg);
                        assert_eq!(op_number(cookie), op);
                        assert_eq!(library(cookie), site.library);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_taken_is_told_apart() {
        for taken in [Taken::Nothing, Taken::Counted, Taken::Parts] {
            let site = TakingCookie {
                taken,
                library: u32::MAX - 1,
            };
            let cookie = site.encode();
            assert_eq!(TakingCookie::decode(cookie), Some(site));
            assert_eq!(
                (super::taken(cookie), library(cookie)),
                (taken as u8, site.library)
            );
            assert_eq!(SiteCookie::decode(cookie), None);
            assert_eq!(DeliveryCookie::decode(cookie), None);
            assert_eq!(TakingCookie::decode(cookie | 1 << 10), None);
        }
        assert_eq!(TakingCookie::decode(TakingCookie::LOW_BYTE | 3 << 8), None);
    }

    #[test]
    fn what_nobody_packed_is_refused() {
        for cookie in [0, 10, 1 | 3 << 4, 1 | 3 << 6, 1 | 1 << 24, u64::MAX] {
            assert_eq!(SiteCookie::decode(cookie), None, "{cookie:#x}");
        }
    }

    #[test]
    fn registers_are_where_pt_regs_has_them() {
        assert_eq!(Reg::Rdi.pt_regs_offset(), 112);
        assert_eq!(Reg::Rax.pt_regs_offset(), 80);
        assert_eq!(Reg::R15.pt_regs_offset(), 0);
    }
}
