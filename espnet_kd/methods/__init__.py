"""Compression methods: one file each.

In reading order:

    callbacks  events of a training
"""
