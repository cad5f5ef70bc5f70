"""The least client of an ovsdb-server: raw transactions on a unix socket, many ports in each."""

import asyncio
from itertools import count
from typing import Any

import orjson

DATABASE = "OVN_Northbound"
GROUP = 100
Op = dict[str, Any]


class Raw:
    """One connection; `insert` and `drop` of the same moment share a transaction."""

    def __init__(self, remote: str, switch: str) -> None:
        self._path, self._name = remote.removeprefix("unix:"), switch
        self._ids = count()
        self._answers: dict[int, asyncio.Future[list[Any]]] = {}
        self._jobs: asyncio.Queue[tuple[Op | None, str, asyncio.Future[str]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._switch = ""
        self.transactions = 0

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=2**24)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._commit())]
        found = await self.select("Logical_Switch", [["name", "==", self._name]], ["_uuid"])
        self._switch = found[0]["_uuid"][1] if found else ""

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._writer.close()

    async def select(self, table: str, where: list[Any], columns: list[str]) -> list[dict[str, Any]]:
        answer = await self.transact([{"op": "select", "table": table, "where": where, "columns": columns}])
        rows: list[dict[str, Any]] = answer[0]["rows"]
        return rows

    async def insert(self, row: dict[str, Any]) -> str:
        """Put a port into the switch; answers its uuid."""
        return await self._join({"op": "insert", "table": "Logical_Switch_Port", "row": row}, "")

    async def drop(self, uuid: str) -> None:
        """Take a port out of the switch."""
        await self._join(None, uuid)

    async def _join(self, op: Op | None, uuid: str) -> str:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait((op, uuid, done))
        return await done

    async def _commit(self) -> None:
        while True:
            jobs = [await self._jobs.get()]
            await asyncio.sleep(0)
            while not self._jobs.empty() and len(jobs) < GROUP:
                jobs.append(self._jobs.get_nowait())
            operations = [{**op, "uuid-name": f"p{n}"} for n, (op, _, _) in enumerate(jobs) if op]
            for verb, refs in (
                ("insert", [["named-uuid", f"p{n}"] for n, (op, _, _) in enumerate(jobs) if op]),
                ("delete", [["uuid", uuid] for op, uuid, _ in jobs if not op]),
            ):
                if refs:
                    where = [["_uuid", "==", ["uuid", self._switch]]]
                    mutation = [["ports", verb, ["set", refs]]]
                    operations.append(
                        {"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": mutation}
                    )
            answer = iter(await self.transact(operations))
            self.transactions += 1
            for op, uuid, done in jobs:
                done.set_result(next(answer)["uuid"][1] if op else uuid)

    async def transact(self, operations: list[Op]) -> list[Any]:
        tag = next(self._ids)
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._answers[tag] = answer
        self._writer.write(orjson.dumps({"method": "transact", "params": [DATABASE, *operations], "id": tag}))
        results = await answer
        wrong = [r for r in results if isinstance(r, dict) and r.get("error")]
        if wrong:
            raise RuntimeError(f"northbound refused: {wrong[0]}")
        return results

    async def _read(self) -> None:
        buffer = b""
        while chunk := await self._reader.read(2**20):
            buffer += chunk
            # Only ever a few short messages at once, each ended by a brace: try to read what is there.
            while buffer:
                end = _end(buffer)
                if not end:
                    break
                message, buffer = orjson.loads(buffer[:end]), buffer[end:]
                if message.get("method") == "echo":
                    self._writer.write(orjson.dumps({"id": "echo", "result": message["params"], "error": None}))
                elif message.get("id") in self._answers:
                    self._answers.pop(message["id"]).set_result(message["result"])


def _end(buffer: bytes) -> int:
    """Where the first JSON object ends, 0 if it is not whole yet. Our rows hold no braces in strings."""
    at = depth = 0
    while True:
        opens, closes = buffer.find(b"{", at), buffer.find(b"}", at)
        if closes < 0:
            return 0
        if 0 <= opens < closes:
            depth, at = depth + 1, opens + 1
        else:
            depth, at = depth - 1, closes + 1
            if not depth:
                return at
