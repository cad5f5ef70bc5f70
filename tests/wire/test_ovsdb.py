"""What wire/ovsdb.py and wire/framing.py touch of `ovs` is as they expect it: an upgrade that changes it fails here."""

import inspect

from ovs import jsonrpc, socket_util
from ovs.db import idl
from ovs.reconnect import Reconnect
from ovs.stream import SSLStream, Stream

from controller.wire import ovsdb
from controller.wire.tables import COLUMNS


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_rows_enter_and_leave_idl_where_we_take_them() -> None:
    assert parameters(idl.Idl._Idl__do_parse_update) == ["self", "table_updates", "version", "tables"]
    assert parameters(idl.Idl._Idl__clear) == ["self"]
    source = inspect.getsource(idl.Idl)
    assert source.count("self.__do_parse_update(") == 2
    assert source.count("self.__clear()") == 3
    assert "__process_update2" in inspect.getsource(idl.Idl._Idl__do_parse_update)
    assert source.count("self.__process_update2(") == 1, "no other way in"
    assert "self.__parse_update(msg.result[2], OVSDB_UPDATE3)" in source, "a dump comes as the third result"


def test_idl_starts_over_where_we_take_the_fence() -> None:
    assert parameters(idl.Idl.restart_fsm) == ["self"]
    source = inspect.getsource(idl.Idl.run)
    assert source.index("self._last_seqno = seqno") < source.index("self.restart_fsm()")


def test_idl_judges_a_server_where_we_do() -> None:
    assert parameters(idl.Idl._Idl__check_server_db) == ["self"]
    source = inspect.getsource(idl.Idl)
    assert source.count("self.__check_server_db()") == 2
    assert "if database.index[0] < self._min_index:" in source


def test_a_session_connects_in_one_place_and_says_how_each_try_ended() -> None:
    source = inspect.getsource(jsonrpc.Session)
    assert source.count("self.__connect()") == 1
    assert source.count("stream.Stream.open(") == 1
    assert parameters(jsonrpc.Session._Session__disconnect) == ["self"]
    assert parameters(Reconnect.disconnected) == ["self", "now", "error"]
    fresh = Reconnect(0)
    assert isinstance(fresh.min_backoff, int)
    assert isinstance(fresh.max_backoff, int)
    assert fresh.state == Reconnect.Void


def test_a_tls_stream_is_opened_and_read_as_ours_expects() -> None:
    assert parameters(SSLStream.__init__) == ["self", "socket", "name", "status", "is_server"]
    assert "self.socket.recv(n)" in inspect.getsource(Stream._recv)
    assert parameters(socket_util.inet_connect_active) == ["sock", "address", "family", "dscp"]


def test_idl_has_the_state_that_we_read() -> None:
    made = idl.Idl("unix:/nowhere", ovsdb._schema(COLUMNS))
    assert isinstance(made._session, jsonrpc.Session)
    assert made._last_seqno is None
    assert made.state != made.IDL_S_MONITORING
    assert made.last_id == "00000000-0000-0000-0000-000000000000"
    assert made._outstanding_txns == {}
    made.close()


def test_a_session_makes_its_connections_in_run_and_names_them_rpc() -> None:
    source = inspect.getsource(jsonrpc.Session.run)
    assert source.count("self.rpc = Connection(") == 2
    assert parameters(jsonrpc.Connection.__init__) == ["self", "stream"]
    for name, expected in {
        "run": ["self"],
        "send": ["self", "msg"],
        "recv": ["self"],
        "recv_wait": ["self", "poller"],
        "wait": ["self", "poller"],
        "error": ["self", "error"],
    }.items():
        assert parameters(getattr(jsonrpc.Connection, name)) == expected
    fresh = jsonrpc.Connection(Stream(None, "unix:x", 0))
    assert (fresh.status, fresh.received_bytes, len(fresh.output)) == (0, 0, 0)


def test_a_transaction_gives_its_reply_to_one_method_and_keeps_raw_operations() -> None:
    assert parameters(idl.Transaction._process_reply) == ["self", "msg"]
    assert parameters(idl.Transaction.add_op) == ["self", "op"]
    assert "txn._process_reply(msg)" in inspect.getsource(idl.Idl._Idl__txn_process_reply)


def test_a_session_has_a_reconnect_that_takes_our_times() -> None:
    session = jsonrpc.Session.open("unix:/nowhere")
    session.reconnect.set_backoff(1000, 1000)
    session.reconnect.set_probe_interval(5000)
    assert (session.reconnect.min_backoff, session.reconnect.max_backoff) == (1000, 1000)
    session.close()
