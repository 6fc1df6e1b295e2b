"""Prints how many BPF programs are attached to a cgroup (bpf(2), BPF_PROG_QUERY)."""

import ctypes
import os
import struct
import sys

SYS_BPF = 321
BPF_PROG_QUERY = 16
# ingress, egress, sock_create, sock_ops … : every type that a cgroup of any supported kernel may have.
TYPES = range(0, 64)

libc = ctypes.CDLL(None, use_errno=True)
cgroup = os.open(sys.argv[1], os.O_RDONLY)
total = 0
asked = 0
for kind in TYPES:
    # target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt, padding, prog_attach_flags …
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIIIQII", cgroup, kind, 0, 0, 0, 0, 0), 64
    )
    if libc.syscall(SYS_BPF, BPF_PROG_QUERY, attributes, 64) == 0:
        asked += 1
        total += struct.unpack_from("=I", attributes, 24)[0]
if asked == 0:
    sys.exit("the kernel answers no query for programs")
print(total)
