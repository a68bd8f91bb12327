"""The paper in about a hundred lines: forward pass, losses, backward pass, optimiser, one image.

    python examples/minimal.py photo.jpg painting.jpg result.png

Equation numbers are those of Gatys, Ecker, Bethge (2015), arXiv 1508.06576. The functions of
`layers` and `losses` are the ones that docs/derivations.md derives, one by one.
"""

import sys

import numpy as np
from scipy.optimize import minimize

from gramstyle.core import layers, losses
from gramstyle.core.network import Convolution
from gramstyle.images import Image, fitted_size, read_image, resize, write_image
from gramstyle.model import locate_model, read_model

SIZE, ITERATIONS = 256, 100
CONTENT_LAYER = "conv4_2"
STYLE_WEIGHTS = dict.fromkeys(("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"), 1 / 5)
ALPHA, BETA = 1e-3, 1.0


def forward(network, v):
    """Return the responses F (N, H, V) of every layer to the network's input v (3, H, V)."""
    F = {}
    for layer in network.layers:
        if isinstance(layer, Convolution):
            v = layers.relu_forward(layers.conv2d_forward(v, layer.W, layer.b))
        else:
            v = layers.avg_pool_forward(v)
        F[layer.name] = v
    return F


def backward(network, F, seeds):
    """Return dv, the derivative of the loss by the network's input: `forward`, reversed.

    seeds[name] is the derivative of the loss terms that compare the layer `name` directly. The
    deepest layer of the network has one.
    """
    dF = 0.0
    for layer, below in zip(network.layers[::-1], (*network.names[-2::-1], None), strict=True):
        dF = dF + seeds.get(layer.name, 0.0)
        if isinstance(layer, Convolution):
            dF = layers.conv2d_backward(layers.relu_backward(dF, F[layer.name]), layer.W)
        else:
            dF = layers.avg_pool_backward(dF, F[below])
    return dF


def matrix(F):
    """Return responses (N, H, V) as the paper's matrix (N, M): N filters at M positions."""
    return F.reshape(len(F), -1)


def objective(network, preprocessing, photo, painting):
    """Return the function x -> (loss, gradient) of equation 7; images are (3, H, V), 0 to 255."""
    network = network.until([CONTENT_LAYER, *STYLE_WEIGHTS])
    P = forward(network, preprocessing.forward(photo))[CONTENT_LAYER]
    of_painting = forward(network, preprocessing.forward(painting))
    # Divided by its number of positions, since the painting may have another size than the photo.
    A = {name: losses.gram(matrix(F)) / matrix(F).shape[1] for name, F in of_painting.items()}

    def loss_and_gradient(x):
        F = forward(network, preprocessing.forward(x))
        content = losses.content_loss(F[CONTENT_LAYER], P)  # equation 1
        seeds = {CONTENT_LAYER: ALPHA * losses.content_gradient(F[CONTENT_LAYER], P)}  # equation 2
        E = {}
        for name, w in STYLE_WEIGHTS.items():
            F_l = matrix(F[name])
            N, M = F_l.shape
            G_l, A_l = losses.gram(F_l), M * A[name]  # equation 3
            E[name] = losses.style_loss(G_l, A_l, N, M)  # equation 4
            dF_l = BETA * w * losses.style_gradient(F_l, G_l, A_l, N, M)  # equation 6
            seeds[name] = seeds.get(name, 0.0) + dF_l.reshape(F[name].shape)
        style = losses.total_style_loss(E, STYLE_WEIGHTS)  # equation 5
        loss = losses.total_loss(content, style, ALPHA, BETA)  # equation 7
        return loss, preprocessing.backward(backward(network, F, seeds))

    return loss_and_gradient


def optimise(loss_and_gradient, x, iterations):
    """Return the image that L-BFGS-B reaches from x, every pixel value kept within 0 to 255."""
    # L-BFGS-B's first step is the gradient itself: scaled, it moves pixels by one grey level.
    scale = np.sqrt(x.size) / np.linalg.norm(loss_and_gradient(x)[1])

    def scaled(flat):
        loss, gradient = loss_and_gradient(flat.reshape(x.shape).astype(x.dtype))
        print(f"loss {loss:.4e}", flush=True)
        return scale * loss, scale * gradient.ravel().astype(np.float64)

    options = {"maxiter": iterations}
    bounds = [(0, 255)] * x.size
    found = minimize(scaled, x.ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x.reshape(x.shape)


def opened(path):
    """Return an image as an array (3, H, V), RGB, 0 to 255, its longer edge SIZE pixels."""
    image = read_image(path)
    return resize(image, *fitted_size(image.width, image.height, SIZE)).pixels.transpose(2, 0, 1)


def main(photo_path, painting_path, result_path):
    """Render the photograph in the style of the painting."""
    model = read_model(locate_model())
    photo, painting = opened(photo_path), opened(painting_path)
    evaluate = objective(model.network, model.preprocessing, photo, painting)
    x = optimise(evaluate, photo, ITERATIONS)
    write_image(result_path, Image(x.transpose(1, 2, 0).astype(np.float32)))


if __name__ == "__main__":
    main(*sys.argv[1:])
