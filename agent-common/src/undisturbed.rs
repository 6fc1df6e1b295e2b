//! Programs that no other task interrupts: what kernel programs and their loader agree on.
//!
//! Since Linux 7.0 a program at a tracepoint may be preempted, and the kernel skips every run that would begin on that
//! processor before it has ended: what those would have told is lost. `bpf_preempt_disable` and its like keep others away.
//! They are functions of the kernel, not helpers: a program calls them by the number of their type, which each kernel gives
//! out anew, and not every kernel has them or lets them be used. So the object has calls of helpers here that no kernel
//! has, and the loader replaces them.

/// In the place of a helper's number, of which there are some 212: this and the function's place in [`FUNCTIONS`].
pub const MARKER: u32 = 0x4150_0000;

/// The kernel's names.
pub const FUNCTIONS: [&str; 4] = [
    "bpf_preempt_disable",
    "bpf_preempt_enable",
    "bpf_local_irq_save",
    "bpf_local_irq_restore",
];
