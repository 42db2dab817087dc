"""Counts of a pytest run, for the table that `tests/run` ends with.

`python -m tests.stack.junit FILE` prints one line; with `--no-skips` it ends with 1 and names
every skipped test when there is one.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter


def main() -> None:
    """Print the counts of one report."""
    cases = list(ET.parse(sys.argv[1]).iter("testcase"))
    counts = Counter(_outcome(case) for case in cases)
    words = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    words += [f"{counts[word]} {word}" for word in ("skipped", "xfailed") if counts[word]]
    print(", ".join(words))
    if "--no-skips" in sys.argv and counts["skipped"]:
        for case in cases:
            if _outcome(case) == "skipped":
                print(f"skipped: {_describe(case)}", file=sys.stderr)
        sys.exit(1)


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    skipped = case.find("skipped")
    if skipped is None:
        return "passed"
    return "xfailed" if skipped.get("type") == "pytest.xfail" else "skipped"


def _describe(case: ET.Element) -> str:
    skipped = case.find("skipped")
    reason = "" if skipped is None else skipped.get("message", "")
    return f"{case.get('classname')}::{case.get('name')}: {reason}"


if __name__ == "__main__":
    main()
