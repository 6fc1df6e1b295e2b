"""Prints how many keys a pinned BPF map has (bpf(2), BPF_OBJ_GET and BPF_MAP_GET_NEXT_KEY)."""

import ctypes
import struct
import sys

SYS_BPF = 321
MAP_GET_NEXT_KEY, OBJ_GET = 4, 7
KEY_BYTES_MAX = 64

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, form, *fields):
    attributes = ctypes.create_string_buffer(struct.pack(form, *fields), 64)
    return libc.syscall(SYS_BPF, command, attributes, 64)


path = ctypes.create_string_buffer(sys.argv[1].encode())
fd = bpf(OBJ_GET, "=QII", ctypes.addressof(path), 0, 0)
if fd < 0:
    sys.exit(f"{sys.argv[1]}: error {ctypes.get_errno()}")
key, after = ctypes.create_string_buffer(KEY_BYTES_MAX), ctypes.create_string_buffer(KEY_BYTES_MAX)
count, at = 0, 0
while bpf(MAP_GET_NEXT_KEY, "=IIQQ", fd, 0, at, ctypes.addressof(after)) == 0:
    count += 1
    ctypes.memmove(key, after, KEY_BYTES_MAX)
    at = ctypes.addressof(key)
print(count)
