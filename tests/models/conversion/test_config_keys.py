"""What a config.json says and leaves unsaid: keys that are missing mean what the class takes for them, and keys that
change what is computed are honoured or refused by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from zigllama.errors import BadCheckpoint, BadMetadata, MissingTensor, UnsupportedArchitecture
from zigllama.models.config import HyperParameters
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import conversion_of
from zigllama.models.conversion.safetensors import parse_json
from zigllama.models.registry import architecture

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "architectures"
GONE = object()
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def config(name: str, **changes: Any) -> Config:
    """The config of a variant, changed; GONE takes a key away."""
    found = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))["config"] | changes
    return Config({key: value for key, value in found.items() if value is not GONE})


def keys(name: str, **changes: Any) -> dict[str, Any]:
    c = config(name, **changes)
    return conversion_of(c).metadata(c)


EPS = "attention.layer_norm_rms_epsilon"
WINDOW = "attention.sliding_window"
# as the configuration classes of transformers 5.24 have them
DEFAULTS: list[tuple[str, dict[str, Any], str, Any]] = [
    ("llama", {"rms_norm_eps": GONE}, EPS, 1e-6),
    ("mistral", {"sliding_window": GONE}, WINDOW, 4096),
    ("mixtral", {"rms_norm_eps": GONE}, EPS, 1e-5),
    ("mixtral", {"rope_parameters": GONE}, "rope.freq_base", 1e6),
    ("qwen2-window", {"sliding_window": GONE}, WINDOW, 4096),
    ("gemma2", {"sliding_window": GONE}, WINDOW, 4096),
    ("gemma2", {"attn_logit_softcapping": GONE}, "attn_logit_softcapping", 50.0),
    ("gemma2", {"final_logit_softcapping": GONE}, "final_logit_softcapping", 30.0),
    ("gemma2", {"query_pre_attn_scalar": GONE}, "attention.scale", 1 / 16),
    ("gemma3", {"sliding_window": GONE}, WINDOW, 4096),
    ("gemma3", {"rope_parameters": GONE}, "rope.freq_base", 1e6),
    ("gemma3", {"rope_parameters": GONE}, "rope.freq_base_swa", 1e4),
    ("gemma3", {"layer_types": GONE}, f"{WINDOW}_pattern", 6),
    ("phi2", {"rope_parameters": GONE}, "rope.dimension_count", 32),
    ("phi3", {"rms_norm_eps": GONE}, EPS, 1e-5),
    ("gptneox", {"rope_parameters": GONE}, "rope.dimension_count", 16),
    ("gptj", {"rotary_dim": GONE}, "rope.dimension_count", 64),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "key", "want"), DEFAULTS)
def test_missing_keys(name: str, changes: dict[str, Any], key: str, want: Any) -> None:
    assert keys(name, **changes)[key] == want


def test_null_is_not_missing() -> None:
    assert WINDOW not in keys("mistral", sliding_window=None)
    assert keys("gptj", rotary_dim=None)["rope.dimension_count"] == 64


def test_llamas_class_has_no_window() -> None:
    assert WINDOW not in keys("llama", sliding_window=64) and keys("mixtral", sliding_window=64)[WINDOW] == 64


def test_a_head_that_is_not_tied() -> None:
    """Mamba 2's class has a head of its own where the config is silent, Mamba's has the embedding."""
    for name, apart in (("mamba", False), ("mamba2", True)):
        c = config(name, tie_word_embeddings=GONE)
        assert ("output.weight" in conversion_of(c).tensors(c)) is apart


def test_epsilon_of_falcon_mambas_mixers() -> None:
    """Its own, as the class has it where the config is silent; of a file without the key it is the layers'."""
    made = keys("falcon-mamba", mixer_rms_eps=GONE)
    assert (made["ssm.dt_b_c_rms_epsilon"], made[EPS]) == (1e-6, 1e-5)
    assert keys("falcon-mamba", mixer_rms_eps=3e-6)["ssm.dt_b_c_rms_epsilon"] == 3e-6

    def epsilon(**changes: Any) -> Any:
        file = {f"mamba.{k}": v for k, v in (made | changes).items() if v is not GONE}
        return architecture("mamba").spec(HyperParameters({"general.architecture": "mamba"} | file), 300).dt_b_c_eps

    own: dict[str, Any] = {"ssm.dt_b_c_rms_epsilon": GONE}
    assert (epsilon(), epsilon(**own), epsilon(**own | {"ssm.dt_b_c_rms": False})) == (1e-6, 1e-5, None)
    with pytest.raises(BadMetadata, match="dt_b_c_rms_epsilon"):
        epsilon(**own | {"ssm.dt_b_c_rms_epsilon": -1.0})
    with pytest.raises(BadMetadata, match="dt_b_c_rms"):
        epsilon(**own | {"ssm.dt_b_c_rms": 1})


def test_honoured() -> None:
    assert keys("gemma3", layer_types=GONE, sliding_window_pattern=3)[f"{WINDOW}_pattern"] == 3
    assert keys("bloom", hidden_size=GONE, n_embed=128) == keys("bloom", hidden_size=128)
    c = config("qwen2moe", mlp_only_layers=GONE)
    assert "blk.0.ffn_gate_exps.weight" in conversion_of(c).tensors(c)


def test_windows_of_qwens_experts() -> None:
    """Qwen2Moe has windows in every other layer below max_window_layers, Qwen3Moe in all."""
    on = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 3, "num_hidden_layers": 5}
    windowed = keys("qwen2moe", layer_types=GONE, **on)[f"{WINDOW}_pattern"]
    assert windowed == [True, False, True, False, False]
    assert all(keys("qwen3moe", layer_types=["full_attention"] * 5, **on)[f"{WINDOW}_pattern"])


# transformers 5.24's ACT2FN by what is computed, and the variants whose architecture has it
TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh")
EXACT, SILU = ("gelu", "gelu_python"), ("silu", "swish")
OTHERS = (
    "gelu_10", "hardswish", "laplace", "leaky_relu", "linear", "mish", "prelu", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "sqrtsoftplus", "tanh", "xielu",
)  # fmt: skip
HAS = {
    **dict.fromkeys(("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2moe", "phi3", "mamba"), SILU),
    **dict.fromkeys(("gpt2", "starcoder", "starcoder2", "gptj", "phi2", "gemma", "gemma2", "gemma3"), TANH),
    **dict.fromkeys(("falcon-7b", "bert"), EXACT),
    "gptneox": EXACT + TANH,
}
KEYS = ("hidden_activation", "activation_function", "activation", "hidden_act")


@pytest.mark.parametrize("name", HAS)
def test_names_of_activations(name: str) -> None:
    """Every name of what the architecture computes is honoured, every other one is refused by its key."""
    key = next(k for k in KEYS if k in config(name) or "gemma" in name)  # Gemma's hidden_act was "gelu" once
    plain = {k: v for k, v in keys(name).items() if k != "hidden_activation"}
    for value in HAS[name]:
        assert {k: v for k, v in keys(name, **{key: value}).items() if k != "hidden_activation"} == plain
    for other in [*{*TANH, *EXACT, *SILU, *OTHERS} - {*HAS[name]}, "GELU", ["gelu"], 5]:
        with pytest.raises(BadCheckpoint, match=key):
            keys(name, **{key: other})


def test_gelu_of_gptneox() -> None:
    """Pythia's is exact, where the config is silent too; GPT-NeoX 20B's is the tanh form, and the file says so."""
    sizes = {"block_count": 1, "embedding_length": 64, "attention.head_count": 1, "feed_forward_length": 8}
    metadata: dict[str, Any] = {f"gptneox.{k}": v for k, v in (sizes | {"context_length": 16}).items()}
    metadata["general.architecture"] = "gptneox"
    for value, want in (("gelu", "gelu"), (GONE, "gelu"), ("gelu_fast", "gelu_tanh")):
        made = {f"gptneox.{k}": v for k, v in keys("gptneox", hidden_act=value).items() if k == "hidden_activation"}
        assert architecture("gptneox").spec(HyperParameters(metadata | made), 10).activation == want
    with pytest.raises(BadMetadata, match=r"gptneox\.hidden_activation"):
        architecture("gptneox").spec(HyperParameters(metadata | {"gptneox.hidden_activation": "gelu_10"}), 10)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    *((name, {"hidden_act": "gelu"}, "hidden_act") for name in ("llama", "mistral", "mixtral")),
    *((name, {"hidden_activation": "gelu"}, "hidden_activation") for name in ("gemma", "gemma2", "gemma3")),
    ("gemma2", {"final_logit_softcapping": None}, "final_logit_softcapping"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ("gemma3", {"query_pre_attn_scalar": -256}, "query_pre_attn_scalar"),
    ("mamba2", {"time_step_limit": 5}, "time_step_limit"),
    ("mamba2", {"time_step_limit": ["a", "b"]}, "time_step_limit"),
    ("mamba2", {"time_step_limit": [0.0, 0.5]}, "time_step_limit"),
    ("mixtral", {"num_local_experts": 1 << 20}, "num_local_experts"),
    *(
        (name, {"rope_parameters": LLAMA3}, "'llama3' is not supported for this class")
        for name in ("qwen2", "qwen3", "gptneox", "phi2", "starcoder2", "falcon-7b", "gemma", "gemma2", "gemma3")
    ),
]


@pytest.mark.parametrize(("name", "changes", "reason"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadCheckpoint, match=reason):
        keys(name, **changes)


def test_experts_are_counted_before_their_names_are_made() -> None:
    c = config("mixtral", num_local_experts=1 << 16, num_hidden_layers=4096)
    with pytest.raises(BadCheckpoint, match="num_local_experts: 65536 is not an integer from 1 to 32"):
        conversion_of(c).tensors(c)


def test_longrope_without_its_divisors() -> None:
    """A file that says longrope and has no such tensors, of an architecture that does not ask for them."""
    sizes = {"block_count": 1, "embedding_length": 64, "attention.head_count": 1, "feed_forward_length": 8}
    metadata = {f"qwen2.{k}": v for k, v in (sizes | {"context_length": 16, "rope.scaling.type": "longrope"}).items()}
    h = HyperParameters(metadata | {"general.architecture": "qwen2"}, {"token_embd.weight"})
    with pytest.raises(MissingTensor, match="rope_factors_long"):
        architecture("qwen2").spec(h, 10)


# --- hostile ----------------------------------------------------------------------------------------------------------


def test_deep_values() -> None:
    """What JSON's reader lets through just so cannot be printed: the message is made all the same."""
    for depth in range(700, 1000, 7):
        try:
            c = Config(parse_json(b'{"hidden_size": ' + b"[" * depth + b"]" * depth + b"}", "p", "config"))
        except BadCheckpoint:
            continue
        with pytest.raises(BadCheckpoint, match="hidden_size"):
            c.int("hidden_size")


def test_a_key_twice_among_many() -> None:
    raw = b"{" + b",".join(b'"%d":1' % i for i in range(100_000)) + b',"99999":1}'
    begin = time.process_time()
    with pytest.raises(BadCheckpoint, match="'99999' appears twice"):
        parse_json(raw, "p", "config")
    assert time.process_time() - begin < 20


@pytest.mark.parametrize(("raw", "message"), [(b"[],", r"times \[ or {"), (b"1,", "times ,")])
def test_more_values_than_memory(raw: bytes, message: str) -> None:
    """What is 20 MB in a file and half a gigabyte as objects."""
    begin = time.process_time()
    with pytest.raises(BadCheckpoint, match=message):
        parse_json(b'{"a": [' + raw * (9 << 20) + b"0]}", "p", "config")
    assert time.process_time() - begin < 20


def test_a_long_class() -> None:
    begin = time.process_time()
    with pytest.raises(UnsupportedArchitecture) as e:
        conversion_of(Config({"architectures": ["LlamaForCausalLM" * 1_000_000]}))
    with pytest.raises(UnsupportedArchitecture) as f:
        architecture("llama" * 1_000_000)
    assert len(str(e.value)) < 300 and len(str(f.value)) < 300 and time.process_time() - begin < 20
