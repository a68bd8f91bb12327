"""The jobs files in the corpus of mutants; they lie in a folder beside the images."""

PLAIN = """\
[[jobs]]
content = "../photos/a.png"
style = "../style.png"
output = "../out/a.png"
size = 48
iterations = 3
"""

EVERY_TYPE = """\
[defaults]
engine = "numpy"
content_layers = ["conv4_2"]
style_layers = ["conv1_1", "conv3_1"]
style_weights = [0.5, 0.25]

[[jobs]]
content = "../photos/*"
style = '../style.png'
output = "../out/{content}-{style}.png"
size = 0x20
alpha = 1e-3
tv = 0.0
tf32 = false
init = "noise"
seed = 7
history = 10
"""

GRID = """\
defaults = { size = 32, iterations = 2 }

[[jobs]]
output = "../out/{content}-{alpha}-{size}.png"
[jobs.grid]
content = ["../photos/[ab].png", "../photos/c.png"]
style = ["../style.png"]
alpha = [1e-5, 1e-4]
size = [24, 48]

[[jobs]]
content = "../photos/d.png"
style = "../style.png"
output = "../out/café.jpg"
init = "../photos/c.png"
"""

JOBS_FILES = (PLAIN, EVERY_TYPE, GRID)
