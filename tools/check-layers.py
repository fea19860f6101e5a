#!/usr/bin/env python3
"""Checks that a folder of src/ imports only from folders in layers below its own (docs/architecture.md, "Layers").

usage: check-layers.py [--circles]   prints each import against the layers; exit 1 if there is any.
--circles also prints the import circles between files of one folder, which are allowed and stated in releases."""
import pathlib
import re
import sys

# Each folder or single file, lowest layer first. Members of one line do not import each other.
LAYERS = [
    {"json", "path", "secret", "time", "url"},
    {"crypto", "telemetry"},
    {"http", "shared"},
    {"jose"},
    {"dpop"},
    {"provider"},
    {"resource"},
    {"config", "refusal"},
    {"cache"},
    {"engine"},
    {"filter"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
PATH = re.compile(r"\bcrate::([a-z_]+)((?:::[a-z_]+)*)")
SEVERAL = re.compile(r"\bcrate::\{")
SUPER = re.compile(r"\b(?:super::)+")
TREE = re.compile(r"\bcrate::([a-z_]+(?:::[a-z_]+)*)::\{([^{}]*)\}")


def code_of(file):
    """The text of a file without comments and unit tests."""
    text = file.read_text(encoding="utf-8")
    text = text.split("\n#[cfg(test)]\n")[0]
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("//"))


def imports(code):
    """Dotted paths that the code names. A list of modules in braces names each module, and not the folder that they are in."""
    for match in TREE.finditer(code):
        parent = match[1].replace("::", ".")
        for item in (item.strip() for item in match[2].split(",")):
            yield parent if item in ("", "self") or not item[0].islower() else f"{parent}.{item.split('::')[0]}"
    for match in PATH.finditer(TREE.sub("", code)):
        yield match[1] + match[2].replace("::", ".")


def main():
    root = pathlib.Path(__file__).parent.parent / "src"
    problems, edges = [], {}
    for file in sorted(root.rglob("*.rs")):
        relative = file.relative_to(root)
        own = relative.parts[0].removesuffix(".rs")
        if own == "lib":
            continue
        if own not in LEVEL:
            problems.append(f"{relative}: the folder is in no layer")
            continue
        code = code_of(file)
        for match in PATH.finditer(code):
            other = match[1]
            if other != own and LEVEL.get(other, 99) >= LEVEL[own]:
                line = code[: match.start()].count("\n") + 1
                problems.append(f"{relative}: imports crate::{other} (near line {line} of its code)")
        name = ".".join(relative.with_suffix("").parts).removesuffix(".mod")
        # The folder of these imports is not at the beginning of their paths.
        if SEVERAL.search(code):
            problems.append(f"{relative}: imports a list of folders: write one `use` for each")
        if any(match[0].count("super::") > name.count(".") for match in SUPER.finditer(code)):
            problems.append(f"{relative}: leaves its folder by `super::`: write `crate::` and the folder")
        edges[name] = set(imports(code))
    print("\n".join(problems) or f"no import against the layers in {len(edges)} files")
    if "--circles" in sys.argv:
        circles(edges)
    return bool(problems)


def circles(edges):
    """Prints the strongly connected components of more than one file, by the longest file name that a path begins with."""
    names = sorted(edges, key=len, reverse=True)
    graph = {}
    for name, paths in edges.items():
        graph[name] = {next((n for n in names if p == n or p.startswith(n + ".")), None) for p in paths} - {None, name}
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = []
            while not component or component[-1] != name:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for name in graph:
        if name not in index:
            visit(name)
    for component in found:
        print(f"circle of {len(component)}: {' '.join(component)}")


if __name__ == "__main__":
    sys.exit(main())
