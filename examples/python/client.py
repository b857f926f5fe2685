#!/usr/bin/env python3
"""A ringcall client in plain Python, written from docs/PROTOCOL.md.

    python3 client.py tcp://127.0.0.1:7411
    python3 client.py unix:/run/kv.sock

It makes one call at a time. `METHODS` at the end names what it calls, `main` calls it. Python 3.9
or later, and nothing else, is needed.
"""
import socket
import struct
import sys
import time

HELLO, WELCOME, RESOLVE, RESOLVED, REQUEST, RESPONSE, ERROR, CANCEL, PING, PONG, GOAWAY = range(1, 12)
CODES = """OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS
PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL
UNAVAILABLE DATA_LOSS UNAUTHENTICATED""".split()
HANDSHAKE, RKYV_FORMAT = "<8sHHIQIIHHI", 0x00082003
RESPONSE_BYTES_MAX, CONTROL_BYTES_MAX, DETAILS_BYTES_MAX = 16 << 20, 64 << 10, 32 << 10
MESSAGE_BYTES_MAX, TIMEOUT_US_MAX, LEVELS_MAX = 4096, 2**32 - 1, 62


# Types. Each has a fingerprint, a size and an alignment. `write` appends what lies outside of a
# value and returns the function that makes the value's own bytes for a position; `read` takes
# those bytes apart again. `levels` says how deep a value nests, and `outside` how many bytes can lie
# outside of one, None if there is no bound.

def fingerprint(tag, *parts):
    """FNV-1a over a tag and its parts: a name and a zero byte, or a number in eight bytes."""
    data = tag.encode()
    for part in parts:
        data += part.encode() + b"\0" if isinstance(part, str) else struct.pack("<Q", part)
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def append(out, align, bodies):
    """Appends values' own bytes at their alignment; says where they begin."""
    out += bytes(-len(out) % align)
    start = len(out)
    for body in bodies:
        out += body(len(out))
    return start


class Number:
    outside = 0

    def __init__(self, tag, code):
        self.format, self.fingerprint = "<" + code, fingerprint(tag)
        self.size = self.align = struct.calcsize(self.format)

    def write(self, value, out):
        return lambda at: struct.pack(self.format, value)

    def levels(self, value):
        return 0

    def read(self, archive, at):
        return struct.unpack_from(self.format, archive.bytes, at)[0]


class String:
    size, align, fingerprint, outside = 8, 4, fingerprint("string"), None

    def write(self, value, out):
        text = value.encode()
        if len(text) <= 8:
            return lambda at: text.ljust(8, b"\xff")
        start = append(out, 1, [lambda at: text])
        word = len(text) & 63 | 0x80 | len(text) >> 6 << 8
        return lambda at: struct.pack("<Ii", word, start - at)

    def levels(self, value):
        return int(len(value.encode()) > 8)

    def read(self, archive, at):
        word, offset = struct.unpack_from("<Ii", archive.bytes, at)
        if word & 0xC0 != 0x80:
            return archive.bytes[at:at + 8].split(b"\xff")[0].decode()
        length = word & 63 | word >> 8 << 6
        if length <= 8:
            raise ValueError("a short string that is not inline")
        text = lambda at: archive.bytes[at:at + length].decode()
        return archive.claim(at + offset, length, 1, text)


class Vec:
    size, align, outside = 8, 4, None

    def __init__(self, item):
        self.item, self.fingerprint = item, fingerprint("vec", item.fingerprint)

    def write(self, value, out):
        start = append(out, self.item.align, [self.item.write(item, out) for item in value])
        return lambda at: struct.pack("<iI", start - at, len(value))

    def levels(self, value):
        return 1 + max((self.item.levels(item) for item in value), default=0)

    def read(self, archive, at):
        offset, length = struct.unpack_from("<iI", archive.bytes, at)
        end = length * self.item.size
        items = lambda at: [self.item.read(archive, place) for place in range(at, at + end, self.item.size)]
        return archive.claim(at + offset, end, self.item.align, items)


class Option:
    def __init__(self, item):
        self.item, self.align, self.size = item, item.align, item.align + item.size
        self.outside = item.outside
        self.fingerprint = fingerprint("option", item.fingerprint)

    def write(self, value, out):
        if value is None:
            return lambda at: bytes(self.size)
        body = self.item.write(value, out)
        return lambda at: b"\1".ljust(self.align, b"\0") + body(at + self.align)

    def levels(self, value):
        return 0 if value is None else self.item.levels(value)

    def read(self, archive, at):
        if archive.bytes[at] > 1:
            raise ValueError("neither None nor Some")
        return self.item.read(archive, at + self.align) if archive.bytes[at] else None


class Struct:
    """Fields in the order of their definition; its values are dicts."""

    def __init__(self, **fields):
        self.fields, end = {}, 0
        self.align = max((kind.align for kind in fields.values()), default=1)
        for name, kind in fields.items():
            self.fields[name] = (end + -end % kind.align, kind)
            end = self.fields[name][0] + kind.size
        self.size = end + -end % self.align
        outside = [kind.outside for kind in fields.values()]
        self.outside = None if None in outside else sum(outside)
        parts = [part for name, kind in fields.items() for part in (name, kind.fingerprint)]
        self.fingerprint = fingerprint("struct", *parts)

    def write(self, value, out):
        bodies = [(offset, kind.write(value[name], out)) for name, (offset, kind) in self.fields.items()]

        def own(at):
            made = b""
            for offset, body in bodies:
                made = made.ljust(offset, b"\0") + body(at + offset)
            return made.ljust(self.size, b"\0")
        return own

    def levels(self, value):
        return max((kind.levels(value[name]) for name, (_, kind) in self.fields.items()), default=0)

    def read(self, archive, at):
        return {name: kind.read(archive, at + offset) for name, (offset, kind) in self.fields.items()}


class Archive:
    """A received payload, in which no byte is claimed twice and all lies in order."""

    def __init__(self, payload):
        self.bytes, self.low, self.high, self.claims = payload, 0, len(payload), 0

    def claim(self, at, size, align, read):
        if at < self.low or at + size > self.high or at % align:
            raise ValueError("a pointer leads astray")
        if self.claims > LEVELS_MAX:
            raise ValueError(f"it nests deeper than {LEVELS_MAX} levels")
        high, self.high = self.high, at
        self.claims += 1
        value = read(at)
        self.claims -= 1
        self.low, self.high = at + size, high
        return value


def encode(kind, value):
    if kind.levels(value) > LEVELS_MAX:
        raise CallError(3, f"the request nests deeper than {LEVELS_MAX} levels")
    out = bytearray()
    append(out, kind.align, [kind.write(value, out)])
    return bytes(out)


def longest(kind):
    """The longest payload of a type, None if it has no bound."""
    if kind.outside is None:
        return None
    size = kind.outside + kind.size + (kind.align - 1 if kind.outside else 0)
    return size + -size % 16


def decode(kind, payload):
    if longest(kind) is not None and len(payload) > longest(kind):
        raise ValueError(f"{len(payload)} bytes, of a type that needs at most {longest(kind)}")
    archive = Archive(payload)
    return archive.claim(len(payload) - kind.size, kind.size, kind.align, lambda at: kind.read(archive, at))


# The connection.

class CallError(Exception):
    """A call failed; the connection lives."""

    def __init__(self, code, message, details=b""):
        self.code, self.details = CODES[code] if 0 < code < len(CODES) else "UNKNOWN", details
        super().__init__(f"{self.code}: {message}")


class Client:
    def __init__(self, address, methods, patience=10.0):
        """Connects, shakes hands and resolves `methods`, each a name with its request and response."""
        if address.startswith("tcp://"):
            host, _, port = address[6:].rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), patience)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(patience)
            self.socket.connect(address.removeprefix("unix:").replace("@", "\0", 1))
        self.last_id, self.goodbye, self.patience = 0, None, patience
        self.send(HELLO, payload=struct.pack(
            HANDSHAKE, b"RINGCALL", 1, 1, RKYV_FORMAT, 0, RESPONSE_BYTES_MAX, 1, 0, 0, 0))
        welcome = struct.unpack(HANDSHAKE, self.receive(0, WELCOME)[2])
        if welcome[:5] != (b"RINGCALL", 1, 1, RKYV_FORMAT, 0):
            raise ConnectionError(f"this side can't speak what the server chose: {welcome}")
        self.request_bytes_max, self.shards, self.shard = welcome[5], welcome[7], welcome[8]
        self.resolve(methods)

    def resolve(self, methods):
        ask = struct.pack("<H", len(methods))
        for name, (request, response) in methods.items():
            types = fingerprint("method", request.fingerprint, response.fingerprint)
            ask += struct.pack("<QH", types, len(name.encode())) + name.encode()
        self.send(RESOLVE, 1, payload=ask)
        entries = struct.iter_unpack("<QHH", self.receive(1, RESOLVED)[2][2:])
        self.methods = {name: (types, entry) for (name, types), entry in zip(methods.items(), entries)}

    def call(self, name, value, timeout=0.0):
        """Calls a method and waits for its result. `timeout` is in seconds; with 0 the call may take
        any time. A connection from which nothing comes for `patience` seconds in the middle of something
        else has failed."""
        (request, response), (_, code, index) = self.methods[name]
        if self.goodbye:
            raise ConnectionError(self.goodbye)
        if code:
            raise CallError(code, f"the server has no {name}, or one with other types")
        payload = encode(request, value)
        if len(payload) > self.request_bytes_max:
            raise CallError(8, f"the request of {name} is longer than the server accepts")
        self.last_id += 1
        # What the field can't hold is kept here alone: the server must not end the call before.
        timeout_us = max(int(timeout * 1e6), 1) if timeout else 0
        self.send(REQUEST, self.last_id, index, timeout_us if timeout_us <= TIMEOUT_US_MAX else 0, payload)
        until = time.monotonic() + timeout if timeout else float("inf")
        try:
            kind, code, payload = self.receive(self.last_id, RESPONSE, ERROR, until=until)
        except socket.timeout:
            self.send(CANCEL, self.last_id)
            raise CallError(4, f"no answer to {name} within {timeout} s") from None
        if kind == RESPONSE:
            return decode(response, payload)
        length, = struct.unpack_from("<I", payload)
        message, details = payload[4:4 + length], payload[4 + length:]
        if length > MESSAGE_BYTES_MAX or len(message) < length or len(details) > DETAILS_BYTES_MAX:
            raise ConnectionError("an error has a longer text or longer details than permitted")
        raise CallError(code, message.decode(), details)

    def send(self, kind, call_id=0, selector=0, timeout_us=0, payload=b""):
        header = struct.pack("<IBxHQI12x", len(payload), kind, selector, call_id, timeout_us)
        self.socket.sendall(header + payload + bytes(-len(payload) % 16))

    def receive(self, call_id, *kinds, until=None):
        """Kind, selector and payload of the frame that is waited for; answers pings meanwhile. Only
        when no frame has begun by `until`, `socket.timeout` is raised."""
        while True:
            header = struct.unpack("<IBBHQIIII", self.exactly(32, until))
            length, kind, flags, selector, owner = header[:5]
            if length > (RESPONSE_BYTES_MAX if kind == RESPONSE else CONTROL_BYTES_MAX):
                raise ConnectionError(f"a frame of {length} bytes is longer than accepted here")
            payload = self.exactly(length + -length % 16)
            if flags or any(header[5:]) or any(payload[length:]):
                raise ConnectionError("reserved bytes are set")
            payload = payload[:length]
            if kind in kinds and owner == call_id:
                return kind, selector, payload
            if kind == PING:
                self.send(PONG, owner)
            elif kind == GOAWAY:
                reason, last_id = struct.unpack_from("<H6xQ", payload)
                self.goodbye = f"the server says goodbye ({reason}): {payload[16:].decode()}"
                if reason or not 0 < call_id <= last_id:
                    raise ConnectionError(self.goodbye)
            elif kind in (RESPONSE, ERROR) and 0 < owner < call_id:
                pass  # Of a call that was cancelled.
            elif kind != PONG:
                raise ConnectionError(f"a frame of kind {kind} came unasked")

    def exactly(self, size, until=None):
        data = bytearray()
        while len(data) < size:
            may_wait = until is not None and not data
            left = until - time.monotonic() if may_wait else self.patience
            # The socket takes no more than a few years, and 0 would mean something else.
            self.socket.settimeout(min(max(left, 0.001), 1e6))
            try:
                more = self.socket.recv(size - len(data))
            except socket.timeout:
                if may_wait and time.monotonic() >= until:
                    raise
                if may_wait:
                    continue
                raise ConnectionError(f"nothing came from the server for {self.patience} s") from None
            if not more:
                raise ConnectionError("the server closed the connection")
            data += more
        self.socket.settimeout(self.patience)
        return bytes(data)


STRING, U8, I64, F64 = String(), Number("u8", "B"), Number("i64", "q"), Number("f64", "d")
OPERANDS = Struct(a=I64, b=I64)
METHODS = {
    "greeter.v1/hello": (STRING, STRING),
    "arithmetic.v1/add": (OPERANDS, I64),
    "sum.v1/sum": (Vec(F64), F64),
    "kv.v1/get": (STRING, Option(Vec(U8))),
}


def main(address):
    client = Client(address, METHODS)
    for name, value in [
        ("greeter.v1/hello", "Ada"),
        ("greeter.v1/hello", "Grace Hopper"),
        ("arithmetic.v1/add", {"a": 40, "b": 2}),
        ("arithmetic.v1/add", {"a": 2**63 - 1, "b": 1}),
        ("sum.v1/sum", [0.5, 1.25, -3.0]),
        ("sum.v1/sum", []),
        ("kv.v1/get", "user:1"),
        ("kv.v1/get", "nobody"),
    ]:
        try:
            print(f"{name}({value!r}) = {client.call(name, value, timeout=5.0)!r}")
        except CallError as error:
            print(f"{name}({value!r}) failed: {error}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__))
