"The project's own tools: what `make test` calls slow."
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import check


def test_a_notebook_has_two_minutes_on_an_idle_machine_and_is_not_judged_on_a_busy_one():
    assert check.limit == 120 and not check.too_slow(119, 0)
    assert "took 121 s on an idle machine; the limit is 120 s" == check.too_slow(121, 5)
    assert not check.too_slow(200, 60)


def test_the_work_of_others_is_seen():
    everything, ours = check.processor_seconds()
    assert everything >= ours >= 0
