"""Other people's predictive coding libraries on our weights and batch: their gradients in Table 6, beside ours."""
