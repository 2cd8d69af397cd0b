"""One Elasticsearch node from its Maven jars, started by node.py: the server itself, minus the x-pack modules.

It lacks `GET /`, the `_data_stream` and `_ilm` APIs, scripts, `_update_by_query`, ES|QL and security.
"""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.servers import jars
from tests.servers.base import ProcessServer, free_port

NODE = Path(__file__).parent / "node.py"
VERSION = "9.2.0"
PLUGIN = f"""\
name=transport-netty4
description=HTTP
version={VERSION}
elasticsearch.version={VERSION}
java.version=21
classname=org.elasticsearch.transport.netty4.Netty4Plugin
modulename=
extended.plugins=
has.native.controller=false
"""
LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
"""


class JarElasticsearch(ProcessServer):
    """A node on free ports with its data in a temporary folder."""

    def __init__(self) -> None:
        libraries = jars.fetch("elasticsearch")
        super().__init__("Elasticsearch")
        port, transport = free_port(), free_port()
        self.address = f"http://127.0.0.1:{port}"
        (self.home / "jars.json").write_text(json.dumps(self._lay_out(libraries)))
        settings = {
            "path.home": str(self.home),
            "path.data": str(self.home / "data"),
            "node.name": "node-1",
            "cluster.name": "querywatch-tests",
            "http.port": str(port),
            "transport.port": str(transport),
            "network.host": "127.0.0.1",
            "discovery.type": "single-node",
            "cluster.routing.allocation.disk.threshold_enabled": "false",  # a full laptop is not what is tested
        }
        (self.home / "settings.json").write_text(json.dumps(settings))
        command = [sys.executable, str(NODE), str(self.home)]
        self._runs(command)

    def _lay_out(self, libraries: list[Path]) -> list[str]:
        """Make the home folder; return the class path: the HTTP module's jars are loaded from its own folder."""
        module = self.home / "modules" / "transport-netty4"
        for folder in (module, self.home / "config", self.home / "plugins", self.home / "logs"):
            folder.mkdir(parents=True)
        (module / "plugin-descriptor.properties").write_text(PLUGIN)
        (self.home / "config" / "elasticsearch.yml").touch()
        (self.home / "config" / "log4j2.properties").write_text(LOGGING)
        class_path = []
        for jar in libraries:
            if jar.name.startswith(("netty-", "transport-netty4")):
                (module / jar.name).symlink_to(jar)
            else:
                class_path.append(str(jar))
        return class_path

    def _answers(self) -> bool:
        connection = HTTPConnection(self.address.removeprefix("http://"), timeout=2)
        try:
            connection.request("GET", "/_cluster/health")
            return bool(json.load(connection.getresponse())["status"] in {"green", "yellow"})
        except (OSError, HTTPException, ValueError, KeyError):
            return False
        finally:
            connection.close()
