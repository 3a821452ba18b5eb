"""Requests as bytes, and what came back: no client library to add or mend anything."""

import socket

PATIENCE_SECONDS = 20


def exchange(port, request):
    """Sends one request on a connection of its own: status and body."""
    status, _, body = whole(port, request)
    return status, body


def whole(port, request):
    """As `exchange`, with the head."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as connection:
        connection.sendall(request.encode())
        held = b""
        while b"\r\n\r\n" not in held:
            held += _more(connection)
        head, _, body = held.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = [line.partition(":")[::2] for line in lines[1:]]
        headers = {name.lower(): value.strip() for name, value in headers}
        status = int(lines[0].split()[1])
        if "content-length" in headers:
            while len(body) < int(headers["content-length"]):
                body += _more(connection)
        elif headers.get("transfer-encoding") == "chunked":
            while not body.endswith(b"0\r\n\r\n"):
                body += _more(connection)
            body = _unchunked(body)
        return status, headers, body


def _more(connection):
    part = connection.recv(65536)
    if not part:
        raise ConnectionError("closed in the middle of an answer")
    return part


def _unchunked(body):
    whole, rest = b"", body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            break
        whole += rest[:length]
        rest = rest[length + 2 :]
    return whole
