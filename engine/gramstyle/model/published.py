"""The published files of the VGGs: addresses, hashes and authors.

The hashes differ in strength: MD5 and SHA-1 reveal a damaged file but not a forged one; eight
digits of SHA-256 are all that torch's own download checks. `gramstyle.model.known` identifies a
network by the hash of its tensors instead.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gramstyle.model.known import LICENCE, KnownNetwork, oxford
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


def _torchvision(network: str) -> KnownNetwork:
    architecture = network.partition(" ")[0]
    return KnownNetwork(
        f"{network} of torchvision (IMAGENET1K_V1)",
        TORCHVISION,
        "BSD-3-Clause",
        f"{architecture} (Simonyan, Zisserman, arXiv 1409.1556), trained anew by the authors of "
        "torchvision",
    )


def _oxford(name: str, network: str = "VGG-19") -> KnownNetwork:
    return KnownNetwork(f"{network} of Oxford (Caffe), {name}", CAFFE, LICENCE, oxford(network))


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
_KERAS_16 = "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
_OXFORD = "www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/"
# The second address served them until 2025.
_ZOO = (
    "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/"
    "classification/vgg/model/",
    "https://github.com/onnx/models/raw/main/validated/vision/classification/vgg/model/",
)

# The files of torchvision's other networks, whose names contain digits of their hashes.
_OTHERS = {
    "vgg11": ("vgg11-8a719046.pth", "VGG-11"),
    "vgg13": ("vgg13-19584684.pth", "VGG-13"),
    "vgg16": ("vgg16-397923af.pth", "VGG-16"),
    "vgg11-bn": ("vgg11_bn-6002323d.pth", "VGG-11 with batch normalisation"),
    "vgg13-bn": ("vgg13_bn-abd245e5.pth", "VGG-13 with batch normalisation"),
    "vgg16-bn": ("vgg16_bn-6c64b313.pth", "VGG-16 with batch normalisation"),
    "vgg19-bn": ("vgg19_bn-c79401a0.pth", "VGG-19 with batch normalisation"),
}

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
                f"{scheme}://{_OXFORD}VGG_ILSVRC_19_layers.caffemodel"
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
            _torchvision("VGG-19"),
        ),
        PublicFile(
            "timm",
            "vgg19.tv_in1k.safetensors",
            ("https://huggingface.co/timm/vgg19.tv_in1k/resolve/main/model.safetensors",),
            None,
            "sha256",
            "11aea017b543ff59233749d8f1cf544cda749378f5790d2fedab841fb86b7669",
            _torchvision("VGG-19"),
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
        PublicFile(
            "vgg16-keras",
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            (f"{_KERAS_16}vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",),
            None,
            "md5",
            "6d6bbae143d832006294945121d1f1fc",
            _oxford("as Keras publishes it", "VGG-16"),
        ),
        PublicFile(
            "vgg16-caffe",
            "VGG_ILSVRC_16_layers.caffemodel",
            tuple(
                f"{scheme}://{_OXFORD}VGG_ILSVRC_16_layers.caffemodel"
                for scheme in ("https", "http")
            ),
            None,
            "sha1",
            "9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24",
            _oxford("as its authors publish it", "VGG-16"),
        ),
        PublicFile(
            "vgg16-jcjohnson",
            "vgg16-00b39a1b.pth",
            ("https://web.eecs.umich.edu/~justincj/models/vgg16-00b39a1b.pth",),
            None,
            "sha256",
            "00b39a1b",
            _oxford("converted to torch by Justin Johnson", "VGG-16"),
        ),
        *(
            PublicFile(
                f"{name}-torchvision",
                file_name,
                (f"https://download.pytorch.org/models/{file_name}",),
                None,
                "sha256",
                file_name.removesuffix(".pth").rpartition("-")[2],
                _torchvision(network),
            )
            for name, (file_name, network) in _OTHERS.items()
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
