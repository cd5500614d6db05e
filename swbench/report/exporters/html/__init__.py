"""A run as one HTML file that works offline: it contains its style, script and drawings, and makes
no network requests.
"""

from swbench.report.exporters.html.page import HTML

__all__ = ["HTML"]
