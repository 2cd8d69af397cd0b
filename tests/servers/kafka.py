"""One Apache Kafka broker (KRaft, no ZooKeeper) from its Maven jars."""

from __future__ import annotations

import socket
import struct
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from tests.servers import jars, java
from tests.servers.base import ProcessServer, ServerError, free_port

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class JarKafka(ProcessServer):
    """A broker on free ports with its data in a temporary folder."""

    def __init__(self) -> None:
        class_path = ":".join(str(jar) for jar in jars.fetch("kafka"))
        super().__init__("Kafka")
        port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        properties = self.home / "server.properties"
        properties.write_text(PROPERTIES.format(port=port, controller=controller, data=self.home / "data"))
        self._java = [java.JAVA, "-XX:+UseSerialGC", "-cp", class_path]
        self._format(properties)
        self._runs([*self._java, "-Xmx512m", "kafka.Kafka", str(properties)])

    def _format(self, properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
        done = subprocess.run([*self._java, *tool], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0:
            self.close()
            raise ServerError(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-600:]}")

    def _answers(self) -> bool:
        """Ask for the cluster's metadata, by hand: client libraries leave sockets open when nobody answers."""
        host, port = self.address.split(":")
        request = struct.pack(">hhihi", 3, 1, 0, -1, 0)  # Metadata, version 1, no topics
        try:
            with socket.create_connection((host, int(port)), timeout=2) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                answer = connection.makefile("rb").read(12)
        except OSError:
            return False
        return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0  # size, correlation, number of brokers
