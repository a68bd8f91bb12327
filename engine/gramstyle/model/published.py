"""The published files of VGG-19: addresses, hashes and authors.

The hashes differ in strength: MD5 and SHA-1 reveal a damaged file but not a forged one; eight
digits of SHA-256 are all that torch's own download checks. `gramstyle.model.known` identifies a
network by the hash of its tensors instead.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gramstyle.model.known import LICENCE, OXFORD, KnownNetwork
from gramstyle.model.preprocessings import CAFFE, TORCHVISION

Algorithm = Literal["md5", "sha1", "sha256"]
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class PublicFile:
    """A weights file that anyone may download.

    Attributes
    ----------
    name
        Its name in gramstyle.
    file_name
        Its publisher's name for it.
    urls
        Its addresses, in the order in which to try them.
    size
        In bytes; None if unknown.
    algorithm, digest
        The algorithm of its published hash, and the hash or its first digits.
    network
        The network in it.
    """

    name: str
    file_name: str
    urls: tuple[str, ...]
    size: int | None
    algorithm: Algorithm
    digest: str
    network: KnownNetwork

    def is_digest(self, digest: str) -> bool:
        """Return whether a hash is this file's."""
        return digest.startswith(self.digest)

    def new_hash(self) -> "hashlib._Hash":
        """Start a hash with the published algorithm."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    @property
    def digest_text(self) -> str:
        """Algorithm and digest, with an ellipsis if only the first digits are published."""
        is_complete = len(self.digest) == 2 * self.new_hash().digest_size
        return f"{self.algorithm} {self.digest}{'' if is_complete else '…'}"


_TORCHVISION = KnownNetwork(
    "VGG-19 of torchvision (IMAGENET1K_V1)",
    TORCHVISION,
    "BSD-3-Clause",
    "VGG-19 (Simonyan, Zisserman, arXiv 1409.1556), trained anew by the authors of torchvision",
)


def _oxford(name: str) -> KnownNetwork:
    return KnownNetwork(f"VGG-19 of Oxford (Caffe), {name}", CAFFE, LICENCE, OXFORD)


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
# The second address served them until 2025.
_ZOO = (
    "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/"
    "classification/vgg/model/",
    "https://github.com/onnx/models/raw/main/validated/vision/classification/vgg/model/",
)

PUBLIC_FILES: Mapping[str, PublicFile] = {
    file.name: file
    for file in (
        PublicFile(
            "keras",
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            (
                f"{_KERAS}vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
                "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/"
                "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            ),
            80_134_624,
            "md5",
            "253f8cb515780f3b799900260a226db6",
            _oxford("as Keras publishes it"),
        ),
        PublicFile(
            "keras-top",
            "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
            (f"{_KERAS}vgg19_weights_tf_dim_ordering_tf_kernels.h5",),
            574_710_816,
            "md5",
            "cbe5617147190e668d6c5d5026f83318",
            _oxford("as Keras publishes it"),
        ),
        PublicFile(
            "caffe",
            "VGG_ILSVRC_19_layers.caffemodel",
            # The authors published the second; its file is checked like any other.
            tuple(
                f"{scheme}://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/"
                "VGG_ILSVRC_19_layers.caffemodel"
                for scheme in ("https", "http")
            ),
            574_671_192,
            "sha1",
            "239785e7862442717d831f682bb824055e51e9ba",
            _oxford("as its authors publish it"),
        ),
        PublicFile(
            "jcjohnson",
            "vgg19-d01eb7cb.pth",
            ("https://web.eecs.umich.edu/~justincj/models/vgg19-d01eb7cb.pth",),
            None,
            "sha256",
            "d01eb7cb",
            _oxford("converted to torch by Justin Johnson"),
        ),
        PublicFile(
            "torchvision",
            "vgg19-dcbb9e9d.pth",
            ("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
            574_673_361,
            "sha256",
            "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            _TORCHVISION,
        ),
        PublicFile(
            "timm",
            "vgg19.tv_in1k.safetensors",
            ("https://huggingface.co/timm/vgg19.tv_in1k/resolve/main/model.safetensors",),
            None,
            "sha256",
            "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
            _TORCHVISION,
        ),
        PublicFile(
            "onnx-zoo",
            "vgg19-7.onnx",
            tuple(f"{base}vgg19-7.onnx" for base in _ZOO),
            574_677_321,
            "sha256",
            "692f9f927f1df1b89033787a77a73eac59fd9b3344f9ecdf0b13221e41c2046f",
            KnownNetwork(
                "VGG-19 of the ONNX model zoo (vgg19-7, from MXNet)",
                TORCHVISION,
                "Apache-2.0",
                "VGG-19 (Simonyan, Zisserman, arXiv 1409.1556), trained anew by the authors of "
                "MXNet's model zoo",
            ),
        ),
        PublicFile(
            "onnx-zoo-caffe2",
            "vgg19-caffe2-9.onnx",
            tuple(f"{base}vgg19-caffe2-9.onnx" for base in _ZOO),
            574_674_712,
            "sha256",
            "cfb97260b303ad3963999662456571b89c5f73dbdd2fd9dffd19fed7a90f766b",
            _oxford("of the ONNX model zoo (vgg19-caffe2-9)"),
        ),
    )
}


def identify_file(path: Path) -> PublicFile | None:
    """Return the published file that has the hash of this file, if there is one."""
    digests = {algorithm: hashlib.new(algorithm) for algorithm in ("md5", "sha1", "sha256")}
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
    for file in PUBLIC_FILES.values():
        if file.is_digest(digests[file.algorithm].hexdigest()):
            return file
    return None
