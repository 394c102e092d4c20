import pytest

from ecgscale.backbones import BackboneSpec
from ecgscale.runs import Recipe
from ecgscale.spec import SpecError, digest, names, part, part_class
from ecgscale.study.study import Study, StudyError


def test_equal_values_are_one_thing_and_a_changed_default_is_another() -> None:
    one, same = Recipe(steps=10, batch=4, lr=1e-3), Recipe.parse({"steps": 10, "batch": 4, "lr": 1e-3})
    assert one.uid == same.uid
    assert one.uid != one.model_copy(update={"clip": 1.0}).uid


def test_the_hash_is_pinned() -> None:
    assert digest({"b": [1, 2.5], "a": None}) == "e57f5d37865437a8"


def test_a_misspelt_key_names_its_path_and_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"unknown key `training\.warmpu`; did you mean \"warmup\"\?"):
        Recipe.parse({"steps": 10, "batch": 4, "lr": 1e-3, "warmpu": 3}, "training")


def test_a_wrong_type_is_one_sentence() -> None:
    with pytest.raises(SpecError, match=r"`batch`: input should be a valid integer.*found 'many'"):
        Recipe.parse({"steps": 10, "batch": "many", "lr": 1e-3})


def test_an_unknown_part_names_the_nearest() -> None:
    with pytest.raises(SpecError, match=r'unknown backbone "resnet1"; did you mean "resnet1d"\?'):
        part("backbones", "resnet1")


def test_a_part_keeps_name_and_revision_through_a_round_trip() -> None:
    spec = part("backbones", {"name": "resnet1d", "dial": 0.1})
    assert isinstance(spec, BackboneSpec)
    assert spec.dump()["name"] == "resnet1d"
    assert part("backbones", spec.dump()) == spec


def test_a_revision_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = part("backbones", {"name": "resnet1d", "dial": 0.1})
    before = spec.uid
    monkeypatch.setattr(part_class("backbones", "resnet1d"), "revision", 99)
    assert part("backbones", {"name": "resnet1d", "dial": 0.1}).uid != before


@pytest.mark.parametrize("kind", ["datasets", "backbones", "objectives", "tasks", "laws"])
def test_every_shipped_name_is_a_part(kind: str) -> None:
    assert names(kind)
    for name in names(kind):
        assert part_class(kind, name).part_name() == name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"training.stpes": 4}, r"unknown key `training\.stpes`; did you mean \"steps\"\?"),
        ({"family.0.backbone": "resnet2d"}, r'unknown backbone "resnet2d"; did you mean "resnet1d"\?'),
        ({"family.9.lr": 1.0}, r"--set family\.9\.lr: there is no `9`"),
        ({"data.code.wrold": "code"}, r"wrold"),
    ],
)
def test_a_wrong_study_is_one_sentence(change: dict, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        Study.load("smoke", change).dataset("code")


def test_an_unknown_study_lists_the_packaged_ones() -> None:
    with pytest.raises(StudyError, match=r'no study "quikstart".*quickstart'):
        Study.load("quikstart")
