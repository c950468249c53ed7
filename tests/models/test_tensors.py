"""Tensors of strangers: what is odd, lies about its size or holds more than numbers is refused in a sentence."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from audiorep.models import tensors

ODD = {
    "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (2**40,)),
    "sparse rows": lambda: torch.eye(4).to_sparse_csr(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
    "quantized by channel": lambda: torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.qint8),
    "expanded": lambda: torch.ones(1).expand(10**12),
    "expanded twice": lambda: torch.ones(1, 1).expand(10**6, 10**6),
    "expanded a little": lambda: torch.ones(3, 1).expand(3, 2),
    "overlapping": lambda: torch.ones(1000).as_strided((999, 2), (1, 1)),
    "without values": lambda: torch.empty(10**12, device="meta"),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("zipped", [True, False])
def test_odd_tensors_are_refused_by_name_wherever_they_are(tmp_path, kind, zipped):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"a": {"b": [torch.ones(2), ODD[kind]()]}}, tmp_path / "odd.pt", _use_new_zipfile_serialization=zipped)
    assert (tmp_path / "odd.pt").stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"holds 'a\.b\.1', a.* tensor.*; only plain dense tensors are read|is damaged"):
        tensors.read_torch(tmp_path / "odd.pt")


def test_plain_tensors_come_back_as_they_were(tmp_path):
    shared = torch.randn(4, 4)
    values = {
        "state": {
            "w": shared,
            "tied": shared,
            "t": torch.randn(3, 5).T,
            "part": torch.randn(9, 9)[2:4],
            "empty": torch.zeros(0, 3),
        },
        "n": [torch.tensor(3), torch.tensor(2.5, dtype=torch.bfloat16), 1, "text", None, (True, 2.0)],
        "last": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "p": torch.nn.Parameter(torch.ones(2)),
        "c": torch.ones(2, dtype=torch.complex64),
    }
    for zipped in (True, False):
        torch.save(values, tmp_path / "plain.pt", _use_new_zipfile_serialization=zipped)
        found = tensors.read_torch(tmp_path / "plain.pt")
        assert all(torch.equal(found["state"][name], tensor) for name, tensor in values["state"].items())
        assert found["n"][2:] == values["n"][2:]
        assert found["last"].is_contiguous(memory_format=torch.channels_last)


def test_many_views_of_one_large_tensor_are_refused(tmp_path):
    large = torch.ones(100_000)
    torch.save({str(i): large for i in range(1000)}, tmp_path / "views.pt")
    with pytest.raises(ValueError, match=r"asks for 400000000: its tensors are views of the same few values"):
        tensors.read_torch(tmp_path / "views.pt")


def rewritten(path, change=lambda name, data: data, method=zipfile.ZIP_STORED):
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)), method)


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path):
    torch.save({"a": torch.zeros(100)}, path := tmp_path / "packed.pt")
    rewritten(path, method=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"no file of torch\.save, which compresses nothing"):
        tensors.read_torch(path)


@pytest.mark.parametrize("size", [b"\xff", b"\x7f"])
def test_a_storage_that_says_it_is_larger_than_it_is_is_refused(tmp_path, size):
    """torch would read past its end."""
    torch.save({"a": torch.arange(3.0)}, path := tmp_path / "lies.pt")
    pickled = b"K\x03"  # the number 3: of values in the storage, and in the tensor
    rewritten(path, lambda name, data: data.replace(pickled, b"K" + size) if name.endswith("data.pkl") else data)
    with pytest.raises(ValueError, match=r"is damaged"):
        tensors.read_torch(path)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04", b"\x80\x04K\x01.", pickle.dumps({"a": 1}, 2), pickle.dumps(print, 2)]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or holds more than tensors and plain values; nothing in it was executed"):
        tensors.read_torch(tmp_path / "other.pt")
    (tmp_path / "other.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged or no \.safetensors file"):
        tensors.read_safetensors(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        tensors.read_torch(tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError):
        tensors.read_safetensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    "row",
    [
        {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**12]},
        {"dtype": "F8_E4M3", "shape": [16], "data_offsets": [0, 16]},
        {"dtype": "X", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32"},
        3,
    ],
)
def test_headers_that_lie_are_refused(tmp_path, row):
    save_file({"a": torch.ones(4)}, path := tmp_path / "lies.safetensors")
    text = json.dumps({"a": row}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(ValueError, match=r"is damaged or no \.safetensors file|float8"):
        tensors.read_safetensors(path)


NEEDED = {"a.weight": 0, "b.weight": 0}
ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("names", "prefix", "others"),
    [
        (["a.weight", "b.weight"], "", 0),
        (["module.a.weight", "module.b.weight"], "module.", 0),
        (["_orig_mod.a.weight", "_orig_mod.b.weight"], "_orig_mod.", 0),
        (["module._orig_mod.a.weight", "module._orig_mod.b.weight"], "module._orig_mod.", 0),
        (["_orig_mod.module.a.weight", "_orig_mod.module.b.weight"], "_orig_mod.module.", 0),
        (["model.a.weight", "model.b.weight", "loss.weight"], "model.", 1),
        (["model._orig_mod.a.weight", "model._orig_mod.b.weight"], "model._orig_mod.", 0),
        (["net.module.a.weight", "net.module.b.weight"], "net.module.", 0),
        (["a._orig_mod.weight", "b.weight"], "_orig_mod.", 0),
    ],
)
def test_usual_prefixes_are_taken_off(names, prefix, others):
    found, taken, left = tensors.without_prefixes(dict.fromkeys(names, ONE), NEEDED)
    assert (found.keys(), taken, len(left)) == (NEEDED.keys(), prefix, others)


def test_names_that_fit_no_prefix_stay():
    names = ["model.a.weight", "other.b.weight"]
    assert tensors.without_prefixes(dict.fromkeys(names, ONE), NEEDED) == (dict.fromkeys(names, ONE), "", [])
    own = {"model.a": 0}  # a network with such a part of its own
    assert tensors.without_prefixes({"model.a": ONE}, own)[1] == ""


@pytest.mark.parametrize("values", [{}, 3, [ONE], {"a": 3}, {"state_dict": {"a": 1}}, {"epoch": 3, "a": ONE}])
def test_what_is_no_table_of_tensors_is_refused(values):
    with pytest.raises(ValueError, match="holds no table of tensors"):
        tensors.state_dict(values)


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model_state_dict", "model"])
def test_the_table_is_found_where_programs_keep_it(key):
    assert tensors.state_dict({"epoch": 3, key: {"a": ONE}}) == {"a": ONE}
    assert tensors.state_dict({"x": 1, "model": {"y": 2, key: {"a": ONE}}}) == {"a": ONE}
