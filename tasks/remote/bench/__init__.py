"""Skein beside the tools that people use, on one lab, in one run; no code here is used by a deploy."""
