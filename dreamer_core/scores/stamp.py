"""What a score is a score of: the protocol, the preset and the settings behind it.

Two scores can be compared where their stamps are equal. The stamp is read from the config as it
lies in the run directory, so that a run of another version has one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from dreamer_core.config import Config
from dreamer_core.fields import to_dict
from dreamer_core.presets import PRESETS, leaves, preset
from dreamer_core.storage.identity import MAY_CHANGE
from dreamer_core.storage.provenance import Versions, short
from dreamer_core.words import plural

Stamp: TypeAlias = dict[str, str | int | float | bool | None]
"""Name of each fact to its value."""

EVALUATION_EPISODES = "evaluation episodes"
FULL_ACTION_SET = 18
"""Actions of every Atari environment here (`full_action_space` of the Arcade Learning
Environment)."""
_OF_THE_PROTOCOL = {
    "suite": "env.suite",
    "sticky_action_probability": "env.sticky_action_probability",
    "action_repeat": "env.action_repeat",
    "max_noops": "env.max_noops",
}
_OF_ATARI = ("sticky_action_probability", "max_noops")
_STAMPED_ALREADY = (
    *_OF_THE_PROTOCOL.values(),
    "env.time_limit_steps",
    "evaluation.",
)
_OF_THE_RUN = ("preset", "seed", "env.task", "checkpoint.", "offline.")


def protocol_of(config: Mapping[str, Any]) -> Stamp:
    """Returns how the run's environment is played and what its preset and settings are.

    Args:
        config: of the run, as its config.json holds it.
    """
    found, defaults = dict(settings_of(config)), dict(leaves(Config()))
    stamp: Stamp = {
        name: found.get(path, defaults[path]) for name, path in _OF_THE_PROTOCOL.items()
    }
    if stamp["suite"] != "atari":
        stamp |= dict.fromkeys(_OF_ATARI)
    limit_steps = found.get("env.time_limit_steps", defaults["env.time_limit_steps"])
    repeat: Any = stamp["action_repeat"]
    stamp["action_set"] = FULL_ACTION_SET if stamp["suite"] == "atari" else None
    stamp["time_limit_frames"] = None if limit_steps is None else limit_steps * repeat
    if "evaluation.episodes" in found:
        stamp["episodes_an_evaluation"] = found["evaluation.episodes"]
    if "evaluation.episode_limit" in found:
        stamp["evaluation_limit_frames"] = found["evaluation.episode_limit"] * repeat
    if found.get("offline.replays"):
        stamp["offline.data"] = "a fixed replay"
    stamp["preset"] = preset_of(config)
    without = (*_STAMPED_ALREADY, *_OF_THE_RUN, *MAY_CHANGE)
    differing = differing_from_preset(config).items()
    return stamp | {path: value for path, value in differing if not path.startswith(without)}


def how_it_evaluates(config: Mapping[str, Any]) -> Stamp:
    """Returns mode and interval of the run's own evaluations; nothing where it has none.

    Args:
        config: as in `protocol_of`.
    """
    found = dict(settings_of(config))
    if found.get("evaluation.interval_frames") is None:
        return {}
    return {
        "mode": found.get("evaluation.mode"),
        "evaluation_interval_frames": found["evaluation.interval_frames"],
    }


def written_by(versions: Versions) -> Stamp:
    """Returns the version and commit of the program that wrote a run last; none if it never said.

    A run that several programs wrote says how many.
    """
    if not versions.programs:
        return {}
    last = versions.programs[-1]
    stamp: Stamp = {
        "version": last.get("version") or "unknown",
        "commit": short(last.get("commit")),
    }
    names = {(said.get("version"), said.get("commit")) for said in versions.programs}
    return stamp if len(names) == 1 else {**stamp, "programs": len(names)}


def differences(stamps: Sequence[Stamp]) -> list[str]:
    """Returns a line for each fact that is not the same in all stamps: its values, how often each.

    Runs whose protocol nobody recorded have an empty stamp.
    """
    lines: list[str] = []
    known = [stamp for stamp in stamps if stamp]
    for name in dict.fromkeys(name for stamp in known for name in stamp):
        counts: dict[str, int] = {}
        for stamp in known:
            absent = "as in its preset" if "." in name else "not recorded"
            value = shown(stamp[name]) if name in stamp else absent
            counts[value] = counts.get(value, 0) + 1
        if len(counts) > 1:
            lines.append(
                f"{name}: " + ", ".join(f"{v} for {plural(k, 'run')}" for v, k in counts.items())
            )
    if known and len(known) < len(stamps):
        lines.append(f"the protocol of {plural(len(stamps) - len(known), 'run')} is not known")
    return lines


def unlike_the_paper(stamps: Sequence[Stamp]) -> list[str]:
    """Returns each fact in which a protocol is not that of Table K.1 and the paper's curves.

    Args:
        stamps: of runs; facts that one does not have are passed over.
    """
    lines: list[str] = []
    for name, theirs in _of_the_paper().items():
        others = {
            shown(stamp[name])
            for stamp in stamps
            if stamp.get(name, theirs) != theirs and _counts(name, stamp)
        }
        if others:
            lines.append(f"{name} {', '.join(sorted(others))} (the paper's: {shown(theirs)})")
    return lines


def _counts(name: str, stamp: Stamp) -> bool:
    """Whether a fact has a part in the score: how a run evaluates has none in training returns."""
    return "evaluation" not in name or stamp.get("returns") == EVALUATION_EPISODES


def _of_the_paper() -> Stamp:
    """Sec. 3 and the authors' code, as preset `atari` has them; see docs/reproducing.md."""
    paper = preset("atari")
    stamp = protocol_of(to_dict(paper))
    del stamp["preset"]
    return {
        "returns": EVALUATION_EPISODES,
        "mode": "greedy",
        "evaluation_interval_frames": paper.evaluation.interval_frames,
        **stamp,
    }


def shown(value: Any) -> str:
    """Returns a fact of a stamp in words."""
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def preset_of(config: Mapping[str, Any]) -> str:
    """Returns the name of the preset that a config was made from, known here or not."""
    return str(config.get("preset", "atari"))


def differing_from_preset(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that differ from the preset's, by dotted path; none if it is unknown.

    Args:
        config: as config.json holds it, of whatever version.
    """
    name = preset_of(config)
    if name not in PRESETS:
        return {}
    own = {path: as_words(value) for path, value in leaves(preset(name))}
    return {path: x for path, x in whole_settings_of(config).items() if x != own.get(path)}


def whole_settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns every setting by dotted path; what an older version did not write is the default.

    So it is where such a run is resumed.
    """
    defaults = {path: as_words(value) for path, value in leaves(Config())}
    return defaults | dict(settings_of(config))


def as_words(value: Any) -> Any:
    """Returns lists and tuples as words, and others as they are."""
    is_several = isinstance(value, list | tuple)
    return ", ".join(map(str, cast("Sequence[Any]", value))) if is_several else value


def settings_of(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every setting, in words where it is a list."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from settings_of(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", as_words(value)
