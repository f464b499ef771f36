import re

from .programs import ROOT

DOCS = ROOT / "docs"


def test_the_table_of_recipes_lists_each() -> None:
    """Every recipe that is shown at work has a line in the table at the top of its page."""
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    table, _, rest = page.partition("## What holds for all")
    headings = re.findall(r"^### (.+)$", rest[rest.index("## Routing") :], re.MULTILINE)
    shown = {name for heading in headings for name in heading.split(", ")}
    assert shown <= set(re.findall(r"\[`(\w+)`\]", table))
    assert len(shown) > 20


def test_every_page_can_be_reached() -> None:
    """Each page but those that examples bring along is in the navigation."""
    navigation = (DOCS / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"[\w./-]+\.md$", navigation, re.MULTILINE)
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(page for page in pages if "/data/" not in page)
