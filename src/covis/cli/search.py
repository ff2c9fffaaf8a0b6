"""`covis search`: where else a store has what a picture shows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.errors import ArgumentError, ImageError
from covis.messages import STATES, attempted, counted, looked_again, turned
from covis.options import SEARCH_BUDGETS, SEARCH_CANDIDATES
from covis.options import Effort as EffortKind

if TYPE_CHECKING:
    from covis.search.retrieve import Hit, SearchResult


Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long an answer may take once the store is open: 500ms, 2s, or none. "
        "With --rotate auto, as long again for the turned picture.",
        show_default="500ms; 5s for --effort auto, none for thorough",
    ),
]
Effort = Annotated[
    EffortKind,
    typer.Option(
        help="auto: look at the photos of hits that stay unsure once more, as covis match does, "
        "for as long as the budget goes; thorough: by the best imported weights, too. A "
        "--matcher that is named is used alone."
    ),
]


def command(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="A picture, or a folder of them.")],
    stores: options.InSeveral,
    k: Annotated[
        int, typer.Option("-k", "--hits", min=1, metavar="N", help="Hits to show at most.")
    ] = 10,
    region: Annotated[
        str | None,
        typer.Option(metavar="X,Y,W,H", help="The part of the picture to look for, in pixels."),
    ] = None,
    budget: Budget = None,
    effort: Effort = "fast",
    rotate: Annotated[
        Literal["none", "auto"],
        typer.Option(help="auto: look for the picture turned, too, where upright finds nothing."),
    ] = "none",
    candidates: Annotated[
        int, options.number("Pictures to check closely at most.")
    ] = SEARCH_CANDIDATES,
    matcher: Annotated[
        str,
        options.name(
            "What checks them: nearest, LightGlue weights, or auto, which is nearest and, "
            "where the first place is in doubt, LightGlue if there are weights for the features."
        ),
    ] = "auto",
    output: Annotated[Path | None, options.drawing("the hits")] = None,
    as_json: options.AsJsonLines = False,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Find the photos that show what a picture shows, and say why.

    Exits with 1 where none is certain to show the same.
    """
    budget = budget or _time(SEARCH_BUDGETS[effort])
    box, seconds = _region(region), _seconds(budget)

    several = query.is_dir()
    queries = _queries(query, output)
    from covis.search import Index

    source = " and ".join(stores)
    index = Index(stores, matcher=matcher, threads=threads, device=device)
    index.load()
    nothing = False
    for each in queries:
        try:
            found = index.search(
                each,
                k,
                region=box,
                budget=seconds,
                rotate=rotate,
                candidates=candidates,
                effort=effort,
            )
        except ImageError as error:
            if not several:
                raise
            typer.echo(f"covis: {error}", err=True)
            nothing = True
            continue
        if output is not None:
            _draw(each, found, box, output)
        nothing = nothing or not found.certain
        if as_json:
            typer.echo(json.dumps({"query": str(each), **found.to_dict()}))
            continue
        if several:
            typer.echo(f"{each}:")
        _print(found, source, budget, len(stores) > 1)
    if output is not None and not as_json:
        typer.echo(f"Drawn in {output}.")
    if nothing:
        raise typer.Exit(NOT_SO)


def _queries(query: Path, output: Path | None) -> list[Path]:
    """The picture, or those in the folder; checked before any work."""
    from covis.images.opened import check_picture
    from covis.images.picture_files import pictures_below

    check_drawing(output, query)
    if not query.is_dir():
        check_picture(query)
        return [query]
    if output is not None:
        raise ArgumentError("-o draws the hits of one picture; name it in place of the folder.")
    queries = pictures_below(query)
    if not queries:
        raise ArgumentError(f"{query}: no pictures there.")
    return queries


def _draw(
    query: Path, found: SearchResult, box: tuple[float, float, float, float] | None, output: Path
) -> None:
    from covis.draw.canvas import save_picture
    from covis.draw.hits import draw_hits

    drawn = replace(found, hits=found.worth_showing or found.hits)
    save_picture(draw_hits(query, drawn, region=box), output)


def _print(found: SearchResult, source: str, budget: str, several: bool) -> None:
    """The certain hits; where there is none, what may be. several: say which store each is of."""
    if not found.images:
        typer.echo(f"{source} {'hold' if several else 'holds'} no pictures.")
    shown = found.worth_showing
    if found.images and not found.certain:
        what = "; perhaps these:" if shown else "."
        typer.echo(f"Nothing in {source} is sure to show the same{what}")
    for rank, hit in enumerate(shown, 1):
        typer.echo(f"{rank:3}  {hit.path}")
        typer.echo(f"     {_reason(hit)}{f', in {hit.store}' if several else ''}")
    total = 1000 * found.seconds["total"]
    typer.echo(
        f"{found.checked} of {counted(found.candidates, 'candidate')} checked, "
        f"{counted(found.images, 'picture')}, {total:.0f} ms."
    )
    if found.checked < found.candidates:
        # Rounded up to one figure.
        digit = 10 ** math.floor(math.log10(found.enough))
        enough = f"{math.ceil(found.enough / digit) * digit:g}s"
        typer.echo(
            f"The budget of {budget} was used up after {found.checked} of "
            f"{counted(found.candidates, 'candidate')}; --budget {enough} should check all."
        )
    for line in looked_again(found.looked_again, found.left):
        typer.echo(line)
    untried = []
    if found.untried_copies:
        copies = counted(found.untried_copies, "likely copy", "likely copies")
        untried.append(f"{copies}, mirrored or turned")
    if found.untried_turns:
        untried.append(f"the picture turned by {', '.join(map(str, found.untried_turns))} degrees")
    if found.not_compared:
        untried.append(f"laying {counted(found.not_compared, 'hit')} over the picture")
    if untried:
        typer.echo(f"Not tried for lack of time: {' and '.join(untried)}.")


def _reason(hit: Hit) -> str:
    words = [f"similarity {hit.similarity:.3f}"]
    if hit.matches is None:
        words.append("not checked")
    else:
        verdict = hit.verdict.label if hit.verdict is not None else "no verdict"
        words += [verdict, f"{counted(hit.inliers, 'inlier')} of {len(hit.matches):,}"]
        words += turned(hit.turn, hit.mirrored)
        words += attempted(hit.matches)
        if hit.regions is not None and verdict == "same":
            words.append("at x,y,w,h {:.0f},{:.0f},{:.0f},{:.0f}".format(*hit.regions[1]))
    if hit.state != "there":
        words.append(STATES[hit.state])
    if hit.copies:
        words.append(counted(len(hit.copies), "more file"))
    return ", ".join(words)


def _region(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        message = f"'{text}' is no region; give x,y,width,height."
        raise typer.BadParameter(message, param_hint="--region") from None
    return x, y, width, height


def _time(seconds: float | None) -> str:
    """As it is given: 500ms, 2s, none."""
    if seconds is None:
        return "none"
    return f"{1000 * seconds:g}ms" if seconds < 1 else f"{seconds:g}s"


def _seconds(text: str) -> float | None:
    if text == "none":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s)", text)
    if found is None or float(found[1]) == 0:
        message = f"'{text}' is no time; give for example 500ms, 2s or none."
        raise typer.BadParameter(message, param_hint="--budget")
    return float(found[1]) / (1000 if found[2] == "ms" else 1)
