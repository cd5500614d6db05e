"""From stored results to tables, files, plots and verdicts. Nothing here measures, and nothing here
imports torch.
"""
