"""Code Llama 7B, 13B and 34B (Roziere et al., 2023, arXiv 2308.12950).

LLaMA 2, trained on with code and with a rotation of base 1,000,000 (NTK scaling, rope_scaling.py) for contexts of
16,384 to 100,000 tokens: its files call themselves "llama" and differ in llama.rope.freq_base. What is new is
infilling, in the 7B and 13B models: what stands before a gap and what stands after it go in, what belongs between them
comes out, up to the token <EOT>.

    <PRE> before <SUF>after <MID>  ->  between          prefix-suffix-middle, PSM
    <PRE> <SUF>after <MID> before  ->  between          suffix-prefix-middle, SPM: the text before the gap stays last

The three tokens are keys of the file, tokenizer.ggml.prefix_token_id, suffix_token_id and middle_token_id (newer files:
fim_pre_token_id and so on), or are known by their texts. The 34B model has none.
"""

from __future__ import annotations

from zigllama.models.tokenizer import Tokenizer


def infill(tokenizer: Tokenizer, before: str, after: str, *, suffix_first: bool = False) -> list[int]:
    """The prompt that asks for what stands between two texts, as token ids, BOS in front where the model wants one.

    What stands after the gap is no beginning of a text: no space is put before it. Neither text can turn into a control
    token. Raises UnsupportedTokenizer for a model without infill tokens.
    """
    prefix, suffix, middle = tokenizer.infill_ids()
    bos = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    head, tail = tokenizer.encode(before, add_special=False), tokenizer.encode_inside(after)
    if suffix_first:
        return [*bos, prefix, suffix, *tail, middle, *head]
    return [*bos, prefix, *head, suffix, *tail, middle]
