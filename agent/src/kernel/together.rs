//! Probes of one kind at one library, by one link (Linux 6.6 and newer).
//!
//! A probe that is an event of its own is taken away by itself, and for each the kernel waits some 80 ms until no CPU is
//! at its place, one after the other on the whole host: an agent at the libraries of thirty containers would take half a
//! minute to end. Behind one link it waits once for all of them. What a probe costs when it is passed is the same.
//!
//! The kernel has to know at loading that a program is for such a link, which the loader's library cannot say: so the
//! programs are loaded here, with that library's maps and relocations.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::Object;

use super::links::{self, ProgLoad};
use super::load::{OBJECT, last_words};

/// What the verifier may say of a program that it refuses.
const LOG_BYTES: usize = 1 << 20;

/// The maps of `agent-ebpf/src/stack.rs`.
const NO_TAILS: [&str; 2] = ["NO_TAILS", "NO_TAILS_REFUSING"];

/// Whether the kernel has such links. Found by asking for one at a directory, which is the wrong kind of file, but only to
/// who knows the rest.
pub fn are_there() -> Result<(), String> {
    // r0 = 0; exit
    let nothing: [u64; 2] = [0xb7, 0x95];
    let mut attributes = ProgLoad {
        expected_attach_type: links::ATTACH_TYPE_UPROBE_MULTI,
        ..ProgLoad::of_probe("", &nothing)
    };
    let program =
        links::load(&mut attributes).map_err(|error| format!("no program for them loads: {error}"))?;
    match links::attach_places(program.as_fd(), c"/", &[(1, 0)], false) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(()),
        Err(error) => Err(format!("not in this kernel: {error}")),
        Ok(_) => Err("the kernel has attached a probe to a directory".to_owned()),
    }
}

/// The object's programs as the kernel takes them.
pub(super) struct Programs {
    object: Object,
    /// Maps of these programs' own, while they are loaded.
    _own: Vec<OwnedFd>,
}

impl Programs {
    /// With the maps that `ebpf` has made, before anybody takes one from it.
    pub(super) fn relocate(ebpf: &Ebpf) -> Result<Programs, String> {
        let mut object = Object::parse(OBJECT).map_err(|error| error.to_string())?;
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let mut descriptors: HashMap<&str, RawFd> = ebpf
            .maps()
            .filter_map(|(name, map)| Some((name, descriptor(map)?.as_raw_fd())))
            .collect();
        // Such a map is of one kind of programs: the library's own may have to be loaded after all.
        let mut own = Vec::new();
        for name in NO_TAILS {
            let map = links::no_tails().map_err(|error| format!("a map: {error}"))?;
            descriptors.insert(name, map.as_raw_fd());
            own.push(map);
        }
        let maps = std::mem::take(&mut object.maps);
        let known = maps
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), *descriptors.get(name.as_str())?, map)));
        object
            .relocate_maps(known, &sections)
            .and_then(|()| object.relocate_calls(&sections))
            .map_err(|error| error.to_string())?;
        Ok(Programs { object, _own: own })
    }

    /// Loads one, while the maps are open. `types`: what the loader's library has told the kernel of the object.
    pub(super) fn load(&self, name: &str, types: BorrowedFd<'_>) -> Result<OwnedFd, String> {
        let missing = || format!("{name} is missing from the object");
        let program = self.object.programs.get(name).ok_or_else(missing)?;
        let function = self
            .object
            .functions
            .get(&program.function_key())
            .ok_or_else(missing)?;
        let functions = function.func_info.func_info_bytes();
        let mut attributes = ProgLoad {
            license: program.license.as_ptr() as u64,
            types: types.as_raw_fd() as u32,
            function_bytes: function.func_info_rec_size as u32,
            functions: functions.as_ptr() as u64,
            functions_count: function.func_info.len() as u32,
            expected_attach_type: links::ATTACH_TYPE_UPROBE_MULTI,
            ..ProgLoad::of_probe(name, &function.instructions)
        };
        links::load(&mut attributes).map_err(|error| {
            let mut log = vec![0; LOG_BYTES];
            attributes.log_level = 1;
            (attributes.log_bytes, attributes.log) = (LOG_BYTES as u32, log.as_mut_ptr() as u64);
            // The same again, for the words alone.
            let _ = links::load(&mut attributes);
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
            format!(
                "{name}: {}",
                last_words(&error, &String::from_utf8_lossy(&log[..end]))
            )
        })
    }
}

/// What the loader's library has told the kernel of the object's types.
pub(super) fn types(ebpf: &Ebpf) -> Result<OwnedFd, String> {
    let told = ebpf
        .programs()
        .find_map(|(_, program)| program.info().ok()?.btf_id());
    let id = told.ok_or("no program that is loaded has types")?;
    links::types(id).map_err(|error| format!("the object's types: {error}"))
}

fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LpmTrie(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuHashMap(data)
    | Map::ProgramArray(data)
    | Map::RingBuf(data)
    | Map::SkStorage(data)
    | Map::Unsupported(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd())
}
