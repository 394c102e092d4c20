"""The commands. No logic: each calls one function of the library and prints what it returns."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

TABLES = (".csv", ".parquet")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False
)

StudyArg = Annotated[str, typer.Argument(help="A study file (.toml) or the name of a packaged study.")]
LabOpt = Annotated[Path, typer.Option("--lab", help="Directory of results.")]
DataOpt = Annotated[list[str] | None, typer.Option("--data", metavar="NAME=PATH", help="Bind a data set; repeatable.")]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key; enters the hash.")
]
WorkersOpt = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default one per CPU core.")]
DeviceOpt = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
HoursOpt = Annotated[float | None, typer.Option("--hours", min=0, help="Stop after so much time, to go on later.")]
FlopsOpt = Annotated[float | None, typer.Option("--flops", min=0, help="Stop after so many FLOP of training.")]
OnOpt = Annotated[str, typer.Option("--on", metavar="EXECUTOR", help="Where runs are trained: local, slurm or ray.")]
OptionOpt = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Setting of --on, as partition=gpu; repeatable."),
]
WatchOpt = Annotated[bool, typer.Option("--watch", help="Again every few seconds until nothing is left to do.")]
NOpt = Annotated[str | None, typer.Option("--n", metavar="COL", help="Of a table: parameters N.")]
DOpt = Annotated[str | None, typer.Option("--d", metavar="COL", help="Of a table: unique records D.")]
COpt = Annotated[str | None, typer.Option("--c", metavar="COL", help="Of a table: compute; without D, D is C / 6N.")]
LossOpt = Annotated[str | None, typer.Option("--loss", metavar="COL", help="Of a table: the loss.")]
GroupOpt = Annotated[str | None, typer.Option("--group", metavar="COL", help="Of a table: values are fitted apart.")]
TaskOpt = Annotated[
    str | None, typer.Option("--task", help="A task of the study, or CORPUS/TASK where several corpora have it.")
]
ProtocolOpt = Annotated[str | None, typer.Option("--protocol", help="How the task was measured; default linear.")]
ShrinkOpt = Annotated[
    bool, typer.Option("--shrink", help="All of it in a minute, on samples of the data sets: STUDY-shrunk.")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    study: StudyArg, lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None,
    workers: WorkersOpt = None, device: DeviceOpt = "auto", hours: HoursOpt = None, flops: FlopsOpt = None,
    on: OnOpt = "local", option: OptionOpt = None, shrink: ShrinkOpt = False,
) -> None:  # fmt: skip
    """Do all of a study: ingest, train, evaluate, fit, report. Skips what is done, resumes what broke."""
    options = _values(option, "--option")
    _api(study).run(
        study, lab, _pairs(data), _values(changes), workers, device, hours, flops, _command(), on, options, shrink
    )


@app.command()
def plan(
    study: StudyArg, lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None,
    workers: WorkersOpt = None, device: DeviceOpt = "auto",
    declared: Annotated[
        bool, typer.Option("--declared", help="Without the data: their declared sizes, rates timed on samples.")
    ] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Instead: can the grid identify exponents? Nothing is trained.")
    ] = False,
    alpha: Annotated[float | None, typer.Option("--alpha", min=0.01, help="Planted; default as published.")] = None,
    beta: Annotated[float | None, typer.Option("--beta", min=0.01, help="Planted; default as published.")] = None,
    noise: Annotated[float, typer.Option("--noise", min=0, help="Planted, of one run's log loss.")] = 0.02,
    floor: Annotated[float, typer.Option("--floor", min=0, max=0.99, help="Planted share of E in the loss.")] = 0.3,
    simulations: Annotated[int, typer.Option("--simulations", min=10, help="Simulated studies.")] = 200,
    shrink: ShrinkOpt = False,
) -> None:  # fmt: skip
    """Say what a study will train, what it costs here, and what is left out and why; refuse what cannot fit."""
    if simulate:
        _show(study).show_simulation(study, _values(changes), noise, floor, alpha, beta, simulations)
        return
    _show(study).show_plan(study, lab, _pairs(data), _values(changes), workers, device, declared, shrink)


@app.command()
def bench(
    study: Annotated[str, typer.Argument(help="A study file (.toml) or the name of a packaged study.")] = "quickstart",
    lab: LabOpt = Path("lab"), changes: SetOpt = None, workers: WorkersOpt = None, device: DeviceOpt = "auto",
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Of timed work.")] = 90.0,
) -> None:  # fmt: skip
    """Time every kind of run of a study here, all workers at once (two minutes), for later plans."""
    _show(study).show_bench(study, lab, _values(changes), workers, device, seconds)


@app.command()
def status(
    study: StudyArg, lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None, watch: WatchOpt = False,
) -> None:  # fmt: skip
    """Say what is done, running, waiting and failed, how fast it goes and when it ends."""
    from ecgscale import watch as watching

    watching.show_status(study, lab, _pairs(data), _values(changes), watch)


@app.command()
def tensorboard(
    study: StudyArg, out: Annotated[Path, typer.Option("--out", help="Folder of the event files.")],
    lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None,
) -> None:  # fmt: skip
    """Write the curves of every run, finished or not, as event files of TensorBoard."""
    _show(study).show_events(study, lab, _pairs(data), _values(changes), out)


@app.command()
def fit(
    study: Annotated[str, typer.Argument(help="A study, or a table of runs (.csv, .parquet): N, D, loss.")],
    out: Annotated[Path | None, typer.Argument(help="Where --json writes; without it, it prints.")] = None,
    lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None, as_json: JsonOpt = False,
    law: Annotated[str, typer.Option("--law", help="Of a table: one that `ecgscale list laws` prints.")] = "scaling",
    n: NOpt = None, d: DOpt = None, c: COpt = None, loss: LossOpt = None, group: GroupOpt = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", metavar="INPUT=COL", help="Another input of the law; repeatable.")
    ] = None,
    floor: Annotated[float | None, typer.Option("--floor", min=0, help="The irreducible loss, if known.")] = None,
    bootstraps: Annotated[int, typer.Option("--bootstraps", min=0, help="Resamples of the runs.")] = 1000,
) -> None:  # fmt: skip
    """Fit the scaling laws of a study's table, or a law to any table of runs."""
    if out is not None and not as_json:
        raise typer.BadParameter(f"{out} is where --json would write; add --json")
    if Path(study).suffix in TABLES:
        from ecgscale import show_tables

        columns = _columns({"N": n, "D": d, "C": c, "value": loss}, column)
        show_tables.show_file_fits(Path(study), law, columns, group, floor, bootstraps, as_json, out)
        return
    _show(study).show_fits(study, lab, _pairs(data), _values(changes), as_json, out)


@app.command()
def audit(
    table: Annotated[Path, typer.Argument(help="Anybody's results (.csv, .parquet), one row per run.")],
    n: NOpt = None, d: DOpt = None, c: COpt = None, loss: LossOpt = None, group: GroupOpt = None,
    as_json: JsonOpt = False,
) -> None:  # fmt: skip
    """Print the honesty checklist of anybody's scaling results, and their fits; no training needed."""
    from ecgscale import show_tables

    show_tables.show_audit(table, _columns({"N": n, "D": d, "C": c, "value": loss}, None), group, as_json)


@app.command()
def advise(
    study: Annotated[str | None, typer.Argument(help="A study whose laws answer; none with --published.")] = None,
    lab: LabOpt = Path("lab"), task: TaskOpt = None, protocol: ProtocolOpt = None,
    params: Annotated[float | None, typer.Option("--params", min=1, help="Largest N, parameters.")] = None,
    records: Annotated[float | None, typer.Option("--records", min=1, help="Unlabelled ECGs there are.")] = None,
    labels: Annotated[
        float | None,
        typer.Option("--labels", min=1, help="ECGs with labels: all a supervised family can use; the task's own, too."),
    ] = None,
    flops: Annotated[float | None, typer.Option("--flops", min=1, help="Compute of one training, FLOP.")] = None,
    hours: Annotated[
        float | None, typer.Option("--gpu-hours", min=0, help="The same, as hours of the device the study ran on.")
    ] = None,
    passes: Annotated[float | None, typer.Option("--passes", min=0, help="Times every record is drawn.")] = None,
    published: Annotated[bool, typer.Option("--published", help="From published exponents, marked as such.")] = False,
    as_json: JsonOpt = False,
) -> None:  # fmt: skip
    """Say which family to take under a budget, how sure that is, and what would change the advice."""
    from ecgscale import show_answers
    from ecgscale.answers.advice import Budget

    budget = Budget(params, records, labels, flops, hours, passes)
    show_answers.show_advice(study, lab, task, protocol, budget, published, as_json)


@app.command("next")
def next_(
    study: StudyArg,
    budget: Annotated[float, typer.Option("--budget", min=0, help="Hours of one worker (one GPU) of the study.")],
    lab: LabOpt = Path("lab"), task: TaskOpt = None, protocol: ProtocolOpt = None,
    params: Annotated[
        float | None, typer.Option("--params", min=1, help="With --records: narrow the loss there, no exponents.")
    ] = None,
    records: Annotated[float | None, typer.Option("--records", min=1, help="See --params.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Most new seeds of one cell.")] = 5,
    as_json: JsonOpt = False,
) -> None:  # fmt: skip
    """Say which runs would narrow a study's answer most per hour, and how far its grid is from giving one."""
    from ecgscale import show_answers

    if (params is None) != (records is None):
        raise typer.BadParameter("--params and --records name one place together; give both or none")
    place = None if params is None or records is None else (params, records)
    show_answers.show_next(study, lab, budget, task, protocol, place, repeats, as_json)


@app.command()
def report(study: StudyArg, lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None) -> None:
    """Write the report of a study from what the lab holds."""
    typer.echo(_api(study).report(study, lab, _pairs(data), _values(changes), command=_command()))


@app.command()
def ingest(
    dataset: Annotated[str, typer.Argument(help="A data set `ecgscale list datasets` prints.")],
    root: Annotated[Path, typer.Argument(help="Its folder or file.")],
    out: Annotated[str, typer.Option("--out", help="Where the corpus goes: a folder, or a URL such as s3://bucket/name.")],
    rate: Annotated[float, typer.Option("--rate", help="Sampling rate of the corpus, Hz.")] = 100.0,
    form: Annotated[
        list[str] | None,
        typer.Option("--form", metavar="KEY=VALUE", help="Of the corpus: length_s=10, band_hz=[0.5,40], notch_hz=50, "
                     'windows="all", leads=["I"], derive_limb_leads=true, normalise="record_lead_z"; repeatable.'),
    ] = None,
    fields: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A field of the data set; repeatable.")
    ] = None,
    describe: Annotated[
        Path | None, typer.Option("--describe", help="Descriptor of an `arrays` or `wfdb_folder` data set (.toml).")
    ] = None,
    workers: WorkersOpt = None,
) -> None:  # fmt: skip
    """Turn a data set into a corpus: one rate, one unit, leads by name, checked, with a report of its quality."""
    from ecgscale import api

    api.show_ingest(dataset, root, out, {"rate_hz": rate, **_values(form)}, _values(fields), describe, workers)


@app.command()
def download(
    dataset: Annotated[str, typer.Argument(help="An open data set `ecgscale list datasets` prints.")],
    out: Annotated[Path, typer.Option("--out", help="Its folder; what is complete there is kept.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before downloading.")] = False,
    connections: Annotated[int, typer.Option("--connections", min=1, max=8, help="At once, to one host.")] = 4,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PATTERN", help="Files to take, as *.csv; repeatable.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="A mirror that stands for the usual server.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read all files again and compare checksums.")] = False,
) -> None:
    """Download an open data set from its own server: licence and size first, resumed where it broke, checksummed."""
    from ecgscale import download

    download.show(dataset, out, yes, connections, only or [], url, verify)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="datasets, backbones, objectives, tasks, laws or studies.")] = None,
) -> None:
    """List the parts that ship with ecgscale."""
    from ecgscale import catalogue

    catalogue.show(kind)


def _api(study: str) -> ModuleType:
    """Return the functions behind the commands; a study that does not exist is refused before torch is imported."""
    from ecgscale.study import files

    files.read(study)
    from ecgscale import api

    return api


def _show(study: str) -> ModuleType:
    """Return the functions that print, as `_api` does."""
    _api(study)
    from ecgscale import show

    return show


def _columns(named: dict[str, str | None], others: list[str] | None) -> dict[str, str]:
    return {role: name for role, name in named.items() if name} | dict(_split(others, "--column", "INPUT=COL"))


def _command() -> str:
    return " ".join(["ecgscale", *sys.argv[1:]])


def _pairs(options: list[str] | None) -> dict[str, Path]:
    return {name: Path(value).expanduser() for name, value in _split(options, "--data", "NAME=PATH")}


def _values(options: list[str] | None, flag: str = "--set") -> dict[str, Any]:
    import tomllib

    values: dict[str, Any] = {}
    for key, text in _split(options, flag, "KEY=VALUE"):
        try:
            values[key] = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            values[key] = text  # a bare word is a string
    return values


def _split(options: list[str] | None, flag: str, form: str) -> list[tuple[str, str]]:
    pairs = [option.partition("=") for option in options or []]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise typer.BadParameter(f"{flag} takes {form}, found {name}{equals}{value}")
    return [(name, value) for name, _, value in pairs]


def main() -> None:
    """Run the command line; an error a person can act on is one sentence and exit status 1."""
    from ecgscale.spec import Explained

    try:
        app()
    except Explained as error:
        typer.echo(f"ecgscale: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("ecgscale: stopped; what is finished is kept: run the same command again", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
