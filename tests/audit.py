"""Ask pip-audit whether what is installed has known vulnerabilities; `make lint` ends when it has.

Where the index answers no such data, as mirrors of PyPI do, or can't be reached, this says so and lets lint go on:
a gate that closes for want of a network would only be taken out. Arguments are passed on to pip-audit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence


def audit(arguments: Sequence[str]) -> int:
    """The exit code: 1 with vulnerabilities, each on a line of stderr, otherwise 0."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"audit: notice: nothing was audited: {last}", file=sys.stderr)
        return 0
    unknown = sum("skip_reason" in package for package in packages)
    found = [(package, vulnerability) for package in packages for vulnerability in package.get("vulns", [])]
    for package, vulnerability in found:
        mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        print(
            f"audit: {package['name']} {package['version']}: {vulnerability['id']}, mended in {mended}", file=sys.stderr
        )
    print(f"audit: {len(packages) - unknown} packages, {len(found)} known vulnerabilities", end="")
    print(f"; the index has no data on {unknown} more" if unknown else "")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(audit(sys.argv[1:]))
