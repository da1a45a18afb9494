"""Calls a gRPC server over upgrades, and tells what was not OK.

    grpc_calls.py 127.0.0.1:PORT proto/echo.proto
    grpc_calls.py localhost:PORT proto/echo.proto authority.pem    over TLS

Some callers do unary calls, some hold streams open. Each client has a connection of its own, shared
by its callers, and no retry policy: what is repeated is what the library repeats by itself. Half of
the clients let the health service tell them whether the server serves. A stream that ends with
UNAVAILABLE, with trailers, is opened again. Each time that all callers have been answered by one
process, and it is another one than before, the line `all PID` is printed. When stdin ends, one line
of JSON says what came of it.
"""

import json
import os
import random
import sys
import threading
import time

import grpc

CLIENTS = 4
UNARY = 5  # of each client
STREAMS = 5
TIME_LIMIT = 15

ALONE = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 1)]
WATCHING = [
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "healthCheckConfig": {"serviceName": ""},
            }
        ),
    )
]


class Callers:
    """What became of all calls."""

    def __init__(self, number):
        self.lock, self.latest, self.told = threading.Lock(), [None] * number, None
        self.calls, self.streams, self.resumed, self.failures = 0, 0, 0, []

    def answered(self, number, pid):
        with self.lock:
            self.latest[number] = pid
            if pid != self.told and all(latest == pid for latest in self.latest):
                self.told = pid
                print(f"all {pid}", flush=True)

    def failed(self, what, error):
        with self.lock:
            self.failures.append(f"{what}: {error}")
        time.sleep(0.01)


def call(number, echo, messages, callers, stop):
    while not stop.is_set():
        with callers.lock:
            callers.calls += 1
        request = messages.UnaryRequest(message=f"{number}", delay_ms=random.choice((0, 0, 5, 20)))
        try:
            reply = echo.Unary(request, timeout=TIME_LIMIT)
            if reply.message != f"{number}":
                raise ValueError(f"answered {reply.message!r}")
            callers.answered(number, reply.pid)
        except Exception as error:  # whatever it is, the call was lost
            callers.failed("unary", explain(error))
        stop.wait(random.uniform(0, 0.05))


def follow(number, echo, messages, callers, stop):
    while not stop.is_set():
        with callers.lock:
            callers.streams += 1
        # Some have an end of their own, and come to it.
        count = random.choice((0, 0, 40))
        ticks = echo.Ticks(messages.TicksRequest(count=count, interval_ms=10))
        seen = 0
        try:
            for tick in ticks:
                if tick.index != seen:
                    raise ValueError(f"tick {tick.index} in place of {seen}")
                seen += 1
                callers.answered(number, tick.pid)
                if stop.is_set():
                    ticks.cancel()
                    return
            if seen != count:
                raise ValueError(f"ended with OK after {seen} of {count}")
        except grpc.RpcError as error:
            polite = error.details() == "server draining" and error.trailing_metadata() is not None
            if error.code() != grpc.StatusCode.UNAVAILABLE or not polite:
                callers.failed("stream", explain(error))
            with callers.lock:
                callers.resumed += 1
        except Exception as error:
            callers.failed("stream", explain(error))


def channel(address, options, authority=None):
    if authority is None:
        return grpc.insecure_channel(address, options=options)
    with open(authority, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(address, credentials, options=options)


def explain(error):
    if isinstance(error, grpc.RpcError):
        return f"{error.code()}: {error.details()}"
    return repr(error)


def main():
    address, proto, *authority = sys.argv[1:]
    directory, name = os.path.split(proto)
    sys.path.insert(0, directory)
    messages, services = grpc.protos_and_services(name)
    stop, callers, threads = threading.Event(), Callers(CLIENTS * (UNARY + STREAMS)), []
    for client in range(CLIENTS):
        options = ALONE + (WATCHING if client % 2 else [])
        echo = services.EchoStub(channel(address, options, *authority))
        for caller in range(UNARY + STREAMS):
            number = len(threads)
            run = call if caller < UNARY else follow
            arguments = (number, echo, messages, callers, stop)
            threads.append(threading.Thread(target=run, args=arguments, daemon=True))
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    outcome = {
        "calls": callers.calls,
        "streams": callers.streams,
        "resumed": callers.resumed,
        "failures": callers.failures,
    }
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
