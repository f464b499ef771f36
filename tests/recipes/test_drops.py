from chrono_recipes import Drops


def test_drops_are_counted_by_reason_in_order_of_first_occurrence() -> None:
    """Total and reasons agree, and the reasons stand as they came first."""
    drops = Drops()
    for reason in ("late", "cancelled", "late", "early", "late"):
        drops(object(), reason)
    assert list(drops.by_reason.items()) == [("late", 3), ("cancelled", 1), ("early", 1)]
    assert drops.total == 5
    assert "late" in repr(drops)


def test_fresh_drops_are_empty() -> None:
    """Nothing is shared between two of them."""
    Drops()("item", "late")
    assert Drops().total == 0
    assert Drops().by_reason == {}


def test_items_are_not_kept() -> None:
    """It keeps counts and no items, which may be large."""
    items: list[object] = []
    drops = Drops()
    drops(items, "late")
    assert items not in drops.by_reason.values()
    assert vars(drops) == {"by_reason": {"late": 1}}
