#!/usr/bin/env bash
# Renders demo/scores/*.mma into demo/clips/, each clip in another format, so that the demo decodes them all.
#
# Needs Debian's mma, fluidsynth, timgm6mb-soundfont and ffmpeg. SOUND_FONT in the environment takes another font.
# The scores fix MMA's random seed, so the same package versions make the same bytes. The clips carry no tags:
# nothing but the sound tells a model what they are.
set -euo pipefail
cd "$(dirname "$0")"

font=${SOUND_FONT:-/usr/share/sounds/sf2/TimGM6mb.sf2}
for program in mma fluidsynth ffmpeg; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install mma fluidsynth timgm6mb-soundfont ffmpeg" >&2; exit 1; }
done
[ -e "$font" ] || { echo "no sound font at $font: apt-get install timgm6mb-soundfont, or set SOUND_FONT" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p clips

# render SCORE SECONDS CLIP RATE CHANNELS [encoder options]: the last half second before SECONDS fades out.
render() {
  local score=$1 seconds=$2 clip=$3 rate=$4 channels=$5
  shift 5
  mma "scores/$score.mma" -f "$work/$score.mid" >"$work/mma.log" 2>&1 || { cat "$work/mma.log" >&2; exit 1; }
  # fluidsynth's audio driver is never opened with -F; -ni keeps it from waiting for commands.
  fluidsynth -ni -q -g 0.7 -r 48000 -F "$work/$score.wav" "$font" "$work/$score.mid" >"$work/fluidsynth.log" 2>&1 \
    || { cat "$work/fluidsynth.log" >&2; exit 1; }
  local fade
  fade=$(awk "BEGIN { print $seconds - 0.5 }")
  ffmpeg -nostdin -loglevel error -y -i "$work/$score.wav" -t "$seconds" -af "apad,afade=t=out:st=$fade:d=0.5" \
    -ar "$rate" -ac "$channels" -map_metadata -1 -fflags +bitexact -flags:a +bitexact "$@" "clips/$clip"
}

render rock-e-minor-120     4.2 rock-e-minor-120.wav      16000 1 -c:a pcm_u8
render waltz-g-major-180    4.2 waltz-g-major-180.flac    44100 1 -c:a flac -sample_fmt s16 -compression_level 12
render swing-f-major-160    6.2 swing-f-major-160.ogg     48000 2 -c:a libvorbis -q:a 2
render bossa-a-minor-132    7.4 bossa-a-minor-132.m4a     44100 2 -c:a aac -b:a 64k
render country-d-major-126  7.8 country-d-major-126.mp3   44100 2 -c:a libmp3lame -b:a 64k
render blues-a-major-82    35.4 blues-a-major-82-long.mp3 22050 1 -c:a libmp3lame -b:a 24k
