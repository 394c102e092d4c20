"""Rules become numbers: a study and its corpora give the runs and evaluations to do, and what is left out and why."""

from __future__ import annotations

import numpy as np

from ecgscale.data.mixture import Mixture
from ecgscale.data.split import SplitRule, corpus_parts
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.evaluation.windows import WindowError, Windows
from ecgscale.lab import read_failures
from ecgscale.runs import Recipe, Role, RunSpec
from ecgscale.spec import Plugin, SpecError
from ecgscale.study.bind import Binder, Source
from ecgscale.study.labels import LabelRule, Ranked, Subset, rank, subsets
from ecgscale.study.overlap import checked
from ecgscale.study.plan import Plan, PlannedEval, PlannedRun, Search
from ecgscale.study.shift import relation
from ecgscale.study.stored import trial_score
from ecgscale.study.study import Arm, Evaluation, Family, Study, StudyError
from ecgscale.study.tuning import search
from ecgscale.training import recipe
from ecgscale.training.size import SizeError, solve
from ecgscale.training.size import size as parameters


def expand(study: Study, binder: Binder) -> Plan:
    """Return the plan of a study; corpora that are missing are ingested on the way.

    Raises:
        StudyError: data are not bound, a corpus cannot take the study's form, D exceeds the training part, or training
            patients would be tested.
    """
    plan = Plan(study)
    for arm in study.arm:
        _Expansion(plan, binder, arm).run()
    if not plan.runs:
        raise StudyError(
            f"{study.name}: nothing to run; {'; '.join(s['reason'] for s in plan.skipped) or 'no family matches'}"
        )
    return plan


class _Expansion:
    """One arm's share of the plan."""

    def __init__(self, plan: Plan, binder: Binder, arm: Arm) -> None:
        self.plan, self.study, self.binder, self.arm = plan, plan.study, binder, arm
        unknown = set(arm.families) - {f.name for f in self.study.family}
        if unknown:
            raise StudyError(f"arm {arm.name}: no family {', '.join(sorted(unknown))}")
        self.families = [f for f in self.study.family if not arm.families or f.name in arm.families]
        self.failed = read_failures(binder.lab, self.study.name)
        self.ranks: dict[LabelRule, Ranked] = {}

    def run(self) -> None:
        self.source = self._open(self.binder.pretrain(self.arm))
        self.corpus = self.source.open()
        self.samples = self._samples()
        self.train = corpus_parts(self.corpus, self.study.split, self.study.order)["train"]
        self.evaluations = self._evaluations()
        trained = self.train[: max(self.arm.records)]
        self.plan.overlaps += [
            checked(self.study.name, self.source.label, self.corpus, trained, e) for e in self.evaluations
        ]
        for e in self.evaluations:
            measured = self.plan.encoded if e.not_by_hand else self.plan.handcrafted
            measured += [e] if e not in measured else []
            if e.not_by_hand:
                self.plan.skip(f"{e.title} on {e.source.label}, {e.spec.protocol_name}: hand-crafted", e.not_by_hand)
        if self.study.training.branches:
            ends = ", ".join(f"{share:g}" for share in sorted(self.study.training.branches))
            note = (
                f"runs also end at {ends} of their steps, each for a decay's price; points of one trunk are correlated"
            )
            self.plan.notes += [note] if note not in self.plan.notes else []
        codebook = self._codebook()
        for family in self.families:
            self._family(family, codebook)
        self._random()
        self._external()

    def _samples(self) -> int:
        """Return the length of the windows that networks are trained on."""
        try:
            crop = Windows.of(self.corpus, self.study.training.crop_s)
        except WindowError as error:
            raise StudyError(f"{self.study.name}: training.crop_s: {error}") from None
        coded = [f.name for f in self.families if "codes" in f.objective.needs]
        if crop.samples not in (None, self.corpus.samples) and coded:
            raise StudyError(
                f"{self.study.name}: {coded[0]} predicts codes of whole records and cannot be trained on crops: leave "
                "out training.crop_s, or the family"
            )
        return crop.samples or self.corpus.samples

    def _open(self, source: Source) -> Source:
        self.plan.sources.setdefault(source.label, source)
        return source

    def _evaluations(self) -> tuple[PlannedEval, ...]:
        return tuple(e for e in map(self._evaluation, self.study.evaluate) if e is not None)

    def _evaluation(self, rule: Evaluation) -> PlannedEval | None:
        title = f"{rule.task.title} on {rule.data}"
        source = self.source if rule.data == "pretrain" else self.binder.source(rule.data, self.arm)
        if source is None:
            self.plan.skip(title, f"data `{rule.data}` is optional and not bound")
            return None
        corpus = self._open(source).open()
        try:
            labels = tuple(str(name) for name in rule.task.targets(corpus.index).columns)
        except (ValueError, SpecError) as error:  # the corpus does not carry them
            self.plan.skip(title, str(error))
            return None
        try:
            Windows.of(corpus, rule.crop_s)
        except WindowError as error:
            raise StudyError(f"{self.study.name}: {title}: {error}") from None
        spec = EvalSpec(
            corpus=corpus.digest,
            task=rule.task,
            protocol=rule.protocol,
            settings=rule.settings,
            crop_s=rule.crop_s,
            fraction=rule.fraction,
            split=self._split(rule),
            order=self.study.order,
            train=rule.train,
            validation=rule.validation,
            test=rule.test,
            resamples=self.study.resamples,
        )
        floor = rule.task.floor(corpus.manifest)
        if floor is not None:
            self.plan.floors.setdefault(source.label, {})[rule.task.title] = floor
        trained_on = {label for f in self.families for label in f.trained_on(self.corpus.labels)}
        found = relation(self.corpus, corpus, labels, trained_on, rule.shift)
        split = rule.split or ("id" if found.by_rule == "same" else "ood")
        return PlannedEval(spec, source, split, found.shift, rule.task.title, found)

    def _split(self, rule: Evaluation) -> SplitRule:
        """Return how the corpus of an evaluation is parted: as the study's, unless the evaluation says otherwise."""
        if rule.fractions is not None:
            return SplitRule(by="patients", fractions=rule.fractions)
        return self.study.split if rule.by in (None, self.study.split.by) else SplitRule(by=rule.by)

    def _codebook(self) -> str | None:
        rule = self.study.codebook
        if rule is None or not any("codes" in f.objective.needs for f in self.families):
            return None
        if "beats" in rule.objective.needs and not self._has_beats():
            return None
        spec, _ = solve(rule.backbone, rule.size, len(self.corpus.leads), self.samples)
        D = min(max(self.arm.records), len(self.train))
        how = self._recipe(rule.lr, rule.steps, rule.batch)
        return self._add("codebook", spec, rule.objective, D, 0, how, rule.size, None, ())

    def _has_beats(self) -> bool:
        return bool((self.corpus.index["beats"].str.len() > 0).any())

    def _shares(self, D: int) -> dict[str, int] | None:
        """Return how many of the first D training records each source of a mixture gives."""
        if not isinstance(self.corpus, Mixture):
            return None
        sources = self.corpus.source_of(self.train)
        taken, all_of_it = (np.bincount(s, minlength=len(self.corpus.names)) for s in (sources[:D], sources))
        shares = dict(zip(self.corpus.names, taken.tolist(), strict=True))
        gone = [n for n, have, whole in zip(self.corpus.names, taken, all_of_it, strict=True) if have == whole]
        text = f"D = {D:,} of {self.source.label}: " + ", ".join(f"{n} {count:,}" for n, count in shares.items())
        if gone and len(self.train) > D:
            text += f"; {', '.join(gone)} has run out, the rest comes from the others"
        if text not in self.plan.notes:
            self.plan.notes.append(text)
        return shares

    def _family(self, family: Family, codebook: str | None) -> None:
        refusal = self._refusal(family, codebook)
        if refusal:
            self.plan.skip(family.name, refusal)
            return
        objective = family.objective
        if "codes" in objective.needs:
            objective = objective.model_copy(update={"codebook": codebook})
        used = codebook if "codes" in objective.needs else None
        ranked = self._ranked(family)
        if ranked is not None:
            objective = objective.model_copy(update={"labels": tuple(sorted(ranked.names))})
        sizes = [D for D in self.arm.records if len(self.train) >= D]
        for D in sorted(set(self.arm.records) - set(sizes)):
            self.plan.skip(f"D = {D:,} on {self.source.label}", f"its training part has {len(self.train):,} records")
        for size in self.arm.sizes if sizes else ():
            try:
                spec, _ = solve(family.backbone, size, len(self.corpus.leads), self.samples)
            except SizeError as error:
                self.plan.skip(f"{family.name} at {size:,} parameters", str(error))
                continue
            batch = family.batch or self.study.training.batch
            lr, final = self._rate(family, size, spec, objective, batch, used, sizes)
            if lr is None:
                self.plan.skip(f"{family.name} at {size:,} parameters", "every learning rate that was tried failed")
                continue
            for D in sizes:
                for seed in self._seeds(size):
                    before: tuple[str, int] | None = None
                    for how in self._ends(lr, self._steps(D), batch):
                        last: Role = "grid" if self.arm.fit else "baseline"
                        role: Role = last if how.steps == self._steps(D) else "branch"
                        uid = self._add(role, spec, objective, D, seed, how, size, used, None, not final, before)
                        before = (uid, how.fork or 0)
                    for subset in self._subsets(family, ranked, seed):
                        fewer = objective.model_copy(update={"labels": subset.names})
                        self._add("labels", spec, fewer, D, seed, how, size, used, None, not final, None, subset.order)

    def _ranked(self, family: Family) -> Ranked | None:
        """Return the labels of a family that chooses them by a rule, and say which."""
        if family.labels is None:
            return None
        ranked = self._rank(family.labels)
        said = ranked.said(family.labels, self.source.label)
        self.plan.notes += [said] if said not in self.plan.notes else []
        for count in family.labels.counts:
            if count >= len(ranked.names):
                why = f"{self.source.label} has {len(ranked.names):,} with a positive training record"
                self.plan.skip(f"{family.name} on {count:,} of its labels", why)
        return ranked

    def _rank(self, rule: LabelRule) -> Ranked:
        """Return the labels of a rule in the training part, counted once for all families of the arm."""
        if rule not in self.ranks:
            self.ranks[rule] = rank(self.corpus, self.train, rule)
        return self.ranks[rule]

    def _subsets(self, family: Family, ranked: Ranked | None, seed: int) -> list[Subset]:
        """Return the subsets of its labels that a family is trained on beside all of them, in arms that are fitted."""
        return subsets(family.labels, ranked, seed)[1:] if family.labels and ranked and self.arm.fit else []

    def _rate(
        self, family: Family, size: int, spec: Plugin, objective: Plugin, batch: int, codebook: str | None,
        records: list[int],
    ) -> tuple[float | None, bool]:  # fmt: skip
        """Return the learning rate of a family at a size, None where all failed, and whether it is final."""
        if isinstance(family.lr, str):
            try:
                start = recipe.rate(family.lr, family.name, size)
            except recipe.RateError as error:
                raise StudyError(f"{self.study.name}: {error}") from None
        else:
            start = family.lr * (size / min(self.arm.sizes)) ** family.lr_exponent
        if self.study.rates != "tuned":
            return start, True
        D = sorted(records)[len(records) // 2]
        probed = tuple(e for e in self.evaluations if e.split == "id" and e.plain)
        if not (objective.comparable or probed):  # type: ignore[attr-defined]
            raise StudyError(
                f'{self.study.name}: tuning {family.name} needs an evaluation with split = "id": '
                "its own loss cannot be compared between runs"
            )

        def score(lr: float) -> float | None:
            how = self._recipe(lr, self._steps(D), batch)
            uid = self._add("tune", spec, objective, D, self.arm.seeds[0], how, size, codebook, probed)
            return trial_score(self.binder.lab, self.failed, uid, objective, probed)

        found = search(start, self.study.tune.factors, score)
        criterion = "validation loss" if objective.comparable else "probe loss, validation part"  # type: ignore[attr-defined]
        self.plan.tuning.append(Search(family.name, self.arm.name, size, D, criterion, found))
        return (start, False) if found.waiting else (found.lr, True)

    def _refusal(self, family: Family, codebook: str | None) -> str | None:
        if family.backbone.comes_trained:
            return "an external checkpoint is not trained: name it in [[external]]"
        needs = family.objective.needs | family.backbone.needs
        if "labels" in needs:
            missing = [n for n in family.objective.labels if f"label.{n}" not in self.corpus.index]
            if missing:
                return f"{self.source.label} has no label {', '.join(missing)}"
            if family.labels is not None and not self._rank(family.labels).names:
                return f"{self.source.label} has no label `{family.labels.prefix}…` with a positive training record"
        if "beats" in needs and not self._has_beats():
            return f"no beat was found in {self.source.label}"
        if "codes" in needs and codebook is None:
            return "the study has no [codebook]"
        if "causal" in needs and not family.backbone.is_causal:
            return f"{family.objective.part_name()} needs a causal backbone"
        if "hides_tokens" in needs and not family.backbone.hides_tokens:
            return f"{family.objective.part_name()} needs a backbone whose tokens can be hidden"
        return None

    def _seeds(self, size: int) -> tuple[int, ...]:
        return self.arm.seeds + (self.arm.extra_seeds if size in self.arm.extra_sizes else ())

    def _steps(self, D: int) -> int:
        rule = self.study.training
        if rule.rule == "equal_steps":
            if rule.steps is None:
                raise StudyError(f"{self.study.name}: `training.steps` is missing (the rule is equal_steps)")
            return rule.steps
        if rule.epochs is None:
            raise StudyError(f"{self.study.name}: `training.epochs` is missing (the rule is equal_epochs)")
        return max(1, round(rule.epochs * D / rule.batch))

    def _ends(self, lr: float, steps: int, batch: int) -> list[Recipe]:
        """Return the recipes of the runs that share a trunk, the shortest first."""
        ends = sorted({max(1, round(share * steps)) for share in (*self.study.training.branches, 1.0)})
        return [self._recipe(lr, end, batch, ends[0]) for end in ends]

    def _recipe(self, lr: float, steps: int, batch: int, shortest: int | None = None) -> Recipe:
        """Return the recipe of so many steps; the warm-up is that of the shortest run of its trunk."""
        rule = self.study.training
        decay = max(1, round(rule.decay * steps)) if rule.schedule == "wsd" else 0
        return Recipe(
            steps=steps, batch=batch, lr=lr, warmup=round(rule.warmup * (shortest or steps)), schedule=rule.schedule,
            decay=decay, weight_decay=rule.weight_decay, clip=rule.clip,
            validations=min(rule.validations, decay or steps), validation_records=rule.validation_records,
            test_records=rule.test_records,
        )  # fmt: skip

    def _random(self) -> None:
        """Random weights of every backbone and size: the baseline of every evaluation."""
        for backbone in dict.fromkeys(f.backbone for f in self.families):
            for size in self.arm.sizes:
                try:
                    spec, _ = solve(backbone, size, len(self.corpus.leads), self.samples)
                except SizeError:
                    continue
                self._add("baseline", spec, None, 0, 0, Recipe(steps=0, batch=1, lr=0.0), size, None)

    def _external(self) -> None:
        """Checkpoints from elsewhere, on every corpus that meets their contract."""
        for spec in self.study.external:
            measured = []
            for e in self.evaluations:
                refusal = spec.refusal(e.source.open())
                if refusal:
                    self.plan.skip(f"{spec.called} on {e.source.label}: {e.title}", refusal)
                else:
                    measured.append(e)
            if measured:
                target = parameters(spec, len(spec.leads), spec.samples)
                self._add("baseline", spec, None, 0, 0, Recipe(steps=0, batch=1, lr=0.0), target, None, tuple(measured))

    def _add(
        self, role: Role, backbone: Plugin, objective: Plugin | None, D: int, seed: int, recipe: Recipe, target: int,
        codebook: str | None, evaluations: tuple[PlannedEval, ...] | None = None, provisional: bool = False,
        before: tuple[str, int] | None = None, label_order: str = "",
    ) -> str:  # fmt: skip
        """Plan a run, with all of the arm's evaluations unless told which; returns its uid.

        `before` is the run on whose trunk it goes on, and the step; `label_order` how a subset of labels was chosen.
        """
        training = self.study.training
        own: Role = role if role in ("codebook", "tune") else "grid"  # what enters no law trains the same runs
        run = RunSpec(
            role="baseline" if objective is None else own,
            backbone=backbone,
            objective=objective,
            leads=len(self.corpus.leads),
            samples=self.samples,
            corpus="" if objective is None else self.corpus.digest,
            split=self.study.split if objective is not None else SplitRule(by="patients"),
            order=self.study.order if objective is not None else 0,
            D=D,
            D_by_source=self._shares(D) if objective is not None else None,
            seed=seed,
            recipe=recipe,
            precision=training.precision,
            threads=training.threads,
        )
        key = run.uid if objective is not None else f"{run.uid}.{self.arm.name}"
        measured = self.evaluations if evaluations is None else evaluations
        planned = PlannedRun(
            run, self.arm.name, role, target, self.source, codebook, measured, provisional, before and before[0],
            before[1] if before else 0, label_order,
        )  # fmt: skip
        self.plan.runs.setdefault(key, planned)
        return run.uid
