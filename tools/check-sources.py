#!/usr/bin/env python3
"""Checks sources against the style guide (CONTRIBUTING.md, "Style"): comments that hide their subject, long files, long
names of tests.

usage: check-sources.py   prints each finding; exit 1 if there is any"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent

# A comment begins with its subject: not with a relative or question word, and not with a fragment.
HIDDEN = re.compile(
    r"^(What|How|Who|Whom|Whose|Whoever|Whatever|Whichever|Whence|Where|Whether|Nor|Nobody|The same"
    r"|(With|For|Of|By|To|In|From) (what|which|whom|whose|how)|Of (a|an|the|those)|So (many|much|often)|As (long|often|soon) as)\b"
)

# Maximum number of lines: a file that is longer is hard to find one's way in.
MAX_SOURCE, MAX_TEST = 500, 600

# Files that hold data only.
DATA = {
    "src/config/options.rs": "table of options",
}

# Maximum length of the name of a test, which is a sentence with its subject first.
MAX_NAME = 70

# Beginning of a line of a comment, by the ending of the file.
MARKERS = {"rs": "//[/!]|//", "mjs": r"//|/\*\*|\*(?!/)", "py": "#"}

RUST_TEST = re.compile(r"#\[test\]\n(?:\s*#\[[^\n]*\]\n)*\s*fn (\w+)")
NODE_TEST = re.compile(r"\b(?:it|test|describe)\((['`])((?:\\.|(?!\1).)*)\1")


def comments(text, marker):
    """Blocks of comments, as pairs of line number and text."""
    blocks, inside = [], None
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(rf"^\s*({marker})\s?(.*)$", line)
        if match is None:
            inside = None
        elif inside != match[1]:
            inside = match[1]
            blocks.append((number, match[2].strip()))
    return blocks


def findings(name, text):
    lines = text.count("\n")
    most = MAX_SOURCE if name.startswith("src/") else MAX_TEST
    if lines > most and name not in DATA:
        yield f"{name}: {lines} lines, and {most} are the maximum"
    marker = MARKERS[name.rsplit(".", 1)[1]]
    for number, comment in comments(text, marker):
        if HIDDEN.match(comment):
            yield f"{name}:{number}: comment without a subject at its beginning: {comment[:70]}"
    names = RUST_TEST.findall(text) if name.endswith(".rs") else [title for _, title in NODE_TEST.findall(text)]
    for test in names:
        if len(test) > MAX_NAME:
            yield f"{name}: name of {len(test)} characters, and {MAX_NAME} are the maximum: {test}"


def main():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    found, count = [], 0
    for name in listed:
        is_source = name.startswith(("src/", "tests/", "fuzz/", "bench/", "tools/")) and name.endswith((".rs", ".mjs", ".py"))
        if is_source and (ROOT / name).exists():
            count += 1
            found += findings(name, (ROOT / name).read_text(encoding="utf-8"))
    for name in DATA:
        if not (ROOT / name).exists():
            found.append(f"tools/check-sources.py: {name} is listed as data and is not there")
    print("\n".join(found) or f"no finding in {count} files")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
