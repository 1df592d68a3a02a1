"""Results in; tables, figures, the verdicts on the claims and one page out. Nothing here measures anything."""
