"""Why a model's row is what it is, where its verdict does not say: written by who looked into it."""

CAUSES = {}
