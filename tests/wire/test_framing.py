import errno
import json
import socket
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from ovs import jsonrpc, poller
from ovs.stream import Stream

from controller.wire.framing import FastConnection, Framer

nasty = st.text(alphabet='{}[]"\\\n,:aü€\x00', max_size=12)
values = st.recursive(
    nasty | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(nasty, inner, max_size=4),
    max_leaves=12,
)
messages = st.lists(st.dictionaries(nasty, values, max_size=4), min_size=1, max_size=6)


@given(messages, st.data())
def test_objects_come_out_as_they_went_in_however_they_are_cut(objects: list[Any], data: st.DataObject) -> None:
    gap = data.draw(st.sampled_from(["", "\n", " \n"]))
    ascii_only = data.draw(st.booleans())
    text = gap.join(json.dumps(o, ensure_ascii=ascii_only) for o in objects).encode()
    framer, found, at = Framer(), [], 0
    while at < len(text):
        size = data.draw(st.integers(1, len(text)))
        framer.feed(text[at : at + size])
        at += size
        while (frame := framer.next()) is not None:
            found.append(json.loads(frame))
    assert found == objects
    assert framer.next() is None


def test_an_object_is_delivered_with_its_last_byte() -> None:
    framer = Framer()
    for byte in b'{"a":{"b":"}\\"{"}}':
        assert framer.next() is None
        framer.feed(bytes([byte]))
    assert bytes(framer.next() or b"") == b'{"a":{"b":"}\\"{"}}'


def pair() -> tuple[FastConnection, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return FastConnection(Stream(ours, "unix:test", 0)), theirs


def test_non_ascii_survives_a_socket_that_takes_little_at_a_time() -> None:
    connection, theirs = pair()
    sent = "ü€" * 200_000
    connection.send(jsonrpc.Message.create_notify("echo", [sent]))
    assert connection.get_backlog() > 0
    received = b""
    while connection.get_backlog():
        received += theirs.recv(10_000)
        connection.run()
    connection.close()
    while data := theirs.recv(1 << 20):
        received += data
    theirs.close()
    assert orjson.loads(received)["params"] == [sent]


def test_garbage_ends_the_connection() -> None:
    connection, theirs = pair()
    theirs.sendall(b'{"method": nonsense}')
    assert connection.recv() == (errno.EPROTO, None)
    assert connection.get_status() == errno.EPROTO
    theirs.close()


def test_the_end_of_the_stream_is_noticed() -> None:
    connection, theirs = pair()
    assert connection.recv() == (errno.EAGAIN, None)
    theirs.close()
    assert connection.recv() == (jsonrpc.EOF, None)


def test_more_than_a_piece_is_read_in_turns_without_waiting_for_the_selector() -> None:
    connection, theirs = pair()
    connection.stream = _Endless(3_000_000)
    turns = 0
    while connection.recv() == (errno.EAGAIN, None):
        turns += 1
        waits = poller.Poller()
        connection.recv_wait(waits)
        assert waits.timeout == 0, "there is more to read, and no selector to say so"
        assert turns < 10
    assert turns >= 2
    theirs.close()


class _Endless:
    """A stream with one long message, as TLS may hold it where no selector looks."""

    def __init__(self, size: int) -> None:
        self._data = b'{"id":1,"error":null,"result":["' + b"x" * size + b'"]}'

    def recv(self, size: int) -> tuple[int, bytes]:
        data, self._data = self._data[:size], self._data[size:]
        return 0, data

    def close(self) -> None:
        """Nothing to close."""
