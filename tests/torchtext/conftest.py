"""torchtext warns, on import, that it is no longer maintained; that is why these tests exist."""

import pytest
import torchtext

from pcbench.data import _store

if hasattr(torchtext, "disable_torchtext_deprecation_warning"):  # without torchtext, this folder answers to its name
    torchtext.disable_torchtext_deprecation_warning()


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Lay a small data set's files out for both back ends: called with its spec and files, returns the two's folders."""
    import backend

    def fetched(spec, files):
        cache = backend.cache(spec.name, tmp_path / "theirs")
        cache.mkdir(parents=True)
        for file, content in files.items():
            (cache / file).write_bytes(content)
        monkeypatch.setattr(backend.module(spec.name), "MD5", backend.checksums(spec))
        monkeypatch.setenv("PCBENCH_MIRROR", str(cache))
        return _store.fetch(spec, tmp_path / "ours"), tmp_path / "theirs"

    return fetched
