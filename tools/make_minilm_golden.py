"""Make tests/golden/minilm.json and minilm.npz: what sentence-transformers makes of 50 sentences with all-MiniLM-L6-v2.

    pip install torch sentence-transformers
    zigllama pull minilm
    python tools/make_minilm_golden.py FOLDER

In float32, mean pooling, length one: the pipeline that the folder's modules.json says. The ids are the tokenizer's. The
engine takes no part.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import sentence_transformers
import torch

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
PLAIN = """The cat sat on the mat.
A man is eating food.
A man is eating a piece of bread.
The girl is carrying a baby.
Two men pushed carts through the woods.
A monkey is playing drums.
Someone in a gorilla costume is playing a set of drums.
A cheetah is running behind its prey.
Quarterly revenue rose 12.5% to $3.4 billion, beating estimates.
The mitochondrion is the powerhouse of the cell.
To be, or not to be: that is the question.
In the beginning God created the heaven and the earth.
Water boils at 100 degrees Celsius at sea level.
def add(a, b): return a + b
SELECT name FROM users WHERE id = 42;
for (int i = 0; i < n; i++) sum += x[i];
https://example.org/path?query=1&lang=en#top
user@example.org wrote on 2024-02-29 at 23:59.
e^(i*pi) + 1 = 0
Call me Ishmael.
Der schnelle braune Fuchs springt über den faulen Hund.
Le garçon a mangé une crème brûlée à la fête.
El niño juega en la calle mañana por la mañana.
Быстрая коричневая лиса прыгает через ленивую собаку.
Η γρήγορη αλεπού πηδάει πάνω από τον ΟΔΥΣΣΕΑΣ.
素早い茶色の狐がのろまな犬を飛び越える。
敏捷的棕色狐狸跳过了懒狗。
빠른 갈색 여우가 게으른 개를 뛰어넘는다.
الثعلب البني السريع يقفز فوق الكلب الكسول.
तेज भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।
I love this! 😀🎉👍🏽
Naïve café résumé coöperate Ångström
UPPER CASE SHOUTING, lower case whispering
antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis
don't can't won't it's they're I'd we've
a
?
...
    spaces   everywhere\tand tabs
wörter-mit-bindestrichen und_unterstrichen
x²+y²=z² ½ ¾ ™ © €100 £5
How do I reset my password?
What is the best way to recover an account?
The weather today is sunny and warm.
It is raining cats and dogs.
Machine learning models need a lot of data.
Neural networks are trained by gradient descent.
This sentence is false.""".splitlines()
LONG = " ".join(PLAIN[:19])  # more than a page of positions
SENTENCES = [*PLAIN, LONG, "word " * 180]


def main(folder: str) -> None:
    """Write the files."""
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    model.max_seq_length = 512
    model = model.float()
    rows = [model.encode([text], convert_to_numpy=True)[0] for text in SENTENCES]  # alone: nothing is padded
    ids = [model.tokenizer(text)["input_ids"] for text in SENTENCES]
    about = {
        "oracle": f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}",
        "command": "python tools/make_minilm_golden.py FOLDER",
        "texts": SENTENCES,
        "ids": ids,
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    (GOLDEN / "minilm.json").write_text(f"{{\n{lines}\n}}\n")
    np.savez_compressed(GOLDEN / "minilm.npz", embeddings=np.stack(rows).astype(np.float32))
    print(len(SENTENCES), "texts, longest", max(map(len, ids)), "tokens")


if __name__ == "__main__":
    main(sys.argv[1])
