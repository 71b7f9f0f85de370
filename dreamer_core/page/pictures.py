"""Moving pictures of a run: what its world model predicts, and an episode that it plays.

A film is one sheet of all its images in rows, of which the page shows one after the other: so it
can be paused, and looked at image by image.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dreamer_core.page.charts import Curve, framed, line_chart
from dreamer_core.page.markup import Html, tag
from dreamer_core.report.analysis import WorldModelAnalysis
from dreamer_core.types import FloatArray, UInt8Array
from dreamer_core.words import plural

FILM_BYTES = 900_000
"""Of a sheet as a file; a larger one is written with losses, then with fewer images."""
_QUALITIES = (80, 50)
_DREAM_FPS = 6.0
_SHADES = 8


@dataclass(frozen=True, slots=True)
class Film:
    """One of the films that run beside each other."""

    caption: str
    frames: UInt8Array
    """[T, height, width, 1 or 3]."""


def player(films: Sequence[Film], *, name: str, fps: float, context: int | None = None) -> Html:
    """Returns films that run together, with a button to pause and a slider.

    Args:
        films: of the same number of frames; at least one.
        name: what they show, for those who cannot see it.
        fps: frames a second.
        context: frames that a model was shown; from there on the page says that it imagines.
    """
    count = len(films[0].frames)
    sheets = [_sheet(film.frames) for film in films]
    kept = min(sheet.every for sheet in sheets), max(sheet.every for sheet in sheets)
    if kept[0] != kept[1]:  # all of one step, or they would not run together
        sheets = [_sheet(film.frames[:: kept[1]]) for film in films]
    every = kept[1]
    shown = math.ceil(count / every)
    stages = [
        tag(
            "figure",
            tag(
                "div",
                class_="stage",
                role="img",
                aria_label=f"{name}: {film.caption}",
                style=sheet.style,
                data_columns=sheet.columns,
                data_rows=sheet.rows,
            ),
            tag("figcaption", film.caption),
        )
        for film, sheet in zip(films, sheets, strict=True)
    ]
    button = tag("button", "Play", type="button", class_="play")
    slider = tag(
        "input", type="range", min=0, max=shown - 1, value=0, aria_label=f"image of {name}"
    )
    controls = tag("div", button, slider, tag("output"), class_="controls")
    return tag(
        "div",
        tag("div", *stages, class_="stages"),
        controls,
        class_="player",
        data_frames=shown,
        data_every=every,
        data_fps=round(fps / every, 3),
        data_context=context,
    )


@dataclass(frozen=True, slots=True)
class _Sheet:
    style: str
    columns: int
    rows: int
    every: int
    """Of the frames, each how many-th is there."""


def _sheet(frames: UInt8Array, every: int = 1) -> _Sheet:
    kept = frames[::every]
    columns = math.ceil(math.sqrt(len(kept)))
    rows = math.ceil(len(kept) / columns)
    content = _encoded(kept, columns, rows)
    if content is None:
        return _sheet(frames, every * 2)
    url = f"data:image/webp;base64,{base64.b64encode(content).decode()}"
    height, width = frames.shape[1:3]
    style = (
        f"aspect-ratio:{width}/{height};background-size:{100 * columns}% {100 * rows}%;"
        f"background-image:url({url})"
    )
    return _Sheet(style, columns, rows, every)


def _encoded(frames: UInt8Array, columns: int, rows: int) -> bytes | None:
    """Returns the sheet as WebP; None where it is too large even with losses."""
    count, height, width, channels = frames.shape
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:count] = frames
    grid = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = grid.reshape(rows * height, columns * width, channels)
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(sheet, (*sheet.shape[:2], 3))))
    for options in ({"lossless": True, "quality": 60}, *({"quality": q} for q in _QUALITIES)):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", method=4, **options)
        if len(buffer.getvalue()) <= FILM_BYTES or count == 1:
            return buffer.getvalue()
    return None


def open_loop(analysis: WorldModelAnalysis) -> Html | None:
    """Returns truth, model and error as films; None where there are no images."""
    if not len(analysis.truth):
        return None
    truth, model = analysis.truth.astype(np.int16), analysis.model.astype(np.int16)
    error = ((model - truth + 255) // 2).astype(np.uint8)
    films = (
        Film("what happened", analysis.truth),
        Film("what the model sees or imagines", analysis.model),
        Film("error, grey is none", error),
    )
    name = "open-loop prediction"
    return player(films, name=name, fps=_DREAM_FPS, context=analysis.context)


def analysis_charts(analysis: WorldModelAnalysis) -> Html:
    """Returns errors over the horizon beside their baselines, KL, reliability and latents."""
    charts = [
        _horizon(
            "image error, squared, a pixel",
            analysis.image_error,
            ("keep the last image", analysis.copied_image_error),
        ),
        _horizon(
            "reward error, squared",
            analysis.reward_error,
            ("the mean reward", analysis.mean_reward_error),
        ),
        _horizon("KL of posterior from prior, nats", analysis.kl),
        _reliability(analysis),
        _usage(analysis),
        _entropies(analysis),
    ]
    return tag("div", *(each for each in charts if each is not None), class_="charts")


def reward_words(analysis: WorldModelAnalysis) -> str:
    """Says how well the model knows the rewards of what it sees: actors learn from those."""
    constant = analysis.overall_mean_reward_error
    baseline = (
        f"; of always saying their mean: {constant:.2g}" if constant else ", and all are alike"
    )
    return (
        "Mean squared error of the rewards of images that the model sees: "
        f"{analysis.seen_reward_error:.2g}{baseline}."
    )


def latent_words(analysis: WorldModelAnalysis) -> str | None:
    """Says how much of the latent state is used; None of a Gaussian one."""
    usage = analysis.latent_usage
    if not usage.size:
        return None
    used = int((usage > 0).sum())
    share = usage / np.maximum(usage.sum(axis=1, keepdims=True), 1e-12)
    logs = np.log(np.where(share > 0, share, 1.0))
    effective = float(np.exp(-(share * logs).sum(axis=1)).mean())
    variables, classes = usage.shape
    return (
        f"{used:,} of {variables} x {classes} classes were drawn; a variable uses "
        f"{effective:.1f} of its {classes} classes (the exponential of the entropy of its usage, "
        f"mean over variables). A posterior has {float(analysis.latent_entropy.mean()):.2f} nats "
        f"of at most {math.log(classes):.2f}, mean over variables and rows."
    )


def _horizon(
    title: str, values: FloatArray, baseline: tuple[str, FloatArray] | None = None
) -> Html | None:
    if not values.size:
        return None
    curves = [Curve(points=_over_steps(values), label="the model", color=0)]
    if baseline is not None:
        curves.append(
            Curve(points=_over_steps(baseline[1]), label=baseline[0], color=1, look="dotted")
        )
    chart = line_chart(
        curves, name=title, x_title="policy steps ahead", y_title=title, y_range=(0.0, 0.0)
    )
    names = [tag("li", tag("span", class_=f"chip c{each.color}"), each.label) for each in curves]
    legend = tag("ul", *names, class_="legend") if len(curves) > 1 else None
    return tag("figure", chart, legend)


def _over_steps(values: FloatArray) -> list[tuple[float, float]]:
    return [(k + 1.0, float(value)) for k, value in enumerate(values) if math.isfinite(value)]


def _reliability(analysis: WorldModelAnalysis) -> Html | None:
    found = analysis.discount
    if not found.predicted.size:
        return None
    rows = zip(found.predicted, found.observed, strict=True)
    points = [(float(p), float(o)) for p, o in rows]
    title = "share of rows that went on"
    curves = [
        Curve(points=[(0.0, 0.0), (1.0, 1.0)], label="as predicted", color=1, look="dotted"),
        Curve(points=points, label="rows", color=0, look="dots"),
    ]
    name = "Reliability of the discount head"
    total = plural(int(found.count.sum()), "imagined row")
    chart = line_chart(
        curves,
        name=name,
        x_title=f"predicted probability of going on, {total}",
        y_title=title,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
    )
    return tag(
        "figure", chart, tag("figcaption", "On the dashed line, what is predicted comes true.")
    )


def _usage(analysis: WorldModelAnalysis) -> Html | None:
    """Draws how often each class of each variable was drawn, a column a variable."""
    usage = analysis.latent_usage
    if not usage.size:
        return None
    variables, classes = usage.shape
    ordered = -np.sort(-usage, axis=1)  # of each variable, the class that is drawn most first
    level = np.ceil(np.sqrt(np.clip(ordered, 0, 1)) * _SHADES).astype(int)
    width, height = 340 / variables, 170 / classes
    paths: list[Html] = []
    for shade in range(1, _SHADES + 1):
        places = np.argwhere(level == shade)
        d = "".join(
            f"M{10 + v * width:.1f} {18 + c * height:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"
            for v, c in places
        )
        if d:
            paths.append(tag("path", d=d, class_="cell", fill_opacity=shade / _SHADES))
    name = f"usage of {classes} classes in each of {variables} latent variables"
    frame = tag("rect", x=10, y=18, width=340, height=170, class_="frame")
    top = tag("text", "classes, the most used on top", x=2, y=10, class_="title")
    below = tag("text", plural(variables, "latent variable"), x=180, y=206, class_="mid title")
    chart = framed(name, (frame, *paths, top, below))
    words = "The stronger a cell, the larger the share of rows that drew that class."
    return tag("figure", chart, tag("figcaption", words))


def _entropies(analysis: WorldModelAnalysis) -> Html | None:
    if not analysis.latent_entropy.size:
        return None
    title = "entropy of the posterior, nats"
    points = _over_steps(analysis.latent_entropy)
    chart = line_chart(
        [Curve(points=points, label="latent variable", look="dots")],
        name=f"{title}, of each latent variable",
        x_title="latent variable",
        y_title=title,
        y_range=(0.0, math.log(analysis.latent_usage.shape[1])),
    )
    words = f"{math.log(analysis.latent_usage.shape[1]):.2f} nats is a variable that says nothing."
    return tag("figure", chart, tag("figcaption", words))


def episode(frames: UInt8Array, fps: float) -> Html:
    """Returns an episode as a film, at the environment's own pace."""
    return player((Film("what the agent sees", frames),), name="an episode", fps=fps)
