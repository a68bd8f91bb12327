"""gramstyle: a photograph in the style of a painting, by explicit gradients."""
