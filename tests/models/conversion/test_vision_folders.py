"""Folders of models that see images: every spelling gives the same files, what config and image processor leave unsaid
means what their classes take for it, and what a file cannot say is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multi_modal_models import Change, Looker, changed, copied
from multi_modal_variants import image

from zigllama import errors
from zigllama.app.main import main
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_writer import TensorData, write
from zigllama.inference.vision import Vision
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.convert import convert
from zigllama.models.conversion.recipes import conversion_of


@pytest.fixture(scope="module", params=["llava", "idefics3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Looker:
    return Looker(request.param, tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Looker:
    return Looker("llava", tmp_path_factory.mktemp("llava"))


# --- names ------------------------------------------------------------------------------------------------------------

LLAVA_SPELLINGS = {
    "up to 4.51": {"vision_tower.": "vision_tower.vision_model."},
    "4.52": {
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "vision_tower.": "model.vision_tower.vision_model.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
    "5": {
        "language_model.model.": "model.language_model.",
        "language_model.lm_head.": "lm_head.",
        "vision_tower.": "model.vision_tower.",
        "multi_modal_projector.": "model.multi_modal_projector.",
    },
}


@pytest.mark.parametrize("spelling", LLAVA_SPELLINGS)
def test_every_spelling_gives_the_same_files(llava: Looker, spelling: str, tmp_path: Path) -> None:
    """Old folders have a table of position numbers too, and one per layer of rotations."""
    named: dict[str, Any] = {}
    for name, x in llava.weights.items():
        old = next((o for o in LLAVA_SPELLINGS[spelling] if name.startswith(o)), "")
        named[LLAVA_SPELLINGS[spelling].get(old, "") + name.removeprefix(old)] = x
    assert not named.keys() >= llava.weights.keys()
    tower = next(name for name in named if "class_embedding" in name).removesuffix("class_embedding")
    named[tower + "position_ids"] = np.arange(17, dtype=np.int64)
    layer = next(name for name in named if name.endswith("layers.0.self_attn.o_proj.weight"))
    named[layer.replace("o_proj.weight", "rotary_emb.inv_freq")] = np.ones(32, np.float32)
    other = llava.write(tmp_path / "folder", weights=named)
    convert(other, tmp_path / "text.gguf", "F32", vocabulary=False)
    convert(other, tmp_path / "mmproj.gguf", "F32", mmproj=True)
    assert (tmp_path / "text.gguf").read_bytes() == llava.text().read_bytes()
    assert (tmp_path / "mmproj.gguf").read_bytes() == llava.mmproj().read_bytes()


def test_the_first_files_names(llava: Looker, tmp_path: Path) -> None:
    """A projector's file as the first converter wrote them: no projector_type, ffn_up and ffn_down in each other's
    place, patches in F16 or F32, other keys; the rows are the same bits."""
    swap = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
    with GGUFReader(llava.mmproj()) as reader:
        keys = {k: v for k, v in reader.metadata.items() if k not in ("clip.projector_type", "general.type")}
        keys |= {"clip.has_text_encoder": False, "clip.has_llava_projector": True}
        keys |= {"general.description": "image encoder for LLaVA", "clip.vision.projection_dim": 768}
        tensors = []
        for t in reader.tensors.values():
            part = t.name.split(".")[-2]
            name = t.name.replace(f".{part}.", f".{swap.get(part, part)}.")
            tensors.append(TensorData(name, tuple(t.shape), t.type, bytes(reader.tensor_bytes(t.name))))
        write(tmp_path / "old.gguf", keys, tensors)
    with Vision(tmp_path / "old.gguf", n_threads=2) as old, Vision(llava.mmproj(), n_threads=2) as new:
        pixels = np.zeros((1, 3, 56, 56), np.float32) + np.linspace(-1, 1, 56, dtype=np.float32)
        a, b = (v._tile(pixels[0]) for v in (old, new))
        np.testing.assert_array_equal(a, b)


def test_what_a_projector_says(folder: Looker) -> None:
    """The keys, with the types that readers of such files insist on; all tensors are taken or left out by name."""
    with GGUFReader(folder.mmproj()) as reader:
        m, names = dict[str, Any](reader.metadata), set(reader.tensors)
    assert m["general.architecture"] == "clip" and m["general.type"] == "mmproj" and "tokenizer.ggml.model" not in m
    assert m["clip.has_vision_encoder"] is True and m["clip.vision.projection_dim"] == 256
    assert m["clip.vision.image_mean"].dtype == m["clip.vision.image_std"].dtype == np.float32
    if folder.name == "llava":
        assert m["clip.projector_type"] == "mlp" and m["clip.use_gelu"] is False and m["clip.vision.block_count"] == 2
        assert m["clip.vision.feature_layer"].dtype == np.int32 and list(m["clip.vision.feature_layer"]) == [2]
        assert {"v.class_embd", "v.pre_ln.weight", "mm.0.weight", "mm.2.bias"} <= names
        assert not any(name.startswith(("v.blk.2.", "v.post_ln")) for name in names)
    else:
        assert m["clip.projector_type"] == "idefics3" and m["clip.use_gelu"] is True
        assert m["clip.vision.projector.scale_factor"] == 3 and m["clip.vision.preproc_image_size"] == 90
        assert {"v.patch_embd.bias", "v.post_ln.weight", "v.blk.1.ffn_up.weight", "mm.model.fc.weight"} <= names


def test_notes_and_the_command_line(folder: Looker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever converts the text model is told of the other file; --mmproj makes it."""
    text, projector = tmp_path / "t.gguf", tmp_path / "m.gguf"
    assert main(["convert", str(folder.folder), str(text), "--no-vocab", "--type", "f32"]) == 0
    assert "--mmproj" in capsys.readouterr().err
    assert main(["convert", str(folder.folder), str(projector), "--mmproj", "--type", "f32"]) == 0
    assert "clip" in capsys.readouterr().out
    assert text.read_bytes() == folder.text().read_bytes() and projector.read_bytes() == folder.mmproj().read_bytes()
    assert main(["convert", str(folder.folder), str(projector), "--mmproj", "--no-vocab", "--force"]) == 2
    assert "--no-vocab" in capsys.readouterr().err


def test_padding_is_a_note(tmp_path: Path) -> None:
    """No key says that images are padded to a square: whoever opens the file must."""
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    padded = Looker("llava-padded", tmp_path)
    done = convert(padded.folder, tmp_path / "m.gguf", "F32", mmproj=True)
    assert len(done.notes) == 1 and "fit='pad'" in done.notes[0]
    with Vision(done.path, n_threads=1) as v:
        assert (v.encode(image(padded.name, 0)) != np.concatenate(padded.seen[0])).any()


def test_an_architecture_without_images(tmp_path: Path) -> None:
    with pytest.raises(errors.UnsupportedArchitecture, match="LlamaForCausalLM as a projector"):
        conversion_of(Config({"architectures": ["LlamaForCausalLM"]}), projector=True)


# --- what a config says and leaves unsaid -----------------------------------------------------------------------------


def keys(config: dict[str, Any], projector: bool) -> dict[str, Any]:
    c = Config(config)
    return conversion_of(c, projector).metadata(c)


def test_llava_1_5_as_it_is_published() -> None:
    """Its config.json has next to no sizes: they are LLaMA's and CLIP's own."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {
            "model_type": "llama",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "vocab_size": 32064,
        },
        "vision_config": {
            "hidden_size": 1024,
            "image_size": 336,
            "intermediate_size": 4096,
            "model_type": "clip_vision_model",
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    text = keys(copied(config), False)
    want: dict[str, Any] = {
        "embedding_length": 4096,
        "block_count": 32,
        "feed_forward_length": 11008,
        "attention.head_count": 32,
    }
    want |= {"attention.head_count_kv": 32, "vocab_size": 32064, "context_length": 4096, "rope.freq_base": 10000.0}
    assert {key: text[key] for key in want} == want and text["attention.layer_norm_rms_epsilon"] == 1e-5
    seen = keys(copied(config), True)
    assert seen["vision.block_count"] == 23 and seen["vision.feature_layer"] == [23]
    assert seen["vision.attention.layer_norm_epsilon"] == 1e-5 and seen["use_gelu"] is False
    assert seen["vision.projection_dim"] == 4096
    del config["vision_config"], config["vision_feature_layer"], config["vision_feature_select_strategy"]
    assert keys(config, True) == seen  # where all of it is missing, the class has LLaVA's own


def test_smolvlm_leaves_out_its_classes_sizes() -> None:
    """SmolVLM2's vision_config has no widths: they are the class's."""
    config = {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "vision_config": {"model_type": "smolvlm_vision", "image_size": 384, "num_hidden_layers": 27, "patch_size": 14},
        "scale_factor": 3,
    }
    seen = keys(copied(config), True)
    want = {"embedding_length": 1152, "feed_forward_length": 3072, "attention.head_count": 16, "block_count": 27}
    assert {key: seen[f"vision.{key}"] for key in want} == want and seen["vision.projector.scale_factor"] == 3
    assert seen["vision.attention.layer_norm_epsilon"] == 1e-6
    assert keys(copied(config), False)["attention.layer_norm_rms_epsilon"] == 1e-5  # of the class, without text_config
    config["text_config"] = {"hidden_size": 2048}
    assert keys(config, False)["attention.layer_norm_rms_epsilon"] == 1e-6  # LLaMA's own


@pytest.mark.parametrize(("value", "layer"), [(-2, 2), (-1, 3), ([-2], 2), (1, 1), (3, 3), (-3, 1)])
def test_feature_layers(llava: Looker, value: Any, layer: int) -> None:
    """One layer, counted from either end, alone or as a list of one."""
    seen = keys(copied(llava.about["config"]) | {"vision_feature_layer": value}, True)
    assert seen["vision.block_count"] == layer and seen["vision.feature_layer"] == [layer]


BAD, UNKNOWN = errors.BadCheckpoint, errors.UnsupportedArchitecture
CONFIGS: list[tuple[str, Change, type[Exception], str]] = [
    ("llava", changed("vision_feature_select_strategy", to="full"), BAD, "vision_feature_select_strategy: 'full'"),
    ("llava", changed("vision_feature_layer", to=[-2, -1]), BAD, "vision_feature_layer"),
    ("llava", changed("vision_feature_layer", to=0), BAD, "vision_feature_layer: 0"),
    ("llava", changed("vision_feature_layer", to=-4), BAD, "from 1 to 3 or from -3 to -1"),
    ("llava", changed("vision_feature_layer", to=4), BAD, "vision_feature_layer: 4"),
    ("llava", changed("vision_feature_layer", to=True), BAD, "vision_feature_layer: True"),
    ("llava", changed("vision_feature_layer", to=None), BAD, "vision_feature_layer: None"),
    ("llava", changed("projector_hidden_act", to="relu"), BAD, "projector_hidden_act: 'relu'"),
    ("llava", changed("multimodal_projector_bias", to=False), BAD, "multimodal_projector_bias"),
    ("llava", changed("vision_config", "hidden_act", to="gelu_pytorch_tanh"), BAD, "vision_config: hidden_act"),
    ("llava", changed("vision_config", "num_channels", to=1), BAD, "num_channels: 1"),
    ("llava", changed("vision_config", "model_type", to="siglip_vision_model"), UNKNOWN, "siglip_vision_model"),
    ("llava", changed("vision_config", "num_attention_heads", to=5), errors.BadMetadata, "head_count"),
    ("llava", changed("vision_config", "image_size", to=[56, 56]), BAD, "image_size"),
    ("llava", changed("vision_config", "intermediate_size", to=161), errors.TensorShapeMismatch, "v.blk.0.ffn_up"),
    ("llava", changed("vision_config", "num_hidden_layers", to=5), errors.MissingTensor, "layers.3"),
    ("llava", changed("vision_config", "num_hidden_layers", to=2), errors.BadTensor, "layers.2"),
    ("llava", changed("text_config", "model_type", to="qwen2"), UNKNOWN, "text_config of type qwen2"),
    ("idefics3", changed("vision_config", "hidden_act", to="gelu"), BAD, "hidden_act: 'gelu'"),
    ("idefics3", changed("vision_config", "model_type", to="clip_vision_model"), UNKNOWN, "clip_vision_model"),
    ("idefics3", changed("scale_factor", to=4), errors.BadMetadata, "image_size"),
    ("idefics3", changed("scale_factor", to=2), errors.TensorShapeMismatch, "mm.model.fc"),
    ("idefics3", changed("scale_factor", to=0), BAD, "scale_factor"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "error", "words"), CONFIGS)
def test_configs_that_are_refused(
    name: str, change: Change, error: type[Exception], words: str, tmp_path: Path
) -> None:
    """Before a byte is written, by the key's name."""
    it = Looker(name, tmp_path)
    config = copied(it.about["config"])
    change(config)
    folder = it.write(tmp_path / "folder", config=config)
    with pytest.raises(error) as caught:
        convert(folder, tmp_path / "out.gguf", "F32", mmproj=True)
    assert words.replace(": ", " ") in str(caught.value).replace(": ", " ") and not (tmp_path / "out.gguf").exists()


def test_text_models_that_are_refused(llava: Looker, tmp_path: Path) -> None:
    for key, value, error in (("model_type", "qwen2", UNKNOWN), ("hidden_act", "gelu", BAD)):
        config = copied(llava.about["config"])
        config["text_config"][key] = value
        with pytest.raises(error, match=str(value)):
            convert(llava.write(tmp_path / key, config=config), tmp_path / "out.gguf", vocabulary=False)


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_tied_heads(llava: Looker, tmp_path: Path) -> None:
    """A head that is written out though the config ties it is the embedding; one that is missing is missed unless the
    config, or in LLaVA's the text model's, ties it."""
    config = copied(llava.about["config"])
    head = "language_model.lm_head.weight"
    less = {name: x for name, x in llava.weights.items() if name != head}
    with pytest.raises(errors.MissingTensor, match=head):
        convert(llava.write(tmp_path / "a", config, weights=less), tmp_path / "a.gguf", vocabulary=False)
    for i, weights in enumerate((less, llava.weights)):
        place = llava.write(tmp_path / f"b{i}", config | {"tie_word_embeddings": True}, weights=weights)
        assert "output.weight" not in convert(place, tmp_path / f"b{i}.gguf", vocabulary=False).tensors
    config["text_config"]["tie_word_embeddings"] = True
    place = llava.write(tmp_path / "c", config, weights=less)
    assert "output.weight" not in convert(place, tmp_path / "c.gguf", vocabulary=False).tensors


def test_idefics3_is_tied_by_its_own_key_alone(tmp_path: Path) -> None:
    it = Looker("smolvlm", tmp_path)
    assert "output.weight" not in convert(it.folder, tmp_path / "a.gguf", vocabulary=False).tensors
    config = copied(it.about["config"]) | {"tie_word_embeddings": False}
    config["text_config"]["tie_word_embeddings"] = True
    with pytest.raises(errors.MissingTensor, match=r"lm_head\.weight"):
        convert(it.write(tmp_path / "b", config), tmp_path / "b.gguf", vocabulary=False)


def test_missing_and_extra_tensors(folder: Looker, tmp_path: Path) -> None:
    """Each file looks at its own part of the folder, and misses or minds a tensor by its name in the folder."""
    gone = next(name for name in folder.weights if name.endswith("layers.0.mlp.fc1.bias"))
    less = folder.write(tmp_path / "less", weights={k: v for k, v in folder.weights.items() if k != gone})
    with pytest.raises(errors.MissingTensor, match=r"layers\.0\.mlp\.fc1\.bias"):
        convert(less, tmp_path / "m.gguf", mmproj=True)
    convert(less, tmp_path / "t.gguf", vocabulary=False)
    extra = gone.replace("fc1", "fc9")
    more = folder.write(tmp_path / "more", weights=folder.weights | {extra: np.ones(4, np.float32)})
    with pytest.raises(errors.BadTensor, match=r"fc9"):
        convert(more, tmp_path / "m.gguf", mmproj=True)
    stray = folder.write(tmp_path / "stray", weights=folder.weights | {"adapter.weight": np.ones(4, np.float32)})
    for projector in (True, False):
        with pytest.raises(errors.BadTensor, match="adapter"):
            convert(stray, tmp_path / "s.gguf", vocabulary=False, mmproj=projector)
    assert not (tmp_path / "m.gguf").exists() and not (tmp_path / "s.gguf").exists()


def test_widths_that_leave_open_which_matrix_is_first(llava: Looker, tmp_path: Path) -> None:
    """Readers tell the two spellings of such files apart by the shape, and here they could not."""
    config = copied(llava.about["config"])
    config["vision_config"]["intermediate_size"] = 96
    weights = dict(llava.weights)
    for name in [*weights]:
        if ".mlp.fc1" in name:
            weights[name] = weights[name][:96]
        elif ".mlp.fc2.weight" in name:
            weights[name] = weights[name][:, :96]
    folder = llava.write(tmp_path / "folder", config, weights=weights)
    with pytest.raises(errors.BadTensor, match="n_ff is n_embd, 96"):
        convert(folder, tmp_path / "m.gguf", mmproj=True)
