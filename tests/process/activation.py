"""Does what systemd does to pass sockets, then becomes the daemon.

`python activation.py FD,FD,... NAME:NAME:... ARGUMENTS...`
"""

from __future__ import annotations

import fcntl
import os
import sys

FIRST_FD = 3
HIGH_FD = 200


def main() -> None:
    fds = [int(text) for text in sys.argv[1].split(",")]
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH_FD) for fd in fds]
    for number, fd in enumerate(moved):
        os.dup2(fd, FIRST_FD + number)
        os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(fds))
    os.environ["LISTEN_FDNAMES"] = sys.argv[2]
    os.execv(sys.executable, [sys.executable, "-m", "sollold", *sys.argv[3:]])


if __name__ == "__main__":
    main()
