"""Stage 22 of the stage script: sets under conditions, all models, once."""

from shell_recipe import Recipe, value

ONLY = {"stage": 22, "stop_stage": 22, "test_sets": "test_a"}


def test_finished_models_are_heard_once(tmp_path):
    recipe = Recipe(tmp_path)
    recipe.write("conf/r.yaml", "conditions:\n  - {name: hiss, noise: white, snr: 5}\n")
    recipe.write("conf/compression.yaml", "stages:\n- {name: small, target: 0.4, epochs: 3}\n")
    options = {**ONLY, "robustness": "conf/r.yaml"}
    assert "compared with the first teacher; run stages 12 and 13" in recipe.error(**options)
    recipe.ok(stop_stage=13, test_sets="test_a")
    assert "none of its students is scored yet" in recipe.error(**options)
    recipe.ok(stage=16, stop_stage=16, test_sets="test_a")
    recipe.calls()
    assert "Stage 22: nothing to do (--robustness is empty)" in recipe.ok(**ONLY)
    recipe.ok(**options)
    calls = recipe.calls()
    verbs = [call[0].rpartition(".")[2] for call in calls]
    assert verbs.count("perturb") == 1 and verbs.count("score") == 2 and verbs[-1] == "robustness"
    shared = recipe.dir / "dump/raw/robustness"  # one run at a time has it
    assert shared.is_dir() and not (shared / ".run.json").exists()
    assert value(calls[0], "--data") == "dump/raw/test_a"
    assert value(calls[0], "--out") == "dump/raw/robustness/test_a"
    assert "teacher=exp/teacher" in calls[-1] and "small=exp/kd_small" in calls[-1]
    recipe.ok(**options)
    assert recipe.verbs() == ["robustness"]  # the page alone
    recipe.write("conf/r.yaml", "conditions:\n  - {name: cafe, noise: no/cafe, snr: 5}\n")
    assert "conf/r.yaml: 'cafe': noise 'no/cafe': no such folder" in recipe.error(**options)
    recipe.write("rirs/a.wav", "no sound")
    recipe.write("conf/r.yaml", "conditions:\n  - {name: room, reverb: {folder: rirs}}\n")
    assert "conf/r.yaml: 'room': rirs/a.wav: unreadable (" in recipe.error(**options)
    recipe.write("conf/r.yaml", "conditions:\n  - {name: hiss, noise: white}\n")
    assert "conditions[0]: 'noise' without 'snr'" in recipe.error(**options)
