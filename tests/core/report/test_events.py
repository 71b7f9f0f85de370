"""What a run leaves for TensorBoard."""

import dataclasses
import io

import pytest
from PIL import Image
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dreamer_core.presets import preset
from dreamer_core.report.about import about
from dreamer_core.report.events import EventFile
from dreamer_core.report.log import RunLog
from dreamer_core.report.report import EpisodeSummary, Report
from tests.core.report.logs import KL, events_of, room_in, scalars, write_once


def test_tensorboard_shows_names_by_what_they_are_about_against_environment_frames(tmp_path):
    write_once(tmp_path)
    assert scalars(tmp_path, "world_model/kl_nats") == [(400, 3.5)]


def test_tensorboard_shows_what_was_written_before_the_log_is_closed(tmp_path):
    log = RunLog(tmp_path, frames_per_policy_step=4)
    log.write(KL, policy_step=100, gradient_step=25)
    assert scalars(tmp_path, "world_model/kl_nats") == [(400, 3.5)]
    log.close()
    log.close()


@pytest.mark.parametrize("num_bytes", [0, 10])
def test_an_event_that_fits_in_part_is_left_out_in_whole(tmp_path, num_bytes):
    events = EventFile(tmp_path / "tensorboard")
    events.add(400, 1.0, {"world_model/kl_nats": 3.5})
    (path,) = (tmp_path / "tensorboard").iterdir()
    with room_in(path, num_bytes), pytest.raises(OSError, match="too large"):
        events.add(800, 2.0, {"world_model/kl_nats": 3.5})
    events.add(1200, 3.0, {"world_model/kl_nats": 3.5})
    events.close()
    assert scalars(tmp_path, "world_model/kl_nats") == [(400, 3.5), (1200, 3.5)]


def test_tensorboard_shows_each_episode_where_it_ended(tmp_path):
    ends = [EpisodeSummary(policy_step=step, episode_return=step, length=10) for step in (10, 20)]
    write_once(tmp_path, Report(service="collector", episodes=tuple(ends)))
    assert scalars(tmp_path, "episode/return") == [(40, 10.0), (80, 20.0)]


def test_tensorboard_tells_labelled_series_apart(tmp_path):
    for mode, value in {"greedy": 2.0, "sample": 1.0}.items():
        values = {"dreamer_evaluation_return": value}
        labels = {"mode": mode, "weights": "latest"}
        write_once(tmp_path, Report(service="evaluator", values=values, labels=labels))
    assert scalars(tmp_path, "evaluation/return/greedy/latest") == [(400, 2.0)]
    assert scalars(tmp_path, "evaluation/return/sample/latest") == [(400, 1.0)]


# Pictures and words

RESTART = Report(service="supervisor", is_restart=True)
BOXING = about(dataclasses.replace(preset("debug"), seed=7))


def png(size):
    content = io.BytesIO()
    Image.new("RGBA", size).save(content, "png")
    return content.getvalue()


def test_tensorboard_shows_a_picture_at_its_env_frame_and_the_lines_leave_it_out(tmp_path):
    report = Report(service="learner", pictures={"open_loop": png((30, 20))})
    assert write_once(tmp_path, report).read_bytes() == b""
    (shown,) = events_of(tmp_path).Images("open_loop")
    assert (shown.step, shown.width, shown.height) == (400, 30, 20)
    assert shown.encoded_image_string == png((30, 20))


def test_a_run_that_goes_on_draws_again_what_came_after_its_checkpoint(tmp_path):
    with RunLog(tmp_path, frames_per_policy_step=4) as log:
        for policy_step, report in [
            (100, Report(service="learner", pictures={"open_loop": png((1, 1))})),
            (200, Report(service="learner", pictures={"open_loop": png((2, 2))})),
            (150, RESTART),
            (200, Report(service="learner", pictures={"open_loop": png((3, 3))})),
        ]:
            log.write(report, policy_step=policy_step, gradient_step=policy_step)
    shown = events_of(tmp_path).Images("open_loop")
    assert [(picture.step, picture.width) for picture in shown] == [(400, 1), (800, 3)]


def test_words_stand_wherever_the_run_went_on(tmp_path):
    for policy_step in (0, 100):
        with RunLog(tmp_path, frames_per_policy_step=4, about=BOXING) as log:
            log.write(RESTART, policy_step=policy_step, gradient_step=0)
    texts = events_of(tmp_path).Tensors("run")
    assert [text.step for text in texts] == [0, 400]
    words = texts[0].tensor_proto.string_val[0].decode()
    assert words.startswith("Preset **debug**: ") and words.endswith("| seed | 7 | 0 |")


def test_every_setting_is_a_hyper_parameter(tmp_path):
    with RunLog(tmp_path, frames_per_policy_step=4, about=BOXING) as log:
        log.write(RESTART, policy_step=0, gradient_step=0)
    metadata = events_of(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    told = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert told["seed"].number_value == 7 and told["world_model.latent"].string_value
    assert told["world_model.has_discount_head"].bool_value
    assert told["evaluation.interval_frames"].string_value == "None"


def test_a_config_that_is_its_preset_says_so():
    assert about(preset("atari")).texts["run"].endswith("No setting differs from it.")
    own = about(dataclasses.replace(preset("atari"), preset="mine"))
    assert own.texts["run"] == "Preset **mine**.\n\nIt is not known."
