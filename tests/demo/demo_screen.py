# SPDX-License-Identifier: Apache-2.0
"""The demo's output: a line for each step when it is done, and on a terminal a bar while the step runs."""

import contextlib
import time

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn

_REDRAWS_PER_S = 10
# The rate of less is that of a request, not of data.
_RATED_MIN_BYTES = 1000 * 1000


class Screen(object):

    def __init__(self):
        # No highlighting: colour has a meaning here or is not there.
        self._console = Console(highlight=False)
        self._started = time.monotonic()

    @property
    def seconds(self):
        """Since the demo began."""
        return time.monotonic() - self._started

    def say(self, text="", style=None):
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def title(self, text):
        self.say("\n%s" % text, style="bold")

    @contextlib.contextmanager
    def step(self, name, total_bytes=None):
        """A Step to report progress and the outcome to; its line is printed when the block ends without an error."""
        columns = (TextColumn("  {task.description:<8}"), BarColumn(36, complete_style="cyan", finished_style="cyan"),
                   TextColumn("{task.fields[status]}"))
        with Progress(*columns, console=self._console, transient=True, refresh_per_second=_REDRAWS_PER_S,
                      disable=not self._console.is_terminal) as progress:
            step = Step(progress, progress.add_task(name, total=total_bytes, status=""), total_bytes)
            started = time.monotonic()
            yield step
            seconds = time.monotonic() - started
        rate = format_size(step.size_bytes / seconds) + "/s" if (step.size_bytes or 0) >= _RATED_MIN_BYTES else ""
        self.say(("  %-8s %-48s%6.1f s%12s" % (name, step.outcome, seconds, rate)).rstrip())


class Step(object):
    """outcome: text of the line; size_bytes: for the rate, if not the total."""

    def __init__(self, progress, task_id, total_bytes):
        self.outcome = ""
        self.size_bytes = total_bytes
        self._progress = progress
        self._task_id = task_id
        self._total_bytes = total_bytes
        self._done_bytes = 0

    def advance(self, more_bytes):
        self.show(self._done_bytes + more_bytes)

    def show(self, done_bytes):
        self._done_bytes = done_bytes
        self._progress.update(self._task_id, completed=done_bytes, status="%s of %s" % (
            format_size(min(done_bytes, self._total_bytes)), format_size(self._total_bytes)))

    def show_fraction(self, fraction):
        self._progress.update(self._task_id, completed=fraction * self._total_bytes, status="%.0f %%" % (100 * fraction))

    def show_status(self, text):
        self._progress.update(self._task_id, status=text)


def format_size(size_bytes):
    return decimal(int(size_bytes))


