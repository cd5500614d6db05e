"""Kernels in plain C for the CPU, optional: built with the package where there is a compiler,
loaded with ctypes.
"""
