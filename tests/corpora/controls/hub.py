"""Networks of keras-hub, built from their configuration at a tiny size; nothing is downloaded."""

import importlib

import keras
import numpy as np
from keras import layers

from tests.corpora.corpus import Case, compiled, features, integers, seeded

HUB = "keras_hub"
SIZE = {"vocabulary_size": 20, "num_layers": 2, "hidden_dim": 8, "intermediate_dim": 16}


def _backbone(name, **options):
    return getattr(importlib.import_module(HUB).models, f"{name}Backbone")(**options)


def _padded(rng):
    """Tokens of shape (8, 6) and their mask; every row ends in some padding."""
    mask = np.arange(6)[None] < rng.integers(3, 7, (8, 1))
    return {"token_ids": integers(rng, 20, 8, 6) * mask, "padding_mask": mask.astype("int32")}


def text(name, pick=lambda outputs: outputs, segments=False, **options):
    """A text backbone with a classifier on its first position."""

    def build(seed):
        rng = seeded(seed)
        network = _backbone(name, **options)
        head = layers.Dense(3, activation="softmax", name="head")(pick(network.output)[:, 0])
        model = compiled(keras.Model(network.input, head), "sparse_categorical_crossentropy")
        x = _padded(rng)
        if segments:
            x["segment_ids"] = integers(rng, 2, 8, 6)
        return model, {key: x[key] for key in network.input}, integers(rng, 3, 8)

    return build


def language(name, **options):
    """A decoder that predicts the next token with its own table."""

    def build(seed):
        rng = seeded(seed)
        network = _backbone(name, **options)
        logits = network.token_embedding(network.output, reverse=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model = compiled(keras.Model(network.input, logits), loss)
        x = _padded(rng)
        return model, x, np.roll(x["token_ids"], -1, axis=1)

    return build


def vision(seed):
    rng = seeded(seed)
    network = _backbone(
        "ViT",
        image_shape=(12, 12, 3),
        patch_size=4,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
        dropout_rate=0.1,
    )
    head = layers.Dense(3, activation="softmax", name="head")(network.output[:, 0])
    model = compiled(keras.Model(network.input, head), "sparse_categorical_crossentropy")
    return model, features(rng, 8, 12, 12, 3), integers(rng, 3, 8)


def _sequence(outputs):
    return outputs["sequence_output"]


LLAMA = {**SIZE, "num_query_heads": 2, "num_key_value_heads": 1}

CASES = [
    Case(
        "bert",
        text("Bert", _sequence, True, **SIZE, num_heads=2, max_sequence_length=6),
        needs=HUB,
        note="its pooler feeds no loss here",
    ),
    Case("vit", vision, needs=HUB),
    Case(
        "llama",
        language("Llama", **LLAMA, tie_word_embeddings=True),
        needs=HUB,
        note="float32 inside its norms",
    ),
    Case(
        "llama_untied",
        text("Llama", **LLAMA, dropout=0.1),
        needs=HUB,
        note="its output table feeds no loss here",
    ),
    Case("gpt2", language("GPT2", **SIZE, num_heads=2, max_sequence_length=6), needs=HUB),
    Case(
        "fnet",
        text("FNet", _sequence, True, **SIZE, max_sequence_length=6),
        needs=HUB,
        note="Fourier mixing",
    ),
]
