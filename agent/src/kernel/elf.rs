//! The parts of an ELF file that probe sites are found by: symbols, code, imports, where functions start.
//!
//! Files come out of containers and may be hostile or huge: they are read piece by piece with a limit on each
//! piece, never mapped (a truncated file would kill the agent) and never held whole.
//!
//! It must not know what a TLS library is.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use object::LittleEndian as LE;
use object::elf::{
    DT_NEEDED, DT_NULL, DT_SONAME, ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PF_X,
    PT_LOAD, ProgramHeader64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE, Rela64, SHN_UNDEF,
    SHT_DYNAMIC, SHT_DYNSYM, SHT_NOBITS, SHT_RELA, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, SectionHeader64,
    Sym64,
};
use object::pod::{from_bytes, slice_from_bytes};

/// Largest symbol or string table that is read; node's symbol table of 100 MB of program has 4 MB.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// Program and section headers, each.
const HEADERS_MAX: u16 = 4096;
/// Symbol names longer than this are not among those that anyone asks for.
const NAME_BYTES_MAX: usize = 256;
/// Pieces in which sections are streamed.
const PIECE_BYTES: usize = 1 << 20;

/// Why a file could not be read as a 64-bit ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    #[error("it is no 64-bit little-endian ELF program or library")]
    NotElf,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

enum Source {
    File(File),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Section {
    name: String,
    kind: u32,
    vaddr: u64,
    offset: u64,
    size: u64,
    link: u32,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    vaddr: u64,
    offset: u64,
    file_bytes: u64,
    executable: bool,
}

impl Segment {
    /// How far behind `start`, where it begins, `at` is; `None`: not in it.
    fn place(&self, start: u64, at: u64) -> Option<u64> {
        at.checked_sub(start).filter(|into| *into < self.file_bytes)
    }
}

/// A function that the file defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    pub vaddr: u64,
    /// Bytes, 0 if the file does not say.
    pub size: u64,
}

/// An open ELF file.
pub struct Elf {
    source: Source,
    machine: u16,
    sections: Vec<Section>,
    segments: Vec<Segment>,
}

impl Elf {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Elf, ElfError> {
        // A pipe must not have us wait for its writer.
        let file = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(ElfError::NotElf);
        }
        Elf::new(Source::File(file))
    }

    /// Takes a file's bytes.
    pub fn parse(bytes: Vec<u8>) -> Result<Elf, ElfError> {
        Elf::new(Source::Bytes(bytes))
    }

    fn new(source: Source) -> Result<Elf, ElfError> {
        let mut elf = Elf {
            source,
            machine: 0,
            sections: Vec::new(),
            segments: Vec::new(),
        };
        let head = elf
            .read_at(0, size_of::<FileHeader64<LE>>() as u64)
            .map_err(|_| ElfError::NotElf)?;
        let (header, _) = from_bytes::<FileHeader64<LE>>(&head).map_err(|()| ElfError::NotElf)?;
        let ident = header.e_ident;
        let kind = header.e_type.get(LE);
        if ident.magic != object::elf::ELFMAG || ident.class != ELFCLASS64 || ident.data != ELFDATA2LSB {
            return Err(ElfError::NotElf);
        }
        if kind != ET_DYN && kind != ET_EXEC {
            return Err(ElfError::NotElf);
        }
        elf.machine = header.e_machine.get(LE).0;

        let count = header.e_phnum.get(LE).min(HEADERS_MAX);
        let table = elf.read_at(header.e_phoff.get(LE), u64::from(count) * 56)?;
        let (headers, _) = slice_from_bytes::<ProgramHeader64<LE>>(&table, usize::from(count))
            .map_err(|()| ElfError::Damaged("the program headers are cut off"))?;
        elf.segments = headers
            .iter()
            .filter(|h| h.p_type.get(LE) == PT_LOAD)
            .map(|h| Segment {
                vaddr: h.p_vaddr.get(LE),
                offset: h.p_offset.get(LE),
                file_bytes: h.p_filesz.get(LE),
                executable: h.p_flags.get(LE).contains(PF_X),
            })
            .collect();

        let count = header.e_shnum.get(LE).min(HEADERS_MAX);
        let table = elf.read_at(header.e_shoff.get(LE), u64::from(count) * 64)?;
        let (headers, _) = slice_from_bytes::<SectionHeader64<LE>>(&table, usize::from(count))
            .map_err(|()| ElfError::Damaged("the section headers are cut off"))?;
        let names = match headers.get(usize::from(header.e_shstrndx.get(LE).0)) {
            Some(strings) => elf.read_table(strings.sh_offset.get(LE), strings.sh_size.get(LE))?,
            None => Vec::new(),
        };
        elf.sections = headers
            .iter()
            .map(|h| Section {
                name: string_at(&names, u64::from(h.sh_name.get(LE)))
                    .unwrap_or_default()
                    .to_owned(),
                kind: h.sh_type.get(LE).0,
                vaddr: h.sh_addr.get(LE),
                offset: h.sh_offset.get(LE),
                size: h.sh_size.get(LE),
                link: h.sh_link.get(LE),
            })
            .collect();
        Ok(elf)
    }

    /// Whether its code is for x86-64.
    pub fn is_x86_64(&self) -> bool {
        self.machine == EM_X86_64.0
    }

    /// The functions that the file exports and `wanted` chooses; if it exports none of them, those of its full
    /// symbol table, if it has one.
    pub fn functions(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Symbol>, ElfError> {
        for kind in [SHT_DYNSYM, SHT_SYMTAB] {
            let mut found = Vec::new();
            for section in self.sections.iter().filter(|s| s.kind == kind.0) {
                self.functions_of(section, &wanted, &mut found)?;
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn functions_of(
        &self,
        section: &Section,
        wanted: &impl Fn(&str) -> bool,
        found: &mut Vec<Symbol>,
    ) -> Result<(), ElfError> {
        let (table, strings) = self.symbol_table(section)?;
        for symbol in symbols(&table) {
            if !is_defined_function(symbol) {
                continue;
            }
            if let Some(name) = string_at(&strings, u64::from(symbol.st_name.get(LE)))
                && wanted(name)
            {
                let (vaddr, size) = (symbol.st_value.get(LE), symbol.st_size.get(LE));
                if !found.iter().any(|s: &Symbol| s.name == name) {
                    found.push(Symbol {
                        name: name.to_owned(),
                        vaddr,
                        size,
                    });
                }
            }
        }
        Ok(())
    }

    /// Where the functions that the file exports start, in no order.
    pub fn function_addresses(&self) -> Result<Vec<u64>, ElfError> {
        let mut found = Vec::new();
        for section in self.sections.iter().filter(|s| s.kind == SHT_DYNSYM.0) {
            let table = self.read_table(section.offset, section.size)?;
            let defined = symbols(&table)
                .iter()
                .filter(|symbol| is_defined_function(symbol));
            found.extend(defined.map(|symbol| symbol.st_value.get(LE)));
        }
        Ok(found)
    }

    fn symbol_table(&self, section: &Section) -> Result<(Vec<u8>, Vec<u8>), ElfError> {
        let table = self.read_table(section.offset, section.size)?;
        let strings = match self.sections.get(section.link as usize) {
            Some(strings) => self.read_table(strings.offset, strings.size)?,
            None => Vec::new(),
        };
        Ok((table, strings))
    }

    /// The name it wants to be loaded by.
    pub fn soname(&self) -> Option<String> {
        self.dynamic_strings(DT_SONAME.0).into_iter().next()
    }

    /// The libraries it is linked with.
    pub fn needed(&self) -> Vec<String> {
        self.dynamic_strings(DT_NEEDED.0)
    }

    fn dynamic_strings(&self, tag: i64) -> Vec<String> {
        let Some(section) = self.sections.iter().find(|s| s.kind == SHT_DYNAMIC.0) else {
            return Vec::new();
        };
        let (Ok(table), Some(strings)) = (
            self.read_table(section.offset, section.size),
            self.sections.get(section.link as usize),
        ) else {
            return Vec::new();
        };
        let Ok(strings) = self.read_table(strings.offset, strings.size) else {
            return Vec::new();
        };
        table
            .chunks_exact(16)
            .map(|entry| (word(entry, 0) as i64, word(entry, 8)))
            .take_while(|(found, _)| *found != DT_NULL.0)
            .filter(|(found, _)| *found == tag)
            .filter_map(|(_, offset)| string_at(&strings, offset).map(str::to_owned))
            .collect()
    }

    /// Slots that the loader fills with a function's address, by the slot's own address: how calls through the
    /// procedure linkage table get their names.
    pub fn import_slots(&self, wanted: impl Fn(&str) -> bool) -> Result<HashMap<u64, String>, ElfError> {
        let mut slots = HashMap::new();
        let Some(symbols_section) = self.sections.iter().find(|s| s.kind == SHT_DYNSYM.0) else {
            return Ok(slots);
        };
        let (table, strings) = self.symbol_table(symbols_section)?;
        let names: HashMap<usize, &str> = symbols(&table)
            .iter()
            .enumerate()
            .filter_map(|(index, symbol)| {
                let name = string_at(&strings, u64::from(symbol.st_name.get(LE)))?;
                wanted(name).then_some((index, name))
            })
            .collect();
        self.for_each_relocation(|kind, slot, symbol, _| {
            if (kind == R_X86_64_JUMP_SLOT.0 || kind == R_X86_64_GLOB_DAT.0)
                && let Some(name) = names.get(&(symbol as usize))
            {
                slots.insert(slot, (*name).to_owned());
            }
        })?;
        Ok(slots)
    }

    /// Whether the loader writes the address `vaddr` into data: it may then be called without being named.
    pub fn is_address_in_data(&self, vaddr: u64) -> Result<bool, ElfError> {
        let mut found = false;
        self.for_each_relocation(|kind, _, _, addend| {
            found |= kind == R_X86_64_RELATIVE.0 && addend as u64 == vaddr;
        })?;
        Ok(found)
    }

    /// Words of data that `wanted` takes, given where one is and the address that it holds once it is loaded.
    pub fn pointers(&self, wanted: impl Fn(u64, u64) -> bool) -> Result<HashMap<u64, u64>, ElfError> {
        let mut found = HashMap::new();
        // What the loader leaves as it is, or adds its base to.
        for segment in self.segments.iter().filter(|s| !s.executable) {
            let skipped = segment.vaddr.wrapping_neg() % 8;
            let Some(bytes) = segment.file_bytes.checked_sub(skipped) else {
                continue;
            };
            self.stream(segment.offset.saturating_add(skipped), bytes, 0, |at, piece| {
                for (index, bytes) in piece.as_chunks::<8>().0.iter().enumerate() {
                    let slot = segment.vaddr.wrapping_add(skipped + at + 8 * index as u64);
                    let value = u64::from_le_bytes(*bytes);
                    if value != 0 && wanted(slot, value) {
                        found.insert(slot, value);
                    }
                }
            })?;
        }
        self.for_each_relocation(|kind, slot, _, addend| {
            if kind == R_X86_64_RELATIVE.0 {
                match wanted(slot, addend as u64) {
                    true => found.insert(slot, addend as u64),
                    false => found.remove(&slot),
                };
            }
        })?;
        Ok(found)
    }

    /// The number of 32 bits at `vaddr`, in data that the loader leaves as it is.
    pub fn number(&self, vaddr: u64) -> Option<u32> {
        let (segment, into) = self
            .segments
            .iter()
            .find_map(|s| Some((s, s.place(s.vaddr, vaddr)?)))?;
        let bytes = self.read_at(segment.offset.checked_add(into)?, 4).ok()?;
        Some(u32::from_le_bytes(*bytes.first_chunk()?))
    }

    fn for_each_relocation(&self, mut each: impl FnMut(u32, u64, u32, i64)) -> Result<(), ElfError> {
        for section in self.sections.iter().filter(|s| s.kind == SHT_RELA.0) {
            self.stream(section.offset, section.size, 0, |_, piece| {
                for entry in piece.chunks_exact(size_of::<Rela64<LE>>()) {
                    let info = word(entry, 8);
                    each(
                        info as u32,
                        word(entry, 0),
                        (info >> 32) as u32,
                        word(entry, 16) as i64,
                    );
                }
            })?;
        }
        Ok(())
    }

    /// Where the file has the byte that is loaded at `vaddr`: what a uprobe is attached by.
    pub fn file_offset(&self, vaddr: u64) -> Option<u64> {
        let mut executable = self.segments.iter().filter(|s| s.executable);
        let (segment, into) = executable.find_map(|s| Some((s, s.place(s.vaddr, vaddr)?)))?;
        segment.offset.checked_add(into)
    }

    /// At most `bytes_max` bytes of code from `vaddr` on.
    pub fn code(&self, vaddr: u64, bytes_max: usize) -> Result<Vec<u8>, ElfError> {
        let outside = ElfError::Damaged("an address is outside of the code");
        let mut executable = self.segments.iter().filter(|s| s.executable);
        let Some((segment, into)) = executable.find_map(|s| Some((s, s.place(s.vaddr, vaddr)?))) else {
            return Err(outside);
        };
        let len = (segment.file_bytes - into).min(bytes_max as u64);
        self.read_at(segment.offset.checked_add(into).ok_or(outside)?, len)
    }

    /// At most `bytes_max` bytes of code from a place in the file on.
    pub fn code_at(&self, file_offset: u64, bytes_max: usize) -> Result<Vec<u8>, ElfError> {
        let mut executable = self.segments.iter().filter(|s| s.executable);
        let (segment, into) = executable
            .find_map(|s| Some((s, s.place(s.offset, file_offset)?)))
            .ok_or(ElfError::Damaged("a place is outside of the code"))?;
        self.code(segment.vaddr.wrapping_add(into), bytes_max)
    }

    /// Every place in the code where a 4-byte distance from its own end leads to `target`: all direct calls, jumps
    /// and address computations that lead there, and next to nothing else.
    pub fn references(&self, target: u64) -> Result<Vec<u64>, ElfError> {
        let mut found = Vec::new();
        for segment in self.segments.iter().filter(|s| s.executable) {
            self.stream(segment.offset, segment.file_bytes, 3, |at, piece| {
                for (index, window) in piece.windows(4).enumerate() {
                    let distance = i32::from_le_bytes([window[0], window[1], window[2], window[3]]);
                    let from = segment.vaddr.wrapping_add(at + index as u64);
                    if from.wrapping_add(4).wrapping_add_signed(i64::from(distance)) == target {
                        found.push(from);
                    }
                }
            })?;
        }
        Ok(found)
    }

    /// Where functions start, in ascending order, by the table that unwinding uses: it has the functions without
    /// a symbol, too.
    pub fn function_starts(&self) -> Result<Vec<u64>, ElfError> {
        let Some(section) = self.sections.iter().find(|s| s.name == ".eh_frame_hdr") else {
            return Ok(Vec::new());
        };
        let bytes = self.read_table(section.offset, section.size)?;
        // Version 1, any pointer to .eh_frame in 4 bytes, count in 4 bytes, a table of pairs of 4 bytes relative
        // to the section: what all linkers write (Linux Standard Base, "Exception Frame Header").
        let [1, frame, 0x03, 0x3B, ..] = bytes[..] else {
            return Ok(Vec::new());
        };
        if frame & 0x0F != 0x0B && frame & 0x0F != 0x03 {
            return Ok(Vec::new());
        }
        let count = bytes
            .get(8..12)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| u32::from_le_bytes(*b));
        let table = bytes.get(12..).unwrap_or_default();
        let mut starts: Vec<u64> = table
            .chunks_exact(8)
            .take(count as usize)
            .map(|pair| {
                let distance = i32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
                section.vaddr.wrapping_add_signed(i64::from(distance))
            })
            .collect();
        starts.sort_unstable();
        starts.dedup();
        Ok(starts)
    }

    /// The address that the named section is loaded at.
    pub fn section_start(&self, name: &str) -> Option<u64> {
        self.sections
            .iter()
            .find(|section| section.name == name)
            .map(|section| section.vaddr)
    }

    /// The first place in the named section where `needle` is, with up to `bytes_max` bytes from there on, that
    /// `accept` takes.
    pub fn find_in_section<T>(
        &self,
        section: &str,
        needle: &[u8],
        bytes_max: usize,
        accept: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, ElfError> {
        let mut result = None;
        let finder = memchr::memmem::Finder::new(needle);
        for section in self
            .sections
            .iter()
            .filter(|s| s.name == section && s.kind != SHT_NOBITS.0)
        {
            self.stream(
                section.offset,
                section.size,
                needle.len() + bytes_max,
                |_, piece| {
                    for at in finder.find_iter(piece) {
                        if result.is_some() {
                            break;
                        }
                        result = accept(&piece[at..piece.len().min(at + bytes_max)]);
                    }
                },
            )?;
        }
        Ok(result)
    }

    /// Hands on the bytes in pieces, each with the first `overlap` bytes of the next.
    fn stream(
        &self,
        offset: u64,
        size: u64,
        overlap: usize,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<(), ElfError> {
        // A multiple of a relocation's 24 bytes, so that without overlap no entry is split.
        let step = (PIECE_BYTES / 24 * 24) as u64;
        let mut at = 0;
        while at < size {
            let len = (size - at).min(step + overlap as u64);
            each(
                at,
                &self.read_at(offset.checked_add(at).ok_or(ElfError::Damaged("an offset"))?, len)?,
            );
            at += step;
        }
        Ok(())
    }

    fn read_table(&self, offset: u64, size: u64) -> Result<Vec<u8>, ElfError> {
        if size > TABLE_BYTES_MAX {
            return Err(ElfError::Damaged("a table is larger than any real one"));
        }
        self.read_at(offset, size)
    }

    fn read_at(&self, offset: u64, size: u64) -> Result<Vec<u8>, ElfError> {
        const CUT: ElfError = ElfError::Damaged("it ends before its own tables do");
        match &self.source {
            Source::Bytes(bytes) => {
                let end = offset.checked_add(size).ok_or(CUT)?;
                bytes
                    .get(offset as usize..end as usize)
                    .map(<[u8]>::to_vec)
                    .ok_or(CUT)
            }
            Source::File(file) => {
                // No memory for what the file does not have.
                if offset
                    .checked_add(size)
                    .is_none_or(|end| file.metadata().map_or(true, |m| m.len() < end))
                {
                    return Err(CUT);
                }
                let mut bytes = vec![0; size as usize];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
        }
    }
}

fn symbols(table: &[u8]) -> &[Sym64<LE>] {
    let count = table.len() / size_of::<Sym64<LE>>();
    slice_from_bytes(table, count)
        .map(|(symbols, _)| symbols)
        .unwrap_or_default()
}

fn is_defined_function(symbol: &Sym64<LE>) -> bool {
    matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC)
        && symbol.st_shndx.get(LE) != SHN_UNDEF
        && symbol.st_value.get(LE) != 0
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u64::from_le_bytes(*b))
}

fn string_at(strings: &[u8], offset: u64) -> Option<&str> {
    let rest = strings.get(usize::try_from(offset).ok()?..)?;
    let end = memchr::memchr(0, &rest[..rest.len().min(NAME_BYTES_MAX)])?;
    std::str::from_utf8(&rest[..end]).ok()
}
