"""An encoder of Hugging Face `transformers`, unmodified; oracle: autograd, bit by bit.

Aimed at: a real code base's ways of writing a forward: outputs by name, masks made on the way, attention by dispatch.
"""

import pytest
import torch
from torch import nn

import pcbench

transformers = pytest.importorskip("transformers", reason="pip install 'pcbench[huggingface]'")


class Classifier(nn.Module):
    """BERT with two layers and random weights, which returns its logits."""

    def __init__(self, attention):
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=3,
        )
        config._attn_implementation = attention
        self.bert = transformers.BertForSequenceClassification(config)

    def forward(self, tokens, mask):
        return self.bert(input_ids=tokens, attention_mask=mask).logits


@pytest.mark.filterwarnings("default")  # theirs, not ours
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert_in_training_mode_has_the_bits_of_backprop(attention):
    torch.manual_seed(0)
    model = Classifier(attention).train()
    tokens = torch.randint(50, (4, 7))
    mask = torch.ones_like(tokens)
    mask[2, 4:] = 0
    divergence = pcbench.divergence(model, (tokens, mask), torch.randint(3, (4,)), nn.functional.cross_entropy)
    assert divergence.bitwise_equal
