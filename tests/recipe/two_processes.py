"""Trainings of two processes on the CPU, forked from this one: ESPnet is imported once.

    python two_processes.py '[["--output_dir", "a", ...], null]' '[["--output_dir", "b", ...], 8]'

Each argument is a training: its words, and the update at which its second process is killed.
Prints `exit codes: <first> <second>` for each training, among what ESPnet prints.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys

import espnet_kd.espnet.task  # noqa: F401  before the fork
from espnet_kd.bin.train import main
from espnet_kd.espnet.model import DistilTransducer


def rank_main(rank, port, words, killed_at):
    if rank == 1 and killed_at is not None:
        forward, calls = DistilTransducer.forward, []

        def die(self, *args, **kwargs):
            calls.append(self.training)
            if sum(calls) == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return forward(self, *args, **kwargs)

        DistilTransducer.forward = die
    words += ["--dist_backend", "gloo", "--dist_init_method", f"tcp://localhost:{port}"]
    words += ["--dist_world_size", "2", "--dist_rank", str(rank)]
    main([*words, "--multiprocessing_distributed", "false"])


def train(words, killed_at):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=rank_main, args=(rank, port, words, killed_at)) for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=600)
    return [rank.exitcode for rank in ranks]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print("exit codes:", *train(*json.loads(argument)), flush=True)
