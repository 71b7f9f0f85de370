"""Is this the same run? By its settings, and for a checkpoint by its environment too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dreamer_core.config import Config
from dreamer_core.errors import BadInput
from dreamer_core.fields import from_dict, known_part
from dreamer_core.presets import differing
from dreamer_core.storage.provenance import writer

if TYPE_CHECKING:
    from dreamer_core.types import EnvSpec

logger = logging.getLogger(__name__)

MAY_CHANGE = (
    "steps",
    "learner.",
    "evaluation.",
    "tracker.",
    "offline.replays",
    "env.log_info",
    "schedule.report_interval_gradient_steps",
    "checkpoint.interval_s",
    "checkpoint.keep",
    "checkpoint.request_timeout_s",
)
"""Prefixes of the settings that a resumed run may change: none of them alters the algorithm.

`checkpoint.url` is not among them: in another place there is no checkpoint to resume from, so that
all gradient steps would be taken anew."""


def differing_settings(
    saved: Config, wanted: Config, may_change: tuple[str, ...] = MAY_CHANGE
) -> str:
    """Returns up to four settings that make them different runs, with both values; "" if none do.

    Args:
        saved: of what was found.
        wanted: of the run that is asked for.
        may_change: prefixes of the settings that may differ.
    """
    found = [
        f"{name}={old!r} there, {new!r} asked for"
        for name, (old, new) in differing(saved, wanted).items()
        if not name.startswith(may_change)
    ]
    return "; ".join(found[:4]) + ("; ..." if len(found) > 4 else "")


def require_same_run(facts: dict[str, Any], location: str, config: Config, spec: EnvSpec) -> None:
    """Refuses a checkpoint that has other settings or another environment than this run.

    A run directory holds one run, but a checkpoint.url may be given to another.

    Args:
        facts: of the checkpoint.
        location: of the checkpoint, for words.
        config: of this run.
        spec: of its environment.

    Raises:
        BadInput: it is of another run, or of another version or program; says what differs.
    """
    if unknown := known_part(Config, facts.get("config"))[1]:
        raise BadInput(
            f"The checkpoint {location} has settings that this program does not know "
            f"({', '.join(unknown)}). {writer(facts.get('program'))}. Resume with that one"
        )
    saved = saved_config(facts, location)
    settings = differing_settings(saved, config, (*MAY_CHANGE, "checkpoint."))
    if settings:
        raise BadInput(
            f"The checkpoint {location} is of another run ({settings}). Ask for the preset "
            "and settings that it was made with, or name another place with --checkpoint.url"
        )
    wanted, got = environment_facts(spec), facts.get("environment")
    if wanted != got:
        raise BadInput(
            f"The environment has {wanted}, but the checkpoint {location} was made for {got}. "
            "Resume with the environment that the run was started with, or start a new run"
        )


def saved_config(facts: dict[str, Any], location: str) -> Config:
    """Returns the config of the run that wrote a checkpoint; arguments of `require_same_run`.

    Settings that this program does not know are left out, with a warning.

    Raises:
        BadInput: it cannot be read.
    """
    values, unknown = known_part(Config, facts.get("config"))
    if unknown:
        left_out = ", ".join(unknown)
        wrote = writer(facts.get("program"))
        logger.warning("The checkpoint %s is read without %s. %s", location, left_out, wrote)
    try:
        return from_dict(Config, values)
    except BadInput as error:
        raise BadInput(
            f"The checkpoint {location} holds no config that can be read: {error}. It was written "
            "by another version or another program; load it with that one. "
            f"{writer(facts.get('program'))}"
        ) from error


def saved_spec(facts: dict[str, Any], location: str) -> EnvSpec:
    """Returns what `environment_facts` said of the environment; arguments of `require_same_run`.

    Raises:
        BadInput: it cannot be read.
    """
    from dreamer_core.types import EnvSpec  # noqa: PLC0415 (numpy takes a while to import)

    try:
        saved: dict[str, Any] = facts["environment"]
        sizes: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return EnvSpec(**sizes, action_names=None)
    except (LookupError, TypeError, AttributeError) as error:
        raise BadInput(
            f"The checkpoint {location} does not say what its environment was ({error}). It was "
            "written by another version or another program; load it with that one"
        ) from error


def environment_facts(spec: EnvSpec) -> dict[str, Any]:
    """Returns what a checkpoint says of its environment, choices and vectors if there are any."""
    classes = spec.action_classes
    return {
        "image_shape": list(spec.image_shape),
        "action_size": spec.action_size,
        "is_discrete": spec.is_discrete,
        **({} if classes is None else {"action_classes": list(classes)}),
        **({} if spec.vector_size == 0 else {"vector_size": spec.vector_size}),
    }
