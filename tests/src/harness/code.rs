//! What a probe leaves behind: breakpoints in the code of processes that go on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{Result, World};

/// Holds the TLS libraries that processes of this world have mapped against their files. An error names a place that was
/// changed; else, how many mappings were looked at. What ends meanwhile is not looked at.
pub fn check_whole(world: &World) -> Result<usize> {
    let processes = std::fs::read_to_string(world.inside.path.join("cgroup.procs"))?;
    let mut whole = 0;
    for pid in processes.lines() {
        let process = Path::new("/proc").join(pid);
        for code in mapped(&process) {
            let Some((memory, file)) = code.read(&process) else {
                continue;
            };
            let changed = memory.iter().zip(&file).position(|(has, had)| has != had);
            ensure!(
                changed.is_none(),
                "process {pid} has another byte than its file at {:#x} of {}",
                changed.unwrap_or(0) as u64 + code.offset,
                code.name
            );
            whole += 1;
        }
    }
    Ok(whole)
}

/// Code of a TLS library, as a process has it.
struct Code {
    start: u64,
    end: u64,
    offset: u64,
    name: String,
}

impl Code {
    /// What is in memory, and what the file has. None once the process is gone.
    fn read(&self, process: &Path) -> Option<(Vec<u8>, Vec<u8>)> {
        let range = format!("{:x}-{:x}", self.start, self.end);
        let file = File::open(process.join("map_files").join(range)).ok()?;
        let size = file.metadata().ok()?.len().saturating_sub(self.offset);
        let mut original = vec![0; size.min(self.end - self.start) as usize];
        let mut memory = original.clone();
        file.read_exact_at(&mut original, self.offset).ok()?;
        let mem = File::open(process.join("mem")).ok()?;
        mem.read_exact_at(&mut memory, self.start).ok()?;
        Some((memory, original))
    }
}

/// By proc_pid_maps(5).
fn mapped(process: &Path) -> Vec<Code> {
    let maps = std::fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines().filter_map(|line| code(line).ok()).collect()
}

fn code(line: &str) -> Result<Code> {
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next().context("a word");
    let (range, rights, offset) = (word()?, word()?, word()?);
    let path = PathBuf::from(words.nth(2).context("a path")?);
    let name = path.file_name().context("a name")?.to_string_lossy();
    ensure!(rights.contains('x') && name.starts_with("libssl"));
    let (start, end) = range.split_once('-').context("a range")?;
    let number = |text| u64::from_str_radix(text, 16);
    Ok(Code {
        start: number(start)?,
        end: number(end)?,
        offset: number(offset)?,
        name: name.into_owned(),
    })
}
