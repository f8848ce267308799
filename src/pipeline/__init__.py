"""An image-classification pipeline: from a folder of labelled photographs to a registered CNN.

The packages are the journey of an image, and imports point one way, back along it:
``release`` → ``evaluation`` | ``training`` → ``vision`` → ``data`` → ``artifacts`` | ``tracking`` →
``params`` (held by import-linter).
"""
