"""The process of one command: what ``ig-py`` and ``python -m ig_py`` execute.

Python answers a SIGINT with a traceback unless the program changes that, and importing a command
takes longer than to press a key. So the first thing that happens here, before any import that reads
a file, is to give SIGINT its default action: there is nothing to clean up yet.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command() -> None:
    """Run the command line of this process, and end it."""
    import sys

    from ig_py.cli import _signals, main

    code = main()
    if _signals.received():
        # The interpreter would wait for threads, and for a stopped reader of what is buffered.
        _signals.exit_now(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
