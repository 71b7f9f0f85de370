"""Tensors as safetensors: what the format's own library writes is read, nothing half-right is."""

import json

import pytest
import torch

from dreamer_core.storage.safetensors import decode, encode

GROUPS = {
    "world_model": {"a.weight": torch.arange(6.0).reshape(2, 3) / 4},
    "behavior": {"b": torch.tensor([-1.5]), "scalar": torch.tensor(2.0)},
}
OF_THE_LIBRARY = (
    b'\xf8\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"made_by":"safetensors"},"behavior.b":{"dtype":'
    b'"F32","shape":[1],"data_offsets":[0,4]},"behavior.scalar":{"dtype":"F32","shape":[],'
    b'"data_offsets":[4,8]},"world_model.a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":'
    b"[8,32]}}   \x00\x00\xc0\xbf\x00\x00\x00@\x00\x00\x00\x00\x00\x00\x80>\x00\x00\x00?"
    b"\x00\x00@?\x00\x00\x80?\x00\x00\xa0?"
)
"""GROUPS as `safetensors.numpy.save` of safetensors 0.8.0 writes them."""


def file_of(header, data=b""):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def place(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def assert_same(got, wanted):
    assert {group: set(tensors) for group, tensors in got.items()} == {
        group: set(tensors) for group, tensors in wanted.items()
    }
    for group, tensors in wanted.items():
        for name, tensor in tensors.items():
            found = got[group][name]
            assert found.dtype == torch.float32 and torch.equal(found, tensor), name


def test_what_the_formats_own_library_wrote_is_read():
    assert_same(decode(OF_THE_LIBRARY), GROUPS)


def test_what_is_written_is_read_back_and_begins_at_a_multiple_of_eight():
    content = encode(GROUPS)
    assert_same(decode(content), GROUPS)
    assert int.from_bytes(content[:8], "little") % 8 == 0
    assert_same(decode(encode({})), {})


def test_tensors_of_another_type_are_not_written():
    with pytest.raises(TypeError, match=r"behavior\.steps is torch\.int64, wanted torch\.float32"):
        encode({"behavior": {"steps": torch.tensor(3)}})


def test_a_file_that_is_cut_off_anywhere_is_refused():
    for size in range(len(OF_THE_LIBRARY)):
        with pytest.raises(ValueError, match=r"wanted|too few|no header"):
            decode(OF_THE_LIBRARY[:size])


def test_a_file_that_goes_on_is_refused():
    with pytest.raises(ValueError, match="33 bytes of tensors, wanted 32"):
        decode(OF_THE_LIBRARY + b"\x00")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (file_of(b"{"), "no header of safetensors"),
        (file_of(b"\xff"), "no header of safetensors"),
        (file_of(b"[" * 100_000), "no header of safetensors"),
        (file_of(b'{"a.b": 1, "a.b": 2}'), "a name that comes twice"),
        (file_of([1]), "no header of safetensors"),
        (file_of({"a.b": 7}), "no header of safetensors"),
        (file_of({"a.b": place(dtype="BF16", end=2)}, bytes(2)), "type BF16, wanted F32"),
        (file_of({"a.b": place(shape=(2,))}, bytes(4)), r"tensor a\.b of 4 bytes, shape \[2\]"),
        (file_of({"a.b": place(shape=(-1, -1))}, bytes(4)), r"tensor a\.b at no place"),
        (file_of({"a.b": place(shape=(True,))}, bytes(4)), r"tensor a\.b at no place"),
        (file_of({"a.b": place(shape=(0, 10**30), end=0)}), r"tensor a\.b at no place"),
        (file_of({"a.b": place(begin=4, end=8)}, bytes(8)), "wanted 4 bytes from 0 on"),
        (file_of({"a.b": place(), "a.c": place()}, bytes(8)), "wanted 4 bytes from 4 on"),
        (file_of({"alone": place()}, bytes(4)), "'alone' of no group"),
        (file_of({"a.b": place()}, b"\0\0\xc0\x7f"), r"a\.b with numbers that are not finite"),
        (file_of({"a.b": place()}, b"\0\0\x80\xff"), r"a\.b with numbers that are not finite"),
    ],
)
def test_a_file_that_is_wrong_in_itself_is_refused_with_what_is_wrong(content, words):
    with pytest.raises(ValueError, match=words):
        decode(content)
