"""Facts of this machine, hardware and software: recorded with every run, compared between runs, and
read by other packages. Loading it imports no torch.
"""
