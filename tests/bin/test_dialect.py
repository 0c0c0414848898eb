"""All command lines speak alike: `get_parser`, `main(cmd)`, --help, one line for a mistake."""

import argparse
import importlib
import inspect

import pytest

from tests.bin import odd_values

ESPNETS = {"decode", "train"}  # pass their options through to ESPnet's parser
KALDIS = {"run_local"}  # is called like Kaldi's run.pl
VERBS = sorted(odd_values.verbs())
OURS = sorted(set(VERBS) - ESPNETS - KALDIS)


def command(verb):
    return importlib.import_module(f"espnet_kd.bin.{verb}")


@pytest.mark.parametrize("verb", VERBS)
def test_main_takes_the_words_of_a_command_line(verb):
    (words,) = inspect.signature(command(verb).main).parameters.values()
    assert (words.name, words.default) == ("cmd", None)
    assert command(verb).__doc__.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("verb", OURS)
def test_options_are_described(verb):
    for action in command(verb).get_parser()._actions:
        assert action.help or action.choices, action.dest
        for option in action.option_strings:
            assert "-" not in option.lstrip("-"), option


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_no_mistake(verb, capsys):
    with pytest.raises(SystemExit) as e:
        command(verb).main(["--help"])
    assert not e.value.code
    assert capsys.readouterr().out


@pytest.mark.parametrize("verb", OURS)
def test_a_wrong_option_is_one_line(verb):
    run = odd_values.call(verb, ["--no_such_option", "1"])
    assert run.code == 2
    (line,) = run.said.splitlines()
    assert line.startswith(f"{verb}: error: ") and line.endswith(f"; see {verb} --help")


def test_a_shortened_option_is_a_mistake():
    run = odd_values.call("score", ["--ref", "a", "--hyp", "b", "--out", "c", "--utt2", "d"])
    assert "unrecognized arguments: --utt2" in run.said


def test_only_one_file_makes_parsers(repo):
    paths = [*repo.glob("espnet_kd/**/*.py"), *repo.glob("tools/**/*.py")]
    paths += repo.glob("egs2/*/asr_kd/local/*.py")
    made = {p.relative_to(repo).as_posix() for p in paths if "ArgumentParser(" in p.read_text()}
    assert made == {"espnet_kd/cli.py"}


def test_a_default_is_shown_once(capsys):
    with pytest.raises(SystemExit):
        command("format_audio").main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "sampling rate (default: 16k)" in text
    assert argparse.SUPPRESS not in text
