//! Where the kernel's structures hold what the programs read. Rust has no CO-RE relocations, so the agent takes
//! the offsets from the running kernel's BTF and hands them over before loading.

macro_rules! offsets {
    ($($field:ident: $structure:literal $path:literal),* $(,)?) => {
        /// Byte offsets, by field of a kernel structure.
        #[repr(C)]
        #[derive(Clone, Copy, Default, Debug)]
        pub struct Offsets { $(pub $field: u32),* }

        /// Structure and member path of every field of [`Offsets`], in order.
        pub const PATHS: &[(&str, &str)] = &[$(($structure, $path)),*];

        impl Offsets {
            /// Before the agent has filled them in.
            pub const ZERO: Offsets = Offsets { $($field: 0),* };

            $(
                #[doc = concat!("Offset of `", $path, "` in `", $structure, "`. Volatile: the value is the loader's, not the compiler's.")]
                #[inline(always)]
                pub fn $field(&self) -> u32 {
                    // SAFETY: a reference is always readable.
                    unsafe { core::ptr::read_volatile(&self.$field) }
                }
            )*

            /// Asks for each offset in turn.
            pub fn resolve<E>(mut offset: impl FnMut(&str, &str) -> Result<u32, E>) -> Result<Self, E> {
                Ok(Offsets { $($field: offset($structure, $path)?),* })
            }
        }
    };
}

offsets! {
    task_files: "task_struct" "files",
    task_mm: "task_struct" "mm",
    task_tgid: "task_struct" "tgid",
    task_pid: "task_struct" "pid",
    task_comm: "task_struct" "comm",
    task_cred: "task_struct" "cred",
    task_cgroups: "task_struct" "cgroups",
    cred_uid: "cred" "uid",
    css_set_cgroup: "css_set" "dfl_cgrp",
    cgroup_kn: "cgroup" "kn",
    kn_id: "kernfs_node" "id",
    task_nsproxy: "task_struct" "nsproxy",
    nsproxy_net: "nsproxy" "net_ns",
    files_fdt: "files_struct" "fdt",
    fdt_fd: "fdtable" "fd",
    fdt_max_fds: "fdtable" "max_fds",
    file_private_data: "file" "private_data",
    file_inode: "file" "f_inode",
    file_path_dentry: "file" "f_path.dentry",
    file_path_mnt: "file" "f_path.mnt",
    inode_mode: "inode" "i_mode",
    inode_ino: "inode" "i_ino",
    inode_sb: "inode" "i_sb",
    sb_dev: "super_block" "s_dev",
    socket_sk: "socket" "sk",
    sk_family: "sock" "__sk_common.skc_family",
    sk_state: "sock" "__sk_common.skc_state",
    sk_protocol: "sock" "sk_protocol",
    sk_sport: "inet_sock" "inet_sport",
    sk_dport: "sock" "__sk_common.skc_dport",
    sk_rcv_saddr: "sock" "__sk_common.skc_rcv_saddr",
    sk_daddr: "sock" "__sk_common.skc_daddr",
    sk_v6_rcv_saddr: "sock" "__sk_common.skc_v6_rcv_saddr",
    sk_v6_daddr: "sock" "__sk_common.skc_v6_daddr",
    sk_cookie: "sock" "__sk_common.skc_cookie",
    sk_net: "sock" "__sk_common.skc_net",
    sk_flags: "sock" "__sk_common.skc_flags",
    sk_socket: "sock" "sk_socket",
    socket_file: "socket" "file",
    net_inum: "net" "ns.inum",
    tp_write_seq: "tcp_sock" "write_seq",
    tp_copied_seq: "tcp_sock" "copied_seq",
    tp_rcv_nxt: "tcp_sock" "rcv_nxt",
    tp_snd_una: "tcp_sock" "snd_una",
    tp_bytes_acked: "tcp_sock" "bytes_acked",
    tp_bytes_received: "tcp_sock" "bytes_received",
    request_rcv_isn: "tcp_request_sock" "rcv_isn",
    request_snt_isn: "tcp_request_sock" "snt_isn",
    tp_overflow_at: "tcp_sock" "rx_opt.ts_recent_stamp",
    sk_reuseport: "sock" "sk_reuseport_cb",
    reuseport_overflow_at: "sock_reuseport" "synq_overflow_ts",
    fast_open_max: "inet_connection_sock" "icsk_accept_queue.fastopenq.max_qlen",
    mm_exe_file: "mm_struct" "exe_file",
    dentry_name: "dentry" "d_name.name",
    dentry_parent: "dentry" "d_parent",
    mount_mnt: "mount" "mnt",
    mount_root: "mount" "mnt.mnt_root",
    mount_mountpoint: "mount" "mnt_mountpoint",
    mount_parent: "mount" "mnt_parent",
}

#[cfg(feature = "user")]
mod user {
    //! Plain integers without padding.
    unsafe impl aya::Pod for super::Offsets {}
}
