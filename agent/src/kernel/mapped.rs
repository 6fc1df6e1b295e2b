//! Which files processes execute code of: how TLS libraries are found, whatever container they are in.
//!
//! A file is one inode, however many processes map it and under whatever names; a probe is bound to the inode.
//! Files are opened through the process's own view of the file system, and checked to be the mapped one.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Distinct files that one look at the host returns; more are counted only.
const FILES_MAX: usize = 16_384;
/// Processes that are remembered for each file.
const PROCESSES_MAX: usize = 1024;

/// An inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    pub device_major: u32,
    pub device_minor: u32,
    pub inode: u64,
}

/// A file that is mapped executable.
#[derive(Clone, Debug)]
pub struct MappedFile {
    pub key: FileKey,
    /// As one of the processes names it.
    pub path: PathBuf,
    /// By which it can be opened from here, as long as that process lives.
    pub open: PathBuf,
    /// The first ones found.
    pub processes: Vec<u32>,
}

/// What a look at the host gave.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    pub files: Vec<MappedFile>,
    pub processes: u32,
    /// Processes that may not be looked at.
    pub processes_unreadable: u32,
    /// Files beyond the limit.
    pub files_left_out: u64,
}

/// Looks at every process.
pub fn all() -> Mapped {
    let mut mapped = Mapped::default();
    let mut index = HashMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let directory = Path::new("/proc").join(pid.to_string());
        match fs::read(directory.join("maps")) {
            // Kernel threads have no memory of their own.
            Ok(maps) if maps.is_empty() => {}
            Ok(maps) => {
                mapped.processes += 1;
                add(&mut mapped, &mut index, pid, &directory, &maps);
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                mapped.processes_unreadable += 1
            }
            Err(_) => {}
        }
    }
    mapped.files.sort_by(|a, b| a.path.cmp(&b.path));
    mapped
}

/// What one process maps; empty if it is gone.
pub fn of(pid: u32) -> Vec<MappedFile> {
    let mut mapped = Mapped::default();
    let directory = Path::new("/proc").join(pid.to_string());
    if let Ok(maps) = fs::read(directory.join("maps")) {
        add(&mut mapped, &mut HashMap::new(), pid, &directory, &maps);
    }
    mapped.files
}

fn add(mapped: &mut Mapped, index: &mut HashMap<FileKey, usize>, pid: u32, directory: &Path, maps: &[u8]) {
    for line in maps.split(|byte| *byte == b'\n') {
        let Some((range, key, path)) = parse(line) else {
            continue;
        };
        if let Some(at) = index.get(&key) {
            let processes = &mut mapped.files[*at].processes;
            if processes.last() != Some(&pid) && processes.len() < PROCESSES_MAX {
                processes.push(pid);
            }
            continue;
        }
        if mapped.files.len() >= FILES_MAX {
            mapped.files_left_out += 1;
            continue;
        }
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        // By its name where that still is the same file; else (deleted, replaced) by the mapping itself.
        let by_name = directory
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(&path));
        let is_same = fs::metadata(&by_name).is_ok_and(|m| m.ino() == key.inode);
        let open = if is_same {
            by_name
        } else {
            directory.join("map_files").join(range)
        };
        index.insert(key, mapped.files.len());
        mapped.files.push(MappedFile {
            key,
            path,
            open,
            processes: vec![pid],
        });
    }
}

/// A line of proc_pid_maps(5) that is executable and has a file: address range, inode, path.
fn parse(line: &[u8]) -> Option<(&str, FileKey, &[u8])> {
    let mut rest = line;
    let mut field = || {
        let trimmed = rest.iter().position(|byte| *byte != b' ')?;
        let end = rest[trimmed..]
            .iter()
            .position(|byte| *byte == b' ')
            .map_or(rest.len(), |end| trimmed + end);
        let (field, after) = (&rest[trimmed..end], &rest[end..]);
        rest = after;
        std::str::from_utf8(field).ok()
    };
    let (range, permissions, _offset, device, inode) = (field()?, field()?, field()?, field()?, field()?);
    let (major, minor) = device.split_once(':')?;
    let inode: u64 = inode.parse().ok()?;
    if permissions.as_bytes().get(2) != Some(&b'x') || inode == 0 {
        return None;
    }
    let path = rest.trim_ascii_start();
    let key = FileKey {
        device_major: u32::from_str_radix(major, 16).ok()?,
        device_minor: u32::from_str_radix(minor, 16).ok()?,
        inode,
    };
    path.starts_with(b"/").then_some((range, key, path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_are_understood() {
        let key = FileKey {
            device_major: 0xFE,
            device_minor: 0x10,
            inode: 131,
        };
        for (line, expected) in [
            (
                "7f1-7f2 r-xp 00002000 fe:10 131    /usr/lib/a b.so",
                Some(("7f1-7f2", key, &b"/usr/lib/a b.so"[..])),
            ),
            (
                "7f1-7f2 r-xp 00002000 fe:10 131 /a (deleted)",
                Some(("7f1-7f2", key, &b"/a (deleted)"[..])),
            ),
            ("7f1-7f2 r--p 00002000 fe:10 131 /a", None),
            ("7f1-7f2 r-xp 00000000 00:00 0 [vdso]", None),
            ("7f1-7f2 r-xp 00000000 00:00 7 anon_inode:x", None),
            ("7f1-7f2 r-xp", None),
            ("", None),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn this_program_is_found_and_can_be_opened() {
        let exe = fs::metadata("/proc/self/exe").unwrap();
        let mapped = all();
        assert!(mapped.processes > 0);
        let own = mapped
            .files
            .iter()
            .find(|file| file.key.inode == exe.ino())
            .unwrap();
        assert!(own.processes.contains(&std::process::id()));
        assert_eq!(fs::metadata(&own.open).unwrap().ino(), exe.ino());
    }
}
