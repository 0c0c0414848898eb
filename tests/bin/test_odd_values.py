"""No option of any command line ends in a traceback."""

import pytest

from tests.bin import odd_values

# What every option is given here; `python -m tests.bin.odd_values` gives more, and to all.
VALUES = ["abc", "", "nan", "9" * 25, "\udcff", "x" * 5000, ".", "garbage/x"]
# And what those that import ESPnet and read a model are given.
FEW = ["", "nan", "9" * 25, "garbage/x"]
HEAVY = {"cache_teacher", "check_install", "decode", "derive_student", "plan", "train"}


def test_every_command_line_has_good_options():
    mine = set(odd_values.GOOD)
    assert mine <= set(odd_values.verbs())
    assert {"check_options", "lock", "report", "score", "import_teacher"} <= mine


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("state"))
        patch.setenv("ESPNET_KD_RUN", "1-x")
        odd_values.write_state()
        yield


@pytest.mark.parametrize("verb", sorted(odd_values.GOOD))
def test_an_odd_value_is_one_line(verb, state):
    good = odd_values.good_words(verb)
    faults = {}
    for option, value in odd_values.cases(verb, FEW if verb in HEAVY else VALUES):
        run = odd_values.call(verb, odd_values.words_with(good, option, value))
        if run.fault:
            faults[f"{option}={value[:20]}"] = run.fault[-300:]
    assert not faults
