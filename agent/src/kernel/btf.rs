//! Where members of kernel structures are, from the kernel's own description of its types (BTF).
//!
//! Rust's eBPF has no CO-RE relocations, so the agent reads the offsets at start and hands them to the programs.
//! Only what that needs is parsed: struct and union members (also of anonymous inner ones, and bit-fields), sizes,
//! and which names exist. Types are found through one name index, built in the same pass that checks the blob;
//! nothing is copied out of it. The blob is the kernel's, but may as well come from a file: every read is checked.
//!
//! Format: the kernel's Documentation/bpf/btf.rst.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use hashbrown::HashTable;

/// Where the running kernel describes its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Larger blobs are refused; today's kernels have 4 to 8 MB.
const BLOB_BYTES_MAX: u64 = 64 << 20;
/// Typedefs, qualifiers and nested anonymous structs are followed this far, so that a loop ends.
const DEPTH_MAX: u32 = 32;

const MAGIC: u16 = 0xEB9F;

/// Why a type or member could not be told.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error(
        "cannot read {path}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF=y (stock kernels of all large distributions since 2021 have it)"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} has {bytes} bytes, more than the {BLOB_BYTES_MAX} that a kernel's type information may have"
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("the kernel's type information is not understood: {0}")]
    Malformed(&'static str),
    #[error("the kernel's type information has a type of unknown kind {0}; a newer agent is needed")]
    UnknownKind(u32),
    #[error("this kernel has no struct or union `{0}`")]
    NoType(String),
    #[error("this kernel's `{type_name}` has no member `{member}`")]
    NoMember { type_name: String, member: String },
    #[error("`{type_name}.{member}` is a bit-field; its byte offset alone does not tell where it is")]
    IsBitfield { type_name: String, member: String },
}

/// Bits of a member that does not fill its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Lowest bit, counted from the lowest bit of the byte at [`Field::offset`] (little-endian).
    pub shift: u8,
    /// How many bits.
    pub width: u8,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the outermost type.
    pub offset: u32,
    /// Bytes of the member's type; 0 if it has no size of its own.
    pub size: u32,
    /// Set for bit-fields only.
    pub bits: Option<Bits>,
}

impl Field {
    /// Shift and mask that turn the little-endian 32-bit word at [`Field::offset`] into the value: the same for
    /// plain members and bit-fields of at most 24 bits, so that a program needs one way to read both.
    pub fn shift_and_mask(&self) -> (u32, u32) {
        match self.bits {
            Some(bits) => (u32::from(bits.shift), mask(u32::from(bits.width))),
            None => (0, mask(self.size.saturating_mul(8))),
        }
    }
}

fn mask(width: u32) -> u32 {
    if width >= 32 { u32::MAX } else { (1 << width) - 1 }
}

/// What a type is, as far as the agent asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Qualifier,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    Enum64,
}

impl Kind {
    fn from_number(number: u32) -> Option<Kind> {
        Some(match number {
            1 => Kind::Int,
            2 => Kind::Ptr,
            3 => Kind::Array,
            4 => Kind::Struct,
            5 => Kind::Union,
            6 => Kind::Enum,
            7 => Kind::Fwd,
            8 => Kind::Typedef,
            // volatile, const, restrict, type tag
            9..=11 | 18 => Kind::Qualifier,
            12 => Kind::Func,
            13 => Kind::FuncProto,
            14 => Kind::Var,
            15 => Kind::Datasec,
            16 => Kind::Float,
            17 => Kind::DeclTag,
            19 => Kind::Enum64,
            _ => return None,
        })
    }

    /// Bytes behind the 12 that every type has.
    fn extra_bytes(self, vlen: u32) -> u32 {
        match self {
            Kind::Int | Kind::Var | Kind::DeclTag => 4,
            Kind::Array => 12,
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => vlen * 12,
            Kind::Enum | Kind::FuncProto => vlen * 8,
            _ => 0,
        }
    }

    fn is_composite(self) -> bool {
        matches!(self, Kind::Struct | Kind::Union)
    }
}

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    name_off: u32,
    kind: Kind,
    vlen: u32,
    kind_flag: bool,
    /// Size in bytes, or the type referred to, by kind.
    size_or_type: u32,
    /// Position in the type section right behind the fixed part.
    extra: u32,
}

#[derive(Clone, Copy)]
struct Member {
    name_off: u32,
    type_id: u32,
    bit_offset: u32,
    /// 0 if it is not a bit-field.
    bit_width: u32,
}

/// A kernel's types, indexed by name.
pub struct Btf {
    blob: Vec<u8>,
    /// Of the type section in the blob.
    types_at: usize,
    types_end: usize,
    strings_at: usize,
    strings_end: usize,
    /// Position of each type in the type section; index 0 is type 1.
    positions: Vec<u32>,
    /// Ids of named types and functions, by name; a name may stand for several.
    by_name: HashTable<u32>,
    hasher: RandomState,
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.positions.len())
            .finish_non_exhaustive()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(at..end)?.try_into().ok()?))
}

impl Btf {
    /// The running kernel's types.
    pub fn from_kernel() -> Result<Btf, BtfError> {
        Btf::from_file(Path::new(KERNEL_BTF))
    }

    /// The types in a file of raw BTF.
    pub fn from_file(path: &Path) -> Result<Btf, BtfError> {
        let read = |source| BtfError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > BLOB_BYTES_MAX {
            return Err(BtfError::TooLarge {
                path: path.to_owned(),
                bytes,
            });
        }
        Btf::parse(std::fs::read(path).map_err(read)?)
    }

    /// Checks the blob and indexes its names.
    pub fn parse(blob: Vec<u8>) -> Result<Btf, BtfError> {
        use BtfError::Malformed;
        let header = |at| u32_at(&blob, at).ok_or(Malformed("the header is cut off"));
        if blob.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(Malformed(
                "it does not start with BTF's little-endian magic number",
            ));
        }
        let header_bytes = header(4)? as usize;
        if header_bytes < 24 {
            return Err(Malformed("the header is too short"));
        }
        let section = |off: u32, len: u32| -> Option<(usize, usize)> {
            let start = header_bytes.checked_add(off as usize)?;
            let end = start.checked_add(len as usize)?;
            (end <= blob.len()).then_some((start, end))
        };
        let (types_at, types_end) =
            section(header(8)?, header(12)?).ok_or(Malformed("the type section is outside of the blob"))?;
        let (strings_at, strings_end) = section(header(16)?, header(20)?)
            .ok_or(Malformed("the string section is outside of the blob"))?;
        if strings_end > strings_at && blob[strings_end - 1] != 0 {
            return Err(Malformed("the last string has no end"));
        }

        let mut btf = Btf {
            positions: Vec::with_capacity((types_end - types_at) / 24),
            by_name: HashTable::with_capacity((types_end - types_at) / 64),
            hasher: RandomState::new(),
            blob,
            types_at,
            types_end,
            strings_at,
            strings_end,
        };
        let mut position = 0u32;
        while (position as usize) < types_end - types_at {
            let r#type = btf.type_at(position)?;
            let end = u64::from(r#type.extra) + u64::from(r#type.kind.extra_bytes(r#type.vlen));
            if end > (types_end - types_at) as u64 {
                return Err(Malformed("a type is cut off"));
            }
            btf.positions.push(position);
            if r#type.name_off != 0
                && !matches!(r#type.kind, Kind::Fwd | Kind::DeclTag | Kind::Var | Kind::Datasec)
            {
                btf.index_name(btf.positions.len() as u32, r#type.name_off)?;
            }
            position = end as u32;
        }
        Ok(btf)
    }

    /// Where the member at `path` of the struct or union `type_name` is. The path's parts are joined by dots
    /// (`__sk_common.skc_num`); members of anonymous inner structs and unions are named as in C, without them.
    /// Of several types with this name the first that has the member counts.
    pub fn field(&self, type_name: &str, path: &str) -> Result<Field, BtfError> {
        let mut missing = BtfError::NoType(type_name.to_owned());
        for id in self.composites(type_name) {
            match self.field_in(id, path) {
                Ok(Some(field)) => return Ok(field),
                Ok(None) => {
                    missing = BtfError::NoMember {
                        type_name: type_name.to_owned(),
                        member: path.to_owned(),
                    };
                }
                Err(error) => return Err(error),
            }
        }
        Err(missing)
    }

    /// Byte offset of a member that is not a bit-field; see [`Btf::field`].
    pub fn offset(&self, type_name: &str, path: &str) -> Result<u32, BtfError> {
        let field = self.field(type_name, path)?;
        match field.bits {
            None => Ok(field.offset),
            Some(_) => Err(BtfError::IsBitfield {
                type_name: type_name.to_owned(),
                member: path.to_owned(),
            }),
        }
    }

    /// Bytes of a struct or union.
    pub fn size_of(&self, type_name: &str) -> Result<u32, BtfError> {
        let id = self
            .composites(type_name)
            .next()
            .ok_or_else(|| BtfError::NoType(type_name.to_owned()))?;
        Ok(self.type_by_id(id)?.size_or_type)
    }

    /// Whether there is a type of this name: struct, union, enum, typedef, base type. `btf_trace_NAME` exists for
    /// every tracepoint that typed programs can attach to.
    pub fn has_type(&self, name: &str) -> bool {
        self.ids(name)
            .any(|id| self.type_by_id(id).is_ok_and(|t| t.kind != Kind::Func))
    }

    /// Whether there is a function of this name that trampolines could attach to, if the kernel allows them.
    pub fn has_function(&self, name: &str) -> bool {
        self.function(name).is_some()
    }

    /// The number of a function's type, by which programs call those of the kernel that are meant for them.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.ids(name)
            .find(|id| self.type_by_id(*id).is_ok_and(|t| t.kind == Kind::Func))
    }

    fn composites<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        // A hash table keeps no order, and the first definition is the one that others read as well.
        let mut ids: Vec<u32> = self
            .ids(name)
            .filter(|id| self.type_by_id(*id).is_ok_and(|t| t.kind.is_composite()))
            .collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    fn ids<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        let hash = self.hasher.hash_one(name.as_bytes());
        self.by_name.iter_hash(hash).copied().filter(move |id| {
            self.type_by_id(*id)
                .is_ok_and(|t| self.string(t.name_off) == Some(name.as_bytes()))
        })
    }

    fn index_name(&mut self, id: u32, name_off: u32) -> Result<(), BtfError> {
        let name = self
            .string(name_off)
            .ok_or(BtfError::Malformed("a name is outside of the string section"))?;
        let hash = self.hasher.hash_one(name);
        let Btf {
            blob,
            positions,
            types_at,
            strings_at,
            strings_end,
            by_name,
            hasher,
            ..
        } = self;
        by_name.insert_unique(hash, id, |id| {
            // Only ids whose name was read once already are in the table.
            let position = positions.get(*id as usize - 1).copied().unwrap_or(0) as usize;
            let name_off = u32_at(blob, *types_at + position).unwrap_or(0) as usize;
            let strings = &blob[*strings_at..*strings_end];
            hasher.hash_one(until_nul(strings.get(name_off..).unwrap_or_default()))
        });
        Ok(())
    }

    fn field_in(&self, composite: u32, path: &str) -> Result<Option<Field>, BtfError> {
        let mut composite = composite;
        let mut bit_base = 0u64;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let Some((member, bits)) = self.member(composite, part, DEPTH_MAX)? else {
                return Ok(None);
            };
            bit_base += bits;
            let (id, resolved) = self.resolve(member.type_id)?;
            if parts.peek().is_none() {
                return self.to_field(bit_base, member, resolved).map(Some);
            }
            if !resolved.is_some_and(|t| t.kind.is_composite()) {
                return Ok(None);
            }
            composite = id;
        }
        Ok(None)
    }

    fn to_field(&self, bit_offset: u64, member: Member, resolved: Option<Type>) -> Result<Field, BtfError> {
        let size = match resolved {
            Some(t) => self.size(t, DEPTH_MAX)?,
            None => 0,
        };
        let mut start = bit_offset;
        let mut width = member.bit_width;
        // Before BTF had the kind flag, a bit-field was an integer type of fewer bits than its bytes.
        if width == 0
            && let Some(int) = resolved.filter(|t| t.kind == Kind::Int)
        {
            let data = self.type_u32(int.extra)?;
            let int_bits = data & 0xFF;
            if int_bits != int.size_or_type.saturating_mul(8) {
                width = int_bits;
                start += u64::from(data >> 16 & 0xFF);
            }
        }
        if width == 0 && !start.is_multiple_of(8) {
            return Err(BtfError::Malformed(
                "a member that is no bit-field starts inside of a byte",
            ));
        }
        let offset = u32::try_from(start / 8).map_err(|_| BtfError::Malformed("a member is too far away"))?;
        let bits = (width != 0).then_some(Bits {
            shift: (start % 8) as u8,
            width: width.min(255) as u8,
        });
        Ok(Field { offset, size, bits })
    }

    /// The member of this name, also inside of anonymous members, with its distance in bits.
    fn member(&self, composite: u32, name: &str, depth: u32) -> Result<Option<(Member, u64)>, BtfError> {
        if depth == 0 {
            return Err(BtfError::Malformed("types are nested in a loop"));
        }
        let r#type = self.type_by_id(composite)?;
        for index in 0..r#type.vlen {
            let member = self.member_at(r#type, index)?;
            if member.name_off != 0 {
                if self.string(member.name_off) == Some(name.as_bytes()) {
                    return Ok(Some((member, u64::from(member.bit_offset))));
                }
                continue;
            }
            let (id, inner) = self.resolve(member.type_id)?;
            if inner.is_some_and(|t| t.kind.is_composite())
                && let Some((found, bits)) = self.member(id, name, depth - 1)?
            {
                return Ok(Some((found, bits + u64::from(member.bit_offset))));
            }
        }
        Ok(None)
    }

    fn member_at(&self, r#type: Type, index: u32) -> Result<Member, BtfError> {
        let at = r#type.extra + index * 12;
        let raw_offset = self.type_u32(at + 8)?;
        let (bit_offset, bit_width) = if r#type.kind_flag {
            (raw_offset & 0xFF_FFFF, raw_offset >> 24)
        } else {
            (raw_offset, 0)
        };
        Ok(Member {
            name_off: self.type_u32(at)?,
            type_id: self.type_u32(at + 4)?,
            bit_offset,
            bit_width,
        })
    }

    /// Behind typedefs and qualifiers. `None` is void.
    fn resolve(&self, id: u32) -> Result<(u32, Option<Type>), BtfError> {
        let mut id = id;
        for _ in 0..DEPTH_MAX {
            if id == 0 {
                return Ok((0, None));
            }
            let r#type = self.type_by_id(id)?;
            match r#type.kind {
                Kind::Typedef | Kind::Qualifier => id = r#type.size_or_type,
                _ => return Ok((id, Some(r#type))),
            }
        }
        Err(BtfError::Malformed("typedefs refer to each other in a loop"))
    }

    fn size(&self, r#type: Type, depth: u32) -> Result<u32, BtfError> {
        if depth == 0 {
            return Err(BtfError::Malformed("arrays are nested in a loop"));
        }
        Ok(match r#type.kind {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float => {
                r#type.size_or_type
            }
            Kind::Ptr => 8,
            Kind::Array => {
                let count = self.type_u32(r#type.extra + 8)?;
                match self.resolve(self.type_u32(r#type.extra)?)?.1 {
                    Some(element) => self.size(element, depth - 1)?.saturating_mul(count),
                    None => 0,
                }
            }
            _ => 0,
        })
    }

    fn type_by_id(&self, id: u32) -> Result<Type, BtfError> {
        let position = id
            .checked_sub(1)
            .and_then(|index| self.positions.get(index as usize));
        self.type_at(*position.ok_or(BtfError::Malformed("a type refers to one that is not there"))?)
    }

    fn type_at(&self, position: u32) -> Result<Type, BtfError> {
        let info = self.type_u32(position.saturating_add(4))?;
        // Bits 16 to 23 and 29 to 30 are zero in kernels that do not use them for vlen and kind.
        let number = info >> 24 & 0x7F;
        let kind = if number == 0 {
            Kind::Void
        } else {
            Kind::from_number(number).ok_or(BtfError::UnknownKind(number))?
        };
        Ok(Type {
            name_off: self.type_u32(position)?,
            kind,
            vlen: info & 0xFF_FFFF,
            kind_flag: info >> 31 == 1,
            size_or_type: self.type_u32(position.saturating_add(8))?,
            extra: position.saturating_add(12),
        })
    }

    fn type_u32(&self, position: u32) -> Result<u32, BtfError> {
        self.blob
            .get(self.types_at..self.types_end)
            .and_then(|types| u32_at(types, position as usize))
            .ok_or(BtfError::Malformed("a type is cut off"))
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        self.blob
            .get(self.strings_at..self.strings_end)?
            .get(offset as usize..)
            .map(until_nul)
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests;
