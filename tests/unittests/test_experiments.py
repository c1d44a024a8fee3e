"""Test of the table over several runs.

Authors
* speechbrain_lact contributors 2026
"""

import json

from speechbrain_lact.evaluation.experiments import interval, table


def test_interval_covers_the_spread_of_speakers():
    middle, low, high = interval({"a": [0, 10, 1], "b": [10, 10, 1]})
    assert (middle, low, high) == (50, 0, 100)


def test_table_has_a_row_for_each_memory(tmp_path):
    folder = tmp_path / "lact_ctc" / "1"
    folder.mkdir(parents=True)
    row = {
        "parameters": 2_000_000,
        "speakers": {"a": [1, 8, 2], "b": [1, 8, 2]},
    }
    rows = [
        {**row, "test": test, "memory": memory}
        for test in ("clean", "noisy")
        for memory in ("carried", "reset")
    ]
    (folder / "results.json").write_text(json.dumps({"rows": rows}))
    lines = table([str(folder)]).splitlines()
    head, first = (
        [cell.strip() for cell in lines[place].strip("|").split("|")]
        for place in (0, 2)
    )
    assert head == ["encoder", "memory", "clean", "noisy", "parameters"]
    rate = "12.5 [12.5, 12.5]"
    assert first == ["lact", "carried", rate, rate, "2.00 M"]
    assert len(lines) == 4
