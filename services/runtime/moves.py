"""What is on a node that is about to end goes elsewhere, if there is room, and loses nothing."""

from __future__ import annotations

from services.runtime.crew import REQUIRED, Crew
from services.runtime.evaluations import Evaluations
from services.runtime.recovery import Recovery
from services.runtime.saves import Saves
from services.runtime.traffic import Traffic


class Moves:
    """Moves services from nodes that are drained.

    Without room for them elsewhere they stay until the node ends, which is then a loss as any
    other; the checkpoint that is made at the notice bounds what that costs.

    Args:
        crew: whose services move.
        traffic: has to rest before any does.
        saves: makes the checkpoint that a move needs.
        evaluations: those under way there are given up, and fall due again.
        recovery: starts the services anew.
    """

    def __init__(
        self,
        *,
        crew: Crew,
        traffic: Traffic,
        saves: Saves,
        evaluations: Evaluations,
        recovery: Recovery,
    ) -> None:
        self._crew = crew
        self._traffic = traffic
        self._saves = saves
        self._evaluations = evaluations
        self._recovery = recovery
        self._went_on = False  # something was trained since a checkpoint was wanted

    def make(self) -> bool:
        """Moves what can be moved now; a checkpoint is wanted first where something is to lose.

        Returns:
            Whether nothing more is to be collected or trained, so that a move comes to pass.
        """
        host = self._crew.host
        drained = host.drained()
        for name in sorted(drained.difference(REQUIRED)):
            if name in self._evaluations.names and host.has_room([name]):
                self._evaluations.drop([name])
        services = sorted(drained.intersection(REQUIRED))
        needs_checkpoint = bool(services) and (self._crew.is_lockstep or "learner" in services)
        if needs_checkpoint:
            self._saves.want()
        else:
            self._saves.want_none()
        if not services or not host.has_room(services):
            self._went_on = bool(services)
            return False
        if self._went_on and self._saves.is_made:
            self._went_on = False
            self._saves.want_another()  # that one is old by now
        if needs_checkpoint and not self._saves.is_made:
            is_held = self._saves.is_under_way  # where none can be written, the run goes on
            self._went_on |= not is_held
            return is_held
        if self._traffic.is_idle:
            self._recovery.move(services)
        return True
