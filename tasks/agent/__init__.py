"""The program that runs on hub, mirrors and targets: Python 3.8, standard library and git; imports nothing of ours."""
