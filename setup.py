"""Find the packages: setup.cfg can either list them or find them, and `configs` needs both."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["mario_dreamer*"]), "mario_dreamer.configs"])
