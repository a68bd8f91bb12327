"""The commands of the program: a module or a folder for each, with the name of the command."""
