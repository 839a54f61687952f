"""Sound: spectrograms against tones, what is recovered from them, files, and spoken digits."""

import math

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from polymodal.batch import Modality
from polymodal.cli.generate import Request, generate_files
from polymodal.data import load_data
from polymodal.data.kinds import KINDS
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.sound import read_wav, wav
from polymodal.data.spectrogram import (
    FLOOR,
    RATE,
    fit_length,
    log_mel,
    mel_filters,
    samples_of,
    sound,
)
from polymodal.data.spoken import spoken_digits
from polymodal.training.fit import fit
from test_data import digits, everything, parts  # noqa: F401

LENGTH = samples_of(32)
AUDIO = Modality("audio", (1, 32, 32), link="sigmoid", kind="audio")
BINS = RATE / 2 / 256


def tone(hertz, amplitude=1.0, rate=RATE, length=LENGTH):
    return amplitude * (2 * math.pi * hertz * torch.arange(length) / rate).sin()


def peak_of(band):
    """The frequency of the bin that the band weighs most."""
    return mel_filters(32)[band].argmax().item() * BINS


@pytest.mark.parametrize("band", [3, 12, 25, 30])
def test_a_tone_has_its_level_in_its_band(band) -> None:
    """A sine at a band's peak: 0 dB; beside it one of a tenth of its amplitude: 20 dB less."""
    other = (band + 16) % 32
    waves = torch.stack([tone(peak_of(band)), tone(peak_of(band)) + tone(peak_of(other), 0.1)])
    x = log_mel(waves)[:, 0, :, 4:-4]
    assert x.shape == (2, 32, 24) and (x.argmax(1) == band).all()
    assert (x[0, band] - 1).abs().max() < 0.5 / FLOOR
    difference = FLOOR * (x[1, band] - x[1, other])
    weights = mel_filters(32).amax(1)
    expected = 20 + 10 * (weights[band] / weights[other]).log10()
    assert (difference - expected).abs().max() < 1  # the louder one leaks


def test_loudness_of_the_whole_and_silence_do_not_matter() -> None:
    wave = tone(440) + 0.3 * tone(1500)
    torch.testing.assert_close(log_mel(wave[None]), log_mel(0.01 * wave[None]), atol=1e-4, rtol=0)
    assert log_mel(torch.zeros(1, LENGTH)).count_nonzero() == 0


def test_mel_bands_are_equally_spaced_on_the_mel_scale() -> None:
    peaks = torch.tensor([peak_of(k) for k in range(32)])
    mel = 2595 * (1 + peaks / 700).log10()
    expected = 2595 * math.log10(1 + 4000 / 700) / 33 * torch.arange(1, 33)
    assert ((mel - expected).abs() < 2595 * (BINS / 2) / (700 + peaks) / math.log(10) + 1).all()
    inside = mel_filters(32)[:, 4:240].sum(0)
    assert ((inside > 0.25) & (inside < 1 + 1e-5)).all()


def voice(seed=0, n=3):
    """Harmonics of a steady pitch, louder in the middle."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(LENGTH) / RATE
    pitch = 100 + 100 * torch.rand(n, 1, generator=generator)
    phase = 2 * math.pi * pitch * t
    harmonics = sum((k * phase).sin() / k for k in range(1, 12))
    return harmonics * (math.pi * t / t[-1]).sin()


def test_recovered_sound_has_the_spectrogram_it_was_recovered_from() -> None:
    x = log_mel(voice())
    waves = sound(x)
    assert waves.shape == (3, LENGTH) and torch.equal(waves, sound(x))
    assert waves.abs().amax(1).sub(1).abs().max() < 1e-6
    error = FLOOR * (log_mel(waves) - x).abs()
    assert error[x > 0.4].mean() < 4  # dB; random phases: 5.3, another sound: 9.6


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [(np.int16, 2**15 - 1, 0), (np.int32, 2**31 - 1, 0), (np.uint8, 127, 128), (np.float32, 1, 0)],
)
def test_files_of_every_type_are_read_as_shares(tmp_path, dtype, scale, zero) -> None:
    wave = 0.5 * tone(440).double().numpy()
    both = np.stack([wave, np.zeros_like(wave)], 1) * scale + zero
    wavfile.write(tmp_path / "x.wav", RATE, both.astype(dtype))
    assert np.abs(read_wav(tmp_path / "x.wav", RATE) - wave / 2).max() < 0.01  # channels averaged


def test_other_rates_are_changed(tmp_path) -> None:
    wavfile.write(tmp_path / "x.wav", 22_050, tone(440, rate=22_050, length=22_050).numpy())
    read = read_wav(tmp_path / "x.wav", RATE)
    assert len(read) == RATE
    assert np.abs(read - tone(440, length=RATE).numpy())[500:-500].max() < 0.01


def test_what_is_written_is_read(tmp_path) -> None:
    wave = voice()[0].numpy()
    wave /= np.abs(wave).max()
    (tmp_path / "x.wav").write_bytes(wav(wave, RATE))
    assert np.abs(read_wav(tmp_path / "x.wav", RATE) - wave).max() < 1e-4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "truncated or damaged"),
        (b"RIFF and nothing", "give a .wav file"),
        (wav(np.zeros(100), RATE)[:30], "truncated or damaged"),
        (wav(np.zeros(0), RATE), "x.wav .*give a .wav file"),
        (wav(np.zeros(100), 10), "its rate is 10 samples"),
    ],
)
def test_damaged_files_are_told(tmp_path, content, says) -> None:
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_wav(tmp_path / "x.wav", RATE)


def test_sounds_of_any_length_are_given(tmp_path) -> None:
    """Short ones are surrounded by silence, of long ones the middle is taken."""
    kind = KINDS["audio"]
    for length in (1000, LENGTH, 9001):
        wave = fit_length(voice()[0], 32)[:length] if length <= LENGTH else torch.randn(length)
        (tmp_path / "x.wav").write_bytes(wav((wave / wave.abs().max()).numpy(), RATE))
        x = kind.read(tmp_path / "x.wav", AUDIO)
        read = torch.from_numpy(read_wav(tmp_path / "x.wav", RATE))
        before = max(0, -((LENGTH - length) // 2))
        middle = read[before : before + LENGTH]
        silence = torch.zeros((LENGTH - len(middle)) // 2)
        padded = torch.cat([silence, middle, silence])
        torch.testing.assert_close(x, log_mel(padded[None]))
    assert fit_length(torch.ones(1000), 32)[[0, 1979, 1980, 2979, 2980]].tolist() == [0, 0, 1, 1, 0]


def test_low_frequencies_are_shown_below(tmp_path) -> None:
    shown = KINDS["audio"].show(log_mel(tone(100)[None]), AUDIO)
    assert shown.shape == (1, 3, 32, 32) and shown[0, 0, -4:].mean() > shown[0, 0, :16].mean() + 0.5


def test_generated_sounds_are_written(tmp_path) -> None:
    x = log_mel(voice())
    files = KINDS["audio"].files(torch.stack([x, x]), AUDIO)
    assert {f for f in files if f.endswith(".wav")} == {
        f"audio.{i}.{k}.wav" for i in range(3) for k in range(2)
    }
    (tmp_path / "x.wav").write_bytes(files["audio.1.0.wav"])
    again = KINDS["audio"].read(tmp_path / "x.wav", AUDIO)
    assert (again - x[1:2]).abs().mean() < 0.05 < (again - x[:1]).abs().mean()


# Spoken digits.


@pytest.fixture
def spoken(digits):  # noqa: F811
    """The official layout: digit d of speaker k is a tone of 300 (d + 1) Hz, its take in its level
    against a tone of 3,700 Hz.
    """
    (digits / "fsdd" / "recordings").mkdir(parents=True)
    for d in range(10):
        for k, speaker in enumerate(("ann", "bo")):
            for take in (0, 4, 5, 6, 7, 10):
                wave = tone(300 * (d + 1)) + 0.1 * (k + 1) * tone(3700, 0.05 * take)
                samples = wav((wave / 2).numpy()[: 3000 + 200 * take], RATE)
                name = f"{d}_{speaker}_{take}.wav"
                (digits / "fsdd" / "recordings" / name).write_bytes(samples)
    (digits / "fsdd" / "recordings" / "notes.txt").write_text("not a recording")
    return digits


def digit_of(x):
    """The digit that the loudest bands of spectrograms (N, 1, 32, 32) say."""
    band = x[:, 0, :, 12:20].mean(-1)[:, :30].argmax(1)
    hertz = torch.tensor([peak_of(k) for k in range(32)])[band]
    return (hertz / 300).round().long() - 1


def test_recordings_are_split_by_take(spoken) -> None:
    held = spoken_digits(spoken)
    assert {part: len(label) for part, (_, label) in held.items()} == {"train": 80, "test": 40}
    for x, label in held.values():
        assert (digit_of(x) == label).all()
    lengths = (held["train"][0][:, 0].amax(1) > 0.2).sum(1)  # frames with sound grow with the take
    assert (lengths.diff() >= -1).all() and lengths[-1] > lengths[0] + 3


def test_digits_and_sounds_of_a_pair_have_one_label(spoken) -> None:
    data = load_data("mnist-audio", path=spoken, matchings=3)
    assert len(data.train) == 3 * 72 and data.train.index["audio"].bincount().tolist() == [3] * 72
    used = []
    for part in parts(data).values():
        assert (digit_of(everything(part).x["audio"]) == part.label).all()
        used.append({row.numpy().tobytes() for row in part.tables["audio"]})
    assert not used[0] & used[1] and not used[0] & used[2] and not used[1] & used[2]
    assert data.modalities[1] == AUDIO


def test_absent_recordings_are_told(digits) -> None:  # noqa: F811
    with pytest.raises(ValueError, match=r"put the folder recordings of github\.com/Jakobovski"):
        load_data("mnist-audio", path=digits)
    (digits / "recordings").mkdir()
    with pytest.raises(ValueError, match=r"need recordings .* got 0 recordings"):
        load_data("mnist-audio", path=digits)


def test_a_sound_is_given_and_sounds_are_generated(spoken, tmp_path, monkeypatch) -> None:
    data = load_data("mnist-audio", path=spoken)
    networks = {"mnist": "linear", "audio": "linear"}
    options = {"latent": 2, "epochs": 1, "progress": False, "networks": networks}
    fit("mvae", data, out=tmp_path / "run", **options)
    file = spoken / "fsdd" / "recordings" / "3_ann_0.wav"
    request = Request({"audio": file}, ["audio", "mnist"], n=2, seed=0)
    from rich.console import Console

    generate_files(tmp_path / "run", request, tmp_path / "out", Console(quiet=True))
    wavs = sorted(f.name for f in (tmp_path / "out").glob("*.wav"))
    assert wavs == ["audio.0.0.wav", "audio.0.1.wav"]
    assert len(read_wav(tmp_path / "out" / wavs[0], RATE)) == LENGTH
    assert {f.name for f in (tmp_path / "out").glob("*.png")} == {"audio.png", "mnist.png"}


@pytest.mark.data
def test_the_packed_recordings_are_those_of_the_official_layout(real_data, tmp_path) -> None:
    held = spoken_digits(real_data)
    assert {part: tuple(x.shape) for part, (x, _) in held.items()} == {
        "train": (2700, 1, 32, 32),
        "test": (300, 1, 32, 32),
    }
    assert held["test"][1].bincount().tolist() == [30] * 10
    x = held["test"][0][:64]
    assert (FLOOR * (log_mel(sound(x)) - x).abs())[x > 0.4].mean() < 1.8  # dB
    packed = read_arrays(real_data / "fsdd" / "fsdd.npz")
    (tmp_path / "recordings").mkdir()
    names, places = packed["speaker_names"], packed["offsets"]
    for i in np.flatnonzero((packed["take"] == 3) | (packed["take"] == 49)):
        clip = packed["audio"][places[i] : places[i + 1]]
        name = f"{packed['labels'][i]}_{names[packed['speaker'][i]]}_{packed['take'][i]}.wav"
        wavfile.write(tmp_path / "recordings" / name, RATE, clip)
    again = spoken_digits(tmp_path)
    assert torch.equal(again["train"][1], held["train"][1][-60:])
    torch.testing.assert_close(again["train"][0], held["train"][0][-60:])
    torch.testing.assert_close(again["test"][0], held["test"][0][180:240])
