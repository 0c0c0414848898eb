"""One turn of stage 16: a student, from its derivation to its manifest.

Each part can be run alone. Whether it has anything to do is asked of `run/step.py` alone.
"""

import contextlib
import glob
import os
import shutil
from pathlib import Path
from typing import Callable, List, Optional

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.run.decoding import decode_model, score_model
from espnet_kd.run.espnet_names import training_names, whole_names
from espnet_kd.run.judgement import judge
from espnet_kd.run.label_sets import TrainingSet, check_label_sets, training_set
from espnet_kd.run.lock import PATIENCE, held
from espnet_kd.run.recipe import Recipe, count_lines
from espnet_kd.run.students import (
    StudentInRun,
    check_checkpoint,
    plan_words,
    read_students,
    student_at,
)
from espnet_kd.run.training import is_trained, train_model
from espnet_kd.run.training_options import words_of
from espnet_kd.spec.stage import PREVIOUS
from espnet_kd.spec.teacher_kinds import only_teaches


class Turn:
    """A student that is made from its teacher.

    Args:
        recipe: The stage; its name and scope become those of the student.
        number: Number of the student, counted over all paths from 1.
    """

    def __init__(self, recipe: Recipe, number: int) -> None:
        self.recipe, self.settings = recipe, recipe.settings
        recipe.title = f"compression stage {number}"
        self.number = number
        self.read()
        recipe.title = f"compression stage {number}, {self.student.name}"
        recipe.scope += f" --compression_stage {number} --stop_compression_stage {number}"

    def read(self) -> None:
        """Read the plan, and what gates have measured by now."""
        self.students = read_students(self.settings)
        check_label_sets(self.settings, self.students)
        check_checkpoint(self.settings, self.students)
        self.student: StudentInRun = student_at(self.students, self.number, self.settings)

    @property
    def last(self) -> bool:
        """Whether no student follows; a gate may add some, or end the list."""
        return self.number >= len(self.students)

    @property
    def _until(self) -> List[str]:
        """Options of the training if a gate has asked for more epochs."""
        until = self.student.plan.until
        return ["--max_epoch", str(until)] if until else []

    @property
    def _force(self) -> bool:
        """Whether the training begins anew; what was trained may be the beginning of this."""
        return self.settings.force and not self._until

    @property
    def _cached(self) -> bool:
        return self.settings.use_teacher_cache and self.student.hears_cache

    def run(self) -> None:
        """Do everything."""
        settings, student = self.settings, self.student
        total = len(self.students)
        self.recipe.log(f"Compression stage {self.number} of {total}: {student.name}")
        gate = f"{student.folder}/gate.json"
        if settings.force and os.path.isfile(gate):
            os.unlink(gate)
            self.read()
        while True:
            self.derive()
            data = self.labels()
            self._train_on(data)
            if not self.gate():
                break
        self.decode()
        self.score()
        self.manifest()

    def _train_on(self, data: TrainingSet) -> None:
        """Train, and see to the cache before."""
        # A finished training reads no cache, which may have been deleted, unless it goes on.
        if is_trained(self.recipe, self.student.folder) and not self._force:
            self._train(data, lambda: self.cache(data))
            return
        options = self.cache(data)
        self._train(data, lambda: options)

    def _need_teacher(self) -> None:
        student = self.student
        self.recipe.need(f"{student.teacher}/config.yaml", student.teacher_maker)
        model = f"{student.teacher}/{self.settings.inference_asr_model}"
        self.recipe.need(model, student.teacher_maker)
        if student.taught_by != student.teacher:
            for name in ("config.yaml", self.settings.inference_asr_model):
                self.recipe.need(f"{student.taught_by}/{name}", student.taught_by_maker)

    def derive(self) -> None:
        """Make the student's training config and its first weights."""
        recipe, settings, student = self.recipe, self.settings, self.student
        self._need_teacher()
        folder, teacher, model = student.folder, student.teacher, settings.inference_asr_model
        # What the files say counts, not what they are called.
        words = [
            "kind:derive",
            *student.derived_from(),
            f"config:{settings.student_config}",
            f"teacher_model={model}",
            f"file:{teacher}/config.yaml",
            f"file:{teacher}/{model}",
            "out:student.yaml",
            "out:init.pth",
            "out:student.json",
        ]
        taught_by = student.taught_by if student.taught_by != teacher else ""
        if taught_by:
            words += [f"file:{taught_by}/config.yaml", f"file:{taught_by}/{model}"]
        template = self._template()
        if template and student.plan.teacher is None:
            words.append(f"config:{template}")
        verdict = recipe.decide(folder, "derive", words, self._force).verdict
        if verdict == "finished":
            return
        command = recipe.python(
            "derive_student",
            *plan_words(settings),
            *("--student", student.name),
            *("--teacher_exp", teacher),
            *("--teacher_model", model),
            *("--first_teacher_exp", settings.asr_exp),
            *("--first_teacher_model", model),
            *("--data", settings.valid_dir),
            *("--out", folder),
        )
        if taught_by:
            command += ["--taught_by_exp", taught_by]
        if template:
            command += ["--template", template]
        words_given = whole_names(words_of(settings.kd_args), training_names())
        given = " ".join(name for name, _ in words_given)
        if given:
            command += ["--overruled", given]
        if verdict == "refresh":
            command += ["--training_only", "true"]
        log = f"{folder}/derive.log"
        recipe.submit(recipe.commands.train, log, command)
        # What was derived stands on one line, after what ESPnet says when it is imported.
        recipe.line_of_log(f"{student.name}: ", f"derived, log: {log}")
        recipe.done(folder, "derive")

    def _template(self) -> str:
        """Name the config of what stands in for an imported teacher that is not cut; or ''."""
        if not self.settings.teacher_exp:
            return ""
        config = read_yaml(f"{self.settings.asr_exp}/config.yaml", "a teacher is needed")
        return "" if only_teaches(config) is None else self.settings.asr_config

    def labels(self) -> TrainingSet:
        """Return what the student is trained on, made if need be."""
        return training_set(self.recipe, self.student, self._force)

    def cache(self, data: Optional[TrainingSet] = None) -> List[str]:
        """Compute once what the teacher says of each utterance.

        Args:
            data: Data that the student is trained on; None: as `labels` says.

        Returns:
            Options by which the student's training reads it.
        """
        recipe, settings, student = self.recipe, self.settings, self.student
        if not self._cached:
            return []
        self._need_teacher()
        data = data or self.labels()
        teacher, model = student.taught_by, settings.inference_asr_model
        # One that may teach several students is asked once. Hard labels are of this student alone.
        named = student.plan.taught_by != PREVIOUS
        shared = named and data.folder == settings.train_dir
        cache = f"{teacher if shared else student.folder}/teacher_cache"
        sets = {"train": data.folder, "valid": settings.valid_dir}
        for folder in sets.values():
            recipe.need(f"{folder}/wav.scp", "4")
        tables = {part: f"{os.path.basename(folder)}/teacher.scp" for part, folder in sets.items()}
        words = [
            "kind:resume",
            f"cache_band={settings.cache_band}",
            f"file:{teacher}/config.yaml",
            f"file:{teacher}/{model}",
            *(f"data:{folder}" for folder in sets.values()),
            *(f"out:{table}" for table in tables.values()),
            "out:fingerprint.json",
        ]
        # Runs with an --expdir of their own may share the teacher: one of them makes its cache.
        alone = held(teacher, PATIENCE, recipe.log) if shared else contextlib.nullcontext()
        with alone:
            if recipe.needed(cache, "cache", words, self._force):
                self._make_cache(cache, data)
                if not os.path.exists(f"{cache}/{tables['train']}"):  # it does not distil
                    shutil.rmtree(cache, ignore_errors=True)
                    return []
                recipe.done(cache, "cache")
        options = ["--kd_conf", f"teacher_cache={cache}"]
        for part, table in tables.items():
            option = f"--{part}_data_path_and_name_and_type"
            options += [option, f"{cache}/{table},teacher,kaldi_ark"]
        return options

    def _make_cache(self, cache: str, data: TrainingSet) -> None:
        recipe, settings, student = self.recipe, self.settings, self.student
        command = recipe.python(
            "cache_teacher",
            *("--teacher_exp", student.taught_by),
            *("--teacher_model", settings.inference_asr_model),
            *("--data", data.folder),
            *("--data", settings.valid_dir),
            *("--audio_type", "sound"),
            *("--out", cache),
            *("--band", str(settings.cache_band)),
            *("--student_config", f"{student.folder}/student.yaml"),
            f"--student_args={settings.kd_args}",  # one word: it begins with dashes
        )
        run, device, options = recipe.commands.train, [], {}
        if settings.ngpu > 0:
            # The local backend hands out no GPUs: two jobs would share one.
            count = 1 if recipe.commands.backend == "local" else settings.ngpu
            run, device, options = recipe.commands.cuda, ["--ngpu", "1"], {"gpu": 1}
        else:
            count = min(settings.nj, count_lines(f"{data.folder}/wav.scp"))
        recipe.log(f"Teacher cache {cache} with {count} job(s), log: {cache}/cache*.log")
        if count > 1:
            share = ["--nj", str(count), "--job", "JOB"]
            recipe.submit(
                run, f"{cache}/cache.JOB.log", [*command, *device, *share], count, **options
            )
            run, device, options = recipe.commands.train, [], {}
        # Alone it does all; after others it joins what they have made.
        recipe.submit(run, f"{cache}/cache.log", [*command, *device], **options)
        recipe.line_of_log("teacher cache ", "no teacher cache is needed")

    def train(self) -> None:
        """Distil; what the training reads is made before if it is missing."""
        recipe, exp = self.recipe, self.student.folder
        recipe.need(f"{exp}/student.yaml", f"16 (--compression_stage {self.number})")
        data = self.labels()
        self._train(data, lambda: self.cache(data))

    def _train(self, data: TrainingSet, options: Callable[[], List[str]]) -> None:
        settings, exp = self.settings, self.student.folder
        given = settings.kd_args.split()
        until = self._until
        config, weights = f"{exp}/student.yaml", f"{exp}/init.pth"
        words = [
            f"config:{config}",
            f"args:{settings.kd_args} {' '.join(until)}",
            f"file:{weights}",
            f"use_teacher_cache={str(self._cached).lower()} (band {settings.cache_band})",
        ]
        if self.student.plan.taught_by != PREVIOUS:  # whose weights are not in its first ones
            words.append(f"file:{self.student.taught_by}/{settings.inference_asr_model}")
        for kind in self.student.plan.method_conf.siblings:
            names = ("config.yaml", settings.inference_asr_model)
            words += [f"out:{kind}/{name}" for name in names]
        start = ["--config", config, "--init_param", weights, *given, *until]
        train_model(
            self.recipe, exp, *data, words, lambda: [*options(), *start], force=self._force
        )

    def gate(self) -> bool:
        """Measure the student, if it has a gate, and read the plan again.

        Returns:
            Whether its training goes on.
        """
        recipe, settings, student = self.recipe, self.settings, self.student
        if student.plan.gate is None:
            return False
        before = self._until
        sets = [settings.valid_set]
        # What is compared was made just now, or is known by its record.
        decode_model(recipe, student.teacher, student.teacher_maker, sets, force=False)
        score_model(recipe, student.teacher, "16", sets, force=False)
        decode_model(recipe, student.folder, "16", sets, force=False)
        score_model(recipe, student.folder, "16", sets, force=False)
        scores = f"{settings.inference_tag}/{settings.valid_set}"
        exp, teacher = Path(student.folder), Path(student.teacher)
        print(judge(student.plan, exp, teacher, scores), flush=True)
        self.read()
        return self._until != before

    def decode(self) -> None:
        """Decode the test sets."""
        decode_model(self.recipe, self.student.folder, "16")
        for _, folder, planned in self.student.siblings:
            decode_model(self.recipe, folder, "16", sibling=planned)

    def score(self) -> None:
        """Count the errors on the test sets."""
        score_model(self.recipe, self.student.folder, "16")
        for _, folder, planned in self.student.siblings:
            score_model(self.recipe, folder, "16", sibling=planned)

    def manifest(self) -> None:
        """Write down what the finished student was made from, whenever something of it changes."""
        from espnet_kd.plan.manifest import write_manifest

        recipe, settings, student = self.recipe, self.settings, self.student
        exp, model = student.folder, settings.inference_asr_model
        words = [f"file:{settings.compression_config}"]
        words += [f"file:{exp}/{name}" for name in (model, "config.yaml", "init.pth")]
        words.append(f"file:{student.teacher}/{model}")
        # The scores of all sets, decoded in whatever way.
        pattern = f"{glob.escape(exp)}/*/"
        scores = [
            path
            for sets in ("*", "org/*")
            for path in sorted(glob.glob(f"{pattern}{sets}/score_wer/result.txt"))
        ]
        for path in (f"{exp}/gate.json", *scores):
            if os.path.isfile(path):
                words.append(f"file:{path}")
        if recipe.needed(exp, "manifest", ["kind:note", *words, "out:manifest.json"]):
            write_manifest(
                Path(exp),
                student.plan,
                Path(settings.compression_config),
                Path(student.teacher),
                model,
            )
            recipe.done(exp, "manifest")
