"""A cable that loses, doubles and holds back what passes, by a seed. ARP and IPv6 neighbours pass as they are."""

import heapq
import random
import select
import socket
import struct
import sys
import time

one, other, seed, lost, doubled, held = sys.argv[1:]
dice = random.Random(int(seed))
lost, doubled, held = (int(share) / 1000 for share in (lost, doubled, held))
OUTGOING = 4  # PACKET_OUTGOING


def end(interface):
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind((interface, 0))
    # PACKET_MR_PROMISC: the other end's address is not this interface's.
    index = socket.if_nametoindex(interface)
    made.setsockopt(263, 1, struct.pack("iHH8s", index, 1, 0, b""))
    return made


ends = [end(one), end(other)]
across = {ends[0]: ends[1], ends[1]: ends[0]}
late, count = [], 0
while True:
    wait = max(0, late[0][0] - time.monotonic()) if late else None
    for ready in select.select(ends, [], [], wait)[0]:
        frame, address = ready.recvfrom(80000)
        if address[2] == OUTGOING:
            continue
        is_tcp = (frame[12:14] == b"\x08\x00" and frame[23] == 6) or (frame[12:14] == b"\x86\xdd" and frame[20] == 6)
        times = 1
        if is_tcp and dice.random() < lost:
            times = 0
        elif is_tcp and dice.random() < doubled:
            times = 2
        for _ in range(times):
            delay = dice.uniform(0.002, 0.03) if is_tcp and dice.random() < held else 0
            count += 1
            heapq.heappush(late, (time.monotonic() + delay, count, across[ready], frame))
    while late and late[0][0] <= time.monotonic():
        _, _, to, frame = heapq.heappop(late)
        try:
            to.send(frame)
        except OSError:
            pass  # The end is going away, or the frame is larger than the cable takes.
