"""Kernels for GPUs, in Triton's language: what torch has no operation for, or only several in a row.

Alone here Triton is imported. Who uses a kernel has another way where Triton is missing.
"""
