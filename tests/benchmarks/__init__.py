"""How fast querywatch is, measured on this machine: `make bench`, or `python -m tests.benchmarks --help`."""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"  # figures of one core; before numpy and numba are imported, here and in workers
