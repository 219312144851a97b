"""What transformers renders from the chat templates of FOLDER, into tests/golden/chat_templates.json.

    python tools/fetch_vocabularies.py                                     # the folder
    python tools/make_template_golden.py CACHE/vocabularies/templates      # where transformers is installed

Of each rendered text the length and the sum are kept, of each that cannot be rendered why. The clock stands still. The
built-in templates are among them, as `built-in NAME`; tests/golden/tool_schemas.json is what `get_json_schema` says of
the functions of tests/tool_functions.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from template_conversations import CONVERSATIONS, FIXED, NOW  # noqa: E402
from tool_functions import FUNCTIONS  # noqa: E402

OUT = ROOT / "tests" / "golden" / "chat_templates.json"
SCHEMAS = ROOT / "tests" / "golden" / "tool_schemas.json"


class Clock:
    """Stands in for datetime.datetime."""

    @staticmethod
    def now() -> Any:
        return NOW


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    import jinja2
    import transformers
    from transformers.utils import chat_template_utils as oracle

    oracle.datetime = Clock
    results: dict[str, dict[str, Any]] = {}
    namespace: dict[str, Any] = {}  # the package itself is not installed where transformers is
    exec((ROOT / "zigllama" / "models" / "built_in_templates.py").read_text("utf-8"), namespace)
    sources = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.jinja"))}
    sources |= {f"built-in {name}": text.encode() for name, text in namespace["BUILT_IN"].items()}
    for stem, source in sources.items():
        rows: dict[str, Any] = {"sha256": hashlib.sha256(source).hexdigest()}
        template = oracle._compile_jinja_template(source.decode())
        for name, (messages, tools, variables) in CONVERSATIONS.items():
            try:
                text = template.render(**FIXED | variables, messages=messages, tools=tools)
                rows[name] = [len(text), hashlib.sha256(text.encode()).hexdigest()[:32]]
            except Exception as error:
                rows[name] = f"{type(error).__name__}: {error}"
        results[stem] = rows
    made = {
        "oracle": "transformers",
        "version": f"{transformers.__version__} with jinja2 {jinja2.__version__}",
        "command": "python tools/make_template_golden.py FOLDER",
        "templates": results,
    }
    OUT.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
    about = {k: made[k] for k in ("oracle", "version", "command")}
    schemas = {f.__name__: oracle.get_json_schema(f) for f in FUNCTIONS}
    SCHEMAS.write_text(json.dumps(about | {"schemas": schemas}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    rendered = sum(isinstance(v, list) for r in results.values() for v in r.values())
    print(f"{len(results)} templates, {rendered} texts, {len(results) * len(CONVERSATIONS) - rendered} refusals: {OUT}")


if __name__ == "__main__":
    main()
