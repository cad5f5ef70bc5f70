"""A proxy in front of the API server that loses the answer to a request of your choice: done, and nobody knows."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.cluster.cluster import Cluster

_HOP = frozenset({"connection", "content-length", "transfer-encoding", "host"})


class Deaf(ThreadingHTTPServer):
    """Listens without TLS on a port of 127.0.0.1; used in a `with` block."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(("127.0.0.1", 0), _Line)
        self.target = urlsplit(cluster.server).netloc
        self.tls = ssl.create_default_context(cafile=str(cluster.ca))
        self.wanted: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._ours = json.loads(cluster.controller_kubeconfig().read_text())
        self._ours["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.server_port}"}
        self.kubeconfig: Path = cluster.folder / "deaf.kubeconfig"

    def lose(self, method: str, path: str) -> None:
        """Lose the answer to the next request of that method below that path."""
        self.wanted.append((method, path))

    def loses(self, method: str, path: str, status: int) -> bool:
        """Decide on one answer, once; a refusal is told."""
        hit = [one for one in self.wanted if method == one[0] and path.startswith(one[1]) and status < 300]
        for one in hit[:1]:
            self.wanted.remove(one)
        return bool(hit)

    def __enter__(self) -> Self:
        self.kubeconfig.write_text(json.dumps(self._ours))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Line(BaseHTTPRequestHandler):
    """One connection of the client's, with one of its own to the server."""

    protocol_version = "HTTP/1.1"
    server: Deaf

    def setup(self) -> None:
        super().setup()
        self._far = http.client.HTTPSConnection(self.server.target, context=self.server.tls)

    def finish(self) -> None:
        self._far.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing: the cluster's audit log knows all of it."""

    def _carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
        try:
            self._far.request(self.command, self.path, body or None, kept)
            answer = self._far.getresponse()
            self.close_connection = self.server.loses(self.command, self.path, answer.status)
            if self.close_connection:
                answer.read()
                return
            self._pass_on(answer)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # one side has gone: so does the other

    def _pass_on(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                self.send_header(key, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while some := answer.read1(65536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(some), some))
        self.wfile.write(b"0\r\n\r\n")
        answer.close()  # read1() does not notice the end of a counted body, and the next request would find it open

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _carry  # noqa: N815 - the library's names


__all__ = ["Deaf"]
