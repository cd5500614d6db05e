"""A run as one HTML file that works offline: its style, script and drawings are inside, and it asks
the network for nothing.
"""

from swbench.report.exporters.html.page import HTML

__all__ = ["HTML"]
