"""The preprocessing of the two families of pretrained networks."""

from collections.abc import Mapping

from gramstyle.core.preprocessing import Preprocessing

# The preprocessing of the Caffe model zoo.
CAFFE = Preprocessing(channels="BGR", mean=(103.939, 116.779, 123.68), scale=(1.0, 1.0, 1.0))

# The preprocessing of torchvision: 0..1, minus the mean of ImageNet, over its standard deviation.
TORCHVISION = Preprocessing(
    channels="RGB",
    mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
    scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
)

CONVENTIONS: Mapping[str, Preprocessing] = {"caffe": CAFFE, "torchvision": TORCHVISION}
