"""Images of every kind, read by one function wherever they come from; folders that lose
and double nothing in silence."""
import io, os, struct, sys, unicodedata, zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vae_course import cli, folders, images
from vae_course.anomaly_detection import read_image_folder
from vae_course.cli import main, parser
from vae_course.model_settings import _read_part
from vae_course.protocol import likelihood_for
from vae_course.arrays import from_arrays
from vae_course.data import DataError, as_floats
from vae_course.datasets import load
from vae_course.folders import _natural_key, from_folder, read_images
from vae_course.images import read_image
from vae_course.streams import Stream

RANDOM = np.random.default_rng(0)
GREY, COLOUR = (RANDOM.integers(0, 256, (6, 9), dtype=np.uint8),
                RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8))
DEEP = RANDOM.integers(0, 65_536, (6, 9, 4)).astype(np.uint16)


def paint(path, mode="L", size=(8, 6), colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if colour is not None else 0).save(path)


def deep_png(path, a):
    """A PNG of 16 bits a channel, which Pillow cannot write in colour: `(H, W, C)`, C
    from 1 to 4."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(
            ">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in a)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(
        ">IIBBBBB", a.shape[1], a.shape[0], 16, {1: 0, 2: 4, 3: 2, 4: 6}[a.shape[2]], 0,
        0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def turned(a, turn):
    "What a camera writes that was held so: `turn` as EXIF has it."
    exif = Image.Exif()
    exif[0x0112] = turn
    upside = {1: a, 2: a[:,  ::-1], 3: a[::-1,  ::-1], 4: a[::-1], 5: a.swapaxes(0, 1),
              6: np.rot90(a, 1), 7: a[::-1,  ::-1].swapaxes(0, 1),
              8: np.rot90(a, -1)}[turn]
    return upside, exif


# ---------------------------------------------------------------- one reader

@pytest.fixture
def kinds(tmp_path):
    "A file of each kind, and what it shows: `{name: (file, (C, H, W) in 0…1)}`."
    made = {}
    def keep(name, shown, image=None, **how):
        path = tmp_path / "kinds" / name
        path.parent.mkdir(exist_ok=True)
        if image is not None: image.save(path, **how)
        made[name] = path, np.asarray(shown, np.float64) / 255
    planes = COLOUR.transpose(2, 0, 1)
    keep("grey.png", GREY[None], Image.fromarray(GREY))
    keep("colour.png", planes, Image.fromarray(COLOUR))
    keep("bits.png", (GREY[None] > 127) * 255, Image.fromarray(GREY > 127))
    few = Image.fromarray(COLOUR).quantize(16)
    keep("palette.png", np.asarray(few.convert("RGB")).transpose(2, 0, 1), few)
    keep("palette.gif", np.asarray(few.convert("RGB")).transpose(2, 0, 1), few)
    hole = few.copy()
    keep("hole.png", np.where(np.asarray(few) == 3, 255,
                              np.asarray(few.convert("RGB")).transpose(2, 0, 1)),
         hole, transparency=3)
    clear = np.dstack([COLOUR, np.where(GREY > 127, 255, 0).astype(np.uint8)])
    keep("clear.png", np.where(GREY > 127, planes, 255), Image.fromarray(clear))
    keep("clear_grey.png", np.where(GREY > 127, GREY, 255)[None],
         Image.fromarray(np.dstack([GREY, clear[..., 3]])))
    for turn in range(1, 9):
        stored, exif = turned(COLOUR, turn)
        keep(f"turned{turn}.png", planes, Image.fromarray(np.ascontiguousarray(stored)),
             exif=exif)
    keep("cmyk.tiff", np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB"))
                      .transpose(2, 0, 1), Image.fromarray(COLOUR).convert("CMYK"))
    keep("deep.png", DEEP[None, ..., 0] / 257, Image.fromarray(DEEP[..., 0]))
    keep("deep.tiff", DEEP[None, ..., 0] / 257, Image.fromarray(DEEP[..., 0]))
    keep("floats.tiff", DEEP[None, ..., 0] / 257,
         Image.fromarray(DEEP[..., 0].astype(np.float32) / 65_535))
    keep("deep.pgm", DEEP[None, ..., 0] / 257)
    made["deep.pgm"][0].write_bytes(
        b"P5 9 6 65535\n" + DEEP[..., 0].astype(">u2").tobytes())
    alpha = DEEP[..., 3] / 65_535
    for c in (2, 3, 4):
        a = DEEP[..., [0, 3]] if c == 2 else DEEP[..., :c]
        shown = a[..., :3 if c > 2 else 1] / 257
        if c != 3: shown = shown * alpha[..., None] + 255 * (1 - alpha[..., None])
        keep(f"deep{c}.png", shown.transpose(2, 0, 1))
        deep_png(made[f"deep{c}.png"][0], a)
    assert len(made) == 24
    return made


def test_every_kind_shows_what_it_shows(kinds):
    for name, (path, shown) in kinds.items():
        x, deep = read_image(path), name.startswith(("deep", "floats"))
        with Image.open(path) as image:
            assert ImageOps.exif_transpose(image).size == tuple(x.shape[:0:-1]), name
        assert (x.shape == shown.shape
                and x.dtype == (torch.float32 if deep else torch.uint8)), name
        # opacity is a product of 8 bits
        assert (np.abs(as_floats(x).numpy() - shown).max()
                < (1e-6 if deep else 1 / 255 + 1e-6)), name


@pytest.mark.parametrize(
    "kind", ["grey.tiff", "colour.tiff", "palette.tiff", "deep.tiff", "grey.lzw.tiff",
             "deep.lzw.tiff", "grey.png", "colour.png", "colour.jpg", "colour.webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_once(tmp_path, kind, turn):
    """However it was held, the image is the same; Pillow turns a TIFF by itself as it
    loads it."""
    name = kind.split(".")[0]
    a = dict(grey=GREY, deep=DEEP[..., 0], palette=GREY // 64).get(
        name, np.kron(COLOUR[:2,  :3] // 2, np.ones((16, 16, 1), np.uint8)))
    stored, exif = turned(a, turn)
    image = Image.fromarray(np.ascontiguousarray(stored))
    if name == "palette":
        image.putpalette([v for i in range(4) for v in (60 * i, 255 - 60 * i, 7)])
    image.save(tmp_path / kind, exif=exif,
               **({"quality": 100, "subsampling": 0} if kind == "colour.jpg"
                  else {"compression": "tiff_lzw"} if "lzw" in kind
                  else {"lossless": True} if kind == "colour.webp" else {}))
    shown = (np.stack([60 * a, 255 - 60 * a, 7 + 0 * a]) if name == "palette"
             else a.transpose(2, 0, 1) if a.ndim == 3 else a[None])
    wanted = torch.from_numpy(np.ascontiguousarray(shown).astype(np.float32)
                              / (65_535 if name == "deep" else 255))
    with Image.open(tmp_path / kind) as opened:
        for x in (read_image(tmp_path / kind), read_image(opened)):
            assert x.shape == wanted.shape and (as_floats(x) - wanted).abs().max() < (
                0.06 if kind == "colour.jpg" else 1e-6)


def test_damaged_notes_of_a_camera_do_not_stop_an_image(tmp_path):
    """A negative number where there is none, and letters where a number is: Pillow
    cannot write such notes again."""
    for bad in (struct.pack("<HHIi", 0x0100, 9, 1, -5),
                struct.pack("<HHI", 0x0128, 2, 3) + b"ab\xff\0"):
        notes = sorted([bad, struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)],
                       key=lambda note: note[:2][::-1])
        exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(notes) + bytes(4)
        Image.fromarray(np.rot90(GREY, 1).copy()).save(
            tmp_path / "held.webp", exif=exif, lossless=True)
        assert torch.equal(read_image(tmp_path / "held.webp", channels=1)[0],
                           torch.from_numpy(GREY))


def deep_tiff(path, a, bits=16, white=1, sign=1):
    """A grey TIFF of `bits` a pixel as it lies on disk; `white` 0 says that 0 is white,
    `sign` 2 that numbers have a sign."""
    h, w = a.shape
    body = a.astype("<u2").tobytes() if bits == 16 else b"".join(
        bytes([v >> 4, (v & 15) << 4 | u >> 8, u & 255])
        for v, u in a.reshape(-1, 2).tolist())
    tags = [(256, 3, w), (257, 3, h), (258, 3, bits), (259, 3, 1), (262, 3, white),
            (273, 4, 8), (277, 3, 1), (278, 3, h), (279, 4, len(body)), (339, 3, sign)]
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body)) + body
                     + struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags) + bytes(4))


def test_a_tiff_says_what_its_numbers_mean(tmp_path):
    path, a = tmp_path / "scan.tiff", DEEP[:, :8, 0]
    for white in (0, 1):
        deep_tiff(path, a, white=white)
        assert np.abs(read_image(path).double().numpy()[0]
                      - (a / 65_535 if white else 1 - a / 65_535)).max() < 1e-6
    for how, message in (
            (dict(bits=12), "it has 12 bits a pixel; save it with 8 or 16"),
            (dict(sign=2), "it has 16 bits a pixel with a sign; save it without")):
        deep_tiff(path, a // 16, **how)
        with pytest.raises(DataError, match=message): read_image(path)


def test_a_size_beyond_memory_is_no_fault_of_the_image(tmp_path, monkeypatch):
    paint(tmp_path / "a.png")
    def full(*_): raise MemoryError
    monkeypatch.setattr(images, "_fit", full)
    with pytest.raises(DataError,
                       match="a.png does not fit into memory with 300000×300000 "
                             "pixels: give a smaller size") as e:
        read_image(tmp_path / "a.png", size=300_000)
    assert "no image" not in str(e.value)


def test_depth_is_kept(kinds):
    "Neighbours among 65,536 grey levels stay apart."
    for name in ("deep.png", "deep.tiff", "deep.pgm", "deep3.png"):
        x = read_image(kinds[name][0]).double() * 65_535
        assert (x - x.round()).abs().max() < 0.01 and (x.round() % 257 != 0).any(), name


def test_all_ways_in_read_the_same(kinds, tmp_path):
    """A folder, images_in, a stream of PIL images, and --condition, for each kind of
    file."""
    for name, (path, shown) in kinds.items():
        alone = tmp_path / "alone" / name.replace(".", "_")
        alone.mkdir(parents=True)
        for i in range(2): (alone / f"{i}_{name}").write_bytes(path.read_bytes())
        for channels in (1, 3):
            for resize in ("pad", "crop", "stretch"):
                wanted = read_image(path, channels, (8, 10), resize)
                assert wanted.shape == (channels, 8, 10)
                folder = from_folder(alone, (8, 10), channels, test_share=.5,
                                     resize=resize).train.x[0]
                read = read_images(alone, (8, 10), channels, resize)[0][0]
                assert torch.equal(folder, wanted) and torch.equal(read, wanted), name
            wanted = read_image(path, channels, (8, 10))
            assert torch.equal(read_image_folder(alone, (8, 10), channels)[0][0],
                               wanted), name
            assert torch.equal(_read_part(path, (channels, 8, 10)),
                               as_floats(wanted)), name
        with Image.open(path) as image:
            # Pillow has dropped their lower 8 bits before we see them
            if name in ("deep2.png", "deep3.png", "deep4.png"): continue
            x, _ = next(iter(Stream([(image, 0)], 1)))
            assert torch.equal(x[0], as_floats(read_image(path))), name


def test_read_image_takes_a_path_a_string_and_a_image(kinds):
    path = kinds["colour.png"][0]
    with Image.open(path) as image:
        assert (torch.equal(read_image(path), read_image(str(path)))
                and torch.equal(read_image(path), read_image(image)))
    for other in (np.zeros((50, 50)), 7, None):
        with pytest.raises(DataError, match="is no image that can be read") as e:
            read_image(other)
        assert len(str(e.value)) < 200


# ---------------------------------------------------------------- what does not fit

@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("tall", [False, True])
def test_pad_shows_all_crop_cuts_stretch_distorts(tmp_path, deep, tall):
    """A defect at the edge of a long image: seen by default, gone only where one says
    `crop`."""
    a = np.zeros((10, 30), np.uint16 if deep else np.uint8)
    a[:, 28:] = 60_000 if deep else 230
    Image.fromarray(a.T if tall else a).save(tmp_path / "long.png")
    seen = {way: as_floats(read_image(tmp_path / "long.png", size=30, resize=way))
            for way in ("pad", "crop", "stretch")}
    assert ([(x > 0.8).sum().item() for x in seen.values()] == [20, 0, 60]
            and torch.equal(as_floats(read_image(tmp_path / "long.png", size=30)),
                            seen["pad"]))
    stored = (
        torch.from_numpy(a.T.copy() if tall else a).float() / (65_535 if deep else 255))
    inner = seen["pad"][0, :, 10:20] if tall else seen["pad"][0, 10:20]
    # as it was, and black around it
    assert (torch.allclose(inner, stored, atol=1e-6)
            and (seen["pad"] > 0).sum() == (inner > 0).sum())


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(1, 200), (200, 1), (3, 5), (64, 64), (1, 1)])
def test_every_shape_can_be_brought_to_every_size(shape, resize):
    for dtype in (np.uint8, np.uint16):
        image = Image.fromarray(np.full(shape, np.iinfo(dtype).max, dtype))
        for size in (1, 7, (5, 9), (64, 64)):
            x = as_floats(read_image(image, size=size, resize=resize))
            assert (x.shape == (1, *(size if isinstance(size, tuple) else (size, size)))
                    and x.max() > 0.99 and x.max() <= 1)


@pytest.mark.parametrize(
    "size", [0, -1, (0, 5), (5, 0), (5, 5, 5), "32", 2.5, (4, 2.5), True, ()])
def test_sizes_below_one_and_other_sizes_are_refused(size, tmp_path):
    paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    for take in (from_folder, lambda path, size: read_image(path / "a.png", size=size),
                 read_image_folder):
        with pytest.raises(DataError, match="each at least 1"):
            take(tmp_path, size=size)


def test_other_words_for_resize_and_channels_are_refused(tmp_path):
    paint(tmp_path / "a.png")
    with pytest.raises(DataError, match="'pad', 'crop' or 'stretch'"):
        from_folder(tmp_path, resize="fit")
    with pytest.raises(DataError, match="channels=2"):
        read_image(tmp_path / "a.png", channels=2)


@pytest.mark.parametrize("words, size", [("32", (32, 32)), ("32x48", (32, 48))])
def test_the_command_takes_one_side_or_two(words, size, tmp_path, monkeypatch):
    for i in range(4): paint(tmp_path / f"{i}.png")
    monkeypatch.setattr(cli, "complete_settings",
                        lambda model, given, data, likelihood: pytest.fail(
                            f"of shape {data.data_shape}"))
    with pytest.raises(pytest.fail.Exception) as found:
        main(["train", "--data", f"folder:{tmp_path}", "--out", str(tmp_path / "run"),
              "--size", words, "--resize", "crop"])
    assert (f"of shape {(1, *size)}" in str(found.value)
            or f"of shape {(3, *size)}" in str(found.value))
    assert (
        parser().parse_args(["train", "--out", "x", "--resize", "crop"]).train.resize
        == "crop"
        and parser().parse_args(["train", "--out", "x"]).train.resize == "pad")


@pytest.mark.parametrize("words",
                         ["0", "-3", "32x0", "0x32", "axb", "32x", "3.5", "1x2x3"])
def test_the_command_refuses_other_sizes(words, capsys):
    with pytest.raises(SystemExit) as e:
        parser().parse_args(["train", "--out", "x", f"--size={words}"])
    assert (e.value.code == 2
            and "such as 32x48, each at least 1" in capsys.readouterr().err)


def test_the_help_says_what_becomes_of_other_shapes(capsys):
    with pytest.raises(SystemExit) as e: main(["train", "--help"])
    assert e.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "{pad,crop,stretch}" in said and "N|HxW" in said and "default: pad)" in said


# ---------------------------------------------------------------- 8 and 16 bits in one
# folder

@pytest.mark.parametrize("channels", [None, 1, 3])
def test_mixed_depth_becomes_float32_and_is_said(tmp_path, channels, capsys):
    paint(tmp_path / "a.png", colour=51)
    Image.fromarray(np.full((6, 8), 13_107, np.uint16)).save(tmp_path / "b.png")
    paint(tmp_path / "c.png", "RGB", colour=(51, 51, 51))
    x = read_images(tmp_path, None, channels)[0]
    assert (x.dtype == torch.float32
            and torch.allclose(x, torch.full((3, channels or 3, 6, 8), .2), atol=1e-6))
    assert (capsys.readouterr().out == f"{tmp_path.name}: 3 images, 1 of them of 16 "
                                       "bits, so that all become float32.\n")


def test_a_folder_of_16_bits_is_trained_on_by_the_command(
        tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for i in range(20):
        Image.fromarray(RANDOM.integers(0, 65_536, (10, 12)).astype(np.uint16)).save(
            tmp_path / "scans" / f"{i}.png")
    main("train --data folder:scans --size 8 --epochs 1 --batch-size 4 --set "
         "hidden=[8] --set latent_dim=2 --device cpu --compile off --precision "
         "fp32 --out run".split())
    said = capsys.readouterr().out
    assert ("all of 16 bits" in said and "pixels (v + u)/65536" in said
            and said.count("scans: 20 images") == 1)


@pytest.mark.parametrize("name, make", [
    ("whole.tiff", lambda p: Image.fromarray(np.zeros((4, 4), np.int32)).save(p)),
    ("floats.tiff", lambda p: Image.fromarray(np.full((4, 4), 7, np.float32)).save(p)),
    ("nan.tiff", lambda p: Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(
        p)), ("text.png", lambda p: p.write_text("no image", encoding="utf-8")),
    ("empty.png", lambda p: p.write_bytes(b"")), ("cut.png", lambda p: p.write_bytes(
        png(RANDOM.integers(0, 256, (60, 80), dtype=np.uint8))[:2000]))])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, name, make):
    paint(tmp_path / "good.png")
    make(tmp_path / name)
    for take in (from_folder, read_image_folder, lambda path: read_image(path / name)):
        with pytest.raises(DataError,
                           match=f"{name} is no image that can be read") as e:
            take(tmp_path)
        assert "\n" not in str(e.value)


def png(a):
    body = io.BytesIO()
    Image.fromarray(a).save(body, "PNG")
    return body.getvalue()


def test_masks_of_0_and_1_are_refused_until_the_scale_is_said(tmp_path):
    for i in range(4):
        Image.fromarray(np.eye(6, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="scale=1 if 1 stands for white, or scale=255"):
        from_folder(tmp_path)
    x, _, y, classes = read_images(tmp_path, None, None)
    assert (from_arrays(x, y, classes, scale=1).train.floats().max() == 1
            and from_arrays(x, y, classes, scale=255).train.x.max() == 1)


# ---------------------------------------------------------------- folders

def test_folders_are_classes(tmp_path):
    for kind in ("cat", "dog"):
        for i in range(5):
            paint(tmp_path / kind / "deeper" / f"{i}.png",
                  colour=i + 100 * (kind == "dog"))
    for odd in (".DS_Store", "cat/notes.txt", "cat/._0.png", ".cache/x.png",
                "__MACOSX/x.png"):
        (tmp_path / odd).parent.mkdir(exist_ok=True)
        (tmp_path / odd).write_text("no image", encoding="utf-8")
    got = from_folder(tmp_path)
    assert (got.classes == ["cat", "dog"] and got.data_shape == (1, 6, 8)
            and got.name == tmp_path.name)
    assert (len(got.train), got.test.y.bincount().tolist()) == (8, [1, 1])
    assert ((got.train.x[:, 0, 0, 0] >= 100).long() == got.train.y).all()
    assert (torch.equal(from_folder(tmp_path).train.x, got.train.x)
            and len(from_folder(tmp_path, test_share=.5).test) == 5)


def test_flat_folder_is_one_class(tmp_path):
    for i in range(5): paint(tmp_path / f"{i}.jpg", "RGB", colour=(200, 100, 50))
    got = from_folder(tmp_path)
    assert (got.classes == [tmp_path.name] and got.data_shape == (3, 6, 8)
            and (got.train.y == 0).all())
    assert from_folder(tmp_path, channels=1, size=(4, 5)).data_shape == (1, 4, 5)
    means = got.train.x.float().mean((0, 2, 3))
    assert (means - torch.tensor([200., 100., 50.])).abs().max() < 3


def test_grey_among_colour_gives_colour(tmp_path):
    paint(tmp_path / "a.png", "L", colour=7)
    paint(tmp_path / "b.png", "RGB", colour=(1, 2, 3))
    x = torch.cat([(d := from_folder(tmp_path, test_share=.5)).train.x, d.test.x])
    assert {tuple(p[:, 0, 0].tolist()) for p in x} == {(7, 7, 7), (1, 2, 3)}


def test_transparent_is_white(tmp_path):
    for i in range(2): paint(tmp_path / f"{i}.png", "RGBA", colour=(9, 9, 9, 0))
    assert from_folder(tmp_path, test_share=.5).train.x.unique().tolist() == [255]
    assert (from_folder(tmp_path, channels=1, test_share=.5).train.x.unique().tolist()
            == [255])


def test_crop_cuts_around_the_middle(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    for i in range(2): Image.fromarray(wide).save(tmp_path / f"{i}.png")
    assert (from_folder(tmp_path, size=10, test_share=.5, resize="crop").train.x
            == 255).all()


def test_mixed_sizes_need_a_size(tmp_path):
    paint(tmp_path / "a.png")
    paint(tmp_path / "b.png", size=(8, 7))
    with pytest.raises(DataError, match=r"differ in size \(a.png is 6×8, b.png is 7×8; "
                                        r"height × width\)"):
        from_folder(tmp_path)
    assert from_folder(tmp_path, size=6, test_share=.5).data_shape == (1, 6, 6)


def test_folders_without_images(tmp_path):
    with pytest.raises(DataError, match="holds no image"): from_folder(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        from_folder(tmp_path / "absent")
    paint(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog holds no image"): from_folder(tmp_path)
    paint(tmp_path / "loose.png")
    with pytest.raises(DataError,
                       match=r"holds images \(loose.png\) beside folders \(cat\)"):
        from_folder(tmp_path)
    with pytest.raises(DataError, match="channels=2"): from_folder(tmp_path, channels=2)

def test_hidden_things_are_left_out_at_every_depth(tmp_path, capsys):
    for kind in ("a", "b"):
        for i in range(3): paint(tmp_path / kind / f"{i}.png", colour=40 * i + 7)
    for place in ("a/.ipynb_checkpoints/0-checkpoint.png", "b/deep/.cache/deeper/x.png",
                  "b/.thumbnail.png", ".trash/y.png", "__MACOSX/a/._0.png"):
        paint(tmp_path / place)
    paint(tmp_path / "b" / "deep" / "z.png")
    x, files, labels, classes = read_images(tmp_path, None, None)
    assert (len(x) == 7 and classes == ["a", "b"]
            and not any("/." in str(f.relative_to(tmp_path)) for f in files))
    assert (capsys.readouterr().out
            == f"{tmp_path.name}: 7 images of 2 classes (left out: hidden: 5).\n")


def test_one_line_says_what_was_left_out_and_why(tmp_path, capsys):
    for i in range(3): paint(tmp_path / "_odd" / f"{i}.PNG")
    paint(tmp_path / "ok" / "a.png")
    for name in ("scan.heic", "scan.dcm", "other.dcm", "noending", "notes.txt"):
        (tmp_path / "ok" / name).write_bytes(b"?")
    for name, more in (("pages.tiff", 4), ("film.gif", 2)):
        frames = [Image.fromarray(RANDOM.integers(0, 256, (6, 8), dtype=np.uint8))
                  for _ in range(more + 1)]
        frames[0].save(tmp_path / "ok" / name, save_all=True, append_images=frames[1:])
    os.symlink(tmp_path / "gone.png", tmp_path / "ok" / "broken.png")
    for take in (lambda: from_folder(tmp_path, channels=1),
                 lambda: read_image_folder(tmp_path),
                 lambda: read_images(tmp_path, None, 1)):
        take()
        said = capsys.readouterr().out
        assert (said.startswith(f"{tmp_path.name}: 6 images of 2 classes (left out: ")
                and said.endswith(").\n") and said.count("\n") == 1)
        why, kinds = (
            said.split("left out: ")[1][:-3].split("; of a kind that is not read: "))
        assert (set(why.split("; ")) == {"links that lead nowhere: 1",
                                         "further pages or frames: 6"}
                and set(kinds.split(", ")) == {"1 without an ending", "1 .txt",
                                               "2 .dcm", "1 .heic"})
    assert from_folder(tmp_path, channels=1).classes == ["_odd", "ok"]


def test_only_the_first_of_several_processes_says_it(tmp_path, monkeypatch, capsys):
    paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        from_folder(tmp_path, test_share=.5)
        assert capsys.readouterr().out.count("\n") == lines


def test_links_are_followed_and_nothing_comes_twice(tmp_path, capsys):
    root, far = tmp_path / "root", tmp_path / "far"
    for i in range(2):
        (paint(root / "a" / f"{i}.png"), paint(root / "b" / f"{i}.png"),
         paint(far / f"{i}.png"), paint(far / "below" / f"{i}.png"))
    # a class elsewhere
    os.symlink(far, root / "c")
    # read with `a`, which comes first
    os.symlink(far / "below", root / "a" / "more")
    os.symlink(root / "b", root / "a" / "again")                       # is read as `b`
    os.symlink(root / "b" / "0.png", root / "a" / "copy.png")
    os.symlink(root, root / "b" / "loop")
    os.symlink(tmp_path, root / "b" / "up")
    os.symlink(root / "b" / "self", root / "b" / "self")
    x, files, labels, classes = read_images(root, None, None)
    assert (classes == ["a", "b", "c"] and np.bincount(labels).tolist() == [4, 2, 2]
            and len({os.path.realpath(f) for f in files}) == len(files) == 8)
    assert ("links to what is read anyway: 5" in (said := capsys.readouterr().out)
            and "links that lead nowhere: 1" in said)


@pytest.mark.parametrize("third", [None, "valid", "val", "validation"])
def test_a_folder_with_train_and_test_keeps_its_split(tmp_path, third, capsys):
    parts = {"train": 10, "test": 20} | ({third: 30} if third else {})
    for part, colour in parts.items():
        for kind in ("1", "2", "10"):
            for i in range(2 + (part == "train")):
                paint(tmp_path / part / kind / f"{i}.png", colour=colour + int(kind))
    got = from_folder(tmp_path)
    assert got.classes == ["1", "2", "10"] and (got.valid is not None) == bool(third)
    for part, examples in dict(train=got.train, test=got.test,
                               **({third: got.valid} if third else {})).items():
        assert len(examples) == (9 if part == "train" else 6)
        assert {(y.item(), x.max().item()) for x, y in examples} == {
            (k, parts[part] + int(c)) for k, c in enumerate(got.classes)}
    assert "split as its folders are" in capsys.readouterr().out
    assert len(read_image_folder(tmp_path)[0]) == 9 + 6 + 6 * bool(third)


def test_the_seed_draws_the_split_of_a_folder_and_the_order_of_one_that_it_has(
        tmp_path):
    for i in range(20):
        paint(tmp_path / "whole" / "a" / f"{i}.png", colour=i)
        for part in ("train", "test"):
            paint(tmp_path / "parted" / part / f"{i}.png", colour=i)
    for folder in ("whole", "parted"):
        first, again, other = (
            from_folder(tmp_path / folder, seed=seed).train.x[:, 0, 0, 0].tolist()
            for seed in (0, 0, 1))
        assert first == again != other != sorted(other)


def test_a_split_without_classes(tmp_path):
    for part in ("Train", "Test"):
        for i in range(3): paint(tmp_path / part / f"{i}.png")
    got = from_folder(tmp_path)
    assert (len(got.train), len(got.test), got.classes) == (3, 3, [tmp_path.name])


def test_a_class_is_one_class_however_its_letters_are_coded(tmp_path, capsys):
    for part, form in (("train", "NFC"), ("test", "NFD")):
        for i in range(2):
            (paint(tmp_path / part / unicodedata.normalize(form, "Äpfel") / f"{i}.png"),
             paint(tmp_path / part / "Birnen" / f"{i}.png"))
    got = from_folder(tmp_path)
    assert (
        got.classes == ["Birnen", unicodedata.normalize("NFC", "Äpfel")]
        and got.train.y.bincount().tolist() == got.test.y.bincount().tolist() == [2, 2])
    assert "only in" not in capsys.readouterr().out
    paint(tmp_path / "test" / "Quitten" / "0.png")
    assert (len(from_folder(tmp_path).classes) == 3
            and ", split as its folders are, 1 class only in test.\n"
                in capsys.readouterr().out)


def test_both_codings_in_one_folder_are_one_class(tmp_path):
    for form in ("NFC", "NFD"):
        paint(tmp_path / unicodedata.normalize(form, "Äpfel") / f"{form}.png")
    _, files, labels, classes = read_images(tmp_path, None, None)
    assert (len(files) == 2 and labels == [0, 0]
            and classes == [unicodedata.normalize("NFC", "Äpfel")])


def test_twins_of_a_part_are_refused(tmp_path):
    for part in ("train", "Train", "test"): paint(tmp_path / part / "a" / "x.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this disk takes train and Train for one folder")
    with pytest.raises(DataError,
                       match="holds Train and test and train: a split of your own"):
        from_folder(tmp_path)


def test_the_line_is_printed_on_a_terminal_without_its_letters(tmp_path, monkeypatch):
    for i in range(2): paint(tmp_path / "日本" / f"{i}.png")
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", out)
    from_folder(tmp_path / "日本", test_share=.5)
    out.flush()
    assert out.buffer.getvalue().decode("cp1252").strip() == "??: 2 images."


def test_a_seed_and_a_share_are_checked_before_pictures_are_read(tmp_path, monkeypatch):
    for i in range(4): paint(tmp_path / f"{i}.png", colour=50 + i)
    assert torch.equal(from_folder(tmp_path, seed=np.int64(3)).train.x,
                       from_folder(tmp_path, seed=3).train.x)
    monkeypatch.setattr(folders, "read_image",
                        lambda *a: pytest.fail("an image was read"))
    for how, message in ((dict(seed=None), "got seed=None: give a whole number"),
                         (dict(test_share="a"), "got a share of 'a': give the part")):
        with pytest.raises(DataError, match=message): from_folder(tmp_path, **how)


def test_files_of_kinds_that_pillow_knows_by_name_alone_are_left_out(tmp_path, capsys):
    for i in range(2): paint(tmp_path / f"{i}.png")
    for name, body in (("a.h5", b"\x89HDF\r\n\x1a\n"), ("b.mpg", b"\0\0\1\xb3"),
                       ("c.grib", b"GRIB")):
        (tmp_path / name).write_bytes(body + bytes(60))
    assert len(from_folder(tmp_path, test_share=.5).train) == 1
    assert set(capsys.readouterr().out.split("not read: ")[1][:-3].split(", ")) == {
        "1 .h5", "1 .mpg", "1 .grib"}


@pytest.mark.parametrize("folders, message",
                         [(["train", "val"], "a split of your own has train, test"),
                          (["train", "test", "extra"], "beside extra"),
                          (["train", "test", "val", "valid"], "a split of your own"),
                          (["train/a", "test"], "classes in one part")])
def test_half_a_split_is_refused(tmp_path, folders, message):
    for folder in folders: paint(tmp_path / folder / "x.png")
    with pytest.raises(DataError, match=message): from_folder(tmp_path)


def test_train_alone_or_test_alone_is_a_class(tmp_path):
    for kind in ("bus", "train"):
        for i in range(2): paint(tmp_path / kind / f"{i}.png")
    assert from_folder(tmp_path, test_share=.5).classes == ["bus", "train"]


def test_numbers_sort_as_numbers(tmp_path):
    names = ["10", "2", "1", "-3", "0.5", "0.25", "b10", "b2", "a"]
    assert sorted(names, key=_natural_key) == [
        "-3", "0.25", "0.5", "1", "2", "10", "a", "b2", "b10"]
    for name in ("10", "2", "1"): paint(tmp_path / name / "x.png", colour=int(name))
    x, _, labels, classes = read_images(tmp_path, None, None)
    assert (classes == ["1", "2", "10"] and x.amax((1, 2, 3)).tolist() == [1, 2, 10]
            and labels == [0, 1, 2])


def test_an_empty_folder_says_what_it_left_out(tmp_path):
    for name in ("a.dcm", "b.dcm"): (tmp_path / name).write_bytes(b"?")
    with pytest.raises(DataError, match=r"holds no image.*left out: of a kind that is "
                                        r"not read: 2 .dcm"):
        from_folder(tmp_path)


@pytest.mark.parametrize("name", ["digits", "mnist", "mnist_static"])
def test_a_folder_called_like_a_named_set_is_a_folder(tmp_path, name):
    for i in range(4): paint(tmp_path / name / f"{i}.png", colour=50 + i)
    own = from_folder(tmp_path / name)
    assert (own.name == name and own.source is None
            and likelihood_for(own) == "gaussian_learned"
            and likelihood_for(load("digits")) == "bernoulli")


def test_a_run_on_a_folder_called_digits_is_no_run_on_digits(tmp_path, monkeypatch):
    import json
    monkeypatch.chdir(tmp_path)
    for i in range(20):
        Image.fromarray(RANDOM.integers(0, 256, (6, 8), dtype=np.uint8)).save(
            (tmp_path / "digits").mkdir(exist_ok=True)
            or tmp_path / "digits" / f"{i}.png")
    main("train --data folder:digits --epochs 1 --batch-size 4 --set hidden=[8] --set "
         "latent_dim=2 --device cpu --compile off --precision fp32 --out run".split())
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert (run["settings"]["data"] == "folder:digits"
            and run["settings"]["set"]["likelihood"] == "gaussian_learned"
            and not run["settings"]["binarize"])
