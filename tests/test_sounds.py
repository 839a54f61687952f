"""A folder of sounds: spectrograms of the files that a column names."""

import numpy as np
import pandas as pd
import pytest
import torch

from polymodal.cli.main import run
from polymodal.data import load_data
from polymodal.data.described import read_described
from polymodal.data.description import read_section
from polymodal.data.readers.sound import wav
from polymodal.data.spectrogram import RATE, fit_length, log_mel

N = 30


def calls(folder, more=""):
    (folder / "calls").mkdir()
    rng = np.random.default_rng(0)
    pitch = rng.integers(300, 2000, N)
    waves = [np.sin(2 * np.pi * p * np.arange(4000 + 100 * k) / RATE) for k, p in enumerate(pitch)]
    for k, wave in enumerate(waves):
        (folder / "calls" / f"c{k}.wav").write_bytes(wav(wave, RATE))
    pd.DataFrame({"file": [f"c{k}" for k in range(N)], "pitch": pitch / 7}).to_csv(
        folder / "birds.csv", index=False
    )
    (folder / "d.yaml").write_text(
        "method: {name: mvtcae}\n"
        "data: {file: birds.csv, modalities: {body: {columns: {pitch: real}},"
        f" call: {{source: sounds, column: file, folder: calls, mels: 16, frames: 20{more}}}}}}}\n"
    )
    return waves, pitch


def described(folder):
    return read_described(read_section(folder / "d.yaml"), "d")


def test_values_are_spectrograms_of_the_files(tmp_path) -> None:
    waves, _ = calls(tmp_path)
    read = described(tmp_path)
    call = read.splits.modalities[1]
    assert (call.kind, call.shape, call.link, call.scale) == ("audio", (1, 16, 20), "sigmoid", None)
    for part, data in read.splits.parts.items():
        for place, k in enumerate(read.parts[part].tolist()):
            wave = torch.tensor(waves[k], dtype=torch.float32)
            expected = log_mel(fit_length(wave, 20)[None], 16)[0]
            got = data.tables["call"][data.rows_of("call")[place]]
            torch.testing.assert_close(got, expected, atol=0.01, rtol=0)


def test_what_lacks_a_sound_lacks_the_modality(tmp_path) -> None:
    calls(tmp_path, ", skip: true")
    (tmp_path / "calls" / "c3.wav").unlink()
    (tmp_path / "calls" / "c5.wav").write_bytes(b"no sound")
    read = described(tmp_path)
    assert sum(int((~data.is_present("call")).sum()) for data in read.splits.parts.values()) == 2
    assert "1 of 30 sounds of 'call' are not in the folder (first: 'c3')" in read.notes[0]
    assert "1 of 30 sounds of 'call' cannot be read" in read.notes[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "calls" / "c5.wav").write_bytes(b"RIFF"), "c5.wav .*or write skip: true"),
        (lambda f: (f / "calls").rename(f / "songs"), "There is no folder .*calls"),
        (lambda f: (f / "birds.csv").write_text("file,pitch\n../x,1\n"), "leads out of it"),
        (lambda f: (f / "birds.csv").write_text("file,pitch\nx,1\n"), "None of the 1 sounds that"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, change, sentence) -> None:
    calls(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=f"(?s)^[^\n]*{sentence}[^\n]*$"):
        load_data(tmp_path / "d.yaml")


def test_one_trains_on_sounds_and_gets_sounds(tmp_path) -> None:
    calls(tmp_path)
    out = str(tmp_path / "run")
    small = ["training.epochs=1", "training.progress=false", "method.latent=2"]
    assert run(["train", str(tmp_path / "d.yaml"), "--out", out, *small]) == 0
    given = ["--given", f"call={tmp_path / 'calls' / 'c1.wav'}", "--want", "call", "--n", "2"]
    assert run(["generate", out, *given, "--out", str(tmp_path / "g")]) == 0
    assert len(list((tmp_path / "g").glob("call.*.wav"))) == 2
