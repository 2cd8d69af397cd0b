"""Runs a command and ends it when this process's standard input closes, that is, when whoever started it is gone.

python guard.py COMMAND …        prints the command's process id; the command's output goes to standard error

A test run that is killed can clean up nothing; without this, its servers would stay.
"""

import signal
import subprocess
import sys
import threading


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests: they stop their servers in order
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    print(process.pid, flush=True)

    def watch() -> None:
        sys.stdin.buffer.read()
        process.kill()

    threading.Thread(target=watch, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
