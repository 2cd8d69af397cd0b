"""python -m detector: the same as `querywatch`."""

from detector.cli import main

main()
