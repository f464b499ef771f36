"""The page of figures."""

from tests.bench.tables import PAGE, page


def test_page_of_figures_is_what_the_benchmarks_wrote() -> None:
    """No figure of it was typed by hand; `hatch run bench:tables` makes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page()
