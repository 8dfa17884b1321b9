"""Which of MMA's style files stand for which genre, at which tempos, and which only test-grooves hears."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

LIBRARY = Path("/usr/share/mma/lib")
GENRES = ("rock", "jazz", "blues", "latin", "country", "waltz", "march", "ballad", "electronic", "soul")

# "file low-high", tempos in quarter notes a minute; `*` marks the files of the split test-grooves. Whole files are held
# out, as the grooves of one file are variants of each other. The ranges of the genres overlap, so that no genre can be
# told from its tempo alone. Styles in 6/8 are left out: what a quarter note is there, listeners do not agree on.
_TABLE = {
    "rock": """stdlib/50srock 100-190, stdlib/60srock 100-180, stdlib/basicrock 84-170, stdlib/8beat 76-160,
        stdlib/softrock 70-140, stdlib/folkrock 84-160, stdlib/bubblerock 90-170, stdlib/rock-128 60-130,
        casio/rock1 90-170, casio/rock2 90-170, casio/poprock2 84-160, casio/heavymetal 90-180,
        casio/digitalrock 90-160, casio/shufflerock 90-160, casio/60srock 100-180, casio/8beat1 76-160,
        casio/8beat3 76-160, casio/16beat1 70-130, kara/K50s_rock 100-190, pflib/rock1 84-170,
        pflib/metal1 90-180, pflib/8beat1 76-160,
        *casio/poprock1 84-160, *yamaha/w-rock 84-170, *pflib/metal2 90-180""",
    "jazz": """stdlib/swing 90-220, stdlib/easyswing 80-170, stdlib/fastswing 140-260, stdlib/modernjazz 90-220,
        stdlib/jazzcombo 90-210, stdlib/bebop 130-260, stdlib/bigband 90-210, stdlib/slowjazz 60-110,
        stdlib/mellowjazz 66-140, stdlib/jazzguitar 80-200, stdlib/gypsyjazz 100-230, stdlib/evansish 80-180,
        casio/jazzcombo 90-210, casio/swing 90-210, casio/slowswing 66-120, casio/fastbigband 130-240,
        casio/middlebigband 90-170, yamaha/jazzGrtrio 90-200, yamaha/jazzbasie 90-200, yamaha/jazzswing 90-200,
        yamaha/jazzbouncy 90-180, *stdlib/nitejazz 66-140, *casio/modernjazz 90-210, *yamaha/jazztrio 90-210""",
    "blues": """stdlib/blues 60-140, stdlib/slowblues 50-100, stdlib/boggiewoggie 100-190, stdlib/shuffleboggie 90-180,
        stdlib/blues128 50-110, casio/shuffleboogie 90-180, stdlib/bluefolk 70-140,
        *stdlib/fastblues 100-190, *casio/blues 60-140""",
    "latin": """stdlib/bossanova 90-170, stdlib/samba 90-220, stdlib/rhumba 80-150, stdlib/mambo 90-210,
        stdlib/salsa 90-210, stdlib/merengue 100-220, stdlib/beguine 80-150, stdlib/bolero 70-130,
        stdlib/calypso 90-190, stdlib/son 80-180, stdlib/cubanguitar 80-160, stdlib/slowbolero 60-110,
        stdlib/tango 90-150, stdlib/lighttango 90-150, stdlib/jazzrhumba 80-150, casio/latinfusion 90-160,
        kara/kbossa 90-170, yamaha/mambo 90-210, yamaha/salsa2 90-210, yamaha/jazzbossa 90-170,
        *stdlib/chacha 90-150, *yamaha/salsa1 90-210, *yamaha/quando-g.s280 90-170""",
    "country": """stdlib/countryswing 90-190, stdlib/slowcountry 60-120, stdlib/countryblues 80-170,
        stdlib/bluegrass 100-220, stdlib/hillcountry 90-190, stdlib/folk 80-170, stdlib/zydeco 100-200,
        yamaha/jazzcountry 90-190, kara/kwestballad 66-120, *stdlib/westernswing 90-200, *yamaha/western 90-190""",
    "waltz": """stdlib/waltz 80-180, stdlib/vienesewaltz 120-210, stdlib/jazzwaltz 90-190, stdlib/countrywaltz 80-170,
        stdlib/fastwaltz 120-210, stdlib/broadwaywaltz 80-180, stdlib/rockwaltz 80-170, stdlib/latinwaltz 80-170,
        stdlib/modernjazzwaltz 90-190, stdlib/fastjazzwaltz 120-210, casio/jazzwaltz 90-190, yamaha/jazzwaltz 90-190,
        *stdlib/frenchwaltz 90-200, *casio/popwaltz 80-170""",
    "march": """stdlib/march 80-140, stdlib/bwmarch 80-140, stdlib/polka 100-200, casio/march1 90-150,
        casio/polka 100-180, casio/poppolka 100-180, casio/polkafox 100-180,
        *stdlib/dixiemarch 90-180, *casio/germanmarch 90-150""",
    "ballad": """stdlib/ballad 50-100, stdlib/pianoballad 50-100, stdlib/popballad 54-104, stdlib/stringballad 50-100,
        stdlib/rockballad 54-104, stdlib/folkballad 54-110, stdlib/ballad128 46-90, stdlib/lullaby 54-110,
        casio/popballad 54-104, casio/oldieballad 54-100, casio/8beatballad1 54-100, casio/8beatballad3 54-100,
        casio/16beatballad1 54-100, casio/16beatballad3 54-100, casio/serenade 60-110,
        *stdlib/guitarballad 50-100, *casio/8beatballad2 54-100, *casio/16beatballad2 54-100""",
    "electronic": """stdlib/trance 110-160, casio/house 100-150, casio/trance1 110-160, casio/trance2 110-160,
        casio/rave 110-180, casio/dance1 100-150, casio/dancepop1 96-150, casio/dancepop2 96-150, casio/ambient1 70-130,
        casio/ambient2 70-130, casio/ambient3 70-130, casio/electricpop 90-150, casio/triphop 70-120,
        casio/8beatdance 96-150, alexis/teamtechno 90-160,
        *casio/techno 100-170, *casio/dance2 100-150, *casio/dancepop3 96-150""",
    "soul": """stdlib/dsoul 70-130, stdlib/rb 70-140, stdlib/rb-ballad 60-110, stdlib/strut 80-150,
        casio/60ssoul 80-150, casio/discosoul 96-140, casio/soulpop 80-140, casio/funk1 80-130, casio/funk2 80-130,
        casio/mellowrb 64-110, casio/r+b 70-130, kara/8beatmotown 90-150, kara/Kfunk1 84-130,
        *stdlib/bvfunk 80-130, *casio/soul 70-130, *casio/modernrb 70-120""",
}

# What only opens, fills or closes a piece.
_PASSING = re.compile(r"intro|end|fill|break|metronome", re.IGNORECASE)


@dataclass(frozen=True)
class Style:
    """One of MMA's style files: its genre, the tempos it bears, and whether it is kept for test-grooves."""

    file: str
    genre: str
    slowest: int
    fastest: int
    held_out: bool

    @functools.cached_property
    def _source(self):
        return (LIBRARY / f"{self.file}.mma").read_text(encoding="latin-1")

    @functools.cached_property
    def beats_per_bar(self):
        """Quarter notes in a bar."""
        found = re.search(r"^\s*Time\s+(\d)", self._source, re.IGNORECASE | re.MULTILINE)
        return int(found.group(1)) if found else 4

    @functools.cached_property
    def grooves(self):
        """The names of the grooves that can carry a piece, in the order of the file."""
        names = re.findall(r"^\s*DefGroove\s+(\S+)", self._source, re.IGNORECASE | re.MULTILINE)
        return [name for name in dict.fromkeys(names) if not _PASSING.search(name)]


def _styles():
    for genre, rows in _TABLE.items():
        for row in rows.split(","):
            file, tempos = row.split()
            slowest, fastest = tempos.split("-")
            yield Style(file.lstrip("*"), genre, int(slowest), int(fastest), file.startswith("*"))


STYLES = tuple(_styles())
