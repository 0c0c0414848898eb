"""Joules of decoding: counters that begin anew, cannot be read, or are not there."""

import pytest

from espnet_kd.common.records import SPEED
from espnet_kd.deploy import energy, speed
from espnet_kd.deploy.artifact import Artifact
from espnet_kd.deploy.energy import VARIABLE, ByModel, Meter, NotMeasured
from espnet_kd.deploy.runtime import Runtime

RANGE = 262_143_328_850


def add_zone(root, zone, name, count, limit=RANGE):
    """Leave a counter as Linux does: a folder, and a link to it where all stand side by side."""
    inside = root / zone.rpartition(":")[0] / zone if zone.count(":") > 1 else root / zone
    inside.mkdir(parents=True)
    if zone.count(":") > 1:
        (root / zone).symlink_to(inside)
    for file, value in ("name", name), ("energy_uj", count), ("max_energy_range_uj", limit):
        (inside / file).write_text(f"{value}\n")
    return inside / "energy_uj"


@pytest.fixture
def root(tmp_path):
    """Two processors, the first with cores and memory; counters that hold the same once more."""
    root = tmp_path / "powercap"
    (root / "intel-rapl").mkdir(parents=True)
    add_zone(root, "intel-rapl:0", "package-0", 1_000_000)
    add_zone(root, "intel-rapl:0:0", "core", 500_000)
    add_zone(root, "intel-rapl:0:1", "dram", 200_000)
    add_zone(root, "intel-rapl:1", "package-1", 3_000_000)
    add_zone(root, "intel-rapl:2", "psys", 9_000_000)
    add_zone(root, "intel-rapl-mmio:0", "package-0", 1_000_000)
    return root


def test_processors_and_memory_are_added_and_nothing_twice(root):
    meter = Meter(root)
    assert [c.name for c in meter.counters] == ["package-0", "dram", "package-1"]
    before = meter.read()
    assert before == [1_000_000, 200_000, 3_000_000]
    for zone, count in ("0", 1_700_000), ("0:0", 9), ("0:1", 250_000), ("1", 3_000_001):
        (root / f"intel-rapl:{zone}/energy_uj").write_text(f"{count}\n")
    assert meter.joules(before, meter.read()) == pytest.approx(0.750001)


def test_a_counter_begins_anew(root):
    meter = Meter(root)
    before = [RANGE - 2_000_000, 7, 7]
    assert meter.joules(before, [500_000, 7, 7]) == pytest.approx(2.5)
    with pytest.raises(NotMeasured, match="a count beyond its range of 262,143,328,850"):
        meter.joules(before, [RANGE + 1, 7, 7])


def denied(monkeypatch):
    """Let nobody read counts: tests may run as root, whom nothing stops."""
    read = energy.Path.read_text

    def reads(self, *args, **options):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(self, *args, **options)

    monkeypatch.setattr(energy.Path, "read_text", reads)


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda root: root.rename(root.parent / "x"), "powercap: no such folder; it takes a"),
        (lambda root: (root / "intel-rapl:0/energy_uj").unlink(), "energy_uj: cannot be read (No"),
        (lambda root: (root / "intel-rapl:0/name").write_bytes(b"\xff"), "be read (no text)"),
        (lambda root: (root / "intel-rapl:1/energy_uj").write_text("-5"), "number, found '-5'"),
        (lambda root: (root / "intel-rapl:1/max_energy_range_uj").write_text(""), "found ''"),
    ],
)
def test_what_cannot_be_read_is_not_measured(root, spoil, told):
    spoil(root)
    with pytest.raises(NotMeasured) as reason:
        Meter(root)
    assert told in str(reason.value)
    assert told in ByModel(root).circumstances()["not_measured"] and ByModel(root).read() == []


def test_counters_for_root_alone_say_so(root, monkeypatch):
    denied(monkeypatch)
    with pytest.raises(NotMeasured, match="measure as root, or `sudo chmod a"):
        Meter(root)


def test_a_machine_without_processors_of_its_own(tmp_path):
    with pytest.raises(NotMeasured, match="no counter of a processor in it"):
        Meter(tmp_path)


class Burning(Runtime):
    """A model that takes microjoules for an utterance."""

    streaming = False

    @classmethod
    def load(cls, artifact, options):
        model = cls()
        model.count, model.cost = energy.Path(options[0]), int(artifact.format)
        return model

    def decode(self, speech):
        text = self.count.read_text().strip()
        if text.isdecimal():
            self.count.write_text(f"{(int(text) + self.cost) % RANGE}\n")
        return []


@pytest.fixture
def measured(root, tmp_path, monkeypatch):
    """Measure models of 1 and 3 joules for each second of speech; the counter wraps between."""
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", [0.1, -0.1] * 8000, 16000)
    count = root / "intel-rapl:0/energy_uj"
    monkeypatch.setattr(speed, "runtime_class", {"fake": Burning}.get)
    monkeypatch.setenv(VARIABLE, str(root))

    def measure(first=RANGE - 5_500_000, costs=(1_000_000, 3_000_000)):
        count.write_text(f"{first}\n")
        models = {f"m{cost}": Artifact("fake", str(cost), {}, ()) for cost in costs}
        return speed.measure(models, [tmp_path / "a.wav"] * 6, [str(count)])

    return measure


def test_each_model_has_its_own_joules_over_the_wrap(measured, tmp_path):
    result = measured()
    assert result["energy"] == {"counters": ["package-0", "dram", "package-1"]}
    hours = {name: m["joules_per_hour"] for name, m in result["models"].items()}
    assert hours == pytest.approx({"m1000000": 3600, "m3000000": 10800})
    SPEED.write(tmp_path, result)
    assert SPEED.read_path(tmp_path / "speed.json")["energy"]["counters"][0] == "package-0"


def test_no_figure_is_made_of_counters_that_stand_still_or_go(measured, root, monkeypatch):
    result = measured(costs=(0, 1))
    assert result["energy"] == {"not_measured": "the counters stand still"}
    assert all("joules_per_hour" not in m for m in result["models"].values())
    monkeypatch.setattr(
        Burning, "decode", lambda self, speech: self.count.write_text("gone") and []
    )
    result = measured()
    assert "expected a whole number, found 'gone'" in result["energy"]["not_measured"]
    assert all("joules_per_hour" not in m for m in result["models"].values())
    monkeypatch.setenv(VARIABLE, str(root / "nowhere"))
    assert "nowhere: no such folder" in measured()["energy"]["not_measured"]
