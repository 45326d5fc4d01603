"""Prints from inside the environment, with two libraries that Debian packages."""

import platform
import sys

import requests
import yaml

CONFIGURATION = """
greeting: hello
languages: [python, c, rust, go, node]
"""


def main() -> None:
    release = platform.freedesktop_os_release()
    print(f"inside {release['NAME'].split()[0]} {release['VERSION_ID']}")
    print(f"python {platform.python_version()} at {sys.executable}")
    print(f"requests {requests.__version__}")
    loaded = yaml.safe_load(CONFIGURATION)
    print(f"yaml {yaml.__version__}: {len(loaded['languages'])} languages")


if __name__ == "__main__":
    main()
