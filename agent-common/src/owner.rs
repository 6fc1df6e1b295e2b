//! Whose a socket is, where no process can be asked: packets come in the context of whoever runs by chance.

use crate::limits::COMM_BYTES;
use crate::scope::FileKey;

/// What workloads are told apart by. The agent gives each a number, its class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    pub cgroup: u64,
    /// The executable's file, as in [`crate::scope::FileKey`].
    pub inode: u64,
    pub device: u32,
    pub uid: u32,
}

/// The process that connects with a socket, or listens for it. Also the body of [`crate::record::kind::OWNER`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub cgroup: u64,
    pub inode: u64,
    pub device: u32,
    pub uid: u32,
    pub pid: u32,
    pub reserved: u32,
    pub comm: [u8; COMM_BYTES],
}

impl Owner {
    /// Its executable.
    pub fn exe(&self) -> FileKey {
        FileKey {
            inode: self.inode,
            device: self.device,
            reserved: 0,
        }
    }

    /// What its workload is told by.
    #[inline(always)]
    pub fn identity(&self) -> Identity {
        Identity {
            cgroup: self.cgroup,
            inode: self.inode,
            device: self.device,
            uid: self.uid,
        }
    }
}

/// A local port of a network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub netns: u32,
    pub port: u32,
}

#[cfg(feature = "user")]
mod user {
    //! Plain integers without padding.
    unsafe impl aya::Pod for super::Identity {}
    unsafe impl aya::Pod for super::Owner {}
    unsafe impl aya::Pod for super::Port {}
}

const _: () = {
    assert!(core::mem::size_of::<Identity>() == 24);
    assert!(core::mem::size_of::<Owner>() == 48);
    assert!(core::mem::size_of::<Port>() == 8);
};
