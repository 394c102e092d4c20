"""The commands. No logic: each calls one function of the library and prints what it returns."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

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
    shrink: ShrinkOpt = False,
) -> None:  # fmt: skip
    """Say what a study will train, what it costs here, and what is left out and why; refuse what cannot fit."""
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
    _show(study).show_status(study, lab, _pairs(data), _values(changes), watch)


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
    lab: LabOpt = Path("lab"), data: DataOpt = None, changes: SetOpt = None, as_json: JsonOpt = False,
) -> None:  # fmt: skip
    """Fit the scaling laws of a study's table, or of any table of runs."""
    _show(study).show_fits(study, lab, _pairs(data), _values(changes), as_json)


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

    if Path(study).suffix not in (".csv", ".parquet"):
        files.read(study)
    from ecgscale import api

    return api


def _show(study: str) -> ModuleType:
    """Return the functions that print, as `_api` does."""
    _api(study)
    from ecgscale import show

    return show


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
