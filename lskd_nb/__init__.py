"""Localized Symbolic Knowledge Distillation (Park et al., NeurIPS 2023), as notebooks over a
thin package.
"""

__version__ = "0.1.0"
