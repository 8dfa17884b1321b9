"""What the data set is made with, and whether this machine has it."""

import ctypes.util
import shutil
from pathlib import Path

_SOUNDS = Path("/usr/share/sounds")

# General MIDI sound fonts with their Debian package and their share among the clips of the seen fonts. FM synthesis is
# the least like the others and gets less. FluidR3Mono is left out: it is FluidR3 again.
SEEN_FONTS = {
    "TimGM6mb": (_SOUNDS / "sf2/TimGM6mb.sf2", "timgm6mb-soundfont", 0.3),
    "FluidR3_GM": (_SOUNDS / "sf2/FluidR3_GM.sf2", "fluid-soundfont-gm", 0.3),
    "MuseScore_General_Lite": (_SOUNDS / "sf3/MuseScore_General_Lite.sf3", "musescore-general-soundfont-small", 0.3),
    "OPL-3_FM_128M": (_SOUNDS / "sf2/OPL-3_FM_128M.sf2", "opl3-soundfont", 0.1),
}
# Heard in test-font alone. It descends from none of the others.
UNSEEN_FONT = {"sf_GMbank": (_SOUNDS / "sf2/sf_GMbank.sf2", "csound-soundfont", 1.0)}


def font_paths():
    """The file of every font by its name."""
    return {name: path for name, (path, _, _) in (SEEN_FONTS | UNSEEN_FONT).items()}


def missing_packages():
    """Debian's names of what is missing here."""
    missing = [] if shutil.which("mma") else ["mma"]
    if ctypes.util.find_library("fluidsynth") is None:
        missing.append("libfluidsynth3")
    return missing + [package for path, package, _ in (SEEN_FONTS | UNSEEN_FONT).values() if not path.exists()]
