"""chrono-core's channels between processes, over ZeroMQ."""

__all__: list[str] = []
