"""Patterns over chrono-core that lose nothing."""

__all__: list[str] = []
