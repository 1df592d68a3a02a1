"""Backpropagation, by PyTorch's autograd: the reference that everything is compared with."""

from pcbench.rules._base import Rule, check_loss


class Backprop(Rule):
    """Reverse-mode differentiation of the whole model at once."""

    def backward(self, inputs, targets, loss_fn):
        """See `Rule.backward`."""
        loss = loss_fn(self.model(*self._arguments(inputs)), targets)
        check_loss(loss)
        loss.backward()
        return loss.detach()
