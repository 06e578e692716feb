"""An Iceberg REST catalog for tests: a real server on loopback, which keeps its tables in SQLite."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import CommitTableRequest, Table

FAILURES = {NoSuchTableError: 404, NoSuchNamespaceError: 404, CommitFailedException: 409}


@contextmanager
def rest_catalog(file: Path) -> Iterator[str]:  # noqa: C901  a handler is a class
    """Serves a catalog that is kept in a file; its URL."""
    catalog = SqlCatalog("served", uri=f"sqlite:///{file}", warehouse=f"file://{file.parent}")

    def answer(method: str, parts: list[str], body: Any) -> dict[str, Any]:
        match method, parts:
            case "GET", ["config"]:
                return {"defaults": {}, "overrides": {}}
            case "POST", ["namespaces"]:
                catalog.create_namespace_if_not_exists(tuple(body["namespace"]))
                return {"namespace": body["namespace"], "properties": {}}
            case (("GET" | "HEAD"), ["namespaces", name]):
                return {"namespace": [name], "properties": dict(catalog.load_namespace_properties(name))}
            case "POST", ["namespaces", name, "tables"]:
                made = CreateTableRequest.model_validate(body)
                return told(
                    catalog.create_table(
                        (name, made.name),
                        made.table_schema,
                        made.location,
                        made.partition_spec or PartitionSpec(),
                        properties=dict(made.properties),
                    )
                )
            case (("GET" | "HEAD"), ["namespaces", name, "tables", table]):
                return told(catalog.load_table((name, table)))
            case "POST", ["namespaces", name, "tables", table]:
                change = CommitTableRequest.model_validate({"identifier": {"namespace": [name], "name": table}, **body})
                done = catalog.commit_table(catalog.load_table((name, table)), change.requirements, change.updates)
                return {
                    "metadata-location": done.metadata_location,
                    "metadata": json.loads(done.metadata.model_dump_json()),
                }
        raise NotImplementedError(method, parts)

    def told(table: Table) -> dict[str, Any]:
        metadata = json.loads(table.metadata.model_dump_json())
        return {"metadata-location": table.metadata_location, "metadata": metadata, "config": {}}

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = self.path.partition("?")[0].strip("/").split("/")[1:]
            try:
                status, said = 200, answer(self.command, parts, json.loads(text or b"null"))
            except tuple(FAILURES) as error:
                status = FAILURES[type(error)]
                said = {"error": {"message": str(error), "type": type(error).__name__, "code": status}}
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is the library's
            pass

        do_GET = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815  the names are the library's

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            catalog.close()
