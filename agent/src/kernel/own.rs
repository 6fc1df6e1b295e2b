//! A user probe on a function of this very program, seen by this process alone and gone with its descriptor: for trying
//! what the kernel can do, and what that costs.
//!
//! It must not know what is probed elsewhere.

use std::os::fd::OwnedFd;
use std::{fs, io};

use super::user_probe::{self, Whose};

/// Attaches one at the entry of the function at `address`, or where it `returns`.
pub(super) fn own_uprobe(address: u64, returns: bool) -> io::Result<OwnedFd> {
    open(address, returns, Whose::ThisProcess)
}

/// As [`own_uprobe`], at the return, also of children that have not become another program.
pub(super) fn everybodys_return(address: u64) -> io::Result<OwnedFd> {
    open(address, true, Whose::Everybody)
}

fn open(address: u64, returns: bool, whose: Whose) -> io::Result<OwnedFd> {
    let missing = || io::Error::other("the place of a function in this program's file is not known");
    let offset = file_offset(address).ok_or_else(missing)?;
    user_probe::open(c"/proc/self/exe", offset, returns, whose)
}

/// Where in this program's file the code at `address` is.
fn file_offset(address: u64) -> Option<u64> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end, offset) = (hex(start)?, hex(end)?, hex(fields.nth(1)?)?);
        (start..end).contains(&address).then(|| address - start + offset)
    })
}
