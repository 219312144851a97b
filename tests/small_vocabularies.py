"""Vocabularies of a few hundred entries that really tokenise: byte-level BPE, SentencePiece and WordPiece.

Merges come from a list of words, each spelt from its first letter on ("t h", "th e"): short, deterministic, and every
longer piece can be reached from shorter ones, as both algorithms need.
"""

from __future__ import annotations

from gguf_bytes import Value

WORDS = (  # noqa: SIM905 - as prose it can be read
    "the and that of to in his God said was heaven earth light let there it waters firmament day were saw good "
    "upon made divided from called evening morning darkness face deep spirit moved first second under above "
    "which gathered together dry land"
).split()
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # token types of GGUF

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{{ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in of each byte: itself where printable, else the next letter from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, fresh = {b: chr(b) for b in printable}, 0x100
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(fresh)
            fresh += 1
    return [letters[b] for b in range(256)]


def bpe() -> dict[str, Value]:
    """Metadata of a byte-level BPE vocabulary (`gpt2`, pre-tokenizer `smollm`) with ChatML's special tokens."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_alphabet()]
    merges: list[str] = []
    for word in WORDS:
        for start in ("\u0120" + word, word):  # with the space in front, and at the start of a text
            for end in range(2, len(start) + 1):
                merge = f"{start[: end - 1]} {start[end - 1]}"
                if merge not in merges:
                    merges.append(merge)
                    tokens.append(start[:end])
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * 3 + [NORMAL] * (len(tokens) - 3),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def spm() -> dict[str, Value]:
    """Metadata of a SentencePiece vocabulary (`llama`) like Gemma's: byte tokens, newline runs, no space in front."""
    entries: list[tuple[str, float, int]] = [("<pad>", 0.0, CONTROL), ("<eos>", 0.0, CONTROL), ("<bos>", 0.0, CONTROL)]
    entries += [("<unk>", 0.0, UNKNOWN), ("<start_of_turn>", 0.0, CONTROL), ("<end_of_turn>", 0.0, CONTROL)]
    entries += [("\n" * n, 0.0, USER_DEFINED) for n in (1, 2, 3)]
    entries += [(f"<0x{b:02X}>", 0.0, BYTE) for b in range(256)]
    pieces: list[str] = []
    for word in WORDS:
        for start in ("\u2581" + word, word):
            pieces += [p for end in range(2, len(start) + 1) if (p := start[:end]) not in pieces]
    letters = "\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'-\u00e9\u4e16"
    entries += [(p, -float(rank), NORMAL) for rank, p in enumerate([*dict.fromkeys(pieces), *letters])]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [text for text, _, _ in entries],
        "tokenizer.ggml.scores": [score for _, score, _ in entries],
        "tokenizer.ggml.token_type": [kind for _, _, kind in entries],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }


def wordpiece() -> dict[str, Value]:
    """Metadata of a WordPiece vocabulary (`bert`) of the words, and of letters as beginnings and within words."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789\u00e9\u4e16.,;:!?"
    begin = [f"\u2581{word}" for word in dict.fromkeys([*map(str.lower, WORDS), *letters])]
    tokens = [*specials, *begin, *letters]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL, UNKNOWN, CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 4),
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.normalizer.lowercase": True,
    }
