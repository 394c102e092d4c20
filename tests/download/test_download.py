"""What a download brings from a server that serves well, whatever kind of list names the files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ecgscale import cli
from ecgscale.data.remote import Figshare, PhysioNet, Remote, RemoteFile, RemoteFiles, Zenodo
from ecgscale.datasets.ludb import Ludb
from ecgscale.download import DownloadError
from ecgscale.download.fetch import TAGGED

from .server import FILES, LARGE, Site, answer, drop_after, get, md5, same, some


def test_all_files_come_and_a_second_call_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    outcome = get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)
    assert (outcome.files, outcome.came) == (len(FILES), sum(map(len, FILES.values())))
    assert sorted(site.paths()) == sorted([*FILES, "SHA256SUMS.txt"])
    assert all(headers["User-Agent"].startswith("ecgscale/") for _, _, headers, _ in site.asked)
    site.asked.clear()
    before = Ludb().stamp(tmp_path / "ludb")
    assert get(site, tmp_path / "ludb").files == len(FILES)
    assert site.asked == []
    assert Ludb().stamp(tmp_path / "ludb") == before


def test_never_more_connections_than_asked_for_and_each_is_used_again(site: Site, tmp_path: Path) -> None:
    site.publish({f"{i}.dat": some(i, 500) for i in range(40)})
    site.delay = 0.01
    get(site, tmp_path / "ludb", connections=3)
    ports = Counter(port for _, path, _, port in site.asked if path.endswith(".dat"))
    assert 2 <= site.most <= 3
    assert len(ports) <= 3 < max(ports.values())


def test_a_folder_of_a_project_becomes_the_root(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish({"LICENSE.txt": b"x", "training/georgia-2/E9.hea": b"9"})
    site.publish({"g1/E00001.hea": b"hea", "g1/E00001.mat": b"mat"}, "training/georgia/")
    monkeypatch.setattr(Ludb, "files", PhysioNet("challenge-2021/1.0.3", folder="training/georgia"))
    get(site, tmp_path / "georgia")
    assert same(tmp_path / "georgia", {"g1/E00001.hea": b"hea", "g1/E00001.mat": b"mat"})
    assert set(site.paths()) == {"SHA256SUMS.txt", "training/georgia/g1/E00001.hea", "training/georgia/g1/E00001.mat"}


def test_only_what_fits_a_pattern_comes(site: Site, tmp_path: Path) -> None:
    site.publish({**FILES, "a folder/ü #1?.txt": b"odd names"})
    get(site, tmp_path / "ludb", patterns=["*.csv", "data/3*", "a folder"])
    wanted = {path: FILES[path] for path in ("ludb.csv", "data/3.dat")} | {"a folder/ü #1?.txt": b"odd names"}
    assert same(tmp_path / "ludb", wanted)
    with pytest.raises(DownloadError, match=r'no file fits --only "\*\.mat"; the 9 files are like data/0\.dat'):
        get(site, tmp_path / "ludb", patterns=["*.mat"])
    get(site, tmp_path / "ludb")
    assert Counter(site.paths()).most_common(1)[0][1] == 1  # what an earlier call brought is not asked for again


def zenodo(site: Site) -> Remote:
    files = [
        {"key": p, "size": len(b), "checksum": f"md5:{md5(b)}", "links": {"self": f"{site.url}files/{p}/content"}}
        for p, b in FILES.items()
    ]
    site.files = {f"files/{p}/content": b for p, b in FILES.items()} | {"": json.dumps({"files": files}).encode()}
    return Zenodo(1)


def article(site: Site) -> Remote:
    files = [
        {"name": p, "size": len(b), "computed_md5": md5(b), "download_url": f"{site.url}ndownloader/{md5(b)}"}
        for p, b in FILES.items()
    ]
    site.files = {f"ndownloader/{md5(b)}": b for b in FILES.values()}
    site.files["articles/7"] = json.dumps({"files": files}).encode()
    return Figshare(article=7)


def collection(site: Site) -> Remote:
    article(site)
    site.files["collections/5/articles"] = b'[{"id": 7}]'
    return Figshare(collection=5)


def listed(site: Site) -> Remote:
    site.files = dict(FILES)
    return RemoteFiles(tuple(RemoteFile(p, "https://elsewhere/x", len(b), f"md5:{md5(b)}") for p, b in FILES.items()))


@pytest.mark.parametrize("kind", [zenodo, article, collection, listed])
def test_every_kind_of_list_is_understood(
    kind: Callable[[Site], Remote], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ludb, "files", kind(site))
    get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)
    assert not site.paths("HEAD")  # these lists give sizes


def test_a_redirect_to_another_address_is_followed_with_the_range(site: Site, tmp_path: Path) -> None:
    body = some(1, LARGE)
    site.publish({"a.zip": body})
    site.files["signed/1"] = body
    there = answer(302, Location="/signed/1?key=1")
    site.odd = {"a.zip": [there, there, there], "signed/1": [drop_after(TAGGED)]}
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.headers("signed/1")[1]["Range"] == f"bytes={TAGGED}-"
    assert site.sent["signed/1"] == LARGE


def test_the_command_line_says_what_to_do_next(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Ludb, "files", zenodo(site))
    monkeypatch.setattr(Ludb, "files", Zenodo(1, after="unpack *.zip"))
    line = ["download", "ludb", "--out", f"{tmp_path}/x", "--url", site.url, "-y", "--only", "*.dat", "--only", "*.csv"]
    monkeypatch.setattr(sys, "argv", ["ecgscale", *line])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/x: 7 files are complete, 6.0 kB came" in told
    assert f"next: unpack *.zip, then ecgscale ingest ludb {tmp_path}/x --out CORPUS" in told


def test_nothing_of_torch_is_needed() -> None:
    code = "import sys, ecgscale.download; print([n for n in ('torch', 'pandas', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
