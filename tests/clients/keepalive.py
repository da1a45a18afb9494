"""Asks a server over persistent connections, and tells what was lost.

    keepalive.py http://127.0.0.1:PORT
    keepalive.py https://localhost:PORT authority.pem

Each of the clients below keeps connections as its library does, with all retries off. Pauses
between two requests are mostly short, and long, up to two seconds, for every other connection.
Each time that all connections have had their last answer from one process, and it is another one
than before, the line `all PID` is printed. When stdin ends, each finishes its request, and one line
of JSON says what came of it.
"""

import http.client
import json
import random
import ssl
import sys
import threading
import time
import urllib.parse

import httpx
import requests
import requests.adapters
import urllib3

CONNECTIONS = 4
SHORT = (0.0, 0.05)
LONG = (0.1, 2.0)
TIME_LIMIT = 15

# Who vouches for the server, over TLS.
AUTHORITY = sys.argv[2] if len(sys.argv) > 2 else None
TLS = ssl.create_default_context(cafile=AUTHORITY) if AUTHORITY else None


def with_http_client(base):
    """Python's own client: one connection, opened again only when it was told to close."""
    address = urllib.parse.urlsplit(base)
    where = {"host": address.hostname, "port": address.port, "timeout": TIME_LIMIT}
    if TLS:
        connection = http.client.HTTPSConnection(**where, context=TLS)
    else:
        connection = http.client.HTTPConnection(**where)

    def ask(path):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()

    return ask


def with_urllib3(base):
    pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=TIME_LIMIT, ssl_context=TLS)

    def ask(path):
        response = pool.request("GET", base + path)
        return response.status, response.headers, response.data

    return ask


def with_requests(base):
    session = requests.Session()
    session.trust_env = False
    session.verify = AUTHORITY or True
    scheme = urllib.parse.urlsplit(base).scheme
    session.mount(f"{scheme}://", requests.adapters.HTTPAdapter(pool_maxsize=1, max_retries=0))

    def ask(path):
        response = session.get(base + path, timeout=TIME_LIMIT)
        return response.status_code, response.headers, response.content

    return ask


def with_httpx(base):
    limits = httpx.Limits(max_keepalive_connections=1)
    transport = httpx.HTTPTransport(retries=0, limits=limits, verify=TLS or True)
    client = httpx.Client(transport=transport, timeout=TIME_LIMIT, trust_env=False)

    def ask(path):
        response = client.get(base + path)
        return response.status_code, response.headers, response.content

    return ask


CLIENTS = {
    "http.client": with_http_client,
    "urllib3": with_urllib3,
    "requests": with_requests,
    "httpx": with_httpx,
}


class Agreement:
    """Tells when all connections are answered by one process."""

    def __init__(self, connections):
        self.lock, self.latest, self.told = threading.Lock(), [None] * connections, None

    def answered(self, number, pid):
        with self.lock:
            self.latest[number] = pid
            if pid != self.told and all(latest == pid for latest in self.latest):
                self.told = pid
                print(f"all {pid}", flush=True)


class Connection(threading.Thread):
    def __init__(self, number, client, base, agreement, stop):
        super().__init__(daemon=True)
        self.number, self.client, self.ask = number, client, CLIENTS[client](base)
        self.pauses = LONG if number % 2 else SHORT
        self.agreement, self.stop = agreement, stop
        self.requests, self.told, self.failures = 0, 0, []

    def run(self):
        while not self.stop.is_set():
            self.requests += 1
            try:
                self.take(*self.ask("/slow?ms=20" if self.requests % 4 == 0 else "/"))
            except Exception as error:  # whatever it is, the request was lost
                self.failures.append(f"{self.client}: request {self.requests}: {error!r}")
                time.sleep(0.01)
            self.stop.wait(random.uniform(*self.pauses))

    def take(self, status, headers, body):
        headers = {name.lower(): value for name, value in headers.items()}
        if status != 200 or body != f"pid={headers.get('x-pid')}\nok\n".encode():
            raise ValueError(f"status {status}, {body!r}")
        self.told += headers.get("connection") == "close"
        self.agreement.answered(self.number, int(headers["x-pid"]))


def main():
    stop = threading.Event()
    clients = [client for client in CLIENTS for _ in range(CONNECTIONS)]
    agreement = Agreement(len(clients))
    connections = [
        Connection(number, client, sys.argv[1], agreement, stop)
        for number, client in enumerate(clients)
    ]
    for connection in connections:
        connection.start()
    sys.stdin.read()
    stop.set()
    for connection in connections:
        connection.join()
    result = {
        "requests": sum(connection.requests for connection in connections),
        "told": sum(connection.told for connection in connections),
        "failures": [text for connection in connections for text in connection.failures],
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
