"""python -m tests.servers: starts Kafka and Elasticsearch, prints their addresses, stops them at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import time

from tests.servers import ServerError, start_elasticsearch, start_kafka


def main() -> int:
    with contextlib.ExitStack() as stack:
        try:
            begun = time.monotonic()
            kafka = start_kafka()
            stack.callback(kafka.close)
            print(f"Kafka          {kafka.address}   ({time.monotonic() - begun:.1f} s)", flush=True)
            begun = time.monotonic()
            elasticsearch = start_elasticsearch()
            stack.callback(elasticsearch.close)
            print(f"Elasticsearch  {elasticsearch.address}   ({time.monotonic() - begun:.1f} s)", flush=True)
            print("\nFor another terminal:")
            print(f"export QUERYWATCH_KAFKA__BOOTSTRAP={kafka.address}")
            print(f"export QUERYWATCH_ELASTICSEARCH__URL={elasticsearch.address}")
            print("export QUERYWATCH_STORE=elasticsearch")
            print("\nCtrl-C stops both and removes their data.", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
        except ServerError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
