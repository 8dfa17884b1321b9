"""What happens to a clip between the players and the listener: equalizer, distortion, noise, level, a lossy codec."""

import io

import numpy as np
import soundfile

from synth import RATE

# libsndfile's compression levels from mild to severe, 0 to 1; about 60 to 10 kbit/s at 16 kHz.
_CODECS = {
    "mp3": ("MP3", "MPEG_LAYER_III", 0.65, 0.96),
    "vorbis": ("OGG", "VORBIS", 0.3, 0.95),
    "opus": ("OGG", "OPUS", 0.8, 0.97),
}
# A decoder may begin late by the codec's own delay; mp3's is the longest.
_LONGEST_DELAY = 2400


def finish(rng, mix):
    """The clip as heard, floats within 1, and what was done to it for the manifest."""
    done = {"codec": None, "snr_db": None}
    if rng.random() < 0.5:
        mix = _equalize(rng, mix)
    if rng.random() < 0.12:
        drive = rng.uniform(1.0, 4.0)
        mix = np.tanh(drive * mix / np.abs(mix).max())
    if rng.random() < 0.35:
        done["snr_db"] = round(float(rng.uniform(8, 38)), 1)
        mix = mix + _noise(rng, len(mix)) * np.sqrt(np.mean(mix**2)) * 10 ** (-done["snr_db"] / 20)
    mix = mix / np.abs(mix).max() * 10 ** (rng.uniform(-18, -0.3) / 20)
    if rng.random() < 0.35:
        done["codec"] = sorted(_CODECS)[rng.integers(len(_CODECS))]
        mix = through_codec(mix, done["codec"], rng.random())
    return np.clip(mix, -1, 1).astype(np.float32), done


def through_codec(mix, codec, severity):
    """Encodes and decodes, severity from 0 to 1; the clip comes back as long as it was, and not shifted."""
    container, subtype, mild, severe = _CODECS[codec]
    options = {"bitrate_mode": "CONSTANT"} if codec == "mp3" else {}
    coded = io.BytesIO()
    soundfile.write(coded, mix, RATE, format=container, subtype=subtype,
                    compression_level=mild + (severe - mild) * severity, **options)
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float64")
    delay = _delay(mix, decoded)
    decoded = decoded[delay : delay + len(mix)]
    return np.pad(decoded, (0, len(mix) - len(decoded)))


def _delay(original, decoded):
    """By how many samples the decoded clip lags: where the two are most alike, over their first seconds."""
    length = min(len(original), len(decoded), 4 * RATE)
    size = 2 * length
    spectrum = np.fft.rfft(decoded[:length], size) * np.conj(np.fft.rfft(original[:length], size))
    return int(np.argmax(np.fft.irfft(spectrum)[:_LONGEST_DELAY]))


def _equalize(rng, mix):
    """A smooth random curve of a few decibels; now and then a narrow band, as of a telephone or a small loudspeaker."""
    frequencies = np.fft.rfftfreq(len(mix), 1 / RATE)
    octaves = np.log2(np.maximum(frequencies, 20) / 20)
    curve = np.interp(octaves, np.linspace(0, octaves[-1], 6), rng.normal(0, 4, 6))
    if rng.random() < 0.15:
        low, high = rng.uniform(100, 400), rng.uniform(2500, 5000)
        curve -= 24 * np.maximum(np.log2(low / np.maximum(frequencies, 20)), 0)
        curve -= 24 * np.maximum(np.log2(np.maximum(frequencies, 20) / high), 0)
    return np.fft.irfft(np.fft.rfft(mix) * 10 ** (curve / 20), len(mix))


def _noise(rng, length):
    """Noise of unit power, between white and brown."""
    frequencies = np.fft.rfftfreq(length, 1 / RATE)
    slope = np.maximum(frequencies, 40) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * slope, length)
    return noise / np.sqrt(np.mean(noise**2))
