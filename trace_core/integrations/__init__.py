"""Traceability where people train: Hugging Face's Trainer, Lightning, TensorBoard.

Each module needs a package that tracerank doesn't install by itself, and is imported on its own.
"""
