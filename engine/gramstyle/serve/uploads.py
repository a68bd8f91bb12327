"""Uploaded images: checked by the reader of images, stored as they came."""

import secrets
import threading

from gramstyle.errors import GramstyleError
from gramstyle.images import read_original
from gramstyle.images.preview import thumbnail
from gramstyle.serve.folder import DataFolder
from gramstyle.serve.job import Upload
from gramstyle.serve.limits import Limits

# The longest edges in pixels: of a thumbnail, and of an image that fills a page.
THUMBNAIL, LARGE = 256, 1024
# Decoding takes memory, so that only so many images are decoded at the same time.
_decoding = threading.Semaphore(2)
# One upload after the other is measured and written, else several could take the last place.
_storing = threading.Lock()


def new_id() -> str:
    """Return an id that cannot be guessed: 22 characters of 128 random bits."""
    return secrets.token_urlsafe(16)


def accept(data: bytes, name: str, folder: DataFolder, limits: Limits) -> Upload:
    """Decode an uploaded image, to check it, and store its bytes.

    Raises
    ------
    ImageError
        If it is not an image, is damaged or has too many pixels.
    StorageError, FolderError, StoreError
        If the service may not store more, or its disk has no room for it.
    """
    with _decoding:
        original = read_original(data, name="the image", max_pixels=limits.pixels)
        width, height = original.width, original.height
        original.resized(1, 1)  # converts every row, as a run will
        del original
    upload = Upload(new_id(), width, height, len(data), clean_name(name))
    with _storing:
        folder.check_room(len(data), most=limits.storage)
        folder.write_upload(upload.id, data)
    try:
        folder.store.add_upload(upload)
    except GramstyleError:  # without this, each attempt would leave a file on a full disk
        folder.remove_upload(upload.id)
        raise
    for id_ in folder.store.remove_unused_uploads(most_bytes=limits.uploads):
        folder.remove_upload(id_)
    return upload


def reduced(upload: Upload, folder: DataFolder, edge: int) -> bytes:
    """Return an upload as a WebP with edges of at most `edge` pixels, without metadata.

    Raises
    ------
    FileNotFoundError
        If the upload has been removed.
    """
    with _decoding:
        data = folder.upload(upload.id).read_bytes()
        original = read_original(data, name="the image", max_pixels=upload.width * upload.height)
        return thumbnail(original, edge)


def clean_name(name: str) -> str:
    """Return the name of a client's file without folders and control characters, for recipes.

    Nothing is opened by this name.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(each for each in last if each.isprintable() and each not in '<>:"|?*,')
    shown = shown.strip(" .")
    return shown[-100:] or "image"
