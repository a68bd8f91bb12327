"""MkDocs hook: names of functions and tests on the pages become links to their source lines.

Each source file that a page names or links to becomes a page of the site, under `source/`. Links
in Markdown may lead to files outside docs/: on the site they lead to the page made of that file,
or to the repository.
"""

import ast
import html
import posixpath
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "engine" / "gramstyle"

# Files at the top of the repository that are pages of the site.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "models/README.md": "model-file.md",
}
LANGUAGES = {".py": "python", ".mjs": "javascript", ".json": "json", ".toml": "toml"}

# A name in backticks: `core.losses.gram`, or `core/test_losses.py::test_name`.
NAME = re.compile(r"(?:gramstyle\.)?[a-z]\w*(?:\.\w+)+|[\w/]+\.py::\w+")
IN_MARKDOWN = re.compile(rf"`({NAME.pattern})`")
IN_HTML = re.compile(rf"<(pre|a)\b.*?</\1>|<code>({NAME.pattern})</code>", re.DOTALL)
LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)


@cache
def definitions(path: Path) -> dict[str, tuple[Path, int]]:
    """Return the file and line of every name that a Python file defines or imports from us."""
    found: dict[str, tuple[Path, int]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[prefix + node.name] = path, node.lineno
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[prefix + node.target.id] = path, node.lineno
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found[prefix + target.id] = path, node.lineno
            elif isinstance(node, ast.If) and path.name == "__init__.py":  # imported when used
                visit(node.body, prefix)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gramstyle."):
                for alias in node.names:
                    place = locate(f"{node.module}.{alias.name}")
                    if place is not None:
                        found.setdefault(alias.asname or alias.name, place)

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


@cache
def locate(name: str) -> tuple[Path, int] | None:
    """Return the file and line of a function, class or test, or None if there is none."""
    if "::" in name:
        file, test = name.split("::")
        path = ROOT / "tests" / file
        return definitions(path).get(test) if path.is_file() else None
    parts = name.removeprefix("gramstyle.").split(".")
    for end in range(len(parts), -1, -1):
        module = PACKAGE.joinpath(*parts[:end])
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.is_file():
                rest = ".".join(parts[end:])
                return definitions(path).get(rest) if rest else (path, 1)
    return None


def target_of(base: str, link: str) -> Path | None:
    """Return the file outside docs/ that a relative link from a folder of the repository means."""
    path = ROOT / posixpath.normpath(posixpath.join(base, link))
    inside = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "docs")
    return path if inside and path.exists() else None


def source_page(path: Path) -> str:
    """Return the site's page of a source file."""
    return f"source/{path.relative_to(ROOT).as_posix()}.md"


def folder_of(src_uri: str) -> str:
    """Return the folder of the repository that the links of a page are relative to."""
    original = next((file for file, page in PAGES.items() if page == src_uri), f"docs/{src_uri}")
    return posixpath.dirname(original)


def on_files(files: Files, *, config: Any, **_: Any) -> Files:
    """Add the pages of files outside docs/."""
    for file, page in PAGES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    named: set[Path] = set()
    for file in files.documentation_pages():
        text = FENCE.sub("", file.content_string)
        named |= {place[0] for name in IN_MARKDOWN.findall(text) if (place := locate(name))}
        links = [target_of(folder_of(file.src_uri), link) for _, link, _ in LINK.findall(text)]
        named |= {path for path in links if path is not None and path.suffix in LANGUAGES}
    for path in sorted(named):
        language = LANGUAGES[path.suffix]
        code = path.read_text(encoding="utf-8")
        content = (
            "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n"
            f"# {path.relative_to(ROOT).as_posix()}\n\n"
            f'~~~~~~~~ {{ .{language} linenums="1" }}\n{code}\n~~~~~~~~\n'
        )
        page = File.generated(
            config, source_page(path), content=content, inclusion=InclusionLevel.NOT_IN_NAV
        )
        files.append(page)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead links to files outside docs/ to their pages, or to the repository."""
    src_uri = page.file.src_uri
    if src_uri.startswith("source/"):
        return markdown
    here = posixpath.dirname(src_uri)

    def rewrite(match: re.Match[str]) -> str:
        begin, link, end = match.groups()
        path = target_of(folder_of(src_uri), link)
        if path is None:  # a page of docs/, for a root file seen from its own folder
            inside = posixpath.normpath(posixpath.join(folder_of(src_uri), link))
            if not inside.startswith("docs/"):
                return match[0]
            return f"{begin}{posixpath.relpath(inside.removeprefix('docs/'), here or '.')}{end}"
        name = path.relative_to(ROOT).as_posix()
        if name in PAGES:
            return f"{begin}{posixpath.relpath(PAGES[name], here or '.')}{end}"
        if path.suffix in LANGUAGES:
            return f"{begin}{posixpath.relpath(source_page(path), here or '.')}{end}"
        return f"{begin}{repository()}/blob/main/{name}{end}"

    return LINK.sub(rewrite, markdown)


def on_page_content(content: str, *, page: Any, files: Files, **_: Any) -> str:
    """Link every name of a function or test to its source line."""
    if page.file.src_uri.startswith(("source/", "changelog")):
        return content

    def link(match: re.Match[str]) -> str:
        name = match[2]
        place = locate(html.unescape(name)) if name else None
        if place is None:
            return match[0]
        path, line = place
        file = files.get_file_from_path(source_page(path))
        if file is None:  # a name in a docstring, on a page of the API
            return match[0]
        return f'<a href="{file.url_relative_to(page.file)}#__codelineno-0-{line}">{match[0]}</a>'

    return IN_HTML.sub(link, content)


def on_post_build(*, config: Any, **_: Any) -> None:
    """End the build if a link to a source line leads nowhere."""
    site = Path(config.site_dir)
    pattern = re.compile(r'href="([^"]*source/[^"#]+\.html)#(__codelineno-0-\d+)"')
    for path in sorted(site.rglob("*.html")):
        for target, line in set(pattern.findall(path.read_text(encoding="utf-8"))):
            page = (path.parent / target).resolve()
            if f'id="{line}"' not in read(page):
                raise PluginError(f"{path.name}: {target}#{line} leads nowhere")


@cache
def read(path: Path) -> str:
    """Return the text of a built page."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@cache
def repository() -> str:
    """Return the repository's address from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"])
