"""A harvest of some sends by dlt, as its own documentation would have it; to be started by ``bench_peers``.

    python -m benchmarks.peer_dlt URL CLIENT_ID CLIENT_MD5 FOLDER ID...

The rows go to Parquet files below FOLDER. Nothing is proven, resumed or typed beyond what dlt does by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 25_000
KEY = "ID_send_message"


def main() -> None:
    url, client_id, client_md5, folder, *ids = sys.argv[1:]
    home = Path(folder)
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": str(home / "data"),
        "DLT_PROJECT_DIR": str(home),
    }
    import dlt  # noqa: PLC0415  it reads these when it is loaded
    from dlt.sources.helpers import requests  # noqa: PLC0415

    def page(id_send: str, start: int | None) -> list[dict[str, Any]]:
        parameters = {"ID_send": id_send, "limit": str(LIMIT)}
        if start is not None:
            parameters[KEY] = str(start)
        call: dict[str, Any] = {
            "function": "mailkit.report.raw.messages",
            "id": client_id,
            "md5": client_md5,
            "parameters": parameters,
        }
        records = requests.post(f"{url}/json.fcgi", json=call).json()
        return records if isinstance(records, list) else []

    def messages() -> Iterator[list[dict[str, Any]]]:
        for id_send in ids:
            start: int | None = None
            while True:
                records = page(id_send, start)
                if records:
                    yield records
                if len(records) < LIMIT:
                    break
                start = int(records[-1][KEY]) + 1

    pipeline = dlt.pipeline(
        pipeline_name="peer",
        pipelines_dir=str(home / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=str(home / "lake")),
        dataset_name="mailkit",
    )
    resource = dlt.resource(messages, name="messages", write_disposition="append")
    pipeline.run(resource(), loader_file_format="parquet").raise_on_failed_jobs()


if __name__ == "__main__":
    main()
