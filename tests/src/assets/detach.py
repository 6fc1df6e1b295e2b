"""Takes every link off a cgroup, as root can behind the agent's back, and prints how many (bpf(2))."""

import ctypes
import os
import struct
import sys

SYS_BPF = 321
OBJ_GET_INFO_BY_FD, LINK_GET_FD_BY_ID, LINK_GET_NEXT_ID, LINK_DETACH = 15, 30, 31, 34
LINK_TYPE_CGROUP = 3

libc = ctypes.CDLL(None, use_errno=True)
cgroup = os.stat(sys.argv[1]).st_ino
count = number = 0
while True:
    attributes = ctypes.create_string_buffer(struct.pack("=III", number, 0, 0), 12)
    if libc.syscall(SYS_BPF, LINK_GET_NEXT_ID, attributes, 12) != 0:
        break
    number = struct.unpack_from("=I", attributes, 4)[0]
    link = libc.syscall(SYS_BPF, LINK_GET_FD_BY_ID, struct.pack("=III", number, 0, 0), 12)
    if link < 0:
        continue
    info = ctypes.create_string_buffer(64)
    question = struct.pack("=IIQ", link, 64, ctypes.addressof(info))
    if libc.syscall(SYS_BPF, OBJ_GET_INFO_BY_FD, question, 16) == 0:
        kind, of = struct.unpack_from("=I", info, 0)[0], struct.unpack_from("=Q", info, 16)[0]
        if kind == LINK_TYPE_CGROUP and of == cgroup:
            count += libc.syscall(SYS_BPF, LINK_DETACH, struct.pack("=I", link), 4) == 0
    os.close(link)
print(count)
