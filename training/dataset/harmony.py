"""Random chord progressions, each genre in its own idiom, that establish one key.

A progression is made of phrases of four bars. Every phrase belongs to exactly one of the roles `train`, `validation`
and `test`: a hash of its roots says which. So no phrase of a test is ever heard in training, in whatever key, genre or
instruments, and no list of what was used has to be kept.
"""

import hashlib

TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
MODES = ("major", "minor")

# Chords by function as (semitones above the tonic, quality class, weight). The classes: M major, m minor, 7 dominant,
# o half diminished.
_MAJOR = {
    "T": ((0, "M", 7), (9, "m", 2), (4, "m", 1)),
    "S": ((5, "M", 5), (2, "m", 3), (9, "m", 1)),
    "D": ((7, "7", 7), (7, "M", 2), (11, "o", 1)),
}
_MINOR = {
    "T": ((0, "m", 7), (8, "M", 2), (3, "M", 2)),
    "S": ((5, "m", 5), (2, "o", 2), (8, "M", 2)),
    "D": ((7, "7", 8), (10, "M", 2), (7, "m", 1)),
}
# Chords that a genre borrows, by mode and function.
_IDIOMS = {
    ("rock", "major"): {"D": ((10, "M", 4),), "S": ((3, "M", 1), (5, "m", 1))},
    ("rock", "minor"): {"D": ((10, "M", 6),)},
    ("electronic", "minor"): {"D": ((10, "M", 3),), "S": ((8, "M", 3),)},
    ("soul", "major"): {"S": ((2, "m", 4), (4, "m", 2)), "D": ((5, "M", 2),)},
    ("soul", "minor"): {"D": ((7, "m", 3), (10, "M", 3))},
    ("jazz", "major"): {"S": ((2, "m", 8), (5, "m", 1)), "D": ((1, "7", 1),), "T": ((9, "7", 1),)},
    ("jazz", "minor"): {"S": ((2, "o", 6),), "D": ((1, "7", 1),)},
    ("latin", "major"): {"S": ((2, "m", 5),), "T": ((9, "7", 1),)},
    ("latin", "minor"): {"D": ((10, "M", 2),)},
    ("march", "major"): {"S": ((2, "7", 2),), "D": ((7, "7", 6),)},
    ("waltz", "major"): {"S": ((2, "7", 1),), "D": ((7, "7", 5),)},
    ("country", "major"): {"S": ((2, "7", 2), (5, "M", 6)), "D": ((7, "M", 3),)},
    ("ballad", "major"): {"S": ((5, "m", 1),), "T": ((9, "m", 2),)},
}
# How often a bar has two chords. Slow music changes its chords faster, or ten seconds would not tell its key.
_TWO_CHORDS = {"ballad": 0.45, "soul": 0.3, "jazz": 0.3, "electronic": 0.3}
_PLANS = ("TTSD", "TSDT", "TSTD", "TDTD", "TSSD", "TTDT", "TDST", "TSDD", "TTST", "TTTD", "TTSS", "TDSD")
_LAST_PLANS = ("TSDT", "SDTT", "TTDT", "TDDT", "SSDT", "STDT", "SDDT")

# How a class is spelled for MMA, by taste of the genre; the first is the commonest.
_PLAIN = {"M": ("",), "m": ("m",), "7": ("7",), "o": ("dim",)}
_SPELLINGS = {
    "jazz": {"M": ("M7", "6", "M9"), "m": ("m7", "m9", "m6"), "7": ("7", "9", "13", "7b9"), "o": ("m7b5",)},
    "blues": {"M": ("7", "9"), "m": ("m7", "m"), "7": ("7", "9", "7#9"), "o": ("dim7",)},
    "latin": {"M": ("", "M7", "6"), "m": ("m", "m7"), "7": ("7", "9", "7b9"), "o": ("m7b5",)},
    "soul": {"M": ("", "M7", "6"), "m": ("m7", "m", "m9"), "7": ("7", "9", "7sus"), "o": ("m7b5",)},
    "ballad": {"M": ("", "M7", "sus2"), "m": ("m", "m7"), "7": ("7", "7sus"), "o": ("m7b5",)},
    "electronic": {"M": ("", "sus2", "M7"), "m": ("m", "m7"), "7": ("7", "7sus"), "o": ("m7b5",)},
    "rock": {"M": ("", "sus4"), "m": ("m", "m7"), "7": ("7", ""), "o": ("dim",)},
}
_INTERVALS = {"M": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "o": (0, 3, 6)}


def progression(rng, genre, mode, role):
    """The bars of a piece, all of phrases that belong to `role`: each bar is a list of one or two chords.

    A chord is (semitones above the tonic, class, spelling). Pieces have four phrases, in the form AABA, ABAC or the
    like; a blues has three.
    """
    if genre == "blues":
        makers = [_blues_phrase(part) for part in range(3)]
        return [bar for make in makers for bar in _owned(rng, make, genre, mode, role)]
    phrases = [_owned(rng, _phrase(_PLANS), genre, mode, role) for _ in range(2)]
    last = _owned(rng, _phrase(_LAST_PLANS), genre, mode, role)
    form = ((0, 0, 1, 2), (0, 1, 0, 2), (0, 0, 0, 2), (0, 1, 1, 2))[rng.integers(4)]
    return [bar for index in form for bar in [*phrases, last][index]]


def role_of(phrase, mode):
    """The role that owns a phrase: three quarters of all are `train`, a tenth `validation`, the rest `test`."""
    roots = ",".join("/".join(f"{root}{'m' if kind in 'mo' else ''}" for root, kind, _ in bar) for bar in phrase)
    hashed = hashlib.sha256(f"{mode}:{roots}".encode()).digest()[0]
    return "train" if hashed < 192 else "validation" if hashed < 218 else "test"


def chord_name(chord, tonic):
    """The chord as MMA reads it, above a tonic of 0 (C) to 11 (B)."""
    root, _, spelling = chord
    return TONICS[(root + tonic) % 12] + spelling


def chord_tones(chord):
    """The pitch classes of the chord above the tonic."""
    root, kind, _ = chord
    return [(root + interval) % 12 for interval in _INTERVALS[kind]]


def _owned(rng, make, genre, mode, role):
    while True:
        phrase = make(rng, genre, mode)
        if role_of(phrase, mode) == role:
            return phrase


def _phrase(plans):
    def make(rng, genre, mode):
        plan = plans[rng.integers(len(plans))]
        bars = []
        for place, function in enumerate(plan):
            # The tonic opens and closes, or the key could not be told.
            home = (place == 0 or place == 3) and function == "T" and rng.random() < 0.9
            bar = [_home(rng, genre, mode) if home else _draw(rng, genre, mode, function)]
            if rng.random() < _TWO_CHORDS.get(genre, 0.18):
                following = "D" if place < 3 and plan[place + 1] == "T" else "TSD"[rng.integers(3)]
                bar.append(_draw(rng, genre, mode, following))
            bars.append(bar)
        return bars

    return make


def _blues_phrase(part):
    """One third of a twelve-bar blues, with the usual liberties."""
    one, four, five, two, six = (0, 0), (5, 5), (7, 7), (2, 2), (9, 8)
    choices = (
        ((one,), (one, four, five), (one,), (one, five, four)),
        ((four,), (four, one, (6, 6)), (one, six), (one, six, five)),
        ((five, two), (four, five, (8, 8)), (one,), (one, five, four)),
    )[part]

    def make(rng, genre, mode):
        index = 0 if mode == "major" else 1
        bars = []
        for options in choices:
            first = options[0] if rng.random() < 0.55 else options[rng.integers(len(options))]
            roots = [first]
            if rng.random() < 0.25:
                roots.append((one, four, five, two, (1, 1))[rng.integers(5)])
            bars.append([_spelled(rng, genre, root[index], _blues_class(root[index], mode)) for root in roots])
        return bars

    return make


def _blues_class(root, mode):
    if root == 6:
        return "o"
    return "m" if mode == "minor" and root in (0, 5) else "7"


def _home(rng, genre, mode):
    return _spelled(rng, genre, 0, "M" if mode == "major" else "m")


def _draw(rng, genre, mode, function):
    chords = (_MAJOR if mode == "major" else _MINOR)[function] + _IDIOMS.get((genre, mode), {}).get(function, ())
    weights = [weight for _, _, weight in chords]
    root, kind, _ = chords[rng.choice(len(chords), p=[weight / sum(weights) for weight in weights])]
    return _spelled(rng, genre, root, kind)


def _spelled(rng, genre, root, kind):
    spellings = _SPELLINGS.get(genre, _PLAIN)[kind]
    common = rng.random() < 0.6
    return int(root), kind, spellings[0 if common else rng.integers(len(spellings))]
