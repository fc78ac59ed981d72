"""A message to people by Apprise, to the addresses in ALERT_URLS. A process of its own: reads the message as JSON.

Prints no address: they hold passwords and tokens, which Apprise does not mask all.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pipeline.tell import child
from pipeline.tell.env import setting


def addresses(text: str) -> list[str]:
    """Addresses, apart from each other by blanks, line ends or a comma before the next one."""
    return [one for one in re.split(r"[\s]+|,(?=\w+://)", text) if one]


def main() -> None:
    message = child.message()
    import apprise

    logging.disable(logging.CRITICAL)
    child.ready()
    failed = []
    for number, address in enumerate(addresses(setting("ALERT_URLS") or ""), 1):
        kind = address.partition("://")[0]
        service = apprise.Apprise()
        # Without more time than a night has for it.
        bounded = address if "cto=" in address else f"{address}{'&' if '?' in address else '?'}cto=2&rto=3"
        if not service.add(bounded):
            failed.append(f"address {number} ({kind}) is none that Apprise knows")
            continue
        attach = message["attach"] if message["attach"] and Path(message["attach"]).exists() else None
        sent = service.notify(
            title=message["title"], body=message["body"], body_format=apprise.NotifyFormat.TEXT, attach=attach
        )
        if not sent:
            failed.append(f"address {number} ({kind}) took no message")
    if failed:
        print("; ".join(failed))
        raise SystemExit(1)


if __name__ == "__main__":
    main()
