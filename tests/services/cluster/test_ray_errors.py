"""The reason of a failure, from Ray's many lines."""

from ray.exceptions import ActorDiedError, RayTaskError

from services.cluster.ray_errors import reason


def test_the_reason_of_a_failed_call_is_its_exception():
    try:
        raise ValueError("no disk left")
    except ValueError as cause:
        error = RayTaskError("insert()", f"Traceback ...\nValueError: {cause}\n", cause)
    assert reason(error) == "ValueError: no disk left"


def test_the_reason_of_a_death_is_one_sentence():
    assert "\n" not in reason(ActorDiedError()) and ". " not in reason(ActorDiedError())
