"""Stage 10 begins with a look at the texts of all sets, before anything trains on them."""

import pytest
from shell_recipe import Recipe, value


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


def test_every_set_is_looked_at_before_anything_trains(recipe):
    fails = {"STUB_FAIL": "espnet_kd.bin.check_text"}
    assert "wanted to fail" in recipe.run(fails, test_sets="test_a dev").stderr
    calls = recipe.calls()
    assert calls[-1][0] == "espnet_kd.bin.check_text"
    words = calls[-1]
    sets = [
        (words[i], words[i + 1])
        for i, word in enumerate(words)
        if word in ("--data", "--test_data")
    ]
    assert sets == [
        ("--data", "dump/raw/train"),
        ("--data", "dump/raw/dev"),
        ("--test_data", "dump/raw/test_a"),
        ("--test_data", "dump/raw/org/dev"),  # as a whole
    ]
    assert value(words, "--token_list") == "data/token_list/char/tokens.txt"
    assert value(words, "--config") == "conf/train_teacher.yaml"
    assert value(words, "--max_unk_share") == "0.02"
    recipe.ok(test_sets="test_a dev", stop_stage=10)  # it is looked at again
    assert recipe.verbs()[:2] == ["check_text", "train"]
    recipe.ok(test_sets="test_a dev", stop_stage=10)
    assert recipe.verbs() == []
    recipe.ok(test_sets="test_a dev", stop_stage=10, max_unk_share=0.5)
    assert recipe.verbs() == ["check_text"]
    recipe.ok(test_sets="test_a test_b", stop_stage=10, max_unk_share=0.5)
    assert "check_text" in recipe.verbs()


def test_an_imported_teacher_brings_its_own_config(recipe):
    config = "token_type: char\njoint_network_conf: {}\n"
    recipe.write("theirs/exp/asr_big/config.yaml", config)
    (recipe.dir / "theirs/exp/asr_big/valid.loss_transducer.ave.pth").write_bytes(b"\x80")
    recipe.ok(teacher_exp="theirs/exp/asr_big", stop_stage=10)
    (call,) = [call for call in recipe.calls() if call[0].endswith("check_text")]
    assert value(call, "--config") == "exp/teacher/config.yaml"
    assert value(call, "--token_list") == "data/token_list/char_teacher/tokens.txt"


def test_transcripts_that_may_be_missing_no_more_are_asked_for(recipe):
    """The plan decides whether they may; what was made for another plan is made again."""
    config = "token_type: char\njoint_network_conf: {}\n"
    recipe.write("theirs/asr_big/config.yaml", config)
    (recipe.dir / "theirs/asr_big/valid.loss_transducer.ave.pth").write_bytes(b"\x80")
    options = {"teacher_exp": "theirs/asr_big", "stop_stage": 4}
    plan = (recipe.dir / "conf/compression.yaml").read_text()
    hard = plan.replace("epochs:", "labels: teacher, epochs:")
    asked = []
    for text in (hard, hard, plan, plan, hard):
        recipe.write("conf/compression.yaml", text)
        recipe.ok(**options)
        calls = [call for call in recipe.calls() if value(call, "--data").endswith("train")]
        asked.append({call[0].split(".")[-1]: value(call, "--untranscribed") for call in calls})
    may, must = ({"format_audio": x, "filter_lengths": x} for x in ("true", "false"))
    assert asked == [may, {}, must, {}, may]
