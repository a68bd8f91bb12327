"""Recognise raw files of cameras; Pillow would read only their thumbnails."""

from PIL import ImageFile, TiffImagePlugin

from gramstyle.errors import ImageError

_DNG_VERSION, _SUBFILE_TYPE, _SUB_DIRECTORIES, _PHOTOMETRIC = 50706, 254, 330, 262
_REDUCED = 1  # the bit of a subfile that is a smaller version of another image in the file
_SENSOR = (32803, 34892)  # photometric interpretations: colour filter array, linear raw
_MOST_DIRECTORIES = 8


def refuse_raw(image: ImageFile.ImageFile, prefix: bytes) -> None:
    """Refuse a TIFF file whose first image is a thumbnail or that holds a sensor's values.

    Parameters
    ----------
    image
        The opened file.
    prefix
        The first 16 bytes of the file.

    Raises
    ------
    ImageError
        If the file is a camera's raw file (DNG, NEF, CR2, ARW and others that are built as TIFF),
        or another file whose first image is a thumbnail.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    if _DNG_VERSION in tags or prefix[8:10] == b"CR" or _has_sensor_values(image, prefix):
        msg = "it is a camera's raw file, of which only a preview can be read"
        raise ImageError(f"{msg}; develop it to TIFF or JPEG, for example with darktable")
    others = _SUB_DIRECTORIES in tags or getattr(image, "is_animated", False)
    if others and _number(tags.get(_SUBFILE_TYPE)) & _REDUCED:
        msg = "its first image is a thumbnail of another, as in a camera's raw file"
        raise ImageError(
            f"{msg}; develop or convert it to TIFF or JPEG, for example with darktable"
        )


def _has_sensor_values(image: TiffImagePlugin.TiffImageFile, prefix: bytes) -> bool:
    """Return whether a directory below the first one describes the values of a sensor."""
    offsets = image.tag_v2.get(_SUB_DIRECTORIES, ())
    if not isinstance(offsets, tuple):
        offsets = (offsets,)
    file = image.fp
    assert file is not None  # noqa: S101 - the file has just been opened
    place = file.tell()
    try:
        for offset in offsets[:_MOST_DIRECTORIES]:
            directory = TiffImagePlugin.ImageFileDirectory_v2(prefix[:8])
            file.seek(offset)
            directory.load(file)
            if _number(directory.get(_PHOTOMETRIC)) in _SENSOR:
                return True
    except Exception:  # a broken directory, which does not concern the first image
        return False
    finally:
        file.seek(place)
    return False


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
