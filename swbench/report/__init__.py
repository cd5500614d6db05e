"""Tables, files, plots and verdicts from stored results. Nothing here measures, and nothing here
imports torch.
"""
