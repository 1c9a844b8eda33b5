"""Packaging: every field comes from settings.ini, so that nbdev and pip read the same
facts."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
(lab, dev, table, onnx, tensorboard, bench) = (
    cfg[f"{name}_requirements"].split()
    for name in ("lab", "dev", "table", "onnx", "tensorboard", "bench"))


class BuildWithLessons(build_py):
    """Puts the lessons, with their pictures and moving parts, beside the package in the
    wheel, from where `vae_course notebooks DIR` copies them."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for notebook in sorted((here / "nbs").glob("*.ipynb")):
            self.mkpath(f"{self.build_lib}/vae_course/notebooks")
            self.copy_file(str(notebook),
                           f"{self.build_lib}/vae_course/notebooks/{notebook.name}")
        # what the lessons show beside their text, and the script of live pages
        assets = here / "nbs" / "assets"
        for file in (*sorted(assets.glob("diagrams/*.svg")),
                     *sorted(assets.glob("live/*")), assets / "live.js"):
            place = (f"{self.build_lib}/vae_course/notebooks/"
                     f"{file.relative_to(here / 'nbs').as_posix()}")
            self.mkpath(str(Path(place).parent))
            self.copy_file(str(file), place)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    url=cfg["git_url"],
    # an editable install puts this folder on the path, where nbdev finds tools.procs
    package_dir={"": "."},
    packages=find_packages(include=["vae_course", "vae_course.*"]),
    package_data={"vae_course": ["*.txt"]},     # a part of Shakespeare, for lesson 12
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require={"table": table, "onnx": onnx, "tensorboard": tensorboard,
                    "lab": lab + table,
                    "dev": lab + table + onnx + tensorboard + dev, "bench": bench},
    entry_points={"console_scripts": cfg["console_scripts"].split(),
                  "nbdev": ["vae_course=vae_course._modidx:d"]},
    classifiers=["Development Status :: 4 - Beta",
                 "Intended Audience :: Education",
                 "Natural Language :: English",
                 "Programming Language :: Python :: 3",
                 *(f"Programming Language :: Python :: 3.{minor}"
                   for minor in (11, 12, 13)),
                 "Topic :: Scientific/Engineering :: Artificial Intelligence",],
    cmdclass={"build_py": BuildWithLessons},
    zip_safe=False,
)
