"""Clients that are slow on purpose: a third in sending a head, a third in sending a body, a third
in reading an answer. Prints "connected" when all are; when its input ends, how many of them the
server has left."""

from __future__ import annotations

import resource
import selectors
import socket
import sys

HOST = b"Host: localhost\r\nContent-Type: application/json\r\n"
HEAD = b"POST /v1/check HTTP/1.1\r\n" + HOST + b"X: "
BODY = b"POST /v1/check HTTP/1.1\r\n" + HOST + b"Content-Length: 60000\r\n\r\n{"
LIST = b"GET /v1/limits?details=true HTTP/1.1\r\n" + HOST + b"\r\n"
EVERY_S = 5.0


class SlowClients:
    """`count` connections: a third in the middle of a head, to which a byte comes every few
    seconds, a third so in a body, and a third that has asked for much and reads a little."""

    def __init__(self, port: int, count: int) -> None:
        self.connections = []
        for number in range(count):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60.0)
            connection.connect(("127.0.0.1", port))
            connection.sendall((HEAD, BODY, LIST * 8)[number % 3])
            connection.setblocking(False)
            self.connections.append(connection)

    def go_on(self) -> int:
        """Each sends or reads a little. How many have been left by the server."""
        left = 0
        for number, connection in enumerate(self.connections):
            try:
                if number % 3 == 2:
                    left += not connection.recv(16)
                else:
                    connection.send(b"x")
            except BlockingIOError:
                pass
            except OSError:
                left += 1
        return left

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


def main(port: int, count: int) -> None:
    """A process of slow clients, until its input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slow = SlowClients(port, count)
    print("connected", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    while not selector.select(EVERY_S):
        slow.go_on()
    print(slow.go_on(), flush=True)
    slow.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
