"""From rows to a summary, tables, figures and a page."""
