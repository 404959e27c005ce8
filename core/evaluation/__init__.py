"""From answers to numbers that can be defended: metrics, scores, intervals, comparisons, and the runner that gets the answers.

Start at ``scoring`` (texts to scores), ``runner`` (an evaluation as a task) and ``compare`` (several on the same rows).
"""
