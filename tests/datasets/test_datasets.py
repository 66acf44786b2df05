"""Collections at hand, and what is told of likeness."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cnnvis_core as cv
from cnnvis_core.datasets import MemoryDataset, dataset_of_uploads, open_dataset, sample_tiles
from cnnvis_core.inputs import read_audio, read_image
from cnnvis_core.inputs.samples import samples
from tests.datasets.piles import as_folder, as_parquet, as_zip, pictures
from tests.support import small_network

FILES = pictures(20)


@pytest.mark.parametrize("form", ["folder", "zip", "parquet", "bytes"])
@pytest.mark.parametrize(("start", "stop"), [(0, 20), (0, 3), (7, 18), (19, 40)])
def test_items_come_whole_and_in_order_from_any_place(form, start, stop, tmp_path):
    dataset = {
        "folder": lambda: open_dataset(as_folder(FILES, tmp_path / "in"), "image"),
        "zip": lambda: open_dataset(as_zip(FILES, tmp_path / "in.zip"), "image"),
        "parquet": lambda: open_dataset(as_parquet(FILES, tmp_path / "in.parquet", 6), "image"),
        "bytes": lambda: dataset_of_uploads(FILES, "image"),
    }[form]()
    found = list(dataset.items(range(start, stop)))
    assert [index for index, _ in found] == list(range(start, min(stop, 20)))
    assert [data for _, data in found] == list(FILES.values())[start:stop]
    assert [index for index, _ in dataset.items([1, 5, 6, 12, 19, 30])] == [1, 5, 6, 12, 19]
    assert [data for _, data in dataset.items([5, 19])] == [
        list(FILES.values())[i] for i in (5, 19)
    ]
    assert list(dataset.names) == list(FILES)
    assert len(set(dataset.labels)) == 3


def test_what_is_looked_at_is_told_by_its_fingerprint(tmp_path):
    first = open_dataset(as_folder(FILES, tmp_path / "a"), "image").fingerprint
    assert first == open_dataset(as_folder(FILES, tmp_path / "b"), "image").fingerprint
    other = {**FILES, "ant/more.png": b"x"}
    assert first != open_dataset(as_folder(other, tmp_path / "c"), "image").fingerprint


@pytest.mark.parametrize("form", ["folder", "zip", "parquet"])
def test_other_contents_of_the_same_size_are_other_data(form, tmp_path):
    put = {"folder": as_folder, "zip": as_zip, "parquet": as_parquet}[form]
    name, data = next(iter(FILES.items()))
    middle = len(data) // 2
    turned = bytes(255 - byte for byte in data[middle : middle + 9])
    changed = {**FILES, name: data[:middle] + turned + data[middle + 9 :]}
    prints = [
        open_dataset(put(files, tmp_path / f"{number}.{form}"), "image").fingerprint
        for number, files in enumerate((FILES, FILES, changed))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_damaged_page_of_a_table_costs_its_rows(tmp_path):
    path = as_parquet(FILES, tmp_path / "in.parquet", 5)
    table = bytearray(path.read_bytes())
    damaged = pq.read_metadata(path).row_group(1).column(2)
    start = damaged.dictionary_page_offset or damaged.data_page_offset
    table[start : start + 40] = bytes(255 - byte for byte in table[start : start + 40])
    path.write_bytes(table)
    items = dict(open_dataset(path, "image").items(range(0, 40)))
    whole = [data for data in items.values() if isinstance(data, bytes)]
    assert list(items) == list(range(20))
    assert whole == list(FILES.values())[:5] + list(FILES.values())[10:]
    assert "damaged" in str(items[7])


def test_a_damaged_table_among_others_gets_a_sentence(tmp_path):
    first = as_parquet(FILES, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(first.read_bytes()[:-100])
    with pytest.raises(cv.InputError, match=r"b\.parquet.*damaged"):
        open_dataset(tmp_path, "image")
    pq.write_table(pa.table({"webp": list(FILES.values())}), tmp_path / "b.parquet")
    with pytest.raises(cv.InputError, match=r"b\.parquet.*lacks"):
        open_dataset(tmp_path, "image")


def test_captions_are_no_classes(monkeypatch, tmp_path):
    monkeypatch.setattr("cnnvis_core.datasets.dataset.MOST_CLASSES", 10)
    data = list(FILES.values())
    labels = [f"a picture of number {index}" for index in range(20)]
    pq.write_table(pa.table({"webp": data, "label": labels}), tmp_path / "a.parquet")
    dataset = open_dataset(tmp_path / "a.parquet", "image")
    assert (list(dataset.classes), set(dataset.labels)) == ([], {-1})


def test_names_of_classes_are_found_where_hugging_face_keeps_them(tmp_path):
    schema = pa.table({"webp": list(FILES.values()), "label": [0, 2] * 10})
    names = {"info": {"features": {"label": {"names": ["ant", "bee", "cat"]}}}}
    marked = schema.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(marked, tmp_path / "a.parquet")
    assert list(open_dataset(tmp_path / "a.parquet", "image").classes) == ["ant", "cat"]


def test_tables_in_other_hands_are_read(tmp_path):
    data = list(FILES.values())
    images = [{"bytes": part, "path": None} for part in data]
    pq.write_table(pa.table({"image": images, "label": ["a", "b"] * 10}), tmp_path / "hub.parquet")
    dataset = open_dataset(tmp_path / "hub.parquet", "image")
    assert [part for _, part in dataset.items(range(4, 6))] == data[4:6]
    assert list(dataset.classes) == ["a", "b"]
    assert dataset.names[3] == "row 3"
    pq.write_table(pa.table({"number": [1, 2]}), tmp_path / "none.parquet")
    with pytest.raises(cv.InputError, match="no column of encoded"):
        _ = open_dataset(tmp_path / "none.parquet", "image").names
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    with pytest.raises(cv.InputError):
        open_dataset(tmp_path / "bad.parquet", "image")


def test_a_folder_of_tables_is_one_collection(tmp_path):
    for number in range(3):
        part = dict(list(FILES.items())[number * 5 : number * 5 + 5])
        as_parquet(part, tmp_path / f"part-{number}.parquet", 2)
    dataset = open_dataset(tmp_path, "image")
    assert [data for _, data in dataset.items(range(3, 12))] == list(FILES.values())[3:12]


def test_zips_at_hand_are_unpacked_in_memory_and_bounded(monkeypatch, tmp_path):
    packed = as_zip(FILES, tmp_path / "in.zip").read_bytes()
    dataset = dataset_of_uploads({"pile.zip": packed, "single.png": FILES["ant/000.png"]}, "image")
    assert "single.png" in dataset.names
    assert len(dataset.names) == 21
    monkeypatch.setattr("cnnvis_core.datasets.memory.MOST_BYTES", 1000)
    with pytest.raises(cv.InputError, match="take more than"):
        dataset_of_uploads({"pile.zip": packed}, "image")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(cv.InputError, match="no image files"):
        dataset_of_uploads({"pile.zip": buffer.getvalue()}, "image")


def test_sample_tiles_cover_every_sample():
    dataset = sample_tiles("image")
    assert set(dataset.classes) == {sample.title for sample in samples("image")}
    assert 100 < len(dataset.names) < 1000
    assert len(set(dataset.names)) == len(dataset.names)
    picture = read_image(dataset.data[-1])
    assert picture.width == picture.height <= 160


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_sample_sounds_are_cut_into_parts():
    dataset = sample_tiles("audio")
    assert set(dataset.classes) == {sample.title for sample in samples("audio")}
    assert all(read_audio(data).seconds <= 2.01 for data in dataset.data)


def test_units_driven_by_the_same_items_are_neighbours(tmp_path: Path):
    module = small_network()
    weight = module[0].weight.data
    weight[1] = 2.0 * weight[0]
    module[0].bias.data.zero_()
    weight[2] = -weight[0]
    model = cv.from_module(module, (3, 32, 32))
    dataset = MemoryDataset(list(FILES), list(FILES.values()), [-1] * len(FILES))
    found = cv.run(cv.build_exemplars(model, dataset, "0", 4, tmp_path / "out"))
    near = found.neighbours("0", 0)
    assert near["unit"][0] == 1
    assert near["likeness"][0] == 1.0
    assert 0 not in near["unit"].tolist()
    assert near["likeness"].between(0, 1).all()
    assert np.all(np.diff(near["likeness"]) <= 0)
    assert found.classes == []
    assert len(found.by_class("0", 0)) == 0


def test_equal_names_in_two_zips_are_two_items(tmp_path):
    packed = as_zip(FILES, tmp_path / "in.zip").read_bytes()
    dataset = dataset_of_uploads({"a.zip": packed, "b.zip": packed}, "image")
    assert len(dataset.names) == 40


def test_damaged_zips_get_a_sentence_or_lose_a_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    packed = bytearray((tmp_path / "in.zip").read_bytes())
    for place in range(60, 400):  # within the first file
        packed[place] ^= 0x5A
    (tmp_path / "in.zip").write_bytes(packed)
    for dataset in (
        dataset_of_uploads({"in.zip": bytes(packed)}, "image"),
        open_dataset(tmp_path / "in.zip", "image"),
    ):
        items = [data for _, data in dataset.items(range(0, 40))]
        assert len(items) == 20
        assert items[1:] == list(FILES.values())[1:]
    end = packed.rfind(b"PK\x01\x02")
    packed[end : end + 4] = b"XXXX"
    (tmp_path / "worse.zip").write_bytes(packed)
    for call in (
        lambda: dataset_of_uploads({"in.zip": bytes(packed)}, "image"),
        lambda: open_dataset(tmp_path / "worse.zip", "image"),
    ):
        with pytest.raises(cv.InputError):
            call()


def test_files_beside_folders_have_no_class(tmp_path):
    dataset = open_dataset(as_folder({**FILES, "loose.png": b"x"}, tmp_path / "in"), "image")
    assert list(dataset.classes) == ["ant", "bee", "cat"]
    assert dataset.labels[list(dataset.names).index("loose.png")] == -1


def test_missing_labels_are_no_class_and_classes_tell_tables_apart(tmp_path):
    data = list(FILES.values())[:3]
    for name, labels in (("a", [0, None, -1]), ("b", [7, 99_999, 7])):
        table = pa.table({"webp": data, "label": pa.array(labels, pa.int64())})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    one, two = (open_dataset(tmp_path / f"{name}.parquet", "image") for name in "ab")
    assert (list(one.classes), list(one.labels)) == (["0"], [0, -1, -1])
    assert (list(two.classes), list(two.labels)) == (["7", "99999"], [0, 1, 0])
    prints = set()
    for name in ("cat", "cow"):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"webp": data, "label": [name, "dog", "dog"]}), path)
        prints.add(open_dataset(path, "image").fingerprint)
    assert len(prints) == 2


def test_a_table_beside_pictures_does_not_hide_them(tmp_path):
    folder = as_folder(FILES, tmp_path / "in")
    as_parquet(FILES, folder / "notes.parquet")
    assert len(open_dataset(folder, "image").names) == 20


def test_names_that_are_no_text_are_written_with_question_marks(tmp_path):
    model = cv.from_module(small_network(), (3, 32, 32))
    folder = tmp_path / "in"
    folder.mkdir()
    try:
        (folder / "\udcff.png").write_bytes(FILES["ant/000.png"])
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such names")
    found = cv.run(cv.build_exemplars(model, folder, "0", 1, tmp_path / "out"))
    assert found.top("0", 0)["file"][0] == "?.png"


def test_links_to_files_are_followed_and_dead_ones_left_out(tmp_path):
    folder = as_folder(FILES, tmp_path / "in")
    try:
        (folder / "ant" / "link.png").symlink_to(folder / "bee" / "001.png")
        (folder / "ant" / "dead.png").symlink_to(folder / "nowhere.png")
        (folder / "bee" / "loop").symlink_to(folder)
    except OSError:
        pytest.skip("this file system has no links")
    dataset = open_dataset(folder, "image")
    assert set(dataset.names) - set(FILES) == {"ant/link.png"}


def test_a_zip_with_a_name_that_is_no_text_loses_a_file_or_gets_a_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, data in {"é1.png": FILES["ant/000.png"], "b.png": FILES["bee/001.png"]}.items():
            archive.writestr(name, data)
        archive.writestr("c.png/", b"")
    whole, name = (tmp_path / "in.zip").read_bytes(), "é1".encode()
    for count in (1, 2):  # in the file's own header, and in the directory
        (tmp_path / "bad.zip").write_bytes(whole.replace(name, b"\xff\xff1", count))
        for read in (
            lambda: open_dataset(tmp_path / "bad.zip", "image"),
            lambda: dataset_of_uploads({"z": (tmp_path / "bad.zip").read_bytes()}, "image"),
        ):
            try:
                dataset = read()
            except cv.InputError:
                continue
            assert FILES["bee/001.png"] in [d for _, d in dataset.items(range(9))]
            assert not any(name.endswith("/") for name in dataset.names)


@pytest.mark.parametrize(
    ("labels", "classes", "found"),
    [
        (pa.array(["dog", "cat", None]).dictionary_encode(), ["cat", "dog"], [1, 0, -1]),
        (pa.array([1.0, None, 0.0]), ["0", "1"], [1, -1, 0]),
        (pa.array([True, False, None]), ["False", "True"], [1, 0, -1]),
        (pa.array([3, -2, 3]), ["3"], [0, -1, 0]),
    ],
)
def test_labels_of_every_make_are_read(labels, classes, found, tmp_path):
    table = pa.table({"webp": list(FILES.values())[:3], "label": labels})
    pq.write_table(table, tmp_path / "a.parquet")
    dataset = open_dataset(tmp_path / "a.parquet", "image")
    assert (list(dataset.classes), list(dataset.labels)) == (classes, found)


def test_classes_of_one_name_are_told_by_their_numbers(tmp_path):
    table = pa.table({"webp": list(FILES.values())[:3], "label": [0, 1, 2]})
    names = {"info": {"features": {"label": {"names": ["crane", "dog", "crane"]}}}}
    marked = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    pq.write_table(marked, tmp_path / "a.parquet")
    found = open_dataset(tmp_path / "a.parquet", "image").classes
    assert list(found) == ["crane (0)", "dog (1)", "crane (2)"]


def test_names_of_rows_that_are_no_text_get_a_sentence(tmp_path):
    names = pa.array([b"\xff\xfe", b"b"], pa.binary()).view(pa.string())
    table = pa.table({"name": names, "webp": list(FILES.values())[:2]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(cv.InputError, match="damaged"):
        open_dataset(tmp_path / "a.parquet", "image")


def test_tables_beside_notes_are_read(tmp_path):
    as_parquet(FILES, tmp_path / "a.parquet")
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "classes.csv").write_text("0,ant")
    assert len(open_dataset(tmp_path, "image").names) == 20


def test_files_of_one_name_are_all_kept(tmp_path):
    packed = as_zip({"ant/000.png": b"x"}, tmp_path / "in.zip").read_bytes()
    source = dataset_of_uploads({"ant/000.png": b"y", "in.zip": packed}, "image")
    assert sorted(source.data) == [b"x", b"y"]
    assert source.names == ["ant/000.png", "ant/2-000.png"]
