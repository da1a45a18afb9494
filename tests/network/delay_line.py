"""Network namespaces with a delay line between them: one of a client, and one or more of servers.

    delay_line.py MILLISECONDS SERVERS [NAME=VALUE…]    each way, in the weather of weather.py
    delay_line.py --check                               whether this machine lets us; says why if not

Needs root, ip and /dev/net/tun. Each namespace has one end, a TUN device; this process carries
every packet to the end that it is for, as late as asked for; in order, and drops none, but for what
the weather does. (The kernel's own delay line, netem, is a module that many machines lack.) Once all
ends are up it prints one line: the namespace and the address of the client's end, then those of each
server's. When stdin ends, however that comes about, it removes the namespaces and ends.
"""

import fcntl
import heapq
import itertools
import os
import select
import socket
import struct
import subprocess
import sys
import time

from weather import Weather

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65536
# Packets in a line that nobody empties: a bound, and more than any window of TCP.
QUEUE = 100_000


def ip(*words):
    done = subprocess.run(["ip", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stdout.strip()}")


class End:
    """A namespace and its device."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.fd = None
        ip("netns", "add", name)

    def up(self):
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        # Made here and moved there: the descriptor stays with the device.
        request = struct.pack("16sH22x", self.name.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(self.fd, TUNSETIFF, request)
        ip("link", "set", self.name, "netns", self.name)
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", self.name),
            ("link", "set", self.name, "txqueuelen", "10000", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", self.name, *words)

    def remove(self):
        if self.fd is not None:
            os.close(self.fd)
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


def packets(fd):
    """What waits in a device, a bounded batch of it."""
    for _ in range(256):
        try:
            yield os.read(fd, PACKET)
        except BlockingIOError:
            return


def carry(ends, delay, weather, stdin):
    """Carries packets until stdin ends."""
    at = {socket.inet_aton(end.address): end.fd for end in ends}
    fds = list(at.values())
    # By when they are due; of two that are due at once the one that came first.
    line, nth = [], itertools.count()
    while True:
        wait = max(0.0, line[0][0] - time.monotonic()) if line else None
        readable, _, _ = select.select([stdin, *fds], [], [], wait)
        now = time.monotonic()
        if stdin in readable and not os.read(stdin, 4096):
            return
        for fd in readable:
            if fd == stdin:
                continue
            for packet in packets(fd):
                # The address that it is for, of IPv4; what a device sends of itself is for nobody.
                to = at.get(packet[16:20])
                due = weather.due(now, delay, (fd, to)) if to not in (None, fd) else None
                if due is not None:
                    heapq.heappush(line, (due, next(nth), to, packet))
        if len(line) > QUEUE:
            raise OSError(f"{len(line)} packets in the line: this machine is too slow for the load")
        while line and line[0][0] <= now:
            _, _, fd, packet = heapq.heappop(line)
            os.write(fd, packet)


def main():
    check = sys.argv[1] == "--check"
    servers = 1 if check else int(sys.argv[2])
    ends = []
    try:
        for number in range(1 + servers):
            # A device's name has at most 15 bytes.
            ends.append(End(f"hd{os.getpid()}n{number}", f"10.77.0.{1 + number}"))
            ends[-1].up()
        if not check:
            print(" ".join(f"{end.name} {end.address}" for end in ends), flush=True)
            carry(ends, float(sys.argv[1]) / 1000, Weather(sys.argv[3:]), sys.stdin.fileno())
    except OSError as error:
        sys.exit(f"needs network namespaces and TUN devices: {error}")
    finally:
        for end in ends:
            end.remove()


if __name__ == "__main__":
    main()
