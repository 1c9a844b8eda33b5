"""Print the oldest supported set as constraints: every `name>=version` of settings.ini
becomes `name==version`."""
import re
from configparser import ConfigParser
from pathlib import Path

config = ConfigParser(delimiters=["="])
config.read(Path(__file__).resolve().parent.parent / "settings.ini", encoding="utf-8")
for field in ("requirements", "lab_requirements", "table_requirements",
              "onnx_requirements", "tensorboard_requirements",
              "dev_requirements"):
    for requirement in config["DEFAULT"][field].split():
        if floor := re.match(r"([\w.-]+)>=([\w.]+)", requirement):
            print(f"{floor[1]}=={floor[2]}")
