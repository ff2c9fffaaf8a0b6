"""What is said in several rooms, in the same words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covis.types import Matches

STATES = {"gone": "no longer there", "changed": "changed since it was added"}
"""Of a file that a store names."""


def counted(count: int, word: str, words: str | None = None) -> str:
    """A number and its noun: 1 picture, 2 pictures; `words` for plurals that take no s."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def turned(turn: int, mirrored: bool) -> list[str]:
    """How one picture stands to another, a phrase each; none for upright."""
    words = ["mirrored"] if mirrored else []
    return [*words, f"turned by {turn} degrees"] if turn else words


def attempted(found: Matches) -> list[str]:
    """How often a photo of the hits was looked at, in a phrase; none for one that was not."""
    return [f"after {counted(len(found.attempts), 'attempt')}"] if found.attempts else []


def looked_again(looked: int, left: int) -> list[str]:
    """How many hits were looked at once more, and for how many there was no time, in a line; none
    where neither."""
    if not looked and not left:
        return []
    more = f"; no time was left for {left} more" if left else ""
    return [f"Looked at {counted(looked, 'photo')} once more{more}."]


def extra(name: str) -> str:
    """How to install an extra."""
    return f"in covis' folder: python -m pip install '.[{name}]'"


def not_there(path: str | os.PathLike[str], what: str = "file") -> str:
    """The sentence for a path that does not exist."""
    return f"{os.fspath(path)}: no such {what}; check the path."


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_WITHIN_LINES = {code: text for code, text in _CONTROLS.items() if chr(code) not in "\n\t"}


def one_line(text: str) -> str:
    """Text with control characters spelt out: a file's name must not move the cursor."""
    return text.translate(_CONTROLS)


def without_controls(text: str) -> str:
    """The same, but lines and tabs stay."""
    return text.translate(_WITHIN_LINES)


_MODEL_NAMES = {
    "homography": "a homography",
    "fundamental": "a fundamental matrix",
    "essential": "an essential matrix",
}


def described_matches(found: Matches) -> list[str]:
    """What people want to know of matches, a line each."""
    count, agreeing = len(found), int(found.inliers.sum())
    lines = [counted(count, "match", "matches")]
    geometry = found.geometry
    if geometry is not None and geometry.matrix is not None:
        lines[0] += f", {agreeing} agree with {_MODEL_NAMES[geometry.kind]}"
    lines[0] += "."
    if geometry is not None and geometry.note:
        lines.append(geometry.note)
    if found.verdict is not None:
        probability = found.verdict.probability
        lines.append(f"Verdict: {found.verdict.label}; probability of the same {probability:.3f}.")
    if how := turned(found.turn, found.mirrored):
        lines.append(
            f"Image 1 was {' and '.join(how)}{' clockwise' if found.turn else ''} to be matched; "
            "its points are those of the picture as it is."
        )
    if found.attempts:
        tried = "; ".join(
            f"{each.method}, {each.view}: {each.inliers} of {each.matches} agree, "
            f"{each.probability:.3f}, {1000 * each.seconds:.0f} ms"
            for each in found.attempts
        )
        lines.append(f"Tried: {tried}. Stopped: {found.stopped}.")
    stages = ", ".join(f"{stage} {1000 * spent:.0f} ms" for stage, spent in found.seconds.items())
    lines.append(f"Time: {stages}.")
    lines.append(f"Model: {found.model}; licence: {found.licence}.")
    return lines
