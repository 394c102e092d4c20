"""Chapman-Shaoxing-Ningbo is filtered and labelled as MERL does it, or with whole acronyms."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.csn import Csn
from ecgscale.datasets.ningbo import Ningbo
from ecgscale.tasks.csn import Csn as Task

# rows of the published table, among them one code with two acronyms
TABLE = """Acronym Name,Full Name,Snomed_CT
1AVB,1 degree atrioventricular block,270492004
APB,atrial premature beats,284470004
AVB,atrioventricular block,233917008
CCR,countercolockwise rotation,251199005
CR,colockwise rotation,251198002
IDC,Interior differences conduction,698252002
IVB,Intraventricular block,698252002
LVQRSAL,lower voltage QRS in all lead,251146004
RVH,right ventricle hypertrophy,89792004
STE,ST extension,164930006
STTC,ST-T Change,428750005
TWC,T wave Change,164934002
TWO,T wave opposite,59931005
VB,ventricular bigeminy,11157007
SB,Sinus Bradycardia,426177001
AFIB,Atrial Fibrillation,164889003
ST,Sinus Tachycardia,427084000
AF,Atrial Flutter,164890007
SA,Sinus Irregularity,427393009
AT,Atrial Tachycardia,713422000
LVH,left ventricle hypertrophy,164873001
"""


def _copy(shared_data: Path, root: Path) -> Path:
    folder = root / "WFDBRecords" / "21" / "210"
    folder.mkdir(parents=True)
    for path in (shared_data / "cinc2021-samples").iterdir():
        shutil.copy(path, folder / path.name)
    (root / "ConditionNames_SNOMED-CT.csv").write_text(TABLE, encoding="utf-8-sig")
    return root


def _positive(record: Record) -> set[str]:
    return {name for name, value in record.labels.items() if value}


def test_records_stay_whose_codes_the_table_names(shared_data: Path, tmp_path: Path) -> None:
    root = _copy(shared_data, tmp_path)
    records = {r.record: r for r in Csn().records(root) if isinstance(r, Record)}
    assert list(records) == [f"JS200{n}" for n in ("01", "07", "08", "10", "11", "16", "18", "19")]
    assert _positive(records["JS20001"]) == {"APB", "ST", "IDC"}
    assert _positive(records["JS20007"]) == {"APB", "SB", "TWO", "TWC"}
    same = {r.record: r for r in Ningbo().records(root) if isinstance(r, Record)}
    assert all(records[name].patient == same[name].patient for name in records)


# (acronyms, positive labels) in rows of MERL's chapman_val.csv, whose columns leave out SB, LVQRSAL and IDC
PUBLISHED = [
    ("AFIB,CCR", {"CCR", "CR", "AF", "AFIB"}),
    ("SB,1AVB,TWC", {"VB", "AVB", "1AVB", "TWC"}),
    ("AFIB,LVQRSAL", {"SA", "AF", "AFIB"}),
    ("SB,STTC", {"STTC", "ST"}),
    ("AT,ST,LVQRSAL,APB", {"AT", "SA", "APB", "ST"}),
]


@pytest.mark.parametrize(("acronyms", "expected"), PUBLISHED)
def test_labels_are_mers_with_parts_of_acronyms_and_clean_without(
    tmp_path: Path, acronyms: str, expected: set[str]
) -> None:
    Csn.sample(tmp_path)
    (tmp_path / "ConditionNames_SNOMED-CT.csv").write_text(TABLE)
    code = {line.split(",")[0]: line.split(",")[2] for line in TABLE.splitlines()}
    header = tmp_path / "WFDBRecords" / "01" / "010" / "JS00001.hea"
    lines = [line for line in header.read_text().splitlines() if "Dx" not in line]
    header.write_text("\n".join([*lines, f"#Dx: {','.join(code[a] for a in acronyms.split(','))}"]))
    published, clean = (next(iter(Csn(acronyms=mode).records(tmp_path))) for mode in ("substring", "whole"))
    assert isinstance(published, Record) and isinstance(clean, Record)
    assert _positive(published) - {"SB", "LVQRSAL", "IDC"} == expected
    assert _positive(clean) == set(acronyms.split(","))


def test_a_trailing_comma_leaves_a_record_out_as_there(tmp_path: Path) -> None:
    Csn.sample(tmp_path)
    header = tmp_path / "WFDBRecords" / "01" / "010" / "JS00020.hea"
    before = len(list(Csn().records(tmp_path)))
    header.write_text(header.read_text().replace("\n#Rx", ",\n#Rx").replace("\n# Rx", ",\n# Rx"))
    assert len(list(Csn().records(tmp_path))) == before - 1


def test_the_two_published_headers_without_a_line_break_are_told(tmp_path: Path) -> None:
    Csn.sample(tmp_path)
    header = tmp_path / "WFDBRecords" / "01" / "010" / "JS00020.hea"
    header.write_text(header.read_text().replace("\n", " ", 1))
    rejected = [r for r in Csn().records(tmp_path) if isinstance(r, Rejected)]
    assert [r.record for r in rejected] == ["JS00020"]
    assert "promises 12 signals and describes 11: the header is damaged" in rejected[0].reason


def test_the_published_split_is_followed_where_its_lists_are_there(tmp_path: Path) -> None:
    Csn.sample(tmp_path)
    for part, chosen in {"train": range(6, 30), "val": range(30, 35), "test": range(35, 40)}.items():
        paths = [f"/chapman/WFDBRecords/01/010/JS{n:05d}.mat" for n in chosen]
        pd.DataFrame({"ecg_path": paths, "age": 12}).to_csv(tmp_path / f"chapman_{part}.csv", index=False)
    folds = {r.record: r.fold for r in Csn(splits="merl").records(tmp_path) if isinstance(r, Record)}
    assert (folds["JS00029"], folds["JS00030"], folds["JS00039"], folds["JS10650"]) == (1, 9, 10, None)


def test_a_folder_without_the_table_is_refused(tmp_path: Path) -> None:
    Csn.sample(tmp_path)
    (tmp_path / "ConditionNames_SNOMED-CT.csv").unlink()
    with pytest.raises(DatasetError, match=r"ConditionNames_SNOMED-CT\.csv does not exist"):
        next(Csn().records(tmp_path))


def test_the_task_has_the_38_labels() -> None:
    assert len(set(Task.label_sets["merl"])) == 38 and "SB" not in Task.label_sets["merl"]
