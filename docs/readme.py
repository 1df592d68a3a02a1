"""Write into README.md what the committed report says: `make readme`.

What stands between ``<!-- NAME: PATH -->`` and ``<!-- end -->`` is the content of that file.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(<!-- [\w ]+: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def written(text, root=ROOT):
    """The README's text with the content of the files that its blocks name."""
    return _BLOCK.sub(lambda found: found[1] + (root / found[2]).read_text(encoding="utf-8") + found[3], text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
