"""Token lengths of datasets: how long prompts and answers are for a template and a tokenizer, what a maximum
length costs, how rows fill batches. Knows nothing of models' weights and training.
"""

from core.lengths.measuring import measure, measure_rows
from core.lengths.statistics import summary

__all__ = ["measure", "measure_rows", "summary"]
