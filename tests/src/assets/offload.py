"""Switches what an interface does for the kernel: with `gro` segments are put together as they come; with `plain` no
segment is larger than it is on the wire, and each has its checksum."""

import ctypes
import fcntl
import socket
import struct
import sys

SIOCETHTOOL = 0x8946
TX_CHECKSUMS, SCATTER, TSO, GSO, GRO = 0x17, 0x19, 0x1F, 0x24, 0x2C
interface, wanted = sys.argv[1:]
changes = {"gro": [(GRO, 1)], "plain": [(TSO, 0), (GSO, 0), (SCATTER, 0), (TX_CHECKSUMS, 0), (GRO, 0)]}[wanted]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    for command, value in changes:
        data = ctypes.create_string_buffer(struct.pack("II", command, value))
        request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(data))
        fcntl.ioctl(control, SIOCETHTOOL, request)
