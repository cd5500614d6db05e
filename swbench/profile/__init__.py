"""Where the time of one case goes, by layer and by operator. Apart from timing: nothing here is
ever stored with a run's samples.
"""
