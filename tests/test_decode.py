"""One decoding policy. Pillow is the independent decoder; broken files are made by hand."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

import featx.decode as decode_module
from featx.decode import Policy, decode
from featx.errors import MissingDependency, PictureRefused

PLAIN = Policy()
RNG = np.random.default_rng(7)
H, W = 30, 44
COLOUR = cv2.resize(RNG.integers(0, 256, (5, 7, 3), np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)
GREY = COLOUR[..., 1].copy()
ALPHA = RNG.integers(0, 256, (H, W), np.uint8)
RGB = Image.fromarray(COLOUR)
RGBA = Image.fromarray(np.dstack([COLOUR, ALPHA]))
HAS_GIF = "GIF:                         NO" not in cv2.getBuildInformation()


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillow(data: bytes) -> np.ndarray:
    """What Pillow makes of a file: upright, over white, RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def over_white(colour: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
    """Real-valued composition over white, in [0, 255], not rounded."""
    a = alpha.astype(np.float64)[..., None] / top
    return (colour.astype(np.float64) / top * a + (1 - a)) * 255


def assert_near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(np.float64) - expected).max() <= tolerance


def reason(data: bytes, policy: Policy = PLAIN) -> str:
    with pytest.raises(PictureRefused) as refusal:
        decode(data, policy)
    assert refusal.value.message
    assert refusal.value.hint
    return refusal.value.reason


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand: ``raw`` is the filtered rows, ``extra`` the chunks between IHDR and IDAT."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")])


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF block with one tag, by hand, in either byte order."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + struct.pack(f"{order}I", 0)


# --- what comes out -----------------------------------------------------------------------------------


def test_every_shared_photo_is_bit_equal_to_pillow_and_to_opencv(shared: Path) -> None:
    files = sorted([*shared.glob("images/*.[jp][pn]g"), *shared.glob("golden/images/*.jpg")])
    assert len(files) == 20
    for file in files:
        data = file.read_bytes()
        pixels = decode(data)
        assert pixels.dtype == np.uint8
        assert pixels.flags["C_CONTIGUOUS"]
        assert np.array_equal(pixels, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
        assert np.array_equal(pixels, pillow(data)), file.name


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied_in_every_format_that_carries_exif(kind: str, orientation: int, order: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    prefix = b"Exif\0\0" if kind == "JPEG" else b""
    data = encode(RGB, kind, exif=prefix + exif(orientation, order), **options)
    assert np.array_equal(decode(data), pillow(data))
    assert decode(data).shape == ((W, H, 3) if orientation >= 5 else (H, W, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image", [RGB, RGBA, Image.fromarray(GREY.astype(np.uint16) * 200)], ids=["RGB", "RGBA", "16"])
def test_the_tiff_orientation_tag_is_applied_once(image: Image.Image, orientation: int) -> None:
    plain, turned = encode(image, "TIFF"), encode(image, "TIFF", tiffinfo={0x0112: orientation})
    operation = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    assert np.array_equal(decode(turned), operation(decode(plain)))


def test_an_orientation_without_meaning_leaves_the_picture_as_it_is() -> None:
    for value in (0, 9, 65535):
        assert np.array_equal(decode(encode(RGB, "PNG", exif=exif(value))), COLOUR)
    cut = png(1, 1, 8, 2, b"\0\1\2\3", chunk(b"eXIf", b"II*\0\xff\xff\0\0"))
    assert decode(cut).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 100}, {"keep_rgb": True}, {"restart_marker_rows": 1}],
    ids=str,
)
def test_every_kind_of_jpeg_is_bit_equal_to_pillow(options: dict[str, object]) -> None:
    data = encode(RGB, "JPEG", **options)
    assert np.array_equal(decode(data), pillow(data))


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    data = encode(Image.fromarray(GREY), "JPEG")
    assert np.array_equal(decode(data), pillow(data))
    assert np.ptp(decode(data), axis=2).max() == 0


def test_cmyk_and_ycck_jpegs_agree_with_pillow_to_one_level() -> None:
    cmyk = encode(RGB.convert("CMYK"), "JPEG", quality=95)
    at = cmyk.index(b"Adobe") + 11  # the transform byte: 0 is CMYK, 2 is YCCK
    assert cmyk[at] == 0
    ycck = cmyk[:at] + b"\2" + cmyk[at + 1 :]
    for data in (cmyk, ycck):
        assert_near(decode(data), pillow(data), 1)
    assert np.abs(decode(cmyk).astype(int) - decode(ycck)).max() > 20  # the transform was not ignored


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_lossless_formats_without_alpha_are_bit_equal_to_pillow(kind: str, mode: str) -> None:
    image = RGB.quantize(16) if mode == "P" else RGB.convert(mode)
    data = encode(image, kind)
    assert np.array_equal(decode(data), pillow(data))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiffs_are_bit_equal_to_pillow(compression: str) -> None:
    data = encode(RGB, "TIFF", compression=compression)
    assert np.array_equal(decode(data), pillow(data))


def test_lossy_and_lossless_webp_are_bit_equal_to_pillow() -> None:
    for data in (encode(RGB, "WEBP"), encode(RGB, "WEBP", lossless=True)):
        assert np.array_equal(decode(data), pillow(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(kind: str) -> None:
    data = encode(RGBA, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    # libtiff multiplies colours by their alpha before OpenCV sees them, so TIFF is rounded twice.
    assert_near(decode(data), over_white(COLOUR, ALPHA, 255), 1.0 if kind == "TIFF" else 0.5)
    if kind != "TIFF":
        assert_near(decode(data), pillow(data), 1)


def test_grey_with_alpha_is_laid_over_white() -> None:
    image = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA)))
    expected = over_white(np.repeat(GREY[..., None], 3, 2), ALPHA, 255)
    assert_near(decode(encode(image, "PNG")), expected, 0.5)


def test_alpha_at_16_bits_is_composed_before_it_is_rounded_to_8() -> None:
    deep = RNG.integers(0, 65536, (H, W, 4)).astype(np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    assert_near(decode(data), over_white(deep[..., 2::-1], deep[..., 3], 65535), 0.51)


def test_16_bits_become_8_by_rounding_to_the_nearest() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(every / 257).astype(np.uint8)
    assert np.array_equal(decode(encode(Image.fromarray(every), "PNG"))[..., 0], expected)
    assert np.array_equal(decode(encode(Image.fromarray(every), "TIFF"))[..., 2], expected)
    colour = cv2.imencode(".png", np.dstack([every, every[::-1], every.T]))[1].tobytes()
    assert np.array_equal(decode(colour), np.dstack([expected.T, expected[::-1], expected]))


def test_transparent_palette_entries_are_laid_over_white() -> None:
    palette = RGB.quantize(4)
    for transparency in (2, bytes([0, 100, 200, 255])):
        data = encode(palette, "PNG", transparency=transparency)
        assert_near(decode(data), pillow(data), 1)
        assert not np.array_equal(decode(data), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(("depth", "key", "row"), [(8, 7, b"\x07\x08"), (1, 1, b"\x80"), (4, 5, b"\x56")])
def test_the_transparent_grey_of_a_png_becomes_white(depth: int, key: int, row: bytes) -> None:
    data = png(2, 1, depth, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", key)))
    second = {8: 8, 1: 0, 4: 6 * 17}[depth]
    assert decode(data)[0, :, 0].tolist() == [255, second]


def test_the_transparent_grey_of_a_16_bit_png_becomes_white() -> None:
    data = png(2, 1, 16, 0, b"\0\x01\x02\x01\x03", chunk(b"tRNS", b"\x01\x02"))
    assert decode(data)[0, :, 0].tolist() == [255, 1]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    if kind == "GIF" and not HAS_GIF:
        pytest.skip("this build of OpenCV reads no GIF")
    frames = [Image.fromarray(f) for f in (COLOUR, 255 - COLOUR, COLOUR // 2)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert np.array_equal(decode(data), pillow(data))


def test_the_still_picture_of_an_animated_png_is_taken_even_if_it_is_no_frame() -> None:
    red, blue = (Image.new("RGB", (4, 3), colour) for colour in ("red", "blue"))
    data = encode(red, "PNG", save_all=True, default_image=True, append_images=[blue, red])
    assert np.array_equal(decode(data), np.broadcast_to(np.uint8([255, 0, 0]), (3, 4, 3)))


@pytest.mark.skipif(not HAS_GIF, reason="this build of OpenCV reads no GIF")
def test_a_still_gif_and_one_with_a_transparent_colour_agree_with_pillow() -> None:
    palette = RGB.quantize(8)
    for data in (encode(palette, "GIF"), encode(palette, "GIF", transparency=3)):
        assert np.array_equal(decode(data), pillow(data))


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_tiny_and_thin_pictures_decode(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG"):
        data = encode(Image.new("RGB", size, (10, 200, 30)), kind)
        assert decode(data).shape == (size[1], size[0], 3)
        assert np.array_equal(decode(data), pillow(data))


def test_a_jpeg_named_png_is_read_by_its_content(shared: Path) -> None:
    assert decode((shared / "images/dogs.png").read_bytes()).shape == (640, 640, 3)


# --- what is refused ----------------------------------------------------------------------------------


def test_an_empty_file_is_refused_as_empty() -> None:
    assert reason(b"") == "empty"


@pytest.mark.parametrize(
    "data", [b"hello, this is a text\n" * 9, b"<!DOCTYPE html><html>404", b"BMW is a car", b"\0" * 99]
)
def test_a_file_that_is_no_picture_is_refused_as_such(data: bytes) -> None:
    assert reason(data) == "not-an-image"


@pytest.mark.parametrize(
    "start",
    [b"\0\0\0\x20ftypavif", b"\0\0\0\x0cjP  \r\n", b"\xff\x0a", b"8BPS", b"P6\n", b"%PDF-1.7", b"<svg ", b"\0\0\1\0"],
)
def test_a_picture_in_a_format_that_is_not_read_is_refused_as_unsupported(start: bytes) -> None:
    assert reason(start + bytes(64)) == "unsupported"


WHOLE = {
    "JPEG": encode(RGB, "JPEG"),
    "progressive JPEG": encode(RGB, "JPEG", progressive=True),
    "PNG": encode(RGB, "PNG"),
    "GIF": encode(RGB, "GIF"),
    "BMP": encode(RGB, "BMP"),
    "WebP": encode(RGB, "WEBP"),
    "lossless WebP": encode(RGB, "WEBP", lossless=True),
    "TIFF": encode(RGB, "TIFF"),
    "LZW TIFF": encode(RGB, "TIFF", compression="tiff_lzw"),
}
if not HAS_GIF:
    del WHOLE["GIF"]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_picture_cut_anywhere_is_refused_as_truncated(kind: str) -> None:
    data = WHOLE[kind]
    decode(data)
    for length in {*range(30, len(data) - 8, 37), len(data) // 2, len(data) - 12}:
        assert reason(data[:length]) == "truncated", length
    for length in range(1, 30):
        assert reason(data[:length]) in ("truncated", "not-an-image")


@pytest.mark.parametrize("kind", [k for k in WHOLE if "JPEG" not in k])
def test_one_missing_byte_is_enough_outside_jpeg(kind: str) -> None:
    assert reason(WHOLE[kind][:-1]) == "truncated"


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG"])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_is_a_truncated_tail_and_can_be_salvaged_to_the_bit(
    kind: str, missing: int
) -> None:
    whole = WHOLE[kind]
    assert whole.endswith(b"\xff\xd9")
    assert reason(whole[:-missing]) == "truncated-tail"
    assert np.array_equal(decode(whole[:-missing], Policy(salvage_tail=True)), decode(whole))


def test_every_shared_jpeg_without_its_last_two_bytes_is_salvaged_to_the_bit(shared: Path) -> None:
    for file in [*shared.glob("images/*.jpg"), *shared.glob("golden/images/*.jpg")]:
        whole = file.read_bytes()
        assert whole.endswith(b"\xff\xd9")
        assert np.array_equal(decode(whole[:-2], Policy(salvage_tail=True)), decode(whole)), file.name


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG"])
def test_a_jpeg_with_pixels_missing_is_never_salvaged(kind: str) -> None:
    whole = WHOLE[kind]
    for missing in (4, 5, 6, 8, 16, 20, 40, len(whole) // 2):
        assert reason(whole[:-missing], Policy(salvage_tail=True)) == "truncated", missing


def test_a_progressive_jpeg_cut_between_two_scans_is_not_taken_for_whole() -> None:
    whole = WHOLE["progressive JPEG"]
    last_scan = whole.rindex(b"\xff\xda")
    tables = whole.rfind(b"\xff\xc4", 0, last_scan)
    assert reason(whole[:tables], Policy(salvage_tail=True)) == "truncated"


def test_a_cut_jpeg_that_was_filled_up_with_zeros_is_refused_as_truncated() -> None:
    whole = WHOLE["JPEG"]
    assert reason(whole[: len(whole) // 2] + bytes(len(whole))) == "truncated"


def test_every_flipped_bit_that_matters_in_a_png_is_refused() -> None:
    whole = WHOLE["PNG"]
    reasons = set()
    for position in range(8, len(whole) - 12, 41):
        reasons.add(reason(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]))
    assert reasons <= {"corrupt", "truncated", "too-large"}
    assert reason(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]) == "corrupt"


def test_a_png_whose_pixel_data_lie_although_every_checksum_holds_is_refused_as_corrupt() -> None:
    assert reason(png(8, 8, 8, 2, b"\0" * 9)) in ("corrupt", "truncated")
    garbage = png(8, 8, 8, 2, b"")
    at = garbage.index(b"IDAT")
    broken = garbage[: at - 4] + chunk(b"IDAT", b"not zlib") + chunk(b"IEND", b"")
    assert reason(broken) == "corrupt"


def test_a_flipped_byte_in_a_jpeg_is_refused_where_it_breaks_the_structure() -> None:
    whole = bytearray(WHOLE["JPEG"])
    quantisation = whole.index(b"\xff\xdb")
    whole[quantisation + 4] = 0x3F  # a table number that does not exist
    assert reason(bytes(whole)) == "corrupt"


def test_a_flipped_byte_in_jpeg_pixel_data_gives_another_picture_because_no_decoder_can_see_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not a wish but a fact, kept here so that the documentation stays true: JPEG has no checksum."""
    whole = bytearray(WHOLE["JPEG"])
    whole[whole.index(b"\xff\xda") + 40] ^= 0x04
    pixels = decode(bytes(whole))
    capfd.readouterr()  # libjpeg may grumble
    assert pixels.shape == COLOUR.shape
    assert not np.array_equal(pixels, decode(WHOLE["JPEG"]))
    Image.open(io.BytesIO(bytes(whole))).load()  # Pillow accepts it as well


def bombs() -> dict[str, bytes]:
    jpeg, big = bytearray(WHOLE["JPEG"]), 60_000
    frame = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, frame + 5, big, big)
    gif = b"GIF89a" + struct.pack("<HHBBB", big, big, 0, 0, 0) + b";"
    bmp = bytearray(WHOLE["BMP"])
    struct.pack_into("<ii", bmp, 18, big, -big)
    canvas = struct.pack("<BxxxHBHB", 0, 16_383, 0, 16_383, 0)
    webp = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    tiff = bytearray(WHOLE["TIFF"])
    entries = struct.unpack_from("<I", tiff, 4)[0] + 2
    for entry in range(entries, entries + 24, 12):
        struct.pack_into("<HHII", tiff, entry, struct.unpack_from("<H", tiff, entry)[0], 4, 1, big)
    return {
        "PNG": png(big, big, 8, 2, b"\0" * 1000),
        "JPEG": bytes(jpeg),
        "GIF": gif,
        "BMP": bytes(bmp),
        "WebP": webp,
        "TIFF": bytes(tiff),
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_picture_that_claims_too_many_pixels_is_refused_before_memory_is_asked_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the decoder was asked")

    monkeypatch.setattr(decode_module, "_imdecode", never)
    assert reason(bombs()[kind]) == "too-large"


def test_the_pixel_limit_is_exact_and_can_be_changed() -> None:
    data = WHOLE["PNG"]
    assert decode(data, Policy(max_pixels=H * W)).shape == (H, W, 3)
    assert reason(data, Policy(max_pixels=H * W - 1)) == "too-large"
    assert Policy().max_pixels == 2**31 // 12


def test_a_picture_of_no_pixels_is_refused_as_corrupt() -> None:
    jpeg = bytearray(WHOLE["JPEG"])
    struct.pack_into(">H", jpeg, jpeg.index(b"\xff\xc0") + 5, 0)
    assert reason(bytes(jpeg)) == "corrupt"
    assert reason(png(0, 5, 8, 2, b"")) == "corrupt"


def test_a_jpeg_process_that_cannot_be_decoded_is_refused_as_unsupported() -> None:
    lossless, deep = bytearray(WHOLE["JPEG"]), bytearray(WHOLE["JPEG"])
    frame = lossless.index(b"\xff\xc0")
    lossless[frame + 1] = 0xC3
    deep[frame + 4] = 12
    assert reason(bytes(lossless)) == reason(bytes(deep)) == "unsupported"


def test_tiffs_that_opencv_would_decode_to_other_pixels_are_refused_as_unsupported() -> None:
    grey_alpha = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA)))
    real = Image.fromarray(GREY.astype(np.float32))
    for image in (grey_alpha, real):
        assert reason(encode(image, "TIFF")) == "unsupported"


def test_hostile_bytes_behind_a_true_beginning_end_in_a_refusal_or_a_picture(capfd: pytest.CaptureFixture[str]) -> None:
    for data in WHOLE.values():
        for _ in range(60):
            mutant = bytearray(data)
            for position in RNG.integers(2, len(mutant), 4):
                mutant[position] = RNG.integers(256)
            try:
                pixels = decode(bytes(mutant), Policy(max_pixels=10**6))
            except PictureRefused:
                continue
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
    capfd.readouterr()


# --- the surroundings ---------------------------------------------------------------------------------


def test_the_policy_names_the_decoder_and_everything_that_decides_pixels() -> None:
    described = Policy(salvage_tail=True).describe()
    assert described["decoder"] == "opencv"
    assert described["version"] == cv2.__version__
    assert described["salvage_tail"] is True
    assert Policy().describe() != described


def test_an_opencv_older_than_4_11_is_refused_with_the_line_that_upgrades_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "__version__", "4.10.0")
    decode_module.opencv.cache_clear()
    try:
        with pytest.raises(MissingDependency, match=r"4\.10\.0 is too old") as error:
            decode(WHOLE["PNG"])
        assert "pip install" in error.value.hint
    finally:
        decode_module.opencv.cache_clear()


def test_a_build_without_gif_says_so_instead_of_calling_the_file_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "_imdecode", lambda *_: None)
    monkeypatch.setattr(decode_module, "_build", lambda: "  Media I/O:\n    GIF:                  NO\n")
    assert reason(encode(RGB, "GIF")) == "unsupported"
    monkeypatch.setattr(decode_module, "_build", lambda: "  Media I/O:\n    GIF:                  YES\n")
    assert reason(encode(RGB, "GIF")) == "corrupt"


def test_opencv_says_nothing_on_stderr_about_a_file_it_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    for data in (
        WHOLE["JPEG"][:200],
        WHOLE["JPEG"][:-2],
        WHOLE["PNG"][:200],
        WHOLE["WebP"][:99],
        b"text",
        WHOLE["BMP"][:99],
    ):
        reason(data)
    assert capfd.readouterr().err == ""


def test_importing_the_decoder_imports_neither_opencv_nor_torch() -> None:
    code = "import sys, featx.decode, featx.images; print({'cv2', 'torch', 'fsspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
