"""Krippendorff's alpha against published examples."""

import numpy as np
import pytest

from lskd_nb.critic.agreement import krippendorff_alpha


@pytest.mark.parametrize(
    ("coders", "expected"),
    [  # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", sections A, B and C
        (("0100000010", "1110010000"), 0.095),
        (("aabbdcccedda", "babbbccceddd"), 0.692),
        (("123321412***", "1233224125*3", "*3332342251*", "12332441251*"), 0.743),  # * has no label
    ],
)
def test_alpha_equals_the_published_examples(coders, expected):
    units = [[c for c in unit if c != "*"] for unit in zip(*coders, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(expected, abs=6e-4)


# section C, the same labels as numbers: 0.849 by squared differences
def test_alpha_of_numbers_equals_the_published_example():
    coders = ("123321412***", "1233224125*3", "*3332342251*", "12332441251*")
    units = [[int(c) for c in unit if c != "*"] for unit in zip(*coders, strict=True)]
    assert krippendorff_alpha(units, "interval") == pytest.approx(0.849, abs=6e-4)
    assert krippendorff_alpha(
        [[label / 4 for label in unit] for unit in units], "interval"
    ) == pytest.approx(0.849, abs=6e-4)  # whatever the unit
    assert (
        krippendorff_alpha([[0.0, 0.25], [1.0, 0.75]], "interval")
        > 0.8
        > krippendorff_alpha([[0.0, 0.25], [1.0, 0.75]])
    )
    with pytest.raises(ValueError, match="level is 'ordinal'"):
        krippendorff_alpha(units, "ordinal")


def test_alpha_of_agreement_chance_and_nothing():
    assert krippendorff_alpha([["win", "win"], ["lose", "lose"], ["tie"]]) == 1.0
    rng = np.random.default_rng(0)
    assert abs(krippendorff_alpha(rng.choice(["win", "tie", "lose"], (4000, 3)).tolist())) < 0.03
    for nothing in ([], [["win"]], [["win", "win"], ["win", "win"]]):
        assert np.isnan(krippendorff_alpha(nothing))
    assert np.isnan(krippendorff_alpha([[0.1, 0.1], [0.1, 0.1, 0.1]], "interval"))
