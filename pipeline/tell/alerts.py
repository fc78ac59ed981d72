"""A message to people by Apprise, to the addresses in ALERT_URLS. A process of its own: reads the message as JSON.

Prints no address: they hold passwords and tokens, which Apprise does not mask all.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pipeline.core.env import setting
from pipeline.tell import child


def addresses(text: str) -> list[str]:
    """Addresses, apart from each other by blanks, line ends or a comma before the next one."""
    return [one for one in re.split(r"[\s]+|,(?=\w+://)", text) if one]


def send(address: str, message: Mapping[str, Any]) -> str | None:
    """What went wrong, if anything did."""
    import apprise

    service = apprise.Apprise()
    # Without more time than a night has for it.
    bounded = address if "cto=" in address else f"{address}{'&' if '?' in address else '?'}cto=2&rto=3"
    if not service.add(bounded):
        return "is none that Apprise knows"
    attach = message["attach"] if message["attach"] and Path(message["attach"]).exists() else None
    text = apprise.NotifyFormat.TEXT
    sent = service.notify(title=message["title"], body=message["body"], body_format=text, attach=attach)
    return None if sent else "took no message"


def main() -> None:
    message = child.message()
    import apprise  # noqa: F401  # half of its time, before the clock starts

    logging.disable(logging.CRITICAL)
    child.ready()
    all_ = addresses(setting("ALERT_URLS") or "")
    pool = ThreadPoolExecutor(len(all_) or 1)
    sending = [pool.submit(send, address, message) for address in all_]
    done, _ = wait(sending, timeout=child.LIMIT - 0.5)  # one that drips shall not keep the others
    failed = []
    for number, (address, future) in enumerate(zip(all_, sending, strict=True), 1):
        if wrong := future.result() if future in done else "did not end in time":
            failed.append(f"address {number} ({address.partition('://')[0]}) {wrong}")
    print("; ".join(failed), flush=True)
    os._exit(1 if failed else 0)  # whatever still waits


if __name__ == "__main__":
    main()
