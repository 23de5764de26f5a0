"""What the tests have measured; printed at the end of the session."""

from pathlib import Path

LINES: list[str] = []


def open_sockets() -> int:
    """Count the sockets of this process."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            count += str(each.readlink()).startswith("socket:")
        except FileNotFoundError:  # the descriptor of the folder itself
            continue
    return count
