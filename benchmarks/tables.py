"""Writes the tables of docs/performance.md and benchmarks/README.md from the results.

    .venv/bin/python benchmarks/tables.py

Text between `<!-- table NAME -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = (HERE / "README.md", HERE.parent / "docs" / "performance.md")
LEARNERS = {
    "learner_50x50": "gradient step, 50 x 50, Atari size",
    "learner_16x50": "gradient step, 16 x 50, Atari size",
    "learner_tiny": "gradient step, 8 x 16, `atari_tiny`, two processes",
    "learner_tiny_alone": "the same in one process",
    "learner_tiny_short": "two processes, horizon 5 instead of 10",
    "policy_atari": "policy step, batch 1, 1 thread, Atari size",
    "policy_tiny": "policy step, batch 1, 1 thread, tiny size",
}


def load(name: str) -> dict[str, Any] | None:
    """A result, if there is one."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def seconds(value: float) -> str:
    """Three digits with the unit that suits."""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"


def steps_table() -> list[list[str]]:
    """Gradient and policy steps beside their floors."""
    rows = [["what", "median", "10% to 90%", "floor of this machine", "times the floor"]]
    for name, words in LEARNERS.items():
        found = load(name)
        if found is not None:
            rows.append(
                [
                    words,
                    f"**{seconds(found['median_s'])}**",
                    f"{seconds(found['p10_s'])} to {seconds(found['p90_s'])}",
                    f"{seconds(found['floor_s'])}: {found['floor']}",
                    f"{found['ratio_to_floor']:.2f}",
                ]
            )
    return rows


def replay_table() -> list[list[str]]:
    """Sampling by size, compressed and not."""
    rows = [
        [
            *("rows stored", "batch of 50 x 50", "opened in", "rows inserted/s", "on disk"),
            *("memory once open", "and after 100 batches"),
        ]
    ]
    found = load("replay")
    for size, values in found["details"]["by_rows"].items() if found else ():
        kinds = {"": values}
        if "uncompressed" in values:
            kinds[", uncompressed"] = values["uncompressed"]
        for kind, of_kind in kinds.items():
            rows.append(
                [
                    f"{int(size):,}{kind}",
                    f"{seconds(of_kind['median_s'])} ({seconds(of_kind['p10_s'])} to "
                    f"{seconds(of_kind['p90_s'])})",
                    seconds(of_kind["open_s"]),
                    f"{of_kind['inserted_rows_per_second']:,.0f}",
                    *_sizes(of_kind),
                ]
            )
    return rows


def _sizes(values: dict[str, Any]) -> tuple[str, str, str]:
    """Disk and memory; dashes in results from before they were measured."""
    if "memory" not in values:
        return "-", "-", "-"
    memory = values["memory"]
    return (
        f"{values['disk_bytes'] / 1e6:,.0f} MB",
        f"{memory['opened_bytes'] / 1e6:.0f} MB",
        f"{memory['sampled_bytes'] / 1e6:.0f} MB",
    )


def rest_table() -> list[list[str]]:
    """Delivery, environment, whole runs."""
    rows = [["what", "measured"]]
    replay, env = load("replay"), load("env")
    if replay:
        delivered = replay["details"]["delivered"]
        rows.append(
            [
                "batches of 50 x 50 sampled in the server and handed to another process",
                f"{delivered['batches_per_second']:.0f}/s",
            ]
        )
    if env:
        rows.append(
            [
                "environment alone (Pong)",
                f"{env['details']['policy_steps_per_second']:,.0f} policy steps/s",
            ]
        )
    for name, words in (("run_tiny", "`atari_tiny`"), ("run_atari", "`atari`")):
        found = load(name)
        if found:
            details = found["details"]
            memory = details["peak_resident_bytes"]["sum"] / 1e9
            rows.append(
                [
                    f"whole run through the services, {words}",
                    f"{details['gradient_steps_per_second']:.3g} gradient steps/s, "
                    f"{details['frames_per_second']:.3g} frames/s, learner busy "
                    f"{details['learner_busy_share']:.0%}, {memory:.1f} GB resident",
                ]
            )
    return rows


def components_table() -> list[list[str]]:
    """Where the time of a 16 x 50 step goes."""
    rows = [["part of a 16 x 50 step", "seconds"]]
    found = load("learner_16x50")
    for name, value in found["details"]["seconds_by_component"].items() if found else ():
        rows.append([name, f"{value:.3f}"])
    return rows


def machine_line() -> list[list[str]]:
    """On what, and with which code."""
    rows = [["result", "machine", "torch", "commit", "measured at"]]
    for path in sorted((HERE / "results").glob("*.json")):
        found = json.loads(path.read_text())
        if "measured_at" not in found:
            continue
        hardware = found["hardware"]
        machine = f"{hardware['cpu']}, {hardware['cores']} cores" + (
            f", {hardware['gpu']}" if "gpu" in hardware else ""
        )
        rows.append(
            [
                path.stem,
                machine,
                found["versions"]["torch"],
                str(found["commit"]),
                found.get("measured_at", ""),
            ]
        )
    return rows


TABLES = {
    "steps": steps_table,
    "replay": replay_table,
    "rest": rest_table,
    "components": components_table,
    "machines": machine_line,
}


def markdown(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, the first as its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Renews every table of every page."""
    for page in PAGES:
        text = page.read_text()
        for name, make in TABLES.items():
            pattern = rf"(<!-- table {name} -->\n).*?(<!-- end -->)"
            table = markdown(make())
            text = re.sub(
                pattern,
                lambda match, table=table: f"{match[1]}{table}\n{match[2]}",
                text,
                flags=re.DOTALL,
            )
        page.write_text(text)


if __name__ == "__main__":
    main()
