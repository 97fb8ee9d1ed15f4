"""Media are looked at in processes of their own: what ends one of those costs nothing but the file it read."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from PIL import Image

from farm.media.clips import MediaError, probe
from farm.media.reader import MediaReader


@pytest.fixture
def reader(tmp_path):
    reader = MediaReader(tmp_path)
    yield reader
    reader.close()


@pytest.fixture
def image(tmp_path):
    file = tmp_path / os.fsdecode(b"a\nb\xff.png")
    Image.new("RGB", (64, 32)).save(file)
    return file


def children(reader):
    return [process.pid for process in (*reader._idle, *reader._busy)]


def test_it_says_what_the_same_look_in_this_process_says_and_keeps_its_process(reader, image, tmp_path):
    assert reader.probe(image) == probe(image)
    (kept,) = children(reader)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for file in (empty, tmp_path / "none"):
        with pytest.raises(MediaError) as here:
            probe(file)
        with pytest.raises(MediaError) as there:
            reader.probe(file)
        assert str(there.value) == str(here.value)
    assert children(reader) == [kept]


def test_a_process_that_crashes_on_a_file_refuses_the_file_and_the_next_has_another(reader, image, tmp_path):
    reader.probe(image)
    (before,) = children(reader)
    # Stopped, it can't be quicker than its end.
    os.kill(before, signal.SIGSTOP)
    threading.Timer(0.2, os.kill, (before, signal.SIGSEGV)).start()
    threading.Timer(0.3, os.kill, (before, signal.SIGCONT)).start()
    with pytest.raises(
        MediaError, match=r"slow.png: can't be read: the reader process crashed \(SIGSEGV\); accepted"
    ):
        reader.probe(tmp_path / "slow.png")
    assert reader.probe(image).width == 64 and children(reader) != [before]


def test_a_process_that_was_killed_while_it_waited_is_replaced(reader, image):
    reader.probe(image)
    (before,) = children(reader)
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert reader.probe(image).width == 64


def test_a_file_that_takes_too_long_or_too_much_memory_is_refused(tmp_path, image):
    slow = MediaReader(tmp_path, seconds=0.001)
    with pytest.raises(MediaError, match="reading the file takes longer than 0.001 s"):
        slow.probe(image)
    assert children(slow) == []
    large = tmp_path / "large.png"
    Image.new("L", (16000, 8000)).save(large, compress_level=1)
    small = MediaReader(tmp_path, memory_bytes=1 << 29)
    with pytest.raises(MediaError, match="more memory than this machine has|reader crashed"):
        small.probe(large)
    for reader in (slow, small):
        reader.close()


def test_closing_ends_a_look_that_is_under_way(reader, image):
    reader.probe(image)
    (before,) = children(reader)
    os.kill(before, signal.SIGSTOP)
    told = []

    def look():
        try:
            reader.probe(image)
        except MediaError as error:
            told.append(str(error))

    waiting = threading.Thread(target=look)
    waiting.start()
    while not reader._busy:
        time.sleep(0.01)
    reader.close()
    waiting.join(10)
    assert "the reader process crashed (SIGKILL)" in told[0] and children(reader) == []
