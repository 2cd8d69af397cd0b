"""Traffic of public tools against models that the simulator does not use: attacks that detection was not made for.

The modules in the order in which they matter:

    tables.py, images.py  data that is drawn or ships with scikit-learn; populations.py: split as the simulator's data
    served.py             fitted models behind an interface, and the log of what one caller asked
    attack.py             what an attack has; inversion.py (optimisers), toolbox.py (ART), theft.py (samplers, sweeps)
    benign.py             ordinary and hard clients, written without a look at the simulator's; explainers.py
    timing.py, plan.py    when, who asks which model; play.py: plays it into a capture with its truth
    report.py             what is found in captures, as tables

The tools are the dependency group `foreign`; docs/foreign.md says how to install and what to make of the results.
"""

from importlib.util import find_spec

TOOLS = ("art", "lime", "mlxtend", "nevergrad", "optuna", "pyswarms", "shap")


def missing() -> list[str]:
    """Return the tools that are not installed."""
    return [tool for tool in TOOLS if find_spec(tool) is None]
