"""A run to pack from."""

import contextlib
import io
import sys

import pytest
from packable import write_run

import espnet_kd.bin.pack_model
import espnet_kd.bin.upload_model


def call(verb, *words):
    """Run `espnet_kd.bin.<verb>`; return its exit code, stdout and stderr."""
    main = getattr(espnet_kd.bin, verb).main
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{verb}.py"])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with pytest.raises(SystemExit) as exit_:
                main(list(words))
    return exit_.value.code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """The folder of a run with both models packed."""
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_run(root)
        for name in ("teacher", "s"):
            code, _, err = call("pack_model", "--results", "exp/results.json", "--model", name,
                                "--inference_config", "decode.yaml", "--language", "en",
                                "--inference_args", "--decoding_window 640")  # fmt: skip
            assert code == 0, err
    return root


@pytest.fixture
def run():
    """`call`, for tests."""
    return call
