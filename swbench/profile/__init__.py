"""Profiles: the time of one case by layer and by operator. They are separate from timing, and never
stored with a run's samples.
"""
