"""What must hold beside the rows: evaluations, reports, publishing, saves, and who is ended.

Everything is judged by the calls that the supervisor makes, by what the services answer and by what
`observe` is shown. Where something has to happen in time, the time counts from the end of the
newest fault on.
"""

from __future__ import annotations

from dreamer_core.report.report import Report
from tests.simulation.host import Ref

EVALUATION_SLACK_S = 1.0
"""Within so long an evaluation is begun once it is due, if its evaluator is idle."""
SAVE_SLACK_S = 2.0
"""... a checkpoint is asked for once it is due: in lockstep what is under way is finished first."""

LEAVE_SLACK_S = 4.0
"""... nothing is left on a node that is drained: calls under way have their time, then a save."""


class Watch:
    """Follows one life of a run.

    Args:
        host: simulated, of this life.
        schedule: of this life.
        config: of the run.
        evaluation: EvaluationConfig, of one frame a policy step.
        is_lockstep: whether calls go one at a time.
        quiet_since_s: gives since when nothing is wrong, as far as the adversary knows.
        slow_until_s: gives until when a service is slow; 0 for never.
    """

    def __init__(
        self, *, host, schedule, config, evaluation, is_lockstep, quiet_since_s, slow_until_s
    ):
        self.host, self.schedule, self.config = host, schedule, config
        self._evaluation, self._is_lockstep = evaluation, is_lockstep
        self._adversary_quiet_since_s, self._slow_until_s = quiet_since_s, slow_until_s
        self._changed_s = 0.0  # a service was started or ended
        self._evaluated_at = self._evaluated_version = self._due_since_s = None
        self._evaluations = []  # [(report, whether the run was done when it was asked for)]
        self._was_done_when_asked = False
        self._made, self._resumed, self._posted = {}, {}, {}  # by identity of a reference
        self._snapshot_policy_step = None
        self._last_posted = None
        self._has_weights = False
        self._saved_s = self._tried_s = 0.0
        self._saved_steps = 0  # gradient steps in the newest checkpoint
        self._has_sought_point = False
        self._unshown, self._shown = {}, {}  # reports by identity
        self._guest = Guest(host)
        self.supervisor = None

    def quiet_s(self):
        """For how long nothing has been wrong; negative while something is."""
        ends_s = (max(p.frozen_until_s, p.cut_until_s) for p in self.host.processes())
        began_s = max(self._changed_s, self.host.loop_since_s)
        return self.host.now_s() - max(began_s, self._adversary_quiet_since_s(), *ends_s)

    # What the supervisor does

    def begin(self, supervisor):
        """The supervisor has brought its services up."""
        self.supervisor = supervisor
        self._evaluated_at = self.schedule.policy_steps
        self._evaluated_version = self.schedule.gradient_steps

    def started(self, service, _arguments):
        """A service was started."""
        if not service.startswith("evaluator"):
            self._changed_s = self.host.now_s()
        if service == "learner":
            self._unshown.clear()  # what was not waited for any longer is taken again
            self._has_weights &= not self._is_lockstep
        if service == "replay":
            self._has_sought_point = False

    def killed(self, process):
        """The supervisor ends a service because of its silence.

        Of learner and replay one may wait for the other; it is not to be ended for that.
        """
        other = {"learner": "replay", "replay": "learner"}.get(process.name)
        if self._is_lockstep or other is None or not process.is_alive:
            return
        hangs_until_s = self._hangs_until_s(self.host.process(other))
        is_innocent = max(self._slow_until_s(process.name), self._hangs_until_s(process)) <= 0
        assert not (is_innocent and hangs_until_s > self.host.now_s()), (
            f"the {process} was ended, but the {other} did not answer"
        )

    def ended(self, process):
        """The supervisor ends a service; one that leaves its node in peace costs no gradient step.

        In lockstep it takes the learner along. What happens since the drain excuses it, and a crash
        of its own.
        """
        now_s = self.host.now_s()
        since_s = max(self._adversary_quiet_since_s(), self._hangs_until_s(process))
        is_disturbed = since_s > process.drained_since_s or process.has_crashed
        if process.drained_until_s <= now_s or is_disturbed or self.quiet_s() <= 0:
            return
        is_learner = process.name == "learner"
        learner = process if is_learner or not self._is_lockstep else self.host.process("learner")
        if learner is not None and learner.name == "learner" and learner.service is not None:
            lost = learner.service.steps - self._saved_steps
            assert not lost, f"{lost} gradient steps are lost with a node that was drained"

    def outlived(self, process):
        """A node ends, and a service is still on it."""
        if self.schedule.is_done or self.host.is_loop_blocked or not self.host.has_room([]):
            return
        assert self.quiet_s() < LEAVE_SLACK_S, f"the {process} was not moved from a drained node"

    @staticmethod
    def _hangs_until_s(process):
        """0 if it never hung, or is no more."""
        if process is None or not process.is_alive:
            return 0.0
        return max(process.frozen_until_s, process.cut_until_s, 0.0)

    def called(self, service, verb, arguments):
        """The supervisor asks for something."""
        match verb:
            case "snapshot":
                self._snapshot_policy_step = self.schedule.policy_steps
            case "post":
                self._see_post(*arguments)
            case "evaluate":
                self._see_evaluation(*arguments)
            case "collect" if not arguments[1].is_random:
                self._see_policy(arguments[0])
            case "save":
                self._tried_s = self.host.now_s()
                self._has_sought_point = True
            case "restore":
                self._has_sought_point = True
        if self._is_lockstep and verb in ("collect", "sample"):
            assert self._has_sought_point, f"{verb} before there is a point to go back to"

    def _see_post(self, references, policy_step):
        (weights,) = references
        assert id(weights) in self._made or id(weights) in self._resumed
        if id(weights) in self._made:
            made_at = self._made[id(weights)][1]
            assert policy_step == made_at, f"weights of step {made_at} posted as of {policy_step}"
        self._posted[id(weights)] = self._last_posted = weights
        self._has_weights = True

    def _see_evaluation(self, weights, _episodes, _mode, policy_step):
        schedule = self.schedule
        is_last = schedule.is_done and self._evaluated_version != schedule.gradient_steps
        is_due = schedule.policy_steps >= self._due_at() or is_last
        assert is_due, f"an evaluation {schedule.policy_steps - self._evaluated_at} steps on"
        self._evaluated_at = schedule.policy_steps
        self._was_done_when_asked = schedule.is_done
        if schedule.is_done:  # a loss gives it up; others count once they are shown
            self._evaluated_version = schedule.gradient_steps
        self._check_shared(weights)
        if id(weights) in self._made:
            made_at = self._made[id(weights)][1]
            assert policy_step == made_at, f"weights of step {made_at} played as of {policy_step}"
        is_newest = weights.value is None or weights.value.version == schedule.gradient_steps
        assert is_newest or not schedule.is_done, "older weights are played at last"

    def _see_policy(self, weights):
        self._check_shared(weights)
        if weights.value is None:  # lost with its node, which the collector will say
            return
        lag = self.schedule.gradient_steps - weights.value.version
        publish = self.config.schedule.publish_interval_gradient_steps
        bound = publish - 1 if self._is_lockstep else 2 * publish
        is_quiet = self._is_lockstep or self.quiet_s() > 2.0
        assert lag <= bound or not is_quiet, f"the policy is {lag} gradient steps old"

    def _check_shared(self, weights):
        assert isinstance(weights, Ref)
        is_shared = id(weights) in self._posted or id(weights) in self._resumed
        assert is_shared, "weights are used that were never posted"

    # What the services answer

    def answered(self, process, task, value):
        """A call has had its effect."""
        match task.verb:
            case "snapshot":
                self._made[id(task.refs[0])] = task.refs[0], self._snapshot_policy_step
            case "resume_point":
                self._resumed[id(task.refs[3])] = task.refs[3]
            case "save":
                self._saved_s, self._saved_steps = self.host.now_s(), process.service.steps
            case "train" if value is not None:
                self._unshown[id(value)] = value
            case "evaluate":
                self._evaluations.append((value, self._was_done_when_asked))
            case "take" if self._last_posted is not None:
                newest = process.service.newest()
                assert newest is not None, "the exchange never got the newest weights"
                assert newest[0][0] is self._last_posted, "the exchange holds older weights"

    # What is shown

    def observe(self, report, policy_steps, gradient_steps):
        """Checks a report and what it is shown with."""
        if report.service == "guest":
            self._guest.told.append(report.labels["number"])
            return
        schedule, values = self.schedule, report.values
        assert (policy_steps, gradient_steps) == (schedule.policy_steps, schedule.gradient_steps)
        assert values.get("dreamer_policy_steps_total", 0) <= policy_steps
        assert values.get("dreamer_gradient_steps_total", 0) <= schedule.gradient_steps_issued
        assert values.get("dreamer_policy_lag_gradient_steps", 0) >= 0
        if report.service in ("learner", "evaluator"):
            assert id(report) not in self._shown, f"a report is shown twice: {report}"
            self._shown[id(report)] = report
            self._unshown.pop(id(report), None)
        if any(value is report for value, _ in self._evaluations):
            self._evaluated_version = report.values["dreamer_evaluation_gradient_steps"]
        if report.service == "evaluator" and schedule.is_done:
            is_late = any(value is report and not is_last for value, is_last in self._evaluations)
            assert not is_late, "the end of the run waited for an evaluation"

    def check_life(self):
        """What a life has shown however it ended."""
        told = self._guest.told
        assert told == list(range(len(told))), f"of a guest's reports were shown {told}"
        assert len(told) >= self._guest.num_noted, "a guest's report is lost, but said to be noted"

    # After every event, and at the end

    def check(self):
        """What has to have happened by now."""
        self._guest.visit()
        if self.supervisor is None or self.schedule.is_done or self.host.is_loop_blocked:
            return
        now_s, interval_s = self.host.now_s(), self.config.checkpoint.interval_s
        is_saving = self.supervisor.crew.calls.in_flight("learner", "save")
        if not is_saving and now_s - max(self._saved_s, self._tried_s) > interval_s + SAVE_SLACK_S:
            late_s = min(now_s - max(self._saved_s, self._tried_s) - interval_s, self.quiet_s())
            assert late_s <= SAVE_SLACK_S, f"no checkpoint was asked for, {late_s:.1f} s too late"
        self._check_evaluation(now_s)

    def _check_evaluation(self, now_s):
        has_weights = self._has_weights and self.schedule.published_version is not None
        is_due = self.schedule.policy_steps >= self._due_at() and has_weights
        if not is_due or self.supervisor.crew.calls.in_flight("evaluator-0", "evaluate"):
            self._due_since_s = None
        elif self._due_since_s is None:
            self._due_since_s = now_s
        elif now_s - self._due_since_s > EVALUATION_SLACK_S:
            assert self.quiet_s() <= EVALUATION_SLACK_S, "an evaluation that is due is not begun"

    def _due_at(self):
        """The first multiple of the interval after the last evaluation."""
        interval = self._evaluation.interval_frames
        return (self._evaluated_at // interval + 1) * interval

    def check_end(self):
        """What a life that has finished its run has shown."""
        assert self._guest.num_noted or self.quiet_s() < 10.0, "nothing of a guest is noted"
        assert not self._unshown, f"never shown: {list(self._unshown.values())}"
        is_evaluated = self._evaluated_version == self.schedule.gradient_steps
        assert is_evaluated, "the final weights were not evaluated"


class Guest:
    """An evaluator of another job: leaves what it finds at the exchange until that is noted."""

    def __init__(self, host):
        self._host = host
        self._found = []
        self._next_s = 0.0
        self.num_noted = 0
        self.told = []
        """Numbers of its reports in the order in which the run showed them."""

    def visit(self):
        """Finds something each second, and leaves what is not noted."""
        now_s = self._host.now_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + 1.0
        number = self.num_noted + len(self._found)
        self._found.append(Report(service="guest", labels={"number": number}))
        exchange = self._host.process("exchange")
        if exchange is None or exchange.service is None:
            return
        if max(exchange.frozen_until_s, exchange.cut_until_s) < now_s:
            noted = exchange.service.leave("guest", self.num_noted, self._found)
            del self._found[: noted - self.num_noted]
            self.num_noted = noted
