"""The workbench: turns a Qwen3-VL checkpoint into a model folder that ``vlrun`` runs.

Needs torch, transformers, optimum and NNCF (``pip install 'vlrun[export]'``). Importing this package loads none of
them.
"""
