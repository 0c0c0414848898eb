"""Stands in for `--python`: leaves the files each command line would leave, and trains nothing.

Every call is appended to $STUB_CALLS as a JSON list. $STUB_FAIL names a module that fails
when the word after the colon is among its arguments (`espnet_kd.bin.train:exp/asr_x`).
$STUB_LABELS is what every student is trained on: `transcript` (by default) or `teacher`.
$STUB_WORD is what is recognised, $STUB_OBJECTIVE the objective of every student.
$STUB_SLEEP=MODULE:SECONDS makes one slow.
"""

import os
import sys

# Command lines of ours that are really run: they start the others, or answer questions.
IN_PLACE = (
    "check_options", "collect_stats", "compress", "export_run", "lock", "report_run",
    "robustness_run", "run_local", "step",
)  # fmt: skip


def in_place(module, words):
    """Run a real command line that needs no torch, in this process: it is no call."""
    from importlib import import_module

    up = os.path.dirname
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    # `python -S` knows no site-packages.
    sys.path += [up(up(up(os.path.realpath(__file__))))]
    sys.path += [f"{up(up(sys.executable))}/lib/{version}/site-packages"]
    sys.path += [f"{sys.base_prefix}/lib/{version}/site-packages"]
    sys.argv = [module.rpartition(".")[2], *words]
    import_module(module).main()


if len(sys.argv) > 2 and sys.argv[2].rpartition("espnet_kd.bin.")[2] in IN_PLACE:
    in_place(sys.argv[2], sys.argv[3:])
    sys.exit()

import json  # noqa: E402  the others are needed below only
import pathlib  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402

REPO = str(pathlib.Path(__file__).resolve().parents[2])
AUDIO = "wav.scp", "text", "utt2spk"
EPOCHS = 2  # of a training, if nobody asks for more
CONFIG = "joint_network_conf: {}\nencoder_conf: {body_conf: [{block_type: conformer}]}\n"


def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def copy_dir(args):
    out = pathlib.Path(args["out"])
    out.mkdir(parents=True, exist_ok=True)
    for name in AUDIO:
        shutil.copy(pathlib.Path(args["data"]) / name, out / name)
    write(out / "utt2audio", "")


def make_tokens(args):
    write(args["out"] + "/tokens.txt", "<blank>\n<unk>\nA\n<sos/eos>\n")
    if args["token_type"] == "bpe":
        write(args["out"] + "/bpe.model", "")


def check_text(args):
    write(args["out"], "")


def train(args):
    out = args["output_dir"]
    if args.get("collect_stats") == "true":
        for part in "train", "valid":
            keys = [x.split()[0] for x in open(args[f"{part}_shape_file"])]
            write(f"{out}/{part}/speech_shape", "".join(f"{k} 16000\n" for k in keys))
            write(f"{out}/{part}/text_shape", "".join(f"{k} 3\n" for k in reversed(keys)))
            write(f"{out}/{part}/feats_stats.npz", "")
        return
    print("[progress] train: 1/2 epoch", flush=True)
    print("not for the terminal")
    write(f"{out}/config.yaml", CONFIG)
    write(f"{out}/facts.json", json.dumps({"epochs": int(args.get("max_epoch", EPOCHS))}))
    trained = [args["config"], args.get("seed"), args.get("max_epoch")]
    write(f"{out}/valid.loss_transducer.ave.pth", str(trained))
    write(f"{out}/checkpoint.pth", str(trained))


def measure_lengths(args):
    keys = [x.split()[0] for x in open(args["data"] + "/wav.scp")]
    write(f"{args['out']}/speech_shape", "".join(f"{k} 16000\n" for k in keys))
    write(f"{args['out']}/text_shape", "".join(f"{k} 3\n" for k in keys))


def decode(args):
    keys = [x.split()[0] for x in open(args["key_file"])]
    for name in "text", "token", "score":
        word = os.environ.get("STUB_WORD", "A")
        write(f"{args['output_dir']}/1best_recog/{name}", "".join(f"{k} {word}\n" for k in keys))


def score(args):
    write(args["out"] + "/score_wer/result.txt", "| SPKR | # Snt |\n| Sum/Avg | 2 |\n")
    # $STUB_WER, "kd_big@4=3 kd_big=5": words wrong of 100, by model and epochs.
    out = pathlib.Path(args["out"])
    model = next(folder for folder in out.parents if (folder / "facts.json").exists())
    wrong = dict(word.split("=") for word in os.environ.get("STUB_WER", "").split())
    facts = json.loads((model / "facts.json").read_text())
    errors = int(wrong.get(f"{model.name}@{facts['epochs']}", wrong.get(model.name, 0)))
    rows = "utt\tref_words\tC\tS\tD\tI\n" + f"u\t100\t{100 - errors}\t{errors}\t0\t0\n"
    write(args["out"] + "/score_wer/counts.tsv", rows)


def really():
    """Run the real command line in our place."""
    sys.stdout.flush()
    words = [sys.executable, "-m", *sys.argv[2:]]
    sys.exit(subprocess.run(words, env={**os.environ, "PYTHONPATH": REPO}).returncode)


def launch(args):
    really()


def check_stats(args):
    pass


def derive_student(args):
    objective = os.environ.get("STUB_OBJECTIVE", "collapsed")
    config = f"kd_conf: {{objective: {objective}}}\nmax_epoch: {EPOCHS}\n"
    write(args["out"] + "/student.yaml", config)
    if args.get("training_only") == "true":
        return
    write(args["out"] + "/init.pth", "")
    labels = os.environ.get("STUB_LABELS", "transcript")
    write(args["out"] + "/student.json", json.dumps({"labels": labels}, indent=1))


def hard_labels(args):
    copy_dir(args)
    shutil.copy(_list(args["hyp"])[0], args["out"] + "/text")
    write(args["out"] + "/speech_shape", "")
    write(f"{args['out']}/text_shape.{args['token_type']}", "")


def cache_teacher(args):
    if "none" in open(args["student_config"]).read():
        return
    if "job" in args:
        print(f"[progress] cache: job {args['job']}", flush=True)
        return
    for folder in args["data"]:
        write(f"{args['out']}/{pathlib.Path(folder).name}/teacher.scp", "")
    write(args["out"] + "/fingerprint.json", "{}")
    print(f"teacher cache {args['out']}: 6 utterances, 1.0 kB")


def import_teacher(args):
    kind = "bpe" if "/bpe_" in args["token_dir"] else "char"
    make_tokens({"out": args["token_dir"], "token_type": kind})
    write(args["out"] + "/config.yaml", CONFIG)
    write(args["out"] + "/facts.json", '{"epochs": 1}')
    write(f"{args['out']}/{args['teacher_model']}", "")


def measure_speed(args):
    write(args["out"], json.dumps(sorted(_list(args["model"]))))


def measure_delay(args):
    measure_speed(args)


def report(args):
    write(
        args["exp"] + "/RESULTS.md", "# R\n\n| model | WER |\n|---|---|\n| teacher | 1 |\n\nend\n"
    )
    write(args["exp"] + "/results.json", "\n".join(_list(args["model"])))


def perturb(args):
    copy_dir(args)
    for name in (*AUDIO, "utt2condition"):
        value = "x" if name == "wav.scp" else "hiss" + open(args["conditions"]).read()[-4:-2]
        write(f"{args['out']}/{name}", f"u {value.replace(' ', '')}\n")


def robustness(args):
    write(args["exp"] + "/robustness.json", "{}")


def pack_model(args):
    if "model" in args:
        write(args["out"], args["model"])
        return
    for line in open(args["results"]):
        print(*line.strip().split("="), "valid.loss_transducer.ave.pth")


def upload_model(args):
    pass


def export(args):
    for form in _list(args["format"]):
        for name in "encoder.onnx", "predictor.onnx", "joiner.onnx", "tokens.txt", "model.json":
            write(f"{args['out']}/{form}/{name}", form)
        print(f"{args['out']}/{form}: 100.0 % of 3 transcripts equal")
        if form == os.environ.get("STUB_BEYOND"):
            print(f"{args['out']}/{form}: beyond the margin: WER")
            sys.exit(3)


def aggregate(args):
    for part in "train", "valid":
        for name in "speech_shape", "text_shape", "feats_stats.npz":
            texts = [open(f"{d}/{part}/{name}").read() for d in args["input_dir"]]
            write(f"{args['output_dir']}/{part}/{name}", "".join(texts))


MODULES = {
    "espnet_kd.bin.format_audio": copy_dir,
    "espnet_kd.bin.filter_lengths": copy_dir,
    "espnet_kd.bin.perturb_speed": copy_dir,
    "espnet_kd.bin.make_tokens": make_tokens,
    "espnet_kd.bin.check_text": check_text,
    "espnet_kd.bin.train": train,
    "espnet_kd.bin.decode": decode,
    "espnet_kd.bin.score": score,
    "espnet_kd.bin.derive_student": derive_student,
    "espnet_kd.bin.hard_labels": hard_labels,
    "espnet_kd.bin.cache_teacher": cache_teacher,
    "espnet_kd.bin.check_stats": check_stats,
    "espnet_kd.bin.measure_lengths": measure_lengths,
    "espnet_kd.bin.import_teacher": import_teacher,
    "espnet_kd.bin.measure_speed": measure_speed,
    "espnet_kd.bin.measure_delay": measure_delay,
    "espnet_kd.bin.report": report,
    "espnet_kd.bin.perturb": perturb,
    "espnet_kd.bin.robustness": robustness,
    "espnet_kd.bin.pack_model": pack_model,
    "espnet_kd.bin.upload_model": upload_model,
    "espnet_kd.bin.export": export,
    "espnet2.bin.aggregate_stats_dirs": aggregate,
    "espnet2.bin.launch": launch,
}


def parse(words):
    """Options by name; one that has several values, or is given again, holds a list."""
    args = {}
    name = None
    for word in words:
        whole = re.fullmatch("--(\\w+_args)=(.*)", word, re.DOTALL)
        if word.startswith("--") and not whole:
            name = word.removeprefix("--")
            continue
        option, value = whole.groups() if whole else (name, word)
        args[option] = value if option not in args else [*_list(args[option]), value]
    args["input_dir"] = _list(args.get("input_dir", []))
    return args


def _list(value):
    return value if isinstance(value, list) else [value]


def main():
    if sys.argv[1] == "-c":
        return
    module, words = sys.argv[2], sys.argv[3:]
    with open(os.environ["STUB_CALLS"], "a") as f:
        f.write(json.dumps([module, *words, "OMP=" + os.environ["OMP_NUM_THREADS"]]) + "\n")
    slow, _, seconds = os.environ.get("STUB_SLEEP", "").partition(":")
    if slow == module:
        time.sleep(float(seconds))
    name, _, word = os.environ.get("STUB_FAIL", "").partition(":")
    if name == module and (not word or word in words):
        print("some output")
        sys.exit(f"{module.split('.')[-1]}: error: wanted to fail")
    MODULES[module](parse(words))


main()
