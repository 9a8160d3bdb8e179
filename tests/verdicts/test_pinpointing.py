"""Sentences about a place: the line of the user's code, or the package with its version."""

import keras
import pytest

from gradhooks.model import sources
from gradhooks.model.sources import Source
from gradhooks.reports.culprit import Culprit
from gradhooks.reports.records import Diagnosis
from gradhooks.verdicts import pinpointing

OWN = Source("Scale", "net.py:12")
INSTALLED = Source("Dense", "", "keras 3.15.1")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (OWN, "`net/a` (Scale, net.py:12)"),
        (INSTALLED, "`net/a` (Dense of keras 3.15.1, an installed package)"),
        (Source(), "`net/a`"),
    ],
)
def test_a_layer_is_named_with_its_line_or_its_package(source, words):
    sentence = pinpointing.describe_layer("layer", "net/a", None, source, "off")
    assert sentence == f"the backward pass of {words} is wrong: at its input the gradient is off"
    sentence = pinpointing.describe_exception("net/a", source, "ValueError: no")
    assert sentence == f"the backward pass of {words} raises ValueError: no"


def test_a_regularizer_a_loss_and_a_step_are_named_with_theirs():
    sentence = pinpointing.describe_layer("regularizer", "net/a", None, OWN, "off", variable="a/w")
    assert sentence == "the regularizer (Scale, net.py:12) of a/w has a wrong gradient: off"
    sentence = pinpointing.describe_loss("mse", Source("mse", "", "keras 3.15.1"), "off")
    assert sentence.startswith("the loss `mse` (of keras 3.15.1, an installed package) has")
    sentence = pinpointing.describe_step(Source("train_step", "net.py:40"), "it halves")
    assert sentence.startswith("`train_step` (net.py:40) does not pass")
    assert sentence.endswith("to the optimizer: it halves")


def of_package(source):
    return source.place == "" and source.package.startswith("keras ")


class Own(keras.regularizers.Regularizer):
    def __call__(self, weight):
        return keras.ops.sum(weight)


def test_where_the_code_of_steps_and_regularizers_stands():
    class Model(keras.Model):
        def train_step(self, data):
            return {}

    for found in (sources.find_step(Model()), sources.find_regularizer(Own())):
        assert found.place.startswith(f"{__file__}:")
        assert not found.package
    assert of_package(sources.find_step(keras.Model()))
    assert of_package(sources.find_regularizer(keras.regularizers.L2(0.1)))
    assert sources.find_regularizer(None) == Source()


@pytest.mark.parametrize(
    ("finding", "sentence", "added"),
    [
        (
            "",
            "points elsewhere; only the penalty is wrong: look at the regularizer",
            "points elsewhere",
        ),
        (
            "it is 0.5 times the right one",
            "the gradient is 0.5 times the true one: a mean",
            "a mean",
        ),
        ("it is transposed", "the gradient is 0.5 times the true one: a mean", "it is transposed"),
    ],
)
def test_a_diagnosis_of_the_weight_adds_what_is_not_told(finding, sentence, added):
    told = Culprit("layer", "net/a", sentence="it is off", variable="net/a/w")
    told = pinpointing.add_finding(told, finding)
    diagnoses = [Diagnosis("net/b/w", "another"), Diagnosis("net/a/w", sentence)]
    found = pinpointing.add_diagnosis(told, diagnoses)
    assert found.sentence.endswith(added)
    assert found.finding.endswith(added)


def test_what_is_zero_or_not_finite_is_told_once():
    for words in (pinpointing.BLOCKED, pinpointing.NOT_FINITE):
        told = Culprit("layer", "net/a", sentence=f"it is {words}", variable="net/a/w")
        assert pinpointing.add_diagnosis(told, [Diagnosis("net/a/w", "is zero")]) == told
