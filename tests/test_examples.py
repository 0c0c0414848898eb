"""The examples run, and show what they promise."""

import importlib.util


def test_torchaudios_own_model_learns_from_its_teacher(repo, capsys):
    path = repo / "examples" / "torchaudio_rnnt.py"
    spec = importlib.util.spec_from_file_location("torchaudio_rnnt", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    teacher, alone, distilled = example.main(["--teacher_steps", "200", "--steps", "50"])
    assert teacher < distilled < alone
    assert "distilled" in capsys.readouterr().out
