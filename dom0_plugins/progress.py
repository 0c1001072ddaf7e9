# SPDX-License-Identifier: Apache-2.0
"""A progress bar for each stage, on stderr, if that is a terminal."""

import contextlib
import sys

import rich.console
import rich.progress


class Progress(object):

    def __init__(self):
        self._console = rich.console.Console(stderr=True)
        self._is_shown = sys.stderr.isatty()

    @contextlib.contextmanager
    def stage(self, title, total):
        """Gives a function to be called for each of `total` things that is done."""
        bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False), rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.completed}/{task.total}"), rich.progress.TimeElapsedColumn(),
            console=self._console, transient=True, disable=not self._is_shown)
        with bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)
