"""Progress on a terminal; nothing elsewhere, so that pipes and logs stay clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from covis.messages import one_line

if TYPE_CHECKING:
    from rich.progress import TaskID


class StageBars:
    """One bar for each stage of some work, with how much of it is done a second.

    >>> with StageBars() as bars:
    ...     bars("features", 1, 2)
    ...     bars("features", 2, 2)
    """

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self.shown,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._bars.stop()

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show them on."""
        return self._console.is_terminal

    def tell(self, line: str) -> None:
        """Print a line above the bars, or where there is no terminal."""
        self._console.out(one_line(line), highlight=False)

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that so much of a stage is done. total: None where it is not known."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, rate="")
        task = self._tasks[stage]
        self._bars.update(task, completed=min(done, total or done), total=total)
        speed = next(each.speed for each in self._bars.tasks if each.id == task)
        self._bars.update(task, rate=f"{speed:.1f}/s" if speed else "")


@contextmanager
def progress(stage: str = "") -> Iterator[Callable[[int, int | None], None]]:
    """One bar; gives the function that takes how many are done and of how many."""
    with StageBars() as bars:
        yield lambda done, total: bars(stage, done, total)
