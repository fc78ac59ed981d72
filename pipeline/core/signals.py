"""What a signal does: it ends the process in order, says whether anything was published, and does not wait for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pipeline.core.progress import beside_bar

# Seconds after a signal until what blocks is broken off, and until the process ends whatever hangs. A call of a library
# that waits for the network lets no signal through.
BREAK_OFF, END = 2.0, 7.0

_when_stopped: list[Callable[[], None]] = []

# What a signal finds: whether files are being put in place, and which signal it was.
_publishing = False
_stopped: int | None = None
_instead = ""  # words of a command that is no stage

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handle() -> None:
    """From here on, SIGINT, SIGTERM and SIGHUP end the process by SystemExit, within END seconds."""
    for number in SIGNALS:
        if not (number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN):  # nohup
            signal.signal(number, _terminate)


def say_instead(words: str) -> None:
    """Say this when a signal comes, for a command that does more than a stage."""
    global _instead
    _instead = words


def ignore() -> None:
    """From here on signals do nothing: what is left takes seconds and has to be done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)


def end_if_stopped() -> None:
    if _stopped is not None:
        raise SystemExit(128 + _stopped)


def when_stopped(break_off: Callable[[], None]) -> None:
    """Have this called in another thread when a signal has come and the process does not end."""
    _when_stopped.append(break_off)


def publishing() -> None:
    """Say that from here on files are put in place, so that a signal does not say that nothing was published.

    Raises SystemExit where a signal has come already: libraries catch every exception in places, that of a signal too.
    """
    global _publishing
    end_if_stopped()
    _publishing = True


def _terminate(number: int, _: object) -> None:
    # As an exception, so that files and servers are put away on the way out, which a second signal must not disturb.
    global _stopped
    _stopped = number
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    say_stopped(number)
    raise SystemExit(128 + number)


def say_stopped(number: int) -> None:
    published = _instead or (
        "files were being put in place, dvc repro ends that" if _publishing else "nothing was published"
    )
    # Past Python's buffers: the signal may have come in the middle of a print, which can't be entered twice.
    with suppress(OSError):  # a terminal that is gone, as SIGHUP says
        os.write(2, f"{beside_bar(f'stopped by {signal.Signals(number).name}; {published}')}\n".encode())


def watch() -> None:
    """Start the thread that ends the process when a signal has come and it hangs."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # which the system writes to, whatever the main thread does
    threading.Thread(target=_see_to_the_end, args=(read,), name="signals", daemon=True).start()


def _see_to_the_end(signals: int) -> None:
    """End the process within END seconds after a signal."""
    number = 0
    while number not in SIGNALS:
        number = os.read(signals, 1)[0]
    for wait, actions in ((BREAK_OFF, list(_when_stopped)), (END - BREAK_OFF, [])):
        time.sleep(wait)  # for the process to end, of which nobody would tell this thread
        for action in actions:
            action()
    if _stopped is None:
        say_stopped(number)
    os._exit(128 + number)
