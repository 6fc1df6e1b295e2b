//! The kernel programs: entry points only. What they do stands in the modules; what they write into the ring is
//! in `apiward_common::record`.
#![no_std]
#![no_main]
// `core` offers no `fetch_add` for this target, although the instruction exists.
#![allow(internal_features)]
#![feature(core_intrinsics)]

mod carrier;
mod emit;
mod gate;
mod io;
mod kin;
mod maps;
mod middle;
mod operation;
mod owner;
mod packet;
mod process;
mod scope;
mod sock;
mod stack;
mod tls;
mod twice;
mod undisturbed;
mod who;
mod withhold;

use aya_ebpf::macros::{btf_tracepoint, cgroup_skb, lsm, uprobe, uretprobe};
use aya_ebpf::programs::{BtfTracePointContext, LsmContext, ProbeContext, RetProbeContext, SkBuffContext};

use crate::twice::{Hook, Turn};

/// End of every system call: bytes that moved on sockets, libraries that were mapped. The arguments are still in
/// the saved registers, so no entry program and no map between the two is needed.
#[btf_tracepoint(function = "sys_exit")]
pub fn apiward_sys_exit(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| io::system_call(&ctx))
}

/// Bytes were moved on a socket. Where the kernel has these two, `apiward_sys_exit` is not attached.
#[btf_tracepoint(function = "sock_send_length")]
pub fn apiward_sock_send(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::First, Hook::Send, || io::socket(&ctx, true)))
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn apiward_sock_recv(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::First, Hook::Receive, || io::socket(&ctx, false)))
}

/// Behind the two, where the kernel may skip a run of theirs.
#[btf_tracepoint(function = "sock_send_length")]
pub fn apiward_sock_send_second(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::Second, Hook::Send, || io::socket(&ctx, true)))
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn apiward_sock_recv_second(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::Second, Hook::Receive, || io::socket(&ctx, false)))
}

/// A TCP connection began or ended.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn apiward_set_state(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's own socket argument.
    undisturbed::run(|| unsafe {
        twice::run_for_state(Turn::First, ctx.arg(0), ctx.arg(2), || sock::state_changed(&ctx))
    })
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn apiward_set_state_second(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: as above.
    undisturbed::run(|| unsafe {
        twice::run_for_state(Turn::Second, ctx.arg(0), ctx.arg(2), || sock::state_changed(&ctx))
    })
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn apiward_exec(_ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::First, Hook::Exec, || process::executed()))
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn apiward_exec_second(_ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::Second, Hook::Exec, || process::executed()))
}

#[btf_tracepoint(function = "sched_process_fork")]
pub fn apiward_fork(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::First, Hook::Fork, || process::forked(&ctx)))
}

#[btf_tracepoint(function = "sched_process_fork")]
pub fn apiward_fork_second(ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::Second, Hook::Fork, || process::forked(&ctx)))
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn apiward_exit(_ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::First, Hook::Exit, || process::exited()))
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn apiward_exit_second(_ctx: BtfTracePointContext) -> i32 {
    undisturbed::run(|| twice::run(Turn::Second, Hook::Exit, || process::exited()))
}

/// A TLS library is about to do something. The attach cookie says where its arguments are.
#[uprobe]
pub fn apiward_tls_enter(ctx: ProbeContext) -> u32 {
    tls::enter::<false>(&ctx);
    0
}

/// The same, where a program may write registers: a call that is denied is not made.
#[uprobe]
pub fn apiward_tls_enter_refusing(ctx: ProbeContext) -> u32 {
    tls::enter::<true>(&ctx);
    0
}

/// A TLS library is about to hand plaintext over, in the middle of a read.
#[uprobe]
pub fn apiward_tls_deliver(ctx: ProbeContext) -> u32 {
    middle::deliver(&ctx);
    0
}

/// A TLS library is about to make a record of plaintext, in the middle of a write.
#[uprobe]
pub fn apiward_tls_take(ctx: ProbeContext) -> u32 {
    middle::take(&ctx);
    0
}

/// A TLS library has done it; at a site inside the function.
#[uprobe]
pub fn apiward_tls_exit(ctx: ProbeContext) -> u32 {
    tls::exit::<false>(&ctx);
    0
}

/// The same, where a program may write registers: the application is never told of what is denied.
#[uprobe]
pub fn apiward_tls_exit_refusing(ctx: ProbeContext) -> u32 {
    tls::exit::<true>(&ctx);
    0
}

/// A TLS library has done it; where no such site could be proven.
#[uretprobe]
pub fn apiward_tls_return(ctx: RetProbeContext) -> u32 {
    tls::exit::<false>(&ctx);
    0
}

/// The same, where a program may write registers.
#[uretprobe]
pub fn apiward_tls_return_refusing(ctx: RetProbeContext) -> u32 {
    tls::exit::<true>(&ctx);
    0
}

/// Payload that must not leave, does not.
#[cgroup_skb]
pub fn apiward_egress(ctx: SkBuffContext) -> i32 {
    withhold::egress(&ctx, withhold::PASS)
}

/// The same, behind the gate for requests that leave.
#[cgroup_skb]
pub fn apiward_gated_egress(ctx: SkBuffContext) -> i32 {
    let gate = gate::packets::egress(&ctx);
    // Both are asked: what the gate has just denied is withheld, and is to be counted so.
    withhold::egress(&ctx, gate)
}

/// The gate for requests that come.
#[cgroup_skb]
pub fn apiward_ingress(ctx: SkBuffContext) -> i32 {
    gate::packets::ingress(&ctx)
}

/// A process is about to send on a socket: what must not leave is an error at once.
#[lsm(hook = "socket_sendmsg")]
pub fn apiward_sendmsg(ctx: LsmContext) -> i32 {
    withhold::send(&ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers such as `bpf_get_attach_cookie` are for GPL-compatible programs; the project itself is Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
