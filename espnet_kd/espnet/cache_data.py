"""The utterances that a teacher is run over, read as ESPnet's training reads them."""

import random
from argparse import Namespace
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Set, Tuple

import numpy as np
import torch
from espnet2.tasks.asr_transducer import ASRTransducerTask
from espnet2.train.dataset import ESPnetDataset

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.reading import in_one_line
from espnet_kd.fileio import read_table

Item = Tuple[int, str]  # number of the data directory, utterance: sets may share names


def read_samples(data: Sequence[Path]) -> Dict[Item, int]:
    """Read how many audio samples every utterance of all directories has.

    Raises:
        UserError: a file is missing or the files disagree.
    """
    samples: Dict[Item, int] = {}
    for i, folder in enumerate(data):
        audio, texts = read_table(folder / "wav.scp"), read_table(folder / "text")
        try:
            lengths = {utt: int(n) for utt, n in read_table(folder / "utt2num_samples").items()}
        except ValueError as e:
            raise UserError(f"{folder}/utt2num_samples: {e}") from None
        for utt in audio:
            for name, table in (("text", texts), ("utt2num_samples", lengths)):
                if utt not in table:
                    raise UserError(f"{folder}/{name}: lacks '{utt}', which wav.scp has")
            if lengths[utt] < 1:
                raise UserError(f"{folder}/utt2num_samples: '{utt}' is empty")
            samples[i, utt] = lengths[utt]
        if not audio:
            raise UserError(f"{folder}/wav.scp: no utterances")
    return samples


class Utterances(torch.utils.data.Dataset):
    """ESPnet's data sets of several directories as one.

    Args:
        data: The directories.
        audio_type: ESPnet's name for the kind of their wav.scp.
        config: The teacher's `config.yaml`: how it makes labels of text.

    Raises:
        UserError: the tokenizer cannot be built.
    """

    def __init__(self, data: Sequence[Path], audio_type: str, config: Path) -> None:
        raw_config = read_yaml(config, "a teacher is needed")
        defaults = dict.fromkeys(("bpemodel", "non_linguistic_symbols", "cleaner", "g2p"))
        args = Namespace(**{**defaults, **raw_config, "use_preprocessor": True})
        self.token_type = str(raw_config.get("token_type"))
        try:
            self.preprocess = ASRTransducerTask.build_preprocess_fn(args, False)
        except (OSError, RuntimeError) as e:
            name = args.bpemodel or config
            raise UserError(f"{config}: tokens cannot be made with {name}: {e}") from e
        self.sets = [
            ESPnetDataset(
                [
                    (str(folder / "wav.scp"), "speech", audio_type),
                    (str(folder / "text"), "text", "text"),
                ],
                preprocess=self.preprocess,
            )
            for folder in data
        ]

    def __getitem__(self, item: Item) -> Tuple[str, Dict[str, np.ndarray]]:
        """Return name, speech (S,) and text (U,)."""
        i, utt = item
        try:
            return self.sets[i][utt]
        except (OSError, RuntimeError) as e:  # soundfile's errors are RuntimeErrors
            raise UserError(f"{utt}: audio cannot be read: {e}") from e

    def labels(self, item: Item) -> np.ndarray:
        """Return the labels alone, without a look at the audio. (U,)"""
        i, utt = item
        return self.preprocess(utt, {"text": self.sets[i].loader_dict["text"][utt]})["text"]

    def load(
        self, batches: List[List[Item]], num_workers: int
    ) -> Iterator[Tuple[List[Item], Dict[str, torch.Tensor]]]:
        """Yield the items of each batch and its padded tensors.

        Raises:
            UserError: audio cannot be read.
        """
        loader = torch.utils.data.DataLoader(
            self,
            batch_sampler=batches,
            collate_fn=ASRTransducerTask.build_collate_fn(Namespace(), False),
            num_workers=min(num_workers, len(batches)),
        )
        for items, (_, batch) in zip(batches, in_one_line(loader)):
            yield items, batch


def plan_batches(
    samples: Mapping[Item, int], todo: Set[Item], batch_bins: int, nj: int, job: int
) -> List[List[Item]]:
    """Make batches of utterances of about one length, less what is finished.

    They are the same in every run. A random order lets the ETA mean something; the longest
    batch comes first, so that too little memory shows at once.

    Args:
        samples: Length of every utterance.
        todo: Utterances that are not finished.
        batch_bins: Audio samples of a batch, padding included.
        nj: Processes that share the work.
        job: Number of this job, from 1; 0: all the work.
    """
    batches: List[List[Item]] = [[]]
    for item in sorted(samples, key=lambda item: (-samples[item], item)):
        longest = samples[batches[-1][0]] if batches[-1] else 0
        if longest * (len(batches[-1]) + 1) > batch_bins:
            batches.append([])
        batches[-1].append(item)
    rest = batches[1:]
    random.Random(0).shuffle(rest)
    batches = batches[:1] + rest
    if job:
        batches = batches[job - 1 :: nj]
    left = ([item for item in batch if item in todo] for batch in batches)
    return [batch for batch in left if batch]
