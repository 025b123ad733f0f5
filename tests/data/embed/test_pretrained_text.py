"""Published text towers: golden numbers of `transformers` for weights that a formula makes, and what must hold of any.

Made by transformers 5.23.0 and torch 2.13.0 on a CPU from the files that `worded.write` makes, its texts cut, cleaned
and filled up by `transformers` too: of each text the first two numbers and the last one. `benchmarks/text_towers.py`
compares anew, with larger models and the tokenizers of `transformers`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from diorama.core.errors import UserError
from diorama.data.embed import PretrainedText, pretrained_text
from diorama.data.embed.pictures import unit
from diorama.data.embed.pretrained_text import load_text
from diorama.data.embed.tokens import canonical
from tests.data.embed import published
from tests.data.embed.worded import LENGTH, TEXTS, TOKENIZERS, clip_tokenizer, write

GOLDEN = {
    "clip": [(1.12187, -1.110126, -0.896222), (-0.487299, 0.577846, 1.406893), (-0.420119, 0.514957, 1.391393),
             (-0.735589, 0.820628, 1.574296), (-1.818211, 1.874527, 2.25415), (-1.895361, 1.954184, 2.351033)],
    "siglip": [(0.335178, -0.677012, -1.781094), (-0.612576, 0.262376, -1.111388), (-0.528729, 0.178589, -1.180212),
               (-0.452499, 0.102615, -1.239947), (-0.591835, 0.241801, -1.12629), (-0.10705, -0.241064, -1.502074)],
    "siglip2": [(-0.884233, 0.610338, 0.189428), (-0.22367, -0.124302, -1.40317), (-0.865446, 0.593622, 0.203003),
                (-0.630748, 0.377902, 0.275358), (-0.211909, -0.136042, -1.412644), (-0.443846, 0.093427, -1.254678)],
}  # fmt: skip


run = jax.jit(lambda network, ids, at: network(ids, at))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(unit(a) @ unit(b))


@pytest.fixture(params=TOKENIZERS)
def kind(request) -> str:
    return request.param


def test_vectors_are_those_of_transformers(kind, tmp_path):
    network, tokenise = load_text(write(tmp_path, kind))
    found = np.asarray(run(network, *tokenise(TEXTS)))
    np.testing.assert_allclose(found[:, [0, 1, -1]], GOLDEN[kind], atol=2e-5)
    with jax.enable_x64(True):  # as exact as the weights: `found` is itself up to 1.1e-6 from this
        exact = run(jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), network), *tokenise(TEXTS))
    np.testing.assert_allclose(PretrainedText(str(tmp_path), batch=4)(TEXTS), unit(np.asarray(exact)), atol=1e-6)


def test_neither_order_nor_company_nor_batch_matters(kind, tmp_path, monkeypatch):
    folder = str(write(tmp_path, kind))
    whole = PretrainedText(folder)(TEXTS)  # LENGTH tokens each
    monkeypatch.setattr(pretrained_text, "STEP", 4)  # from here on CLIP's are no longer than they need
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    order = np.random.default_rng(0).permutation(2 * len(TEXTS)) % len(TEXTS)  # each text twice
    np.testing.assert_allclose(PretrainedText(folder)([TEXTS[k] for k in order]), whole[order], atol=1e-6)
    alone = np.concatenate([PretrainedText(folder, batch=1)([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, whole, atol=1e-6)
    assert PretrainedText(folder)([]).shape == (0, whole.shape[1])
    np.testing.assert_array_equal(PretrainedText(folder)(TEXTS), PretrainedText(folder)(TEXTS))


def test_only_siglip_sees_what_fills_a_text_up(kind, tmp_path):
    network, tokenise = load_text(write(tmp_path, kind))
    ids, at = tokenise(["a photo", "x"])
    before = np.asarray(run(network, ids, at))
    first = (ids == ids[0, -1]).argmax(1) if kind != "clip" else at + 1  # of the filling
    other = np.where(np.arange(LENGTH) < first[:, None], ids, 5)
    after = np.asarray(run(network, other, at))
    if kind == "clip":
        np.testing.assert_allclose(after, before, atol=1e-6)
        np.testing.assert_allclose(run(network, ids[:, : at.max() + 1], at), before, atol=1e-6)
    else:
        assert np.abs(after - before).max() > 1e-3
        assert (at == LENGTH - 1).all()


def test_a_long_text_is_judged_by_its_beginning(kind, tmp_path):
    network, tokenise = load_text(write(tmp_path, kind))
    words = ["a", "photo", "of", "the", "red", "square"] * 3
    texts = [" ".join(words[:n]) for n in range(len(words) + 1)]
    ids, at = tokenise(texts)
    assert ids.shape == (len(texts), LENGTH)
    end = ids[-1, -1]
    np.testing.assert_array_equal((ids == end).any(1), True)  # cut or not, a text has its end
    np.testing.assert_array_equal(ids[-1], ids[-2])
    assert cosine(*np.asarray(run(network, ids[-2:], at[-2:]))) == pytest.approx(1, abs=1e-6)
    assert len(np.unique(ids, axis=0)) < len(texts)
    if kind == "clip":  # a start, a token a word, an end
        np.testing.assert_array_equal(at, [min(n + 1, LENGTH - 1) for n in range(len(texts))])


def test_words_are_cleaned_as_the_models_were_trained(tmp_path):
    assert canonical(" A Dog's\tbone, isn't\n it?! ") == "a dogs bone isnt it"
    siglip = PretrainedText(str(write(tmp_path / "1", "siglip")))
    a, b, c = siglip(["A photo,  of the Red square!", "a photo of the red square", "a photo of the square"])
    np.testing.assert_array_equal(a, b)
    assert cosine(a, c) < 0.9999
    siglip2 = PretrainedText(str(write(tmp_path / "2", "siglip2")))
    a, b, c = siglip2(["RED!", "red!", "red"])
    np.testing.assert_array_equal(a, b)
    assert cosine(a, c) < 0.9999
    clip = PretrainedText(str(write(tmp_path / "3", "clip")))
    a, b, c = clip(["A RED  square", "a red square", "a red square!"])
    np.testing.assert_array_equal(a, b)
    assert cosine(a, c) < 0.9999


def changed(folder, **changes) -> None:
    text = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(text | changes))


def text_config(folder) -> dict:
    return json.loads((folder / "config.json").read_text())["text_config"]


def test_clips_end_as_older_and_newer_files_say_it(tmp_path):
    folder = write(tmp_path, "clip")
    newer, old = PretrainedText(str(folder))(TEXTS), text_config(folder) | {"eos_token_id": 2}
    changed(folder, text_config=old)
    np.testing.assert_array_equal(PretrainedText(str(folder))(TEXTS), newer)
    ids, at = load_text(folder)[1]([*TEXTS, "a photo <|endoftext|> of"])
    np.testing.assert_array_equal(at, ids.argmax(1))  # what 2 means
    for said in ({"eos_token_id": 7}, {}):  # left out it is 49407
        changed(folder, text_config={name: old[name] for name in old if name != "eos_token_id"} | said)
        with pytest.raises(UserError, match="is of two minds"):
            load_text(folder)


def test_a_tower_said_twice_is_as_its_dictionary_says(tmp_path):
    folder = write(tmp_path, "siglip")
    text = text_config(folder)
    changed(folder, text_config={}, text_config_dict=text)
    network, tokenise = load_text(folder)
    np.testing.assert_allclose(run(network, *tokenise(TEXTS))[:, [0, 1, -1]], GOLDEN["siglip"], atol=2e-5)


@pytest.mark.parametrize("number", [np.float16, bfloat16])
def test_weights_of_half_precision(tmp_path, number):
    folder = write(tmp_path, "clip")
    whole = PretrainedText(str(folder))(TEXTS)
    arrays = {name: x.astype(number) for name, x in load_file(folder / "model.safetensors").items()}
    save_file(arrays, folder / "model.safetensors")
    network, _ = load_text(folder)
    assert network.tokens.dtype == jnp.float32
    found = PretrainedText(str(folder))(TEXTS)  # the files changed: read anew
    assert 0 < np.abs(found - whole).max() < 0.05


def test_folders_that_do_not_fit_are_refused(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            PretrainedText(str(folder))(["a photo"])
        assert "\n" not in str(caught.value)

    folder = write(tmp_path, "clip")
    arrays, tokenizer = load_file(folder / "model.safetensors"), (folder / "tokenizer.json").read_bytes()
    for name in ("text_projection.weight", "text_model.encoder.layers.1.mlp.fc1.bias"):
        save_file({other: x for other, x in arrays.items() if other != name}, folder / "model.safetensors")
        refused(f"lacks '{name}': it is not as clip is published")
    last = {name: x for name, x in arrays.items() if "text_model.encoder.layers.1." not in name}
    save_file(last, folder / "model.safetensors")
    refused(r"lacks 'text_model\.encoder\.layers\.1\.")
    few = {name: x[:-40] if name.endswith("token_embedding.weight") else x for name, x in arrays.items()}
    save_file(few, folder / "model.safetensors")
    refused("a tokenizer of more tokens than the")
    save_file(arrays, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text("{}")
    refused(r"tokenizer\.json is no tokenizer")
    (folder / "tokenizer.json").unlink()
    refused(r"has no tokenizer\.json")
    (folder / "tokenizer.json").write_bytes(tokenizer)
    changed(folder, model_type="siglip2")
    refused("of type 'siglip2': known are clip, siglip")
    (folder / "config.json").unlink()
    refused("is no folder of an encoder")


def test_another_models_tokenizer_is_refused(tmp_path):
    folder = write(tmp_path / "siglip", "siglip")
    clip_tokenizer().save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match="lacks <eos>"):
        load_text(folder)
    folder = write(tmp_path / "clip", "clip")
    (tmp_path / "siglip" / "tokenizer.json").unlink()
    TOKENIZERS["siglip"]().save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"lacks <\|startoftext\|>"):
        load_text(folder)


def test_a_folder_of_pictures_alone_is_refused(tmp_path):
    with pytest.raises(UserError, match="of type 'dinov2': known are clip, siglip"):
        load_text(published.write(tmp_path, "dinov2"))
