"""torchtext warns, on import, that it is no longer maintained; that is why these tests exist."""

import torchtext

if hasattr(torchtext, "disable_torchtext_deprecation_warning"):  # without torchtext, this folder answers to its name
    torchtext.disable_torchtext_deprecation_warning()
