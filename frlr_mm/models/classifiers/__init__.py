"""Classifiers that mmpretrain lacks."""

from .logistic_classifier import LogisticClassifier

__all__ = ['LogisticClassifier']
