"""The registry of objectives: what is found, what is refused with a sentence, and settings in one form."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest

from playground.config import setting
from playground.running.presets import make_config
from playground.training.objectives import registry
from playground.training.objectives.n_token import NToken
from playground.training.objectives.registry import (
    describe_objectives,
    make_objective,
    objective_names,
    register_objective,
    with_objective,
)


@dataclass(frozen=True, kw_only=True)
class Other(NToken):
    """The n-token loss under another name, with settings."""

    name: ClassVar[str] = "other"
    summary: ClassVar[str] = "An example."
    cannot: ClassVar[Mapping[str, str]] = {"accumulate": "it is an example"}
    unfit_probes: ClassVar[Mapping[str, str]] = {"lens": "it is an example"}
    unfit_decoding: ClassVar[Mapping[str, str]] = {"drafts": "it is an example"}

    share: float = setting(0.5, least=0, most=1)
    rows: int = setting(3, least=1)
    kind: str = setting("plain")
    twice: bool = setting(False)

    def loss_names(self, n_future: int) -> tuple[str, ...]:
        return tuple(f"loss_part_{offset}" for offset in range(n_future))


@pytest.fixture(autouse=True)
def other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    register_objective(Other)


def configured(*settings: str, name: str = "other", **changes):
    config = make_config("induction-cpu", n_future=2)
    train = dataclasses.replace(config.train, objective=name, objective_settings=settings, **changes)
    return dataclasses.replace(config, train=train)


def test_the_shipped_objective_and_a_registered_one_are_listed():
    assert objective_names() == ["n_token", "other"]
    first, second = describe_objectives()
    assert first.startswith("n_token  The sum over offsets")
    assert second == "other    An example. Settings: share=0.5, rows=3, kind=plain, twice=false"
    assert make_objective("n_token") == NToken()


def test_settings_have_one_form():
    config = with_objective(configured("rows=3", "kind=other way", "share=1", "twice=true"))
    assert config.train.objective_settings == ("share=1.0", "kind=other way", "twice=true")
    assert with_objective(config) is config
    assert make_objective("other", config.train.objective_settings) == Other(share=1.0, kind="other way", twice=True)
    assert with_objective(configured("share=0.5")).hash() == with_objective(configured()).hash()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("shar=1",), "objective other has no field 'shar'; did you mean 'share'"),
        (("share=2",), "objective other.share is 2; write at most 1"),
        (("rows=x",), "objective other.rows is 'x'; it must be int"),
        (("rows",), "objective_settings has 'rows'; write NAME=VALUE"),
        (("rows=1", "rows=2"), "each name once"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        with_objective(configured(*settings))


def test_an_unknown_objective_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="there is no objective 'n_tokens'; did you mean 'n_token'"):
        with_objective(configured(name="n_tokens"))


def test_what_an_objective_cannot_do_is_said():
    with pytest.raises(
        ValueError, match="objective 'other' does not work with accumulate above 1; write --accumulate 1: it is"
    ):
        with_objective(configured(accumulate=2))
    with pytest.raises(
        ValueError, match="offset_weights weight one loss of each offset, and objective 'other' has loss_part_0"
    ):
        with_objective(configured(offset_weights=(1.0, 0.5)))
    clipped = configured()
    clipped = dataclasses.replace(clipped, optim=dataclasses.replace(clipped.optim, clip_by="next_token"))
    with pytest.raises(ValueError, match="clip_by 'next_token' needs loss_1 as the first loss"):
        with_objective(clipped)
    Other().check_probe("attention")
    with pytest.raises(ValueError, match="probe 'lens' does not suit a model trained with objective 'other': it is an"):
        Other().check_probe("lens")
    Other().check_decoding(drafts=False)
    with pytest.raises(ValueError, match="decoding with drafts of the future heads does not suit"):
        Other().check_decoding(drafts=True)


def test_an_unsound_objective_is_not_registered():
    @dataclass(frozen=True)
    class Unknown(NToken):
        name: ClassVar[str] = "unknown"
        cannot: ClassVar[Mapping[str, str]] = {"acumulate": "?"}

    with pytest.raises(ValueError, match="has a reason for 'acumulate'; did you mean 'accumulate'"):
        register_objective(Unknown)

    @dataclass(frozen=True)
    class Misnamed(NToken):
        name: ClassVar[str] = "misnamed"

        def loss_names(self, n_future: int) -> tuple[str, ...]:
            return ("set",)

    with pytest.raises(ValueError, match="write different names that begin with loss_"):
        register_objective(Misnamed)

    class Bare(NToken):
        summary: ClassVar[int] = 3  # type: ignore[assignment]

    with pytest.raises(ValueError, match="Bare has no summary; write it as a text"):
        register_objective(Bare)

    @dataclass(frozen=True)
    class Taken(NToken):
        name: ClassVar[str] = "n_token"

    with pytest.raises(ValueError, match="the objective name 'n_token' is taken by NToken"):
        register_objective(Taken)
